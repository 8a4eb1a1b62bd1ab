//! How two sides meet: making an invite and waiting, or taking one and connecting.
//!
//! Everything here is about people and scripts: what is printed, asked, typed and exchanged in a
//! folder. The network is [`crate::io::peer`]'s.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgAction, ValueHint};
use tokio::sync::mpsc;

use super::common::{self, Reach, Switch, Via};
use super::describe;
use super::failure::Failure;
use super::input::{self, Lines, TokenSource};
use super::qr::{self, Picture, QrFile};
use super::suggest;
use super::ui::{self, Ctx, When};
use crate::exit::Exit;
use crate::io::peer::{
    Endpoint, Granted, Issuer, Joiner, Link, LinkError, Notice, PathKind, Waiting, unix_now,
};
use crate::proto::app::Local;
use crate::proto::sdp;
use crate::proto::token::{self, Candidate, Invite, Reply, Token, TokenError};
use crate::report::human;
use crate::report::model::{self, Event, State, TokenKind};
use crate::report::sanitize::Shown;

/// A joiner that is not connected by then shows its reply code.
const REPLY_AFTER: Duration = Duration::from_secs(3);
/// How often a folder is looked at for the other side's file.
const LOOK: Duration = Duration::from_millis(50);
/// A token file holds little; more is not one.
const MAX_TOKEN_FILE: u64 = input::LIMIT as u64;
/// The window that a link wants; less is worth a word at -v.
const WANTED_BUFFER: usize = 4 << 20;

/// How the two sides meet: what every command that needs a peer takes.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Meeting")]
pub struct MeetArgs {
    /// How long an invite stays good, 30d at most
    #[arg(
        long,
        env = "KNOTHOLE_EXPIRES",
        value_name = "DURATION",
        default_value = "1h"
    )]
    #[arg(value_parser = common::expires, value_hint = ValueHint::Other)]
    pub(super) expires: Duration,

    /// Exchange invite and reply as files in a folder that both sides see
    #[arg(long, env = "KNOTHOLE_VIA", value_name = "file:DIR", value_hint = ValueHint::Other)]
    via: Option<Via>,

    /// Write the invite as a picture of its QR code, PNG or SVG by its name
    #[arg(long, env = "KNOTHOLE_QR_FILE", value_name = "FILE.png|.svg")]
    #[arg(conflicts_with = "sdp")]
    qr_file: Option<QrFile>,

    /// Join the invite in a picture of its QR code, PNG or JPEG; - for standard input
    #[arg(long, env = "KNOTHOLE_QR_IMAGE", value_name = "PICTURE|-")]
    #[arg(conflicts_with = "qr_file")]
    qr_image: Option<PathBuf>,

    /// Ask the terminal to copy what goes to the other side, such as the invite or the reply code
    #[arg(long, env = "KNOTHOLE_COPY", value_parser = Switch, action = ArgAction::SetTrue)]
    copy: bool,

    /// Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer
    ///
    /// Offers and answers are printed as the JSON that browsers use and read as JSON or SDP.
    /// Candidates of the other side may follow, one a line. An offer in place of an invite is
    /// answered also without this option.
    #[arg(long, env = "KNOTHOLE_SDP", value_parser = Switch, action = ArgAction::SetTrue)]
    sdp: bool,

    /// Have both sides compare six words on their screens before anything is sent
    ///
    /// They are made from both certificates, so they differ when somebody in the middle exchanged
    /// the invite. Read them to each other; nothing moves until both sides have said yes.
    #[arg(long, env = "KNOTHOLE_VERIFY", value_parser = Switch, action = ArgAction::SetTrue)]
    pub verify: bool,
}

impl MeetArgs {
    /// Where the invite to join comes from: the token that was given, or else the picture.
    #[must_use]
    pub fn source(&self, token: Option<&TokenSource>) -> Option<TokenSource> {
        let picture = || self.qr_image.clone().map(TokenSource::Picture);
        token.cloned().or_else(picture)
    }

    /// The side that a command takes which prints an invite unless it is given one, or told to `join`.
    #[must_use]
    pub fn role(&self, token: Option<&TokenSource>, join: bool) -> Role {
        match self.source(token) {
            None if !join => Role::Issuer,
            token => Role::Joiner(token),
        }
    }

    /// What this side says about itself.
    #[must_use]
    pub fn local(&self) -> Local<'static> {
        Local {
            version: env!("CARGO_PKG_VERSION"),
            verify: self.verify,
        }
    }

    /// Whether tokens travel in another way than through the standard streams.
    #[must_use]
    pub fn has_way(&self) -> bool {
        self.via.is_some()
    }
}

