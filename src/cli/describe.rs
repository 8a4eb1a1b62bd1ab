//! Meeting any WebRTC program: an offer and an answer in SDP, carried by people and scripts.
//!
//! What is printed is the JSON that a browser's console takes, on one line, which also survives
//! programs that read lines; `knothole token --to sdp` makes SDP of it.

use std::time::Instant;

use tokio::sync::mpsc;

use super::failure::Failure;
use super::input::{Lines, TokenSource};
use super::meet::{self, Folder, Meeting, Role, connected, stoppable, tell_sockets};
use super::ui::Ctx;
use crate::io::peer::{self, Finding, Link, LinkError, Notice, Offerer, Pairing};
use crate::proto::sdp::{self, RemoteCandidate, SdpError, SdpType, Session};
use crate::report::human;
use crate::report::model::{Event, State, TokenKind};
use crate::report::sanitize::Shown;

/// Candidates that may wait to be tried.
const MAX_LATE: usize = 8;

/// Prints an offer, waits for the answer, and connects.
///
/// # Errors
/// Nobody answered, no path was found, or the user ended it.
pub async fn offer(meeting: &Meeting<'_>, ctx: &Ctx) -> Result<Link, Failure> {
    ctx.ui.state(State::Gathering)?;
    let opened = stoppable(ctx, Offerer::open(&meeting.reach.network)).await?;
    let mut offerer = opened.map_err(|error| failure(error, "cannot open the network"))?;
    tell_sockets(ctx, offerer.endpoint());
    let folder = meeting.folder();
    if let Some(folder) = &folder {
        folder.clear_reply();
    }
    let text = sdp::json(SdpType::Offer, &offerer.text());
    if let Some(folder) = &folder {
        folder.write_invite(&text)?;
    } else {
        ctx.ui.result(&text)?;
    }
    if folder.is_none() {
        meet::copy(meeting, &text, "the offer", ctx);
    }
    token_event(ctx, TokenKind::Offer, text)?;
    if folder.is_none() {
        let good = human::duration(meeting.args.expires);
        ctx.ui.note(&format!(
            "Give this offer to the other program, and enter its answer here within {good}.\n\
             A knothole there answers with: {} OFFER",
            meeting.command
        ));
    }
    ctx.ui.state(State::Waiting)?;

    let until = Instant::now() + meeting.args.expires;
    let mut incoming = Incoming::start("answer: ", meeting, folder.as_ref(), true, ctx);
    let answer = stoppable(
        ctx,
        wait_for_answer(&mut offerer, &mut incoming, until, ctx),
    )
    .await?;
    if let Some(folder) = &folder {
        folder.clear_invite();
    }
    let answer = answer?;
    ctx.ui.state(State::Connecting)?;
    let left = until.saturating_duration_since(Instant::now());
    let bound = meeting.reach.bound.unwrap_or(left);
    let pairing = stoppable(ctx, offerer.answered(&answer, bound)).await?;
    let pairing = pairing.map_err(|error| failure(error, "not connected"))?;
    pair(pairing, &answer, incoming, ctx).await
}

/// Answers an offer, and connects.
///
/// # Errors
/// The text is no offer, no path was found, or the user ended it.
pub async fn answer(
    meeting: &Meeting<'_>,
    text: &str,
    folder: Option<&Folder>,
    ctx: &Ctx,
) -> Result<Link, Failure> {
    let offer = sdp::read(text).map_err(unreadable)?;
    peer::judge_offer(&offer).map_err(|unfit| {
        Failure::usage(unfit.to_string())
            .kind("token")
            .hint(unfit.hint())
    })?;
    ctx.ui.state(State::Gathering)?;
    let bound = meeting.reach.bound.unwrap_or(meeting.args.expires);
    let answered = peer::answer(&meeting.reach.network, &offer, bound);
    let (mut pairing, text) = stoppable(ctx, answered)
        .await?
        .map_err(|error| failure(error, "cannot open the network"))?;
    tell_sockets(ctx, pairing.endpoint());
    let text = sdp::json(SdpType::Answer, &text);
    match folder {
        Some(folder) => folder.write_reply(&text)?,
        None if meeting.stdout_taken => ctx.ui.note(&text),
        None => ctx.ui.result(&text)?,
    }
    if folder.is_none() {
        meet::copy(meeting, &text, "the answer", ctx);
    }
    token_event(ctx, TokenKind::Answer, text)?;
    if folder.is_none() {
        ctx.ui
            .note("Give this answer to the side that made the offer.");
    }
    ctx.ui.state(State::Connecting)?;
    // Standard input that the offer did not come from belongs to whoever started this.
    let stdin = matches!(
        meeting.role,
        Role::Joiner(None | Some(TokenSource::Stdin)) if !meeting.args.has_way()
    );
    let incoming = Incoming::start("candidate, if there are more: ", meeting, None, stdin, ctx);
    pair(pairing, &offer, incoming, ctx).await
}

fn token_event(ctx: &Ctx, kind: TokenKind, token: String) -> Result<(), Failure> {
    ctx.ui.event(&Event::Token { kind, token })
}

/// What the other side's texts come from.
enum Incoming<'a> {
    Lines(Lines),
    Folder(&'a Folder),
}

impl<'a> Incoming<'a> {
    /// `stdin`: whether standard input may be read where it is no terminal.
    fn start(
        prompt: &str,
        meeting: &Meeting<'_>,
        folder: Option<&'a Folder>,
        stdin: bool,
        ctx: &Ctx,
    ) -> Self {
        match folder {
            Some(folder) => Self::Folder(folder),
            None => {
                let taken = meeting.stdin_taken || !stdin;
                Self::Lines(Lines::pastes(prompt, taken, &ctx.ui))
            }
        }
    }

