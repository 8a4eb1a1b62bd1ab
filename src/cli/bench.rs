//! `knothole bench`: the arguments, their help, and what they mean together.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::{ArgAction, ValueHint};

use super::common::{Common, Reach, Switch};
use super::failure::Failure;
use super::input::TokenSource;
use super::meet::{self, MeetArgs, Meeting, Role};
use super::progress::Progress;
use super::transfer::{failure, tell_link, tell_repair};
use super::ui::{self, Ctx, Options, Ui};
use super::words;
use crate::exit::Exit;
use crate::io::peer::Path;
use crate::io::transfer::{self, Ended, Measured, Report};
use crate::proto::app::bench::{Phase, Wish};
use crate::proto::app::hello::MAX_BENCH;
use crate::proto::app::{Only, Outcome};
use crate::report::model::BenchPath;
use crate::report::{bench, human};

/// Measure how fast the path to the other side is
///
/// Meets the other side as send and receive do, so what is measured is the path that a transfer
/// would take: first the round trip while nothing else moves, then how much goes through in each
/// direction, one after the other, that of the side which joins first. Without TOKEN it prints an
/// invite, with one it joins. The data is made up and thrown away; no file is read or written.
///
/// Both sides print the same rates: those that the receiving side counted. What the repair layer
/// found (the rate that the path takes, loss, the round trip under load) is told by the sending
/// side, and is not known where the layer is off. With --json standard output carries the report as
/// one object, and the invite goes to stderr, alone on its line.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole bench
  knothole bench KH...
  knothole bench --time 30 --send-only KH...")]
pub struct Args {
    /// The invite to join; @FILE to read it from there
    #[arg(env = "KNOTHOLE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[arg(conflicts_with = "qr_image")]
    token: Option<TokenSource>,

    /// Join an invite that comes through --via, or is asked for
    #[arg(long, env = "KNOTHOLE_JOIN", value_parser = Switch, action = ArgAction::SetTrue)]
    join: bool,

    /// How long each direction lasts, 1 to 3600; the shorter wish of both sides counts
    #[arg(
        long,
        env = "KNOTHOLE_TIME",
        value_name = "SECONDS",
        default_value = "10"
    )]
    #[arg(value_parser = time, value_hint = ValueHint::Other)]
    time: Duration,

    /// Measure only what goes from here to the other side
    #[arg(long, env = "KNOTHOLE_SEND_ONLY", value_parser = Switch, action = ArgAction::SetTrue)]
    #[arg(conflicts_with = "recv_only")]
    send_only: bool,

    /// Measure only what comes from the other side
    #[arg(long, env = "KNOTHOLE_RECV_ONLY", value_parser = Switch, action = ArgAction::SetTrue)]
    recv_only: bool,

    #[command(flatten)]
    meet: MeetArgs,

    #[command(flatten)]
    common: Common,
}

/// What `bench` was asked to do, checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which side of an invite this is.
    pub role: Role,
    /// What is to be measured.
    pub wish: Wish,
    /// The network.
    pub reach: Reach,
}

impl Args {
    /// Returns the settings of the screen: one report.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            reports: true,
            ..self.common.screen.options()
        }
    }

    /// Checks the arguments against one another.
    ///
    /// # Errors
    /// They contradict one another.
    pub fn request(&self) -> Result<Request, Failure> {
        let role = self.meet.role(self.token.as_ref(), self.join);
        Ok(Request {
            wish: Wish {
                time: self.time,
                only: Only::asked(self.send_only, self.recv_only),
                joined: role != Role::Issuer,
            },
            role,
            reach: self.common.reach()?,
        })
    }
}

/// Reads `--time`: seconds, or what other lengths of time look like.
fn time(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.trim().parse().map(Duration::from_secs).ok();
    let time = seconds.or_else(|| human::parse_duration(text).ok());
    let bounds = Duration::from_secs(1)..=MAX_BENCH;
    time.filter(|time| bounds.contains(time))
        .ok_or("write 1 to 3600 seconds, such as 30 or 2m")
}

/// Runs `knothole bench`.
///
/// # Errors
/// Anything but everything measured.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let request = args.request()?;
    let meeting = Meeting {
        role: request.role,
        args: &args.meet,
        reach: request.reach,
        qr: args.common.qr,
        command: "knothole bench",
        stdin_taken: false,
        stdout_taken: false,
    };
    let link = meet::meet(&meeting, &ctx).await?;
    ctx.ui.phase("waiting for the other side to say hello");
    let mut screen = Screen {
        ui: ctx.ui.clone(),
        bar: None,
    };
    let stopped = async {
        ctx.stop.wait().await;
    };
    let measured = transfer::bench(
        link,
        args.meet.local(),
        request.wish,
        |words| words::compare(words, args.meet.verify, &ctx),
        stopped,
        &mut |report| screen.report(&report),
    )
    .await;
    drop(screen);
    ctx.ui.end_phase();
    tell(measured, &ctx)
}

/// Shows what goes on.
struct Screen {
    ui: Ui,
    bar: Option<Progress>,
}

impl Screen {
    fn report(&mut self, report: &Report) {
        match report {
            Report::Measuring(phase) => {
                self.bar = None;
                let (label, time) = match phase {
                    Phase::RoundTrip => return self.ui.phase("measuring the round trip"),
                    Phase::Draining => {
                        return self.ui.phase("waiting for the other side to take the rest");
                    }
                    Phase::Sending(time) => ("sending", time),
                    Phase::Receiving(time) => ("receiving", time),
                };
                self.ui
                    .phase(&format!("{label} for {}", human::duration(*time)));
                self.bar = Some(self.ui.progress(label, None));
            }
            Report::Bytes(bytes) => {
                if let Some(bar) = &self.bar {
                    bar.set(*bytes);
                }
            }
            Report::Repair(stats) => {
                // There are no events that could fail to be told.
                let _ = tell_repair(&self.ui, stats);
            }
            report => tell_link(&self.ui, report),
        }
    }
}

/// Prints what was measured, also where that is not everything.
fn tell(measured: Measured, ctx: &Ctx) -> Result<Exit, Failure> {
    let Measured {
        ended,
        results,
        path,
    } = measured;
    let failed = (ended.outcome != Outcome::Done).then(|| unfinished(ended, ctx));
    if results.round_trip.is_some() {
        let error = failed.as_ref().map(Failure::in_one_line);
        let report = bench::report(&results, path.map(self::path), error);
        ctx.ui.report(&report)?;
        if !ctx.ui.json() {
            let palette = ctx.ui.out();
            let width = if io::stdout().is_terminal() {
                ui::width()
            } else {
                80
            };
            let text = bench::render(&report, width, |name| palette.strong(name));
            ctx.ui.result(text.trim_end())?;
        }
    }
    failed.map_or(Ok(Exit::Done), Err)
}

fn path(path: Path) -> BenchPath {
    BenchPath {
        kind: meet::kind(path.kind),
        protocol: "udp".to_owned(),
        local: path.local,
        remote: path.remote,
    }
}

fn unfinished(ended: Ended, ctx: &Ctx) -> Failure {
    match ended {
        Ended {
            outcome: Outcome::Lost,
            link: Some(error),
            ..
        } => meet::failure(error, "not everything was measured"),
        ended => failure(ended, ctx),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_has_its_unit_and_is_bounded() {
        for (text, seconds) in [("1", 1), ("30", 30), ("2m", 120), ("90s", 90), ("1h", 3600)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "0",
            "3601",
            "500ms",
            "2h",
            "",
            "-1",
            "1.5",
            "ten",
            "99999999999999999999",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