/// Which side of an invite this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Prints it.
    Issuer,
    /// Joins it; `None` to take it from `--via`, or to ask for it.
    Joiner(Option<TokenSource>),
}

/// Everything about one meeting.
#[derive(Clone, Debug)]
pub struct Meeting<'a> {
    /// Which side this is.
    pub role: Role,
    /// The options.
    pub args: &'a MeetArgs,
    /// The network.
    pub reach: Reach,
    /// When to show a QR code.
    pub qr: When,
    /// The command for the other side, up to the invite.
    pub command: &'static str,
    /// Standard input carries the data, so no reply can come from it.
    pub stdin_taken: bool,
    /// Standard output carries received data: the joiner's reply code goes to stderr.
    pub stdout_taken: bool,
}

impl Meeting<'_> {
    /// Where tokens travel, if not through the standard streams.
    pub(super) fn folder(&self) -> Option<Folder> {
        let via = self.args.via.as_ref();
        via.map(|Via::File(folder)| Folder::new(folder))
    }
}

/// Meets the other side.
///
/// # Errors
/// Nobody came, the token is no good, no path was found, or the user ended it.
pub async fn meet(meeting: &Meeting<'_>, ctx: &Ctx) -> Result<Link, Failure> {
    match &meeting.role {
        Role::Issuer if meeting.args.sdp => describe::offer(meeting, ctx).await,
        Role::Issuer => issue(meeting, ctx).await,
        Role::Joiner(_) if meeting.args.qr_file.is_some() => Err(Failure::usage(
            "--qr-file writes the invite that this side makes, and this side joins one",
        )
        .hint("leave it out here, and use it where the invite is made")),
        Role::Joiner(token) => join(meeting, token.as_ref(), ctx).await,
    }
}

/// Prints an invite and waits for the joiner.
async fn issue(meeting: &Meeting<'_>, ctx: &Ctx) -> Result<Link, Failure> {
    let qr_file = meeting.args.qr_file.as_ref().map(QrFile::plan);
    let mut qr_file = qr_file.transpose()?;
    ctx.ui.state(State::Gathering)?;
    let opened = stoppable(
        ctx,
        Issuer::open(&meeting.reach.network, meeting.args.expires),
    )
    .await?;
    let mut issuer = opened.map_err(|error| failure(error, "cannot open the network"))?;
    tell_sockets(ctx, issuer.endpoint());
    let (invite, left_out) = issuer.invite();
    if invite.candidates.is_empty() {
        return Err(
            Failure::incomplete("this machine has no address to offer a peer")
                .kind("no-network")
                .hint("connect it to a network, or name an address with --bind"),
        );
    }
    for (Candidate { addr, .. }, why) in left_out {
        ctx.ui
            .verbose(1, &format!("left {addr} out of the invite: {why}"));
    }
    let folder = meeting.folder();
    if let Some(folder) = &folder {
        folder.clear_reply();
    }
    show_invite(meeting, folder.as_ref(), qr_file.as_mut(), &invite, ctx)?;
    ctx.ui.state(State::Waiting)?;

    let (replies_tx, mut replies) = mpsc::channel(4);
    let ui = ctx.ui.clone();
    let mut failed = None;
    let said = |waiting: Waiting| match waiting {
        Waiting::Notice(Notice::ServerFailed { server, why }) => {
            ui.verbose(1, &format!("STUN server {server}: {}", Shown(&why)));
        }
        Waiting::Notice(Notice::MappingMoved { from, to }) => {
            ui.warn(&format!(
                "the NAT moved our address from {from} to {to}: here is a new invite"
            ));
        }
        Waiting::Reissued(invite) => {
            if let Err(error) =
                show_invite(meeting, folder.as_ref(), qr_file.as_mut(), &invite, ctx)
            {
                failed = Some(error);
            }
        }
        Waiting::Joining(from) => ui.verbose(1, &format!("a joiner is at {from}")),
        Waiting::Forgotten(from) => {
            ui.warn(&format!(
                "a joiner at {from} did not finish the handshake; still waiting"
            ));
        }
    };
    let own = invite.encode();
    let read_replies = read_replies(meeting, folder.as_ref(), &own, &replies_tx, ctx);
    let waited = async {
        tokio::select! {
            link = issuer.wait(&mut replies, said) => Ok(link),
            never = read_replies => Err(never),
        }
    };
    let waited = stoppable(ctx, waited).await;
    if let Some(folder) = &folder {
        folder.clear_invite();
    }
    if let Some(error) = failed {
        return Err(error);
    }
    match waited? {
        Ok(Ok(link)) => connected(link, ctx),
        Ok(Err(error)) => Err(failure(error, "no peer joined")),
        Err(error) => Err(error),
    }
}

