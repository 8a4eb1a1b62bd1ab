//! `knothole send`: the arguments, their help, and what they mean together.

use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::common::{Common, Reach};
use super::failure::Failure;
use super::input::TokenSource;
use super::meet::{self, MeetArgs, Meeting, Role};
use super::suggest;
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
  knothole send photo.jpg --to @invite.txt
  knothole send photo.jpg --sdp")]
pub struct Args {
    /// Files to send; - for standard input
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    paths: Vec<PathBuf>,

    /// Join the invite that `receive --invite` printed, or answer an offer; @FILE or - reads it
    #[arg(long, env = "KNOTHOLE_TO", value_name = "TOKEN", value_hint = ValueHint::Other)]
    to: Option<TokenSource>,

    #[command(flatten)]
    meet: MeetArgs,

    #[command(flatten)]
    pub common: Common,
}

/// What `send` was asked to do, checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to send.
    pub what: What,
    /// Which side of an invite this is.
    pub role: Role,
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
            role: match &self.to {
                Some(token) => Role::Joiner(Some(token.clone())),
                None => Role::Issuer,
            },
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
    if let Some(failure) = paths.iter().find_map(|path| suggest::file(path)) {
        return Err(failure);
    }
    let sources = Source::open_all(&paths).map_err(file_failure)?;
    let meeting = Meeting {
        role: request.role,
        args: &args.meet,
        reach: request.reach,
        qr: args.common.qr,
        command: "knothole receive",
        stdin_taken: request.what == What::Stdin,
        stdout_taken: false,
    };
    let link = meet::meet(&meeting, &ctx).await?;
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
