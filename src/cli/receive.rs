//! `knothole receive`: the arguments, their help, and what they mean together.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgAction, ValueHint};

use super::common::{Common, Reach, Switch};
use super::failure::Failure;
use super::input::{self, TokenSource};
use super::meet::{self, MeetArgs, Meeting, Role};
use super::transfer::Screen;
use super::ui::Ctx;
use super::words;
use crate::exit::Exit;
use crate::io::files::{Action, Destination, Existing, FileErrorKind, PeerName, Planned, Refusal};
use crate::io::transfer::{self, Decision};
use crate::proto::app::{DeclineReason, Offer, OfferKind};
use crate::report::human;
use crate::report::model::Event;
use crate::report::sanitize::{Shown, Stream};

/// Receive what someone sends
///
/// Joins the invite that `send` printed, or prints one itself with --invite. Shows what is coming
/// and asks before anything is written; a text is shown at once unless --output stores it. Exits 0
/// once everything is verified and in place.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole receive KH...
  knothole receive @invite.txt -y -o Downloads
  knothole receive --qr-image screenshot.png
  knothole receive -o - KH... | tar x
  knothole receive @offer.json")]
pub struct Args {
    /// The invite, or an SDP offer; @FILE or - to read it from there; asked for when left out
    #[arg(env = "KNOTHOLE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[arg(conflicts_with = "qr_image", value_hint = ValueHint::Other)]
    token: Option<TokenSource>,

    /// Print an invite here, for `send --to` on the other side
    #[arg(long, env = "KNOTHOLE_INVITE", value_parser = Switch, action = ArgAction::SetTrue)]
    #[arg(conflicts_with_all = ["token", "qr_image"])]
    invite: bool,

    /// Where to put it: a folder, a file name, or - for stdout
    #[arg(short, long, env = "KNOTHOLE_OUTPUT", value_name = "DIR|FILE|-")]
    #[arg(value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,

    /// Accept without asking
    #[arg(short, long, env = "KNOTHOLE_YES", value_parser = Switch, action = ArgAction::SetTrue)]
    yes: bool,

    /// Replace files that exist
    #[arg(long, env = "KNOTHOLE_OVERWRITE", value_parser = Switch, action = ArgAction::SetTrue)]
    #[arg(conflicts_with = "rename")]
    overwrite: bool,

    /// Give a new name to what would replace a file that exists
    #[arg(long, env = "KNOTHOLE_RENAME", value_parser = Switch, action = ArgAction::SetTrue)]
    rename: bool,

    #[command(flatten)]
    meet: MeetArgs,

    #[command(flatten)]
    pub common: Common,
}

/// What `receive` was asked to do, checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who prints the invite.
    pub role: Role,
    /// Where to put what comes.
    pub output: Output,
    /// Whether to accept without asking.
    pub yes: bool,
    /// What to do about files that exist.
    pub existing: Existing,
    /// The network.
    pub reach: Reach,
}

/// Where received data goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into the current folder, under the sender's names.
    Here,
    /// Into this folder or under this file name: which of the two shows when it is looked at.
    Path(PathBuf),
    /// To standard output.
    Stdout,
}

impl Args {
    /// Checks the arguments against one another.
    ///
    /// # Errors
    /// They contradict one another.
    pub fn request(&self) -> Result<Request, Failure> {
        let output = match self.output.as_deref() {
            None => Output::Here,
            Some(path) if path.as_os_str() == "-" => Output::Stdout,
            Some(path) => Output::Path(path.to_owned()),
        };
        if output == Output::Stdout && self.common.screen.json {
            return Err(
                Failure::usage("--json does not go with -o -: stdout cannot carry both")
                    .hint("receive into a file, or leave out --json"),
            );
        }
        if output == Output::Stdout && self.invite && !self.meet.has_way() {
            // The invite would be the first line of the data.
            return Err(Failure::usage(
                "--invite does not go with -o -: stdout cannot carry both the invite and the data",
            )
            .hint("let the other side print the invite, or exchange it with --via"));
        }
        Ok(Request {
            role: if self.invite {
                Role::Issuer
            } else {
                Role::Joiner(self.meet.source(self.token.as_ref()))
            },
            output,
            yes: self.yes,
            existing: match (self.overwrite, self.rename) {
                (true, _) => Existing::Overwrite,
                (_, true) => Existing::Rename,
                _ => Existing::Refuse,
            },
            reach: self.common.reach()?,
        })
    }
}

