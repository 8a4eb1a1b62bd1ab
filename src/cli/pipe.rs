//! `knothole pipe`: the arguments, their help, and what they mean together.

use std::io::{self, IsTerminal};
use std::time::Instant;

use clap::ArgAction;

use super::common::{Common, Reach, Switch};
use super::failure::Failure;
use super::input::TokenSource;
use super::meet::{self, MeetArgs, Meeting, Role};
use super::progress::Progress;
use super::transfer::{failure, tell_link, tell_repair};
use super::ui::{Ctx, Options, Ui};
use super::words;
use crate::exit::Exit;
use crate::io::transfer::{self, Ended, Report, Show};
use crate::proto::app::{Only, Outcome};
use crate::report::human;
use crate::report::model::{Event, FileAction, State};
use crate::report::sanitize::Stream;

/// Join standard input and output to the other side's
///
/// What comes in on standard input here goes out on standard output there, and the other way round.
/// Without TOKEN it prints an invite, with one it joins. Stdout carries the stream and nothing else:
/// the invite goes to stderr, alone on its line, and so do the events of --json, which leave no room
/// for other words there.
///
/// Each direction ends by itself when its input ends; the run ends when both have, and exits 0 once
/// every byte has been handed to the reader at the other side and verified. A closed stdout ends the
/// run with 0, and the other side with 1 unless everything had been taken. On a terminal, control
/// characters of the other side are shown escaped.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tar c folder | knothole pipe --send-only
  knothole pipe --recv-only KH... | tar x
  knothole pipe
  knothole pipe --via file:/shared < questions > answers")]
pub struct Args {
    /// The invite to join; @FILE to read it from there
    #[arg(env = "KNOTHOLE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[arg(conflicts_with = "qr_image")]
    token: Option<TokenSource>,

    /// Join an invite that comes through --via, or is asked for
    #[arg(long, env = "KNOTHOLE_JOIN", value_parser = Switch, action = ArgAction::SetTrue)]
    join: bool,

    /// Take nothing from the other side, and do not touch stdout
    #[arg(long, env = "KNOTHOLE_SEND_ONLY", value_parser = Switch, action = ArgAction::SetTrue)]
    #[arg(conflicts_with = "recv_only")]
    send_only: bool,

    /// Send nothing, and do not read stdin
    #[arg(long, env = "KNOTHOLE_RECV_ONLY", value_parser = Switch, action = ArgAction::SetTrue)]
    recv_only: bool,

    /// Plain messages, for a program that does not speak knothole's protocol
    ///
    /// Every message that comes in is written to stdout, and stdin is sent as binary messages. The
    /// channel's end is the end of the input. At the end of stdin the other side is waited for, or
    /// with --send-only the channel is closed when everything was delivered. Nothing is verified: the
    /// exit code says only that the channel ended in order, and the last message of a program that
    /// closes at once may be lost; one that waits for an answer before it closes is safe.
    #[arg(long, env = "KNOTHOLE_RAW", value_parser = Switch, action = ArgAction::SetTrue)]
    #[arg(conflicts_with = "verify")]
    raw: bool,

    #[command(flatten)]
    meet: MeetArgs,

    #[command(flatten)]
    common: Common,
}

/// What `pipe` was asked to do, checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which side of an invite this is.
    pub role: Role,
    /// The one direction that is wanted, if not both.
    pub only: Option<Only>,
    /// The network.
    pub reach: Reach,
}

impl Args {
    /// Returns the settings of the screen: beside a stream.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            stream: true,
            ..self.common.screen.options()
        }
    }

    /// Checks the arguments against one another.
    ///
    /// # Errors
    /// They contradict one another.
    pub fn request(&self) -> Result<Request, Failure> {
        let role = self.meet.role(self.token.as_ref(), self.join);
        let from_stdin = matches!(&role, Role::Joiner(Some(token)) if token.is_stdin());
        if from_stdin && !io::stdin().is_terminal() {
            return Err(
                Failure::usage("standard input cannot be both the data and the token")
                    .hint("give the token as @FILE or in KNOTHOLE_TOKEN"),
            );
        }
        Ok(Request {
            role,
            only: Only::asked(self.send_only, self.recv_only),
            reach: self.common.reach()?,
        })
    }
}

