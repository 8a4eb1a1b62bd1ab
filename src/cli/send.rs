//! `knothole send`: the arguments, their help, and what they mean together.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueHint;

use super::common::{Common, Reach};
use super::failure::Failure;
use super::input::{self, TokenSource};
use super::meet::{self, MeetArgs, Meeting, Role};
use super::suggest;
use super::transfer::Screen;
use super::ui::Ctx;
use super::words;
use crate::exit::Exit;
use crate::io::files::{FileError, FileErrorKind, Source};
use crate::io::transfer;
use crate::proto::app::message::MAX_SHOWN;
use crate::report::human;

/// Send files, a text, or what comes in on standard input
///
/// Prints an invite, alone on stdout, and the command for the other side. When the other side
/// shows a short reply code, type it here. Exits 0 once the receiver has verified everything.
#[derive(clap::Args, Clone, Debug)]
#[command(override_usage = "knothole send [OPTIONS] <PATH>...
       knothole send [OPTIONS] --text <TEXT>")]
#[command(after_help = "\
Examples:
  knothole send photo.jpg notes.txt
  tar c folder | knothole send -
  pwgen 20 1 | knothole send --text -
  knothole send photo.jpg --qr-file invite.png
  knothole send photo.jpg --to @invite.txt
  knothole send photo.jpg --sdp")]
pub struct Args {
    /// Files to send; - for standard input
    #[arg(required_unless_present = "text", value_name = "PATH", value_hint = ValueHint::FilePath)]
    paths: Vec<PathBuf>,

    /// Send this text, which the other side shows; - reads it from standard input
    ///
    /// At most 64 KiB of UTF-8. Other users of this machine can see arguments, so give a secret on
    /// standard input.
    #[arg(
        long,
        env = "KNOTHOLE_TEXT",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    #[arg(conflicts_with = "paths")]
    text: Option<TextSource>,

    /// Join the invite that `receive --invite` printed, or answer an offer; @FILE or - reads it
    #[arg(long, env = "KNOTHOLE_TO", value_name = "TOKEN", value_hint = ValueHint::Other)]
    #[arg(conflicts_with = "qr_image")]
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
    /// A text to be shown.
    Text(TextSource),
}

impl What {
    fn takes_stdin(&self) -> bool {
        matches!(self, Self::Stdin | Self::Text(TextSource::Stdin))
    }
}

/// Where a text comes from. The text itself is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum TextSource {
    /// Given as it is, by argument or environment.
    Given(String),
    /// `-`.
    Stdin,
}

impl fmt::Debug for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given(..)",
            Self::Stdin => "Stdin",
        })
    }
}

impl FromStr for TextSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::Stdin,
            text => Self::Given(text.to_owned()),
        })
    }
}

impl Args {
    /// Checks the arguments against one another.
    ///
    /// # Errors
    /// They contradict one another.
    pub fn request(&self) -> Result<Request, Failure> {
        let is_stdin = |path: &PathBuf| path.as_path() == Path::new("-");
        let what = if let Some(text) = &self.text {
            What::Text(text.clone())
        } else if self.paths.iter().any(is_stdin) {
            if self.paths.len() > 1 {
                return Err(Failure::usage(
                    "standard input (-) is sent alone, without other files",
                ));
            }
            What::Stdin
        } else {
            What::Files(self.paths.clone())
        };
        let to = self.meet.source(self.to.as_ref());
        if what.takes_stdin() && to.as_ref().is_some_and(TokenSource::is_stdin) {
            return Err(
                Failure::usage("standard input cannot be both the data and the token")
                    .hint("give the token as --to @FILE"),
            );
        }
        Ok(Request {
            what,
            role: match to {
                Some(token) => Role::Joiner(Some(token)),
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
    let sources = match &request.what {
        What::Files(paths) => Source::open_all(paths),
        What::Stdin => Source::open_all(&["-"]),
        What::Text(text) => Source::text(&read_text(text, &ctx).await?).map(|text| vec![text]),
    };
    if let What::Files(paths) = &request.what
        && let Some(failure) = paths.iter().find_map(|path| suggest::file(path))
    {
        return Err(failure);
    }
    let sources = sources.map_err(file_failure)?;
    let meeting = Meeting {
        role: request.role,
        args: &args.meet,
        reach: request.reach,
        qr: args.common.qr,
        command: "knothole receive",
        stdin_taken: request.what.takes_stdin(),
        stdout_taken: false,
    };
    let link = meet::meet(&meeting, &ctx).await?;
    let mut screen = Screen::new(&ctx.ui, "sending");
    if let What::Text(_) = request.what {
        screen.is_text();
        ctx.ui.phase("waiting for the other side");
    } else {
        ctx.ui.phase("waiting for the other side to accept");
    }
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
        args.meet.local(),
        |words| words::compare(words, args.meet.verify, &ctx),
        stopped,
        &mut |report| {
            screen.report(report);
        },
    )
    .await
    .map_err(|error| Failure::usage(error.to_string()))?;
    screen.end(ended, &ctx)
}

/// The text, if it is one that can be sent.
async fn read_text(source: &TextSource, ctx: &Ctx) -> Result<String, Failure> {
    let text = match source {
        TextSource::Given(text) => text.clone(),
        TextSource::Stdin => input::read_text(MAX_SHOWN, ctx).await?,
    };
    if text.is_empty() {
        return Err(Failure::usage("the text is empty"));
    }
    if text.len() as u64 > MAX_SHOWN {
        let most = human::size(MAX_SHOWN);
        return Err(Failure::usage(format!("the text is longer than {most}"))
            .hint("send it as a file, or as a stream: knothole send -"));
    }
    Ok(text)
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