/// Takes an invite and connects; shows a reply code when that takes long.
async fn join(
    meeting: &Meeting<'_>,
    token: Option<&TokenSource>,
    ctx: &Ctx,
) -> Result<Link, Failure> {
    let folder = meeting.folder();
    let text = match (&folder, token) {
        (Some(folder), None) => {
            ctx.ui
                .phase(&format!("waiting for {}", folder.invite.display()));
            stoppable(ctx, folder.wait_for_invite(meeting.reach.bound)).await??
        }
        (_, source) if meeting.args.sdp => input::read_token(source, "offer: ", ctx).await?,
        (_, source) => input::read_token(source, "invite: ", ctx).await?,
    };
    if meeting.args.sdp || sdp::resembles(&text) {
        return describe::answer(meeting, &text, folder.as_ref(), ctx).await;
    }
    let invite = read_invite(&text, token)?;
    ctx.ui.state(State::Connecting)?;
    let started = Joiner::start(&meeting.reach.network, &invite, meeting.reach.bound);
    let mut joiner = stoppable(ctx, started)
        .await?
        .map_err(|error| failure(error, "cannot open the network"))?;
    tell_buffers(ctx, joiner.endpoint().granted());
    let opened = stoppable(ctx, open(&mut joiner, meeting, folder.as_ref(), ctx)).await?;
    opened?;
    let link = joiner.into_link();
    connected(link.map_err(|error| failure(error, "not connected"))?, ctx)
}

async fn open(
    joiner: &mut Joiner,
    meeting: &Meeting<'_>,
    folder: Option<&Folder>,
    ctx: &Ctx,
) -> Result<(), Failure> {
    let patience = if folder.is_some() {
        Duration::ZERO
    } else {
        REPLY_AFTER
    };
    let show_at = Instant::now() + patience;
    tokio::select! {
        biased;
        opened = joiner.opened() => return opened.map_err(|error| failure(error, "not connected")),
        () = tokio::time::sleep_until(show_at.into()) => {}
    }
    let gathered = joiner.gathered();
    tokio::select! {
        biased;
        opened = joiner.opened() => return opened.map_err(|error| failure(error, "not connected")),
        () = gathered => {}
    }
    let reply = joiner.reply();
    tell_servers(ctx, joiner.endpoint());
    match reply {
        Some(reply) => {
            let code = reply.encode();
            if let Some(folder) = folder {
                folder.write_reply(&code)?;
            } else {
                show_reply(meeting, &code, ctx)?;
            }
            ctx.ui.event(&Event::Token {
                kind: TokenKind::Reply,
                token: code,
            })?;
        }
        None => ctx
            .ui
            .warn("no address of this machine is known that the other side could open for"),
    }
    if folder.is_none() {
        ctx.ui.state(State::Waiting)?;
    }
    joiner
        .opened()
        .await
        .map_err(|error| failure(error, "not connected"))
}

fn show_invite(
    meeting: &Meeting<'_>,
    folder: Option<&Folder>,
    qr_file: Option<&mut Picture>,
    invite: &Invite,
    ctx: &Ctx,
) -> Result<(), Failure> {
    let text = invite.encode();
    let has_file = qr_file.is_some();
    // First: who waits for the invite may want the picture.
    if let Some(file) = qr_file {
        file.write(&text, ctx)?;
    }
    if let Some(folder) = folder {
        folder.write_invite(&text)?;
    } else {
        ctx.ui.result(&text)?;
    }
    ctx.ui.event(&Event::Token {
        kind: TokenKind::Invite,
        token: text.clone(),
    })?;
    if folder.is_none() {
        copy(meeting, &text, "the invite", ctx);
        let good = human::duration(meeting.args.expires);
        ctx.ui.note(&format!(
            "On the other side, within {good}:\n  {} {text}",
            meeting.command
        ));
        // Last, so that all of it is on the screen, whatever scrolled away above.
        qr::show(&ctx.ui, &text, meeting.qr, has_file);
    }
    Ok(())
}

/// Asks the terminal to copy what goes to the other side, if that is wanted.
pub(super) fn copy(meeting: &Meeting<'_>, text: &str, what: &str, ctx: &Ctx) {
    if !meeting.args.copy {
        return;
    }
    match ctx.ui.copy(text) {
        Ok(()) => {
            let tmux = if ui::env("TMUX").is_some() {
                " (tmux needs set-clipboard on)"
            } else {
                ""
            };
            ctx.ui
                .note(&format!("asked the terminal to copy {what}{tmux}"));
        }
        Err(why) => ctx.ui.note(&format!("{what} is not copied: {why}")),
    }
}