/// Runs `knothole pipe`.
///
/// # Errors
/// Anything but both streams ended and verified.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let request = args.request()?;
    let meeting = Meeting {
        role: request.role,
        args: &args.meet,
        reach: request.reach,
        qr: args.common.qr,
        command: if args.raw {
            "knothole pipe --raw"
        } else {
            "knothole pipe"
        },
        // What was typed ahead on a terminal may still be meant for it; a pipe holds data only.
        stdin_taken: args.recv_only || !io::stdin().is_terminal(),
        stdout_taken: true,
    };
    let link = meet::meet(&meeting, &ctx).await?;
    if !args.raw {
        ctx.ui.phase("waiting for the other side to say hello");
    }
    let mut screen = Screen::new(&ctx.ui, request.only, args.raw);
    let stopped = async {
        ctx.stop.wait().await;
    };
    let mut report = |report| screen.report(report);
    let ended = if args.raw {
        transfer::raw(link, request.only, show(), stopped, &mut report).await
    } else {
        transfer::pipe(
            link,
            args.meet.local(),
            request.only,
            show(),
            |words| words::compare(words, args.meet.verify, &ctx),
            stopped,
            &mut report,
        )
        .await
    };
    screen.end(ended, &ctx)
}

/// A terminal obeys what it is sent, so the other side does not get at it.
fn show() -> Option<Show> {
    io::stdout().is_terminal().then(|| {
        let mut stream = Stream::default();
        Box::new(move |bytes: &[u8]| stream.show(bytes).into_bytes()) as Show
    })
}

/// Shows one pipe.
struct Screen {
    ui: Ui,
    only: Option<Only>,
    raw: bool,
    bar: Option<Progress>,
    started: Option<Instant>,
    /// Bytes both ways.
    bytes: u64,
    /// Bytes of the streams that have ended: sent, received.
    whole: [Option<u64>; 2],
}

impl Screen {
    fn new(ui: &Ui, only: Option<Only>, raw: bool) -> Self {
        Self {
            ui: ui.clone(),
            only,
            raw,
            bar: None,
            started: None,
            bytes: 0,
            whole: [None; 2],
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Open { sends, takes } => {
                self.started = Some(Instant::now());
                self.ui.end_phase();
                if !sends && self.only.is_none() {
                    self.ui
                        .note("the other side takes nothing: standard input is not read");
                } else if sends && io::stdin().is_terminal() {
                    self.ui
                        .note("what you type goes to the other side; Ctrl-D ends it");
                }
                if !takes && self.only.is_none() {
                    self.ui.verbose(1, "the other side sends nothing");
                }
                if self.ui.json() || !io::stdout().is_terminal() {
                    self.bar = Some(self.ui.progress("piping", None));
                }
            }
            Report::Bytes(bytes) => {
                self.bytes = bytes;
                if let Some(bar) = &self.bar {
                    bar.set(bytes);
                }
            }
            Report::File {
                index,
                size,
                blake3,
                ..
            } => {
                let name = if index == 0 { "stdin" } else { "stdout" };
                if let Some(whole) = self.whole.get_mut(index) {
                    *whole = Some(size);
                }
                self.tell(&Event::File {
                    path: name.to_owned(),
                    bytes: size,
                    blake3: blake3.to_string(),
                    resumed_from: None,
                    action: FileAction::Written,
                });
                let size = human::size(size);
                self.ui
                    .verbose(1, &format!("{name} verified: {size}, BLAKE3 {blake3}"));
            }
            Report::Verifying => self.tell(&Event::State {
                state: State::Verifying,
            }),
            Report::Repair(stats) => {
                // As in `tell`.
                let _ = tell_repair(&self.ui, &stats);
            }
            report => tell_link(&self.ui, &report),
        }
    }

    fn tell(&self, event: &Event) {
        // Beside a stream, events go to stderr, which cannot fail in a way that anybody would hear of.
        let _ = self.ui.event(event);
    }

    fn end(mut self, ended: Ended, ctx: &Ctx) -> Result<Exit, Failure> {
        let whole = self.whole.iter().flatten();
        let (files, bytes) = (whole.clone().count() as u64, whole.sum::<u64>());
        let bytes = if self.raw { self.bytes } else { bytes };
        if let Some(bar) = self.bar.take() {
            if ended.outcome == Outcome::Done {
                bar.set(bytes);
            }
            bar.finish();
        }
        self.ui.end_phase();
        if ended.outcome != Outcome::Done {
            return Err(failure(ended, ctx));
        }
        let elapsed = self.started.map(|at| at.elapsed()).unwrap_or_default();
        let seconds = elapsed.as_secs_f64();
        self.ui.event(&Event::Done {
            bytes,
            seconds,
            files,
        })?;
        let what = if self.raw {
            format!("{} both ways", human::size(bytes))
        } else {
            let part =
                |name, size: Option<u64>| size.map(|size| format!("{name} {}", human::size(size)));
            let parts = [part("sent", self.whole[0]), part("received", self.whole[1])];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        };
        let verified = if self.raw { "not verified" } else { "verified" };
        self.ui
            .note(&format!("done: {what} in {seconds:.1} s, {verified}"));
        Ok(Exit::Done)
    }
}
