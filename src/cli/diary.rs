//! What the program logs about itself, at -vv (knothole's own) and -vvv (its libraries' too).

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::ui::Ui;
use crate::report::sanitize::Shown;

/// Longest line; packets are not dumped.
const MAX_COLUMNS: usize = 400;

/// Sends log lines to stderr through the one screen that everything else uses.
struct Diary {
    ui: Ui,
}

/// Starts logging as far as the user asked for.
pub fn start(ui: &Ui) {
    let filter = match ui.verbosity() {
        0 | 1 => return,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // A second start in one process keeps the first: there is one diary.
    if log::set_boxed_logger(Box::new(Diary { ui: ui.clone() })).is_ok() {
        log::set_max_level(filter);
    }
}

impl Log for Diary {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("knothole");
        ours || (self.ui.verbosity() > 2 && metadata.level() <= Level::Debug)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = format!("{} {}: {}", record.level(), record.target(), record.args());
            self.ui
                .verbose(2, &format!("{:.MAX_COLUMNS$}", Shown(&text)));
        }
    }

    fn flush(&self) {}
}