fn show_reply(meeting: &Meeting<'_>, code: &str, ctx: &Ctx) -> Result<(), Failure> {
    copy(meeting, code, "the reply code", ctx);
    ctx.ui
        .note("Not connected yet. Type this reply code where the invite was made:");
    if meeting.stdout_taken {
        ctx.ui.note(code);
        return Ok(());
    }
    ctx.ui.result(code)
}

/// Feeds reply codes to the waiting issuer; ends only with a failure.
async fn read_replies(
    meeting: &Meeting<'_>,
    folder: Option<&Folder>,
    own: &str,
    replies: &mpsc::Sender<Reply>,
    ctx: &Ctx,
) -> Failure {
    let mut lines = match folder {
        Some(_) => None,
        None => {
            let prompt = "reply code, if the other side shows one: ";
            Some(Lines::start(prompt, meeting.stdin_taken, &ctx.ui))
        }
    };
    loop {
        let line = match (&mut lines, folder) {
            (Some(lines), _) => lines.next().await,
            (None, Some(folder)) => folder.next_reply().await,
            (None, None) => std::future::pending().await,
        };
        if line.trim().is_empty() {
            continue;
        }
        match token::parse_reply(&line) {
            // The issuer is gone only when this future is about to be dropped.
            Ok(reply) => drop(replies.send(reply).await),
            Err(error) => {
                let own_invite = matches!(error, TokenError::InviteWhereReplyBelongs)
                    && matches!(token::parse(&line), Ok(Token::Invite(invite)) if invite.encode() == own);
                if own_invite {
                    ctx.ui.warn("this is your own invite: it goes to the other side, whose reply code comes here");
                } else {
                    ctx.ui.warn(&format!("{error}; {}", error.hint()));
                }
            }
        }
    }
}

fn read_invite(text: &str, source: Option<&TokenSource>) -> Result<Invite, Failure> {
    let invite = token::parse_invite(text).map_err(|error| suggest::token(&error, source))?;
    let now = unix_now();
    if invite.is_expired(now) {
        let ago = human::duration(Duration::from_secs(now.saturating_sub(invite.expires_at())));
        return Err(Failure::usage(format!(
            "this invite expired {ago} ago, by this machine's clock"
        ))
        .kind("expired")
        .hint("ask for a new one; the other side can make it last with --expires 6h"));
    }
    Ok(invite)
}

/// Says which path was found.
pub(super) fn connected(link: Link, ctx: &Ctx) -> Result<Link, Failure> {
    ctx.ui.state(State::Connected)?;
    if let Some(path) = link.path() {
        let rtt_ms = path.round_trip.map(model::ms);
        ctx.ui.event(&Event::Path {
            kind: kind(path.kind),
            protocol: "udp".to_owned(),
            local: path.local.to_string(),
            remote: path.remote.to_string(),
            rtt_ms,
        })?;
        let how = if path.kind == PathKind::Relay {
            "through a relay"
        } else {
            "directly"
        };
        let rtt = rtt_ms.map_or(String::new(), |ms| format!(", round trip {ms} ms"));
        ctx.ui.note(&format!(
            "connected {how}: {} to {} ({}, UDP{rtt})",
            path.local,
            path.remote,
            path.kind.name()
        ));
    }
    Ok(link)
}

/// The kind of a path, as JSON has it.
pub(super) fn kind(kind: PathKind) -> model::PathKind {
    match kind {
        PathKind::Host => model::PathKind::Host,
        PathKind::Srflx => model::PathKind::Srflx,
        PathKind::Prflx => model::PathKind::Prflx,
        PathKind::Relay => model::PathKind::Relay,
    }
}

/// Says what gathering found out, where it matters.
pub(super) fn tell_sockets(ctx: &Ctx, endpoint: &mut Endpoint) {
    tell_buffers(ctx, endpoint.granted());
    tell_servers(ctx, endpoint);
    for seen in endpoint.mappings().iter().filter(|seen| seen.len() > 1) {
        let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
        ctx.ui.verbose(1, &format!("servers see different addresses ({}): the NAT's mapping depends on the destination", seen.join(", ")));
    }
}