    /// The next text; `None` when no more can come.
    async fn next(&mut self) -> Option<String> {
        match self {
            Self::Lines(lines) => lines.recv().await,
            Self::Folder(folder) => Some(folder.next_reply().await),
        }
    }
}

/// Waits for an answer that fits, and says what is wrong with others.
async fn wait_for_answer(
    offerer: &mut Offerer,
    incoming: &mut Incoming<'_>,
    until: Instant,
    ctx: &Ctx,
) -> Result<Session, Failure> {
    loop {
        let text = tokio::select! {
            text = incoming.next() => text,
            notice = offerer.next() => {
                tell(notice, ctx);
                continue;
            }
            () = tokio::time::sleep_until(until.into()) => {
                return Err(Failure::incomplete("no answer came before the offer expired")
                    .kind("expired")
                    .hint("make a new offer; --expires makes it last longer"));
            }
        };
        let Some(text) = text else {
            return Err(Failure::usage("the input ended before an answer came")
                .kind("token")
                .hint(
                    "leave standard input open, run on a terminal, or exchange with --via file:DIR",
                ));
        };
        match sdp::read(&text) {
            Ok(answer) => match offerer.judge(&answer) {
                Ok(()) => return Ok(answer),
                Err(unfit) => warn(&unfit, unfit.hint(), ctx),
            },
            Err(error) => warn(&error, error.hint(), ctx),
        }
    }
}

/// Connects, while candidates of the other side may still come.
async fn pair(
    mut pairing: Pairing,
    theirs: &Session,
    mut incoming: Incoming<'_>,
    ctx: &Ctx,
) -> Result<Link, Failure> {
    for why in pairing.skipped() {
        ctx.ui
            .verbose(1, &format!("a candidate of the other side {why}"));
    }
    let complete = theirs.complete && pairing.has_places();
    if !complete && !pairing.has_places() {
        ctx.ui.warn(
            "the other side's description has no address to send to: add its candidates, or let it reach this side",
        );
    }
    let (late_tx, mut late) = mpsc::channel(MAX_LATE);
    let own_ufrag = theirs.ufrag.as_str();
    let candidates = async {
        if complete {
            return std::future::pending().await;
        }
        loop {
            let Some(text) = incoming.next().await else {
                // No more can come; the path may still be found.
                return std::future::pending().await;
            };
            read_late(&text, own_ufrag, &late_tx, ctx).await;
        }
    };
    let opened = async {
        tokio::select! {
            opened = pairing.opened(&mut late, |finding| tell_finding(finding, ctx)) => opened,
            never = candidates => never,
        }
    };
    stoppable(ctx, opened)
        .await?
        .map_err(|error| failure(error, "not connected"))?;
    drop(incoming);
    let link = pairing.into_link();
    connected(link.map_err(|error| failure(error, "not connected"))?, ctx)
}

/// Takes candidates that were entered while the path is looked for.
async fn read_late(text: &str, ufrag: &str, late: &mpsc::Sender<RemoteCandidate>, ctx: &Ctx) {
    match sdp::read_candidates(text) {
        Ok(candidates) => {
            for why in &candidates.skipped {
                ctx.ui.warn(&format!("this candidate {why}"));
            }
            for candidate in candidates.usable {
                // The pairing is gone only when this future is about to be dropped.
                drop(late.send(candidate).await);
            }
        }
        // The same text again, with more candidates than before: programs without trickle.
        Err(SdpError::DescriptionInstead) => match sdp::read(text) {
            Ok(again) if again.ufrag == ufrag => {
                for candidate in again.candidates {
                    drop(late.send(candidate).await);
                }
            }
            _ => warn(
                &SdpError::DescriptionInstead,
                SdpError::DescriptionInstead.hint(),
                ctx,
            ),
        },
        Err(error) => warn(&error, error.hint(), ctx),
    }
}

fn warn(error: &impl std::fmt::Display, hint: &str, ctx: &Ctx) {
    ctx.ui.warn(&format!("{error}; {hint}"));
}

fn unreadable(error: SdpError) -> Failure {
    Failure::usage(error.to_string())
        .kind("token")
        .hint(error.hint())
}

fn tell_finding(finding: Finding, ctx: &Ctx) {
    match finding {
        Finding::Notice(notice) => tell(notice, ctx),
        Finding::Unresolved { name, why } => ctx.ui.warn(&format!(
            "the address behind {} is not known: {why}; only machines on its network segment can \
             ask for it, so let that side use a STUN server or show its addresses",
            Shown(&name)
        )),
        Finding::Skipped(why) => ctx.ui.warn(&format!("this candidate {why}")),
        Finding::Added(addr) => ctx.ui.verbose(1, &format!("also trying {addr}")),
    }
}

fn tell(notice: Notice, ctx: &Ctx) {
    match notice {
        Notice::ServerFailed { server, why } => {
            ctx.ui.verbose(1, &format!("STUN server {server}: {why}"));
        }
        Notice::MappingMoved { from, to } => ctx.ui.warn(&format!(
            "the NAT moved our address from {from} to {to}: if no connection comes, start again"
        )),
    }
}

/// As [`meet::failure`], with what to try where no invite is involved.
fn failure(error: LinkError, what: &str) -> Failure {
    let hint = match error {
        LinkError::NoPath { .. } => {
            "does the other side have the description from here? if so, UDP may be blocked: try \
             another network, or a relay with --turn"
        }
        LinkError::Handshake => {
            "the other program may have ended, or have the description of another run: exchange \
             both again"
        }
        _ => return meet::failure(error, what),
    };
    meet::failure(error, what).hint(hint)
}
