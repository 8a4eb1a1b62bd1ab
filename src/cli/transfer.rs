//! What `send`, `receive` and `pipe` share: showing a transfer, and turning its end into an exit code.

use std::path::PathBuf;
use std::time::Instant;

use super::failure::Failure;
use super::meet;
use super::progress::Progress;
use super::signals::Cause;
use super::ui::{Ctx, Ui};
use crate::exit::Exit;
use crate::io::files::{Action, FileErrorKind, Planned};
use crate::io::transfer::{Ended, Report};
use crate::proto::app::{CancelReason, Outcome, OutcomeKind, Remedy, Side};
use crate::proto::link::repair::Stats;
use crate::report::human;
use crate::report::model::{self, Event, FileAction, State};
use crate::report::sanitize::Shown;

/// Shows one transfer, from the acceptance of the offer to its end.
pub struct Screen {
    ui: Ui,
    label: &'static str,
    /// What is transferred is one text, not files.
    text: bool,
    total: Option<u64>,
    names: Vec<String>,
    bar: Option<Progress>,
    started: Option<Instant>,
    bytes: u64,
    files: u64,
    failed: Option<Failure>,
    /// Where each file was going to be, and whether that is a new name for it.
    planned: Vec<(PathBuf, bool)>,
}

impl Screen {
    pub fn new(ui: &Ui, label: &'static str) -> Self {
        let (ui, names) = (ui.clone(), vec![]);
        Self {
            ui,
            label,
            text: false,
            total: None,
            names,
            bar: None,
            started: None,
            bytes: 0,
            files: 0,
            failed: None,
            planned: vec![],
        }
    }

    /// What is going to be transferred, under which names on this side.
    pub fn offer(&mut self, names: Vec<String>, total: Option<u64>) {
        self.names = names;
        self.total = total;
    }

    /// It is a text that is transferred.
    pub fn is_text(&mut self) {
        self.text = true;
    }

    /// Where the files are going to be.
    pub fn plan(&mut self, planned: &[Planned]) {
        let one = |one: &Planned| (one.path().to_owned(), one.action() == Action::Rename);
        self.planned = planned.iter().map(one).collect();
    }

    /// Takes one report of the transfer.
    pub fn report(&mut self, report: Report) {
        match report {
            Report::Hello(_) | Report::Silence(_) | Report::Heard => tell_link(&self.ui, &report),
            Report::Repair(stats) => {
                if let Err(error) = tell_repair(&self.ui, &stats) {
                    self.failed = Some(error);
                }
            }
            Report::Open { .. } | Report::Measuring(_) => {}
            Report::Accepted => {
                self.started = Some(Instant::now());
                self.ui.end_phase();
                self.bar = Some(self.ui.progress(self.label, self.total));
            }
            Report::Bytes(bytes) => {
                if let Some(bar) = &self.bar {
                    bar.set(bytes);
                }
            }
            Report::File {
                index,
                size,
                blake3,
                path,
            } => {
                self.bytes += size;
                self.files += 1;
                if let Some(bar) = &self.bar {
                    bar.set_files_done(self.files);
                }
                if self.text {
                    self.ui
                        .verbose(1, &format!("text verified, BLAKE3 {blake3}"));
                    return;
                }
                let name = self.names.get(index).cloned().unwrap_or_default();
                let at = path
                    .as_deref()
                    .map_or_else(|| name.clone(), |path| path.display().to_string());
                let renamed = self.planned.get(index).is_some_and(|(planned, anew)| {
                    *anew || path.as_ref().is_some_and(|path| path != planned)
                });
                let action = if renamed {
                    FileAction::Renamed
                } else {
                    FileAction::Written
                };
                let said = self.ui.event(&Event::File {
                    path: at.clone(),
                    bytes: size,
                    blake3: blake3.to_string(),
                    resumed_from: None,
                    action,
                });
                if let Err(error) = said {
                    self.failed = Some(error);
                }
                self.ui
                    .verbose(1, &format!("{} verified, BLAKE3 {blake3}", Shown(&at)));
            }
            Report::Verifying => {
                let state = State::Verifying;
                if let Err(error) = self.ui.event(&Event::State { state }) {
                    self.failed = Some(error);
                }
            }
        }
    }

