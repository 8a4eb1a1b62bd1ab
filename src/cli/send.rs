//! `knothole send`: the arguments, their help, and what they mean together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::common::{self, Common, Reach, Via};
use super::failure::Failure;
use super::input::TokenSource;
use super::meet;
use super::transfer::Screen;
use super::ui::Ctx;
use crate::exit::Exit;
use crate::io::files::{FileError, FileErrorKind, Source};
use crate::io::transfer;

/// Send files, or what comes in on standard input
///
/// Prints an invite, alone on stdout, and the command for the other side. When the other side
/// shows a short reply code, type it here. Exits 0 once the receiver has verified everything.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole send photo.jpg notes.txt
  tar c folder | knothole send -
  knothole send photo.jpg --to @invite.txt")]
pub struct Args {
    /// Files to send; - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Join an invite that `receive --invite` printed; @FILE or - to read it from there
    #[arg(long, env = "KNOTHOLE_TO", value_name = "TOKEN")]
    to: Option<TokenSource>,

    /// How long the invite stays good, 30d at most
    #[arg(
        long,
        env = "KNOTHOLE_EXPIRES",
        value_name = "DURATION",
        default_value = "1h"
    )]
    #[arg(value_parser = common::expires)]
    expires: Duration,

    /// Exchange invite and reply as files in a folder that both sides see
    #[arg(long, env = "KNOTHOLE_VIA", value_name = "file:DIR")]
    via: Option<Via>,

    #[command(flatten)]
    pub common: Common,
}

/// What `send` was asked to do, checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to send.
    pub what: What,
    /// The invite to join; where there is none, this side issues one.
    pub to: Option<TokenSource>,
    /// How long an invite of ours stays good.
    pub expires: Duration,
    /// How tokens travel, if not by hand.
    pub via: Option<Via>,
    /// The network.
    pub reach: Reach,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// These files, at least one.
    Files(Vec<PathBuf>),
    /// Standard input up to its end.
    Stdin,
}

impl Args {
    /// Checks the arguments against one another.
    ///
    /// # Errors
    /// They contradict one another.
    pub fn request(&self) -> Result<Request, Failure> {
        let is_stdin = |path: &PathBuf| path.as_path() == Path::new("-");
        let what = if self.paths.iter().any(is_stdin) {
            if self.paths.len() > 1 {
                return Err(Failure::usage(
                    "standard input (-) is sent alone, without other files",
                ));
            }
            What::Stdin
        } else {
            What::Files(self.paths.clone())
        };
        if what == What::Stdin && self.to.as_ref().is_some_and(TokenSource::is_stdin) {
            return Err(
                Failure::usage("standard input cannot be both the data and the token")
                    .hint("give the token as --to @FILE"),
            );
        }
        Ok(Request {
            what,
            to: self.to.clone(),
            expires: self.expires,
            via: self.via.clone(),
            reach: self.common.reach()?,
        })
    }
}

/// Runs `knothole send`.
///
/// # Errors
/// Anything but every file verified at the receiver.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let request = args.request()?;
    let paths = match &request.what {
        What::Files(paths) => paths.clone(),
        What::Stdin => vec![PathBuf::from("-")],
    };
    let sources = Source::open_all(&paths).map_err(file_failure)?;
    let link = match &request.to {
        None => {
            let issue = meet::Issue {
                reach: &request.reach,
                expires: request.expires,
                via: request.via.as_ref(),
                qr: args.common.qr,
                command: "knothole receive",
                stdin_taken: request.what == What::Stdin,
            };
            meet::issue(&issue, &ctx).await?
        }
        Some(token) => {
            let join = meet::Join {
                reach: &request.reach,
                token: Some(token),
                via: request.via.as_ref(),
                stdout_taken: false,
            };
            meet::join(&join, &ctx).await?
        }
    };
    ctx.ui.phase("waiting for the other side to accept");
    let mut screen = Screen::new(&ctx.ui, "sending");
    let names = sources
        .iter()
        .map(|source| source.path().display().to_string());
    screen.offer(names.collect(), sources.iter().map(Source::size).sum());
    let stopped = async {
        ctx.stop.wait().await;
    };
    let ended = transfer::send(
        link,
        sources,
        env!("CARGO_PKG_VERSION"),
        stopped,
        &mut |report| {
            screen.report(report);
        },
    )
    .await
    .map_err(|error| Failure::usage(error.to_string()))?;
    screen.end(ended, &ctx)
}

/// A file that cannot be sent is a matter of the command line, unless the disk is at fault.
fn file_failure(error: FileError) -> Failure {
    let failure = match error.kind() {
        FileErrorKind::Usage => Failure::usage(error.to_string()),
        _ => Failure::incomplete(error.to_string()),
    };
    let failure = failure.kind(error.kind().as_str());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