/// Runs `knothole receive`.
///
/// # Errors
/// Anything but every file verified and in place.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let request = args.request()?;
    let destination = match &request.output {
        Output::Here => Destination::from_output(None, request.existing),
        Output::Path(path) => Destination::from_output(Some(path), request.existing),
        Output::Stdout => Ok(Destination::stdout()),
    };
    let destination = destination.map_err(|error| refused(&Refusal::Failed(error)))?;
    let meeting = Meeting {
        role: request.role,
        args: &args.meet,
        reach: request.reach,
        qr: args.common.qr,
        command: "knothole send FILE --to",
        stdin_taken: false,
        stdout_taken: request.output == Output::Stdout,
    };
    let link = meet::meet(&meeting, &ctx).await?;
    ctx.ui.phase("waiting for the offer");
    let screen = RefCell::new(Screen::new(&ctx.ui, "receiving"));
    // A refusal of ours says more here than the word that the peer is told.
    let refusal = RefCell::new(None);
    let decide = |offers: Arc<[Offer]>, total: Option<u64>| {
        let (ctx, screen, refusal, destination) = (&ctx, &screen, &refusal, &destination);
        let (yes, output) = (request.yes, &request.output);
        async move {
            if is_shown(&offers, output) {
                screen.borrow_mut().is_text();
                let show = |text: &str| {
                    show_text(text, ctx).map_err(|failure| {
                        *refusal.borrow_mut() = Some(failure);
                        FileErrorKind::ClosedPipe.for_peer()
                    })
                };
                return Decision::Show(Box::new(show));
            }
            let names = offers.iter().map(|offer| offer.name.clone()).collect();
            screen.borrow_mut().offer(names, total);
            match decide(destination, &offers, total, yes, ctx).await {
                Ok(planned) => {
                    screen.borrow_mut().plan(&planned);
                    Decision::Accept(planned)
                }
                Err((reason, failure)) => {
                    let text = told_peer(reason);
                    *refusal.borrow_mut() = Some(failure);
                    Decision::Decline(reason, text.to_owned())
                }
            }
        }
    };
    let stopped = async {
        ctx.stop.wait().await;
    };
    let mut report = |report| screen.borrow_mut().report(report);
    let ended = transfer::receive(
        link,
        args.meet.local(),
        |words| words::compare(words, args.meet.verify, &ctx),
        decide,
        stopped,
        &mut report,
    )
    .await;
    if let Some(failure) = refusal.into_inner() {
        return Err(failure);
    }
    screen.into_inner().end(ended, &ctx)
}

/// Whether the offer is a text that is shown instead of stored. A short text shown safely harms
/// nobody, so there is no question.
fn is_shown(offers: &[Offer], output: &Output) -> bool {
    *output == Output::Here && offers.iter().all(|offer| offer.kind == OfferKind::Text)
}

/// Shows a text: safely on a terminal, to the letter elsewhere.
fn show_text(text: &str, ctx: &Ctx) -> Result<(), Failure> {
    if ctx.ui.json() {
        let text = text.to_owned();
        return ctx.ui.event(&Event::Text { text });
    }
    if !io::stdout().is_terminal() {
        return ctx.ui.raw(text.as_bytes());
    }
    let size = human::size(text.len() as u64);
    ctx.ui
        .note(&format!("the other side sends a text of {size}:"));
    let mut stream = Stream::default();
    let mut shown = stream.show(text.replace("\r\n", "\n").as_bytes());
    shown += &stream.show(&[]);
    if !shown.ends_with('\n') {
        shown.push('\n');
    }
    ctx.ui.raw(shown.as_bytes())
}

