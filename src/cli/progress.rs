//! The progress bar and the phase line: what they look like at each width, and the thread that
//! keeps a bar, or the events of `--json`, up to date.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::ui::{self, Ui};
use crate::report::human;
use crate::report::model::Event;

/// How often the bar is brought up to date: ten times a second is as smooth as it gets.
const TICK: Duration = Duration::from_millis(100);
/// How often a script is told: it has no eyes to please.
const EVENT_EVERY: Duration = Duration::from_millis(500);
/// How often a plain line goes to a stderr that is no terminal, with `-v`.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of one transfer, until it is dropped.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    files_done: AtomicU64,
    over: Mutex<bool>,
    wake: Condvar,
}

impl Progress {
    /// Says how many bytes are done. Costs one relaxed store: call it as often as you like.
    pub fn set(&self, bytes: u64) {
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Adds to the bytes that are done.
    pub fn add(&self, bytes: u64) {
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says how many files are complete and verified.
    pub fn set_files_done(&self, files: u64) {
        self.shared.files_done.store(files, Ordering::Relaxed);
    }

    /// Ends the progress: the bar goes, and under `--json` the last numbers are told.
    pub fn finish(self) {}

    pub(super) fn start(ui: Ui, label: &str, total: Option<u64>, bar: Option<ProgressBar>) -> Self {
        let shared = Arc::<Shared>::default();
        let how = if ui.json() {
            Some(How::Events)
        } else if let Some(bar) = bar {
            Some(How::Bar(bar))
        } else {
            (ui.verbosity() > 0).then(|| How::Lines(label.to_owned()))
        };
        let thread = how.map(|how| {
            let shared = shared.clone();
            std::thread::spawn(move || keep_up(&shared, &ui, &how, total))
        });
        Self { shared, thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *self
            .shared
            .over
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who the progress is for.
enum How {
    Bar(ProgressBar),
    Events,
    Lines(String),
}

fn keep_up(shared: &Shared, ui: &Ui, how: &How, total: Option<u64>) {
    let begin = Instant::now();
    let mut told = None;
    let every = match how {
        How::Bar(_) => TICK,
        How::Events => EVENT_EVERY,
        How::Lines(_) => LINE_EVERY,
    };
    let mut over = shared.over.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let last = *over;
        drop(over);
        let bytes = shared.bytes.load(Ordering::Relaxed);
        let files_done = shared.files_done.load(Ordering::Relaxed);
        match how {
            How::Bar(bar) if last => {
                bar.finish_and_clear();
                ui.drop_bar();
            }
            How::Bar(bar) if ui::ours() => {
                bar.set_style(style(total, ui::width()));
                bar.set_position(bytes);
                bar.tick();
            }
            How::Events if told != Some((bytes, files_done)) => {
                told = Some((bytes, files_done));
                // A closed stdout asks the run to stop by itself.
                let _ = ui.event(&Event::Progress {
                    bytes,
                    total,
                    files_done,
                });
            }
            How::Lines(label) if !last && bytes > 0 => {
                ui.verbose(1, &plain(label, bytes, total, begin.elapsed()));
            }
            How::Bar(_) | How::Events | How::Lines(_) => {}
        }
        if last {
            return;
        }
        over = shared.over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*over {
            let waited = shared.wake.wait_timeout(over, every);
            over = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn plain(label: &str, bytes: u64, total: Option<u64>, elapsed: Duration) -> String {
    let mut text = format!("{label} {}", human::size(bytes));
    if let Some(total) = total {
        let _ = write!(text, " of {}", human::size(total));
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let _ = write!(text, ", {}", human::rate(rate));
    text
}

/// Builds the bar of a transfer; `label` is one word.
pub(super) fn bar(
    label: &str,
    total: Option<u64>,
    width: usize,
    target: ProgressDrawTarget,
) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, target).with_style(style(total, width));
    // The narrow line has no room for more.
    bar.with_message(label.chars().take(9).collect::<String>())
}

/// Builds the phase line, which has been on for `already`.
pub(super) fn phase(text: &str, already: Duration, target: ProgressDrawTarget) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {clock}")
        .expect("a fixed template")
        .tick_chars("-\\|/ ")
        .with_key("clock", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = w.write_str(&human::clock(s.elapsed()));
        });
    ProgressBar::with_draw_target(None, target)
        .with_style(style)
        .with_elapsed(already)
        .with_message(text.to_owned())
}

/// Every part has a fixed width, so that the line does not jump, and the sum stays below `width`
/// in each case (a test holds this at 80 and 40 columns).
fn style(total: Option<u64>, width: usize) -> ProgressStyle {
    let template = match (total, width) {
        (Some(_), 72..) => {
            "{msg} {percent:>3}% [{wide_bar}] {size:>8} of {total} {rate:>10} {left:>7}"
        }
        (Some(_), 36..) => "{msg} {percent:>3}% {rate:>10} {left:>7}",
        (None, 40..) => "{spinner} {msg} {size:>8} {rate:>10} {clock:>7}",
        (Some(_), _) => "{percent:>3}% {left:>7}",
        (None, _) => "{size:>8} {clock:>7}",
    };
    ProgressStyle::with_template(template)
        .expect("a fixed template")
        .progress_chars("=> ")
        .tick_chars("-\\|/ ")
        .with_key("size", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = w.write_str(&human::size(s.pos()));
        })
        .with_key("total", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = w.write_str(&human::size(s.len().unwrap_or(0)));
        })
        .with_key("rate", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = w.write_str(&human::rate(s.per_sec()));
        })
        .with_key("left", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            // Until a rate is known, and beyond a hundred hours, a number would be made up.
            let eta = s.eta();
            let known = s.per_sec() > 0.0 && eta < Duration::from_hours(100);
            let _ = w.write_str(&if known {
                human::clock(eta)
            } else {
                "-:--".to_owned()
            });
        })
        .with_key("clock", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = w.write_str(&human::clock(s.elapsed()));
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;

    /// A terminal that keeps what is written to it.
    #[derive(Clone, Debug)]
    struct Paper {
        width: u16,
        text: Arc<Mutex<String>>,
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            self.width
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, s: &str) -> io::Result<()> {
            self.write_str(&format!("{s}\n"))
        }
        fn write_str(&self, s: &str) -> io::Result<()> {
            self.text.lock().unwrap().push_str(s);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.write_str("\n")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn drawn(width: u16, draw: impl FnOnce(ProgressDrawTarget)) -> String {
        let paper = Paper {
            width,
            text: Arc::default(),
        };
        draw(ProgressDrawTarget::term_like_with_hz(
            Box::new(paper.clone()),
            200,
        ));
        let text = paper.text.lock().unwrap();
        // indicatif pads the last line with spaces up to the full width, which does not wrap.
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        assert!(!lines.is_empty(), "nothing was drawn at {width}");
        for line in &lines {
            assert!(
                line.chars().count() <= usize::from(width),
                "{} at {width}: {line}",
                line.len()
            );
        }
        lines.last().unwrap().to_string()
    }

    #[test]
    fn the_bar_fits_every_width() {
        for width in [20, 36, 40, 71, 72, 80, 200] {
            for total in [Some(0), Some(1), Some((1 << 40) - 1), Some(u64::MAX), None] {
                drawn(width, |target| {
                    let bar = bar("receiving", total, width.into(), target);
                    bar.set_position(total.unwrap_or(1 << 40) / 3);
                    bar.tick();
                    bar.abandon();
                });
            }
        }
    }

    #[test]
    fn the_bar_says_how_far_how_fast_and_how_long() {
        let wide = drawn(80, |target| {
            let bar = bar("sending", Some(1 << 30), 80, target);
            bar.set_position(1 << 29);
            bar.tick();
            bar.abandon();
        });
        assert!(wide.starts_with("sending  50% [="), "{wide}");
        assert!(wide.contains("512 MiB of 1.0 GiB"), "{wide}");
        let narrow = drawn(40, |target| {
            let bar = bar("sending", Some(1 << 30), 40, target);
            bar.set_position(1 << 29);
            bar.tick();
            bar.abandon();
        });
        assert!(
            narrow.starts_with("sending  50%") && narrow.contains("/s"),
            "{narrow}"
        );
    }

    #[test]
    fn the_phase_line_shows_its_time_and_is_cut_to_fit() {
        for width in [40, 80] {
            let text = "waiting for the other side, and for quite a few other things besides";
            let line = drawn(width, |target| {
                let bar = phase(text, Duration::from_secs(83), target);
                bar.tick();
                bar.abandon();
            });
            assert!(
                line.contains("waiting for") && line.ends_with("1:23"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_plain_line_reads_as_a_sentence() {
        let s = Duration::from_secs(2);
        assert_eq!(
            plain("sending", 2 << 20, Some(1 << 30), s),
            "sending 2.0 MiB of 1.0 GiB, 1.0 MiB/s"
        );
        assert_eq!(
            plain("receiving", 2 << 20, None, s),
            "receiving 2.0 MiB, 1.0 MiB/s"
        );
    }

    #[test]
    fn dropping_the_progress_ends_its_thread() {
        let shared = Arc::<Shared>::default();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            let ui = Ui::new(
                ui::Options {
                    quiet: true,
                    ..Default::default()
                },
                super::super::signals::Stop::new(),
            );
            move || keep_up(&shared, &ui, &How::Lines("sending".into()), None)
        });
        drop(Progress {
            shared,
            thread: Some(thread),
        });
    }
}