fn tell_servers(ctx: &Ctx, endpoint: &mut Endpoint) {
    let alone = endpoint.mappings().iter().all(Vec::is_empty);
    while let Some(notice) = endpoint.try_notice() {
        if let Notice::ServerFailed { server, why } = notice {
            // It may quote the server.
            let text = format!("server {server}: {}", Shown(&why));
            // One that answers is enough; when none does, each failure explains a missing path.
            if alone {
                ctx.ui.warn(&text);
            } else {
                ctx.ui.verbose(1, &text);
            }
        }
    }
}

fn tell_buffers(ctx: &Ctx, granted: Granted) {
    // Linux reports twice what it grants.
    if granted.receive < WANTED_BUFFER {
        ctx.ui.verbose(1, &format!(
            "the system grants a receive buffer of {} KiB; \
             for full speed: sysctl -w net.core.rmem_max={WANTED_BUFFER} net.core.wmem_max={WANTED_BUFFER}",
            granted.receive >> 10,
        ));
    }
}

/// Turns what the link says into what a person is told.
pub fn failure(error: LinkError, what: &str) -> Failure {
    let message = format!("{what}: {error}");
    match error {
        LinkError::Lost(_) | LinkError::Mute(_) => Failure::incomplete(message)
            .kind("lost")
            .hint("the network or the other side went away; try again when both are there"),
        LinkError::Closed | LinkError::Crowded => Failure::incomplete(message).kind("closed"),
        LinkError::Expired => Failure::incomplete(message)
            .kind("expired")
            .hint("make a new invite; --expires makes it last longer"),
        LinkError::NoPath { .. } => Failure::incomplete(message).kind("no-path").hint(
            "was the reply code typed at the other side? if so, UDP may be blocked: try another \
             network, or a relay with --turn",
        ),
        LinkError::Handshake => Failure::incomplete(message)
            .kind("handshake")
            .hint("someone else may have joined with the same invite; ask for a new one"),
        LinkError::Certificate => Failure::unverified(message).kind("certificate").hint(
            "the description may be of another run, or somebody is in the middle: exchange both \
             descriptions again, in a way you trust",
        ),
        LinkError::CertificateRefused => Failure::unverified(message)
            .kind("certificate")
            .hint("the other side may have a description of another run: exchange both again"),
        LinkError::NoChannel => Failure::incomplete(message)
            .kind("no-channel")
            .hint("the side that makes the offer must open the data channel, before the offer"),
        LinkError::System(error) => Failure {
            cause: Some(error),
            ..Failure::incomplete(what).kind("system")
        },
    }
}

/// Runs `work` unless the user stops it first.
pub(super) async fn stoppable<T>(ctx: &Ctx, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        cause = ctx.stop.wait() => Err(Failure::interrupted(cause)),
        done = work => Ok(done),
    }
}

/// A folder that both sides see, with the files `invite` and `reply`.
pub(super) struct Folder {
    invite: PathBuf,
    reply: PathBuf,
}

impl Folder {
    fn new(folder: &Path) -> Self {
        Self {
            invite: folder.join("invite"),
            reply: folder.join("reply"),
        }
    }

    pub fn write_invite(&self, text: &str) -> Result<(), Failure> {
        write_whole(&self.invite, text)
    }

    pub fn write_reply(&self, text: &str) -> Result<(), Failure> {
        write_whole(&self.reply, text)
    }

    /// A reply of an earlier run would be taken for one to this invite.
    pub fn clear_reply(&self) {
        remove(&self.reply);
    }

    pub fn clear_invite(&self) {
        remove(&self.invite);
    }

    async fn wait_for_invite(&self, bound: Option<Duration>) -> Result<String, Failure> {
        let started = Instant::now();
        loop {
            if let Some(text) = read_token_file(&self.invite) {
                return Ok(text);
            }
            if bound.is_some_and(|bound| started.elapsed() >= bound) {
                let waited = started.elapsed().as_secs();
                return Err(Failure::incomplete(format!(
                    "no {} within {waited} s",
                    self.invite.display()
                ))
                .kind("no-invite"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The next new content of `reply`.
    pub async fn next_reply(&self) -> String {
        loop {
            if let Some(text) = read_token_file(&self.reply) {
                remove(&self.reply);
                return text;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        log::debug!("remove {}: {error}", path.display());
    }
}

fn read_token_file(path: &Path) -> Option<String> {
    let small =
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_TOKEN_FILE);
    small.then(|| std::fs::read_to_string(path).ok())?
}

/// Writes a file that appears whole or not at all.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let written =
        std::fs::write(&part, format!("{text}\n")).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|error| {
        remove(&part);
        Failure {
            exit: Exit::Incomplete,
            ..Failure::usage(format!("cannot write {}", path.display()))
        }
        .kind("disk")
        .because(error)
        .hint("the folder of --via must exist and be writable")
    })
}