/// Shows the offer and asks, unless told not to.
async fn decide(
    destination: &Destination,
    offers: &[Offer],
    total: Option<u64>,
    yes: bool,
    ctx: &Ctx,
) -> Result<Vec<Planned>, (DeclineReason, Failure)> {
    let names: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
    let names = PeerName::judge_all(&names).map_err(|bad| {
        let name = offers
            .get(bad.index)
            .map_or("", |offer| offer.name.as_str());
        let message = format!("refused the file name {:.80}: {}", Shown(name), bad.problem);
        let hint = "the other side can rename the file and send it again";
        (
            DeclineReason::Name,
            Failure::declined(message).kind("bad-name").hint(hint),
        )
    })?;
    let sizes = offers.iter().map(|offer| offer.size);
    let wanted: Vec<(PeerName, Option<u64>)> = names.into_iter().zip(sizes).collect();
    let planned = destination
        .plan(&wanted)
        .map_err(|refusal| (reason(&refusal), refused(&refusal)))?;
    show_offer(&planned, total, ctx);
    if yes {
        return Ok(planned);
    }
    match input::confirm("Receive?", true, ctx).await {
        Ok(Some(true)) => Ok(planned),
        Ok(Some(false)) => Err((
            DeclineReason::User,
            Failure::declined("you declined").kind("declined"),
        )),
        Ok(None) => Err((
            DeclineReason::NoTerminal,
            Failure::declined("there is no terminal to ask on")
                .kind("no-terminal")
                .hint("accept with -y"),
        )),
        Err(failure) => Err((DeclineReason::User, failure)),
    }
}

/// Lists what is coming and where it would go.
fn show_offer(planned: &[Planned], total: Option<u64>, ctx: &Ctx) {
    /// More than a screen would push the question's context away.
    const MOST: usize = 15;
    ctx.ui.end_phase();
    for one in planned.iter().take(MOST) {
        let size = one.size().map_or("unknown size".to_owned(), human::size);
        let path = one.path().display().to_string();
        let what = match one.action() {
            Action::Replace => ", replaces the one there",
            Action::Rename => ", under a new name",
            Action::Create | Action::Stream => "",
        };
        ctx.ui.note(&format!("  {} ({size}{what})", Shown(&path)));
    }
    if planned.len() > MOST {
        ctx.ui.note(&format!("  and {} more", planned.len() - MOST));
    }
    let files = human::count(planned.len(), "file");
    let total = total.map_or("total size unknown".to_owned(), human::size);
    ctx.ui.note(&format!("{files}, {total}"));
}

fn reason(refusal: &Refusal) -> DeclineReason {
    match refusal {
        Refusal::Exists { .. } | Refusal::Twin { .. } => DeclineReason::Exists,
        Refusal::SameName { .. } | Refusal::NoFreeName { .. } => DeclineReason::Name,
        Refusal::Space { .. } | Refusal::TooLarge { .. } => DeclineReason::Space,
        _ => DeclineReason::Other,
    }
}

/// What the peer hears: the class, never a path of this machine.
fn told_peer(reason: DeclineReason) -> &'static str {
    match reason {
        DeclineReason::NoTerminal => "the receiver runs without a terminal and without -y",
        DeclineReason::User => "the person at the receiver said no",
        DeclineReason::Exists => "a file of that name exists there",
        DeclineReason::Name => "a file name is not allowed there",
        DeclineReason::Space => "there is not enough space",
        DeclineReason::Other => "the destination does not fit what is offered",
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let message = refusal.to_string();
    let failure = match refusal {
        Refusal::Space { .. } | Refusal::TooLarge { .. } => Failure::incomplete(message),
        Refusal::Failed(error) if error.kind() == FileErrorKind::Usage => Failure::usage(message),
        Refusal::Failed(_) => Failure::incomplete(message),
        _ => Failure::declined(message),
    };
    let failure = failure.kind(refusal.kind());
    match refusal.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