    /// Says how it ended.
    ///
    /// # Errors
    /// Every end but success.
    pub fn end(mut self, ended: Ended, ctx: &Ctx) -> Result<Exit, Failure> {
        if let Some(bar) = self.bar.take() {
            if ended.outcome == Outcome::Done {
                bar.set(self.bytes);
            }
            bar.finish();
        }
        self.ui.end_phase();
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if ended.outcome == Outcome::Done {
            let elapsed = self.started.map(|at| at.elapsed()).unwrap_or_default();
            let seconds = elapsed.as_secs_f64();
            self.ui.event(&Event::Done {
                bytes: self.bytes,
                seconds,
                files: self.files,
            })?;
            let size = human::size(self.bytes);
            if self.text {
                self.ui.note(&format!("done: text, {size}, verified"));
                return Ok(Exit::Done);
            }
            let rate = self.bytes as f64 / seconds.max(1e-9);
            let files = human::count(usize::try_from(self.files).unwrap_or(usize::MAX), "file");
            self.ui.note(&format!(
                "done: {files}, {size} in {seconds:.1} s ({}), verified",
                human::rate(rate)
            ));
            return Ok(Exit::Done);
        }
        Err(failure(ended, ctx))
    }
}

/// Says what a report tells about the link and the peer.
pub(super) fn tell_link(ui: &Ui, report: &Report) {
    match report {
        Report::Hello(peer) => {
            let version = Shown(&peer.version);
            ui.verbose(1, &format!("the other side is knothole {version}"));
        }
        Report::Silence(silence) if silence.as_secs().is_multiple_of(5) => ui.note(&format!(
            "nothing heard from the other side for {} s; waiting",
            silence.as_secs()
        )),
        Report::Heard => ui.note("the other side is back"),
        _ => {}
    }
}

/// Says what the repair layer does.
pub(super) fn tell_repair(ui: &Ui, stats: &Stats) -> Result<(), Failure> {
    let of_sent = |count: u64| count as f64 / stats.frames.max(1) as f64 * 100.0;
    let line = if stats.on {
        let shortest = stats.min_round_trip.map_or(String::new(), |shortest| {
            format!(" ({} ms at least)", model::ms(shortest))
        });
        format!(
            "the path takes {}; round trip {} ms{shortest}; {:.1} % lost, {} repaired",
            human::rate(stats.rate),
            model::ms(stats.round_trip),
            of_sent(stats.lost),
            stats.repairs,
        )
    } else {
        "nothing to repair on this path any more".to_owned()
    };
    ui.verbose(1, &line);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and turns NaN into 0"
    )]
    let rate = stats.rate as u64;
    ui.event(&Event::Link {
        repairing: stats.on,
        rate,
        rtt_ms: model::ms(stats.round_trip),
        min_rtt_ms: stats.min_round_trip.map(model::ms),
        frames: stats.frames,
        lost: stats.lost,
        repairs: stats.repairs,
        late: stats.spurious,
        marked: stats.marked,
        given_up: stats.given_up,
    })
}

/// Turns every end but success into what is said and exited with.
pub(super) fn failure(ended: Ended, ctx: &Ctx) -> Failure {
    let outcome = &ended.outcome;
    if let (
        Outcome::Cancelled {
            by: Side::Here,
            reason: CancelReason::User,
            ..
        },
        Some(cause),
    ) = (outcome, ctx.stop.now())
    {
        return Failure::interrupted(cause);
    }
    if *outcome == (Outcome::ReaderGone { by: Side::Here }) {
        return Failure::interrupted(Cause::StdoutClosed);
    }
    if let (Outcome::Lost, Some(error)) = (outcome, ended.link) {
        return meet::failure(error, "the transfer was not finished");
    }
    // It may quote the peer.
    let message = format!("{:.400}", Shown(&outcome.to_string()));
    if let Some(error) = &ended.file {
        if error.kind() == FileErrorKind::ClosedPipe {
            return Failure::interrupted(Cause::StdoutClosed);
        }
        let failure = Failure::incomplete(error.to_string()).kind(error.kind().as_str());
        return match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        };
    }
    let failure = match outcome.kind() {
        OutcomeKind::Declined => Failure::declined(message),
        OutcomeKind::Verification => Failure::unverified(message),
        OutcomeKind::Done | OutcomeKind::Failed | OutcomeKind::Interrupted => {
            Failure::incomplete(message)
        }
    };
    let failure = failure.kind(outcome.word());
    match hint(outcome) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn hint(outcome: &Outcome) -> Option<&'static str> {
    match outcome.remedy() {
        Remedy::Nothing => None,
        Remedy::Again => Some("try again with a new invite"),
        Remedy::Here => Some("change that here and try again with a new invite"),
        Remedy::There => {
            Some("it has to be changed at the other side; then try again with a new invite")
        }
        Remedy::HandOver => Some(
            "somebody may be in the middle, with an invite of their own in place of yours; nothing \
             was sent: make a new invite and hand it over in another way",
        ),
        Remedy::Terminal => Some(
            "people compare words, and -y does not do it for them: run both sides on terminals, \
             or both without --verify",
        ),
        Remedy::UpdateHere => Some("update knothole here"),
        Remedy::UpdateThere => Some("update knothole at the other side"),
    }
}
