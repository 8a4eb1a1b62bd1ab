//! The two voices of the program: results on stdout, talk for people on stderr. Where stdout is a
//! stream of data, results go to stderr as well.
//!
//! Everything that is drawn on stderr (lines, the phase line, the progress bar, a prompt with
//! what was typed so far) goes through one lock here, so that nothing overwrites anything else.
//! Texts from a peer must have passed `report::sanitize` before they come here.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use colored::{ColoredString, Colorize};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;

use super::failure::Failure;
use super::progress::{self, Progress};
use super::signals::{Cause, Stop};
use crate::report::model::{self, Event, State};
use crate::report::sanitize::Shown;

/// When to do something that depends on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// When it makes sense here.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Not at all.
    Never,
}

/// What the command line says about the screen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Events on stdout instead of results.
    pub json: bool,
    /// Stdout carries a stream: results and events go to stderr. There, events leave no room for
    /// talk.
    pub stream: bool,
    /// Under `json` stdout carries one report: what is needed on the way to it, such as an invite,
    /// goes to stderr, and there are no events.
    pub reports: bool,
    /// No talk, except errors and questions.
    pub quiet: bool,
    /// How much detail: 0 for little.
    pub verbose: u8,
    /// Colours.
    pub color: When,
    /// No bars and no line that rewrites itself.
    pub no_progress: bool,
}

/// What a run needs besides its arguments.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// The screen.
    pub ui: Ui,
    /// Whether the run was asked to stop.
    pub stop: Stop,
}

/// The screen. Clones share it.
#[derive(Clone, Debug)]
pub struct Ui(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    out: Palette,
    err: Palette,
    /// Whether lines that rewrite themselves can be drawn.
    live: bool,
    /// Whether scripts have had their one object.
    reported: AtomicBool,
    stop: Stop,
    screen: Mutex<Screen>,
}

impl Ui {
    /// Creates the screen from what the command line and the environment say.
    #[must_use]
    pub fn new(options: Options, stop: Stop) -> Self {
        let (out_tty, err_tty) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let on = |tty| color(options.color, tty, &env);
        // `colored` knows one answer for both streams; `Palette` decides for each.
        colored::control::set_override(true);
        Self(Arc::new(Inner {
            options,
            out: Palette(on(out_tty)),
            err: Palette(on(err_tty)),
            live: err_tty && !dumb() && !options.no_progress && !options.quiet && !options.json,
            reported: AtomicBool::new(false),
            stop,
            screen: Mutex::default(),
        }))
    }

    /// Prints one result line on stdout, at once; beside a stream on stderr, also when quiet. Under
    /// `--json` nothing is printed: the result is told by [`Ui::event`]; where there are no events,
    /// it is printed on stderr.
    ///
    /// # Errors
    /// Stdout cannot be written; a closed pipe is a failure that is quiet and exits 0.
    pub fn result(&self, line: &str) -> Result<(), Failure> {
        let options = &self.0.options;
        if !options.json {
            return self.line(line);
        }
        if options.reports {
            self.screen().say(&format!("{line}\n"));
        }
        Ok(())
    }

    /// Prints one event under `--json`, where results go, and nothing otherwise.
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub fn event(&self, event: &Event) -> Result<(), Failure> {
        if self.0.options.json && !self.0.options.reports {
            self.object(event)
        } else {
            Ok(())
        }
    }

    /// Prints the report of a diagnostic under `--json`, and nothing otherwise. Scripts get that
    /// one object: a failure after it is told on stderr only.
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub fn report(&self, value: &impl Serialize) -> Result<(), Failure> {
        if self.0.options.json {
            self.0.reported.store(true, Ordering::Relaxed);
            self.object(value)
        } else {
            Ok(())
        }
    }

    /// Prints one JSON object of `report::model` where results go.
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&model::line(value))
    }

    fn line(&self, line: &str) -> Result<(), Failure> {
        let line = format!("{line}\n");
        if self.0.options.stream {
            self.screen().say(&line);
            return Ok(());
        }
        self.raw(line.as_bytes())
    }

    /// Writes bytes to stdout as they are, and flushes.
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.screen().aside(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        });
        match written {
            Ok(()) => Ok(()),
            Err(error) => Err(self.stdout_failed(error)),
        }
    }

    /// Turns an error of a write to stdout into the failure it is, and asks the run to stop when
    /// nobody reads any more.
    #[must_use]
    pub fn stdout_failed(&self, error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.0.stop.trigger(Cause::StdoutClosed);
            return Failure::interrupted(Cause::StdoutClosed);
        }
        Failure::incomplete("cannot write to standard output")
            .kind("stdout")
            .because(error)
    }

    /// Tells that the link moved on: the phase line for people, the event for scripts.
    ///
    /// # Errors
    /// As [`Ui::result`].
    pub fn state(&self, state: State) -> Result<(), Failure> {
        self.phase(state.phase());
        self.event(&Event::State { state })
    }

    /// Shows what the program is busy with, and for how long already, until the next phase or
    /// progress bar; off a terminal, as one plain line.
    pub fn phase(&self, text: &str) {
        let mut screen = self.screen();
        if screen.phase.as_ref().is_some_and(|(now, _)| now == text) {
            return;
        }
        screen.clear_bar();
        screen.phase = Some((text.to_owned(), Instant::now()));
        if self.0.live && ours() {
            screen.draw_phase();
        } else if !self.is_silent() {
            screen.say(&format!("{text}\n"));
        }
    }

    /// Ends the phase line.
    pub fn end_phase(&self) {
        let mut screen = self.screen();
        screen.clear_bar();
        screen.phase = None;
    }

    /// Starts the progress of `label` (one word, such as `sending`); it ends the phase line.
    #[must_use]
    pub fn progress(&self, label: &str, total: Option<u64>) -> Progress {
        self.end_phase();
        let bar = self.0.live.then(|| {
            let bar = progress::bar(
                label,
                total,
                width(),
                ProgressDrawTarget::stderr_with_hz(10),
            );
            self.screen().bar = Some(bar.clone());
            bar
        });
        Progress::start(self.clone(), label, total, bar)
    }

    /// Tells a person something.
    pub fn note(&self, text: &str) {
        self.talk(&format!("{text}\n"));
    }

    /// Warns a person.
    pub fn warn(&self, text: &str) {
        self.talk(&format!("{} {text}\n", self.err().warning("warning:")));
    }

    /// Tells a person what to try.
    pub fn hint(&self, text: &str) {
        self.talk(&format!("{} {text}\n", self.err().hint("hint:")));
    }

    /// Tells a person a detail that was asked for with `-v` at least `level` times.
    pub fn verbose(&self, level: u8, text: &str) {
        if self.verbosity() >= level {
            self.talk(&format!("{}\n", self.err().dim(text)));
        }
    }

    /// Prints a failure: for people on stderr, also when quiet; under `--json` as an event too,
    /// unless there was a [report](Ui::report).
    pub fn fail(&self, failure: &Failure) {
        self.end_phase();
        if failure.is_quiet() {
            return;
        }
        if self.0.options.json && !self.0.reported.load(Ordering::Relaxed) {
            let _ = self.object(&failure.event());
        }
        if self.0.options.json && self.0.options.stream {
            return;
        }
        let palette = self.err();
        let mut text = format!("{} {}\n", palette.error("error:"), failure.message);
        for cause in failure.causes() {
            // It may quote a peer, a server or a file.
            text += &format!("  {} {:.400}\n", palette.dim("cause:"), Shown(&cause));
        }
        if let Some(hint) = &failure.hint {
            text += &format!("{} {hint}\n", palette.hint("hint:"));
        }
        self.screen().say(&text);
    }

    /// Prints lines that are already laid out, such as a QR code; not when quiet.
    pub fn block(&self, lines: &[String]) {
        self.talk(&(lines.join("\n") + "\n"));
    }

    /// Asks the terminal to put `text` on its clipboard (OSC 52). Nothing tells whether it did.
    ///
    /// # Errors
    /// There is no terminal that could be asked; says why.
    pub fn copy(&self, text: &str) -> Result<(), &'static str> {
        if dumb() {
            return Err("TERM=dumb");
        }
        let sequence = format!("\x1b]52;c;{}\x07", STANDARD.encode(text));
        let asked = self.screen().aside(|| {
            if io::stderr().is_terminal() {
                return io::stderr().lock().write_all(sequence.as_bytes());
            }
            let mut terminal = File::options().write(true).open("/dev/tty")?;
            terminal.write_all(sequence.as_bytes())
        });
        asked.map_err(|_| "there is no terminal")
    }

    /// Colours for texts on stderr.
    #[must_use]
    pub fn err(&self) -> Palette {
        self.0.err
    }

    /// Colours for texts on stdout.
    #[must_use]
    pub fn out(&self) -> Palette {
        self.0.out
    }

    /// Whether stdout carries JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        self.0.options.json
    }

    /// Whether a person wants to hear nothing but errors.
    #[must_use]
    pub fn quiet(&self) -> bool {
        self.0.options.quiet
    }

    /// How often `-v` was given.
    #[must_use]
    pub fn verbosity(&self) -> u8 {
        self.0.options.verbose
    }

    /// Takes everything that moves off the screen: the last thing before the program ends.
    pub fn close(&self) {
        let mut screen = self.screen();
        screen.clear_bar();
        screen.hide_prompt();
        screen.prompt = None;
    }

    pub(super) fn stopping(&self, cause: Cause) {
        match cause {
            Cause::Interrupt => self.note("stopping; Ctrl-C again quits at once"),
            _ => self.note("stopping"),
        }
    }

    /// Shows a prompt in place of the phase line; `out` is where, if not stderr.
    pub(super) fn open_prompt(&self, text: &str, out: Option<File>) {
        let mut screen = self.screen();
        screen.clear_bar();
        screen.prompt = Some(Prompt {
            text: text.to_owned(),
            typed: String::new(),
            row: None,
            asleep: false,
            out,
        });
        screen.show_prompt();
    }

    /// Shows what was typed so far.
    pub(super) fn typed(&self, typed: &str) {
        let mut screen = self.screen();
        screen.hide_prompt();
        if let Some(prompt) = &mut screen.prompt {
            typed.clone_into(&mut prompt.typed);
        }
        screen.show_prompt();
    }

    /// Leaves the prompt and its answer on the screen as a finished line, and the next line
    /// starts with an empty prompt.
    pub(super) fn entered(&self) {
        let mut screen = self.screen();
        if let Some(prompt) = &mut screen.prompt {
            prompt.write("\r\n");
            prompt.row = None;
            prompt.typed.clear();
        }
        screen.show_prompt();
    }

    /// Leaves the prompt where it is, for the screen is someone else's now.
    pub(super) fn forget_prompt(&self) {
        if let Some(prompt) = &mut self.screen().prompt {
            prompt.row = None;
            prompt.asleep = true;
        }
    }

    /// Draws the prompt anew after something else had the screen.
    pub(super) fn wake_prompt(&self) {
        let mut screen = self.screen();
        if let Some(prompt) = &mut screen.prompt {
            prompt.row = None;
            prompt.asleep = false;
        }
        screen.show_prompt();
    }

    /// Takes the prompt away; the phase line comes back.
    pub(super) fn close_prompt(&self) {
        let mut screen = self.screen();
        screen.hide_prompt();
        screen.prompt = None;
        if self.0.live && ours() && screen.bar.is_none() {
            screen.draw_phase();
        }
    }

    /// Follows the run into the background, where the phase line would get in the shell's way,
    /// and back.
    pub(super) fn resumed(&self) {
        let mut screen = self.screen();
        match (&screen.phase, &screen.bar) {
            (Some(_), None) if self.0.live && ours() => screen.draw_phase(),
            (Some(_), Some(bar)) if !ours() => {
                bar.abandon();
                screen.bar = None;
            }
            _ => {}
        }
    }

    pub(super) fn drop_bar(&self) {
        self.screen().clear_bar();
    }

    fn talk(&self, text: &str) {
        if !self.is_silent() {
            self.screen().say(text);
        }
    }

    /// Whether there is no talk.
    pub(super) fn is_silent(&self) -> bool {
        let options = &self.0.options;
        options.quiet || (options.json && options.stream)
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.0.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Styles for one stream; without colours they leave the text as it is.
#[derive(Clone, Copy, Debug)]
pub struct Palette(bool);

impl Palette {
    /// One that colours or does not.
    #[must_use]
    pub const fn new(on: bool) -> Self {
        Self(on)
    }

    /// Whether there are colours.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.0
    }

    /// One without colours.
    #[must_use]
    pub const fn plain() -> Self {
        Self(false)
    }

    /// The name of a thing, a heading.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.style(text, |t| t.bold())
    }

    /// What matters less.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.style(text, |t| t.dimmed())
    }

    /// What went well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.style(text, |t| t.green())
    }

    /// The word before an error.
    #[must_use]
    pub fn error(self, text: &str) -> String {
        self.style(text, |t| t.red().bold())
    }

    /// The word before a warning.
    #[must_use]
    pub fn warning(self, text: &str) -> String {
        self.style(text, |t| t.yellow().bold())
    }

    /// The word before a hint, a command to copy.
    #[must_use]
    pub fn hint(self, text: &str) -> String {
        self.style(text, |t| t.cyan())
    }

    fn style(self, text: &str, style: impl Fn(&str) -> ColoredString) -> String {
        if self.0 {
            style(text).to_string()
        } else {
            text.to_owned()
        }
    }
}

/// Decides about colours: `--color` first, then `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR`,
/// `TERM=dumb`, and last whether the stream is a terminal.
pub(super) fn color(when: When, tty: bool, env: &dyn Fn(&str) -> Option<String>) -> bool {
    let set = |name| env(name).filter(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if set("NO_COLOR").is_some() => false,
        When::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        When::Auto if set("CLICOLOR").is_some_and(|value| value == "0") => false,
        When::Auto => tty && set("TERM").is_none_or(|term| term != "dumb"),
    }
}

pub(super) fn env(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Whether the terminal cannot move its cursor.
pub(super) fn dumb() -> bool {
    env("TERM").is_some_and(|term| term == "dumb")
}

/// Returns columns and rows of the terminal on stderr, if there is one that knows.
pub(super) fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Whether the run is in the foreground of the terminal on stderr.
pub(super) fn ours() -> bool {
    // Without a controlling terminal there is no background either.
    rustix::termios::tcgetpgrp(io::stderr())
        .map_or(true, |group| group == rustix::process::getpgrp())
}

pub(super) fn width() -> usize {
    terminal_size().map_or(80, |(cols, _)| cols)
}

/// What is on stderr besides plain lines.
#[derive(Debug, Default)]
struct Screen {
    phase: Option<(String, Instant)>,
    bar: Option<ProgressBar>,
    prompt: Option<Prompt>,
}

impl Screen {
    fn say(&mut self, text: &str) {
        // Nothing can be done about a stderr that is gone, and nobody would hear of it.
        let _ = self.aside(|| io::stderr().lock().write_all(text.as_bytes()));
    }

    /// Runs `write` with everything that moves taken off the screen.
    fn aside<T>(&mut self, write: impl FnOnce() -> T) -> T {
        self.hide_prompt();
        let value = match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        self.show_prompt();
        value
    }

    fn draw_phase(&mut self) {
        if let (Some((text, since)), None) = (&self.phase, &self.prompt) {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = progress::phase(text, since.elapsed(), target);
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn hide_prompt(&mut self) {
        if let Some(prompt) = &mut self.prompt {
            prompt.hide();
        }
    }

    fn show_prompt(&mut self) {
        if let Some(prompt) = self.prompt.as_mut().filter(|prompt| !prompt.asleep) {
            prompt.show(terminal_size().unwrap_or((80, 24)));
        }
    }
}

#[derive(Debug)]
struct Prompt {
    text: String,
    typed: String,
    /// The row of the cursor below the prompt's first, while it is on the screen.
    row: Option<usize>,
    /// Not to be drawn: the screen is someone else's.
    asleep: bool,
    out: Option<File>,
}

impl Prompt {
    fn hide(&mut self) {
        if let Some(row) = self.row.take() {
            if dumb() {
                self.write("\r\n");
            } else {
                let up = if row > 0 {
                    format!("\x1b[{row}A")
                } else {
                    String::new()
                };
                self.write(&format!("{up}\r\x1b[J"));
            }
        }
    }

    fn show(&mut self, size: (usize, usize)) {
        let (text, row) = layout(&self.text, &self.typed, size);
        if self.row.is_some() {
            self.hide();
        }
        self.write(&text);
        self.row = Some(row);
        if dumb() {
            // Nothing can be erased there: what is above the last line is said once.
            self.text
                .drain(..self.text.rfind('\n').map_or(0, |end| end + 1));
        }
    }

    fn write(&mut self, text: &str) {
        let _ = match &mut self.out {
            Some(file) => file.write_all(text.as_bytes()),
            None => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

/// Lays a prompt out: the text to write, and the row the cursor is on then. What would fill more
/// than half of the screen shows its end only: rows that scrolled away cannot be rewritten.
fn layout(prompt: &str, typed: &str, (cols, rows): (usize, usize)) -> (String, usize) {
    let printable = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else if c == '\n' {
            ' '
        } else {
            '?'
        }
    };
    // A prompt of several lines: what is typed goes behind the last.
    let (above, prompt) = prompt.split_at(prompt.rfind('\n').map_or(0, |end| end + 1));
    let rows_of = |line: &str| line.chars().count().div_ceil(cols).max(1);
    let above_rows: usize = above.lines().map(rows_of).sum();
    let rows = (rows / 2).saturating_sub(above_rows).max(1);
    let room = (cols * rows).saturating_sub(prompt.chars().count());
    let typed: Vec<char> = typed.chars().map(printable).collect();
    let mut text = prompt.to_owned();
    if typed.len() > room {
        let mark = "...";
        text += mark;
        text.extend(&typed[typed.len() - room.saturating_sub(mark.len()).min(typed.len())..]);
    } else {
        text.extend(&typed);
    }
    let cells = text.chars().count();
    if cells > 0 && cells.is_multiple_of(cols) {
        // A full row leaves the cursor between two rows: push it to the next one.
        text += " \r";
    }
    let above = above.replace('\n', "\r\n");
    (above + &text, above_rows + cells / cols)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(when: When, tty: bool, vars: &[(&str, &str)]) -> bool {
        color(when, tty, &|name| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn colour_follows_the_terminal_unless_told() {
        assert!(decide(When::Auto, true, &[("TERM", "xterm")]));
        assert!(decide(When::Auto, true, &[]));
        assert!(!decide(When::Auto, false, &[("TERM", "xterm")]));
        assert!(!decide(When::Auto, true, &[("TERM", "dumb")]));
        assert!(!decide(When::Auto, true, &[("CLICOLOR", "0")]));
    }

    #[test]
    fn no_color_beats_force_and_the_flag_beats_both() {
        let both = [("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")];
        assert!(!decide(When::Auto, true, &both));
        assert!(decide(When::Always, false, &both));
        assert!(decide(When::Auto, false, &both[1..]));
        assert!(!decide(When::Never, true, &both[1..]));
        assert!(!decide(When::Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(
            decide(When::Auto, true, &[("NO_COLOR", "")]),
            "an empty one is not set"
        );
    }

    #[test]
    fn a_prompt_knows_which_row_the_cursor_is_on() {
        assert_eq!(layout("code: ", "ABC", (40, 24)), ("code: ABC".into(), 0));
        let (text, row) = layout("", &"x".repeat(40), (40, 24));
        assert!(text.ends_with(" \r"));
        assert_eq!(row, 1);
        assert_eq!(layout("", &"x".repeat(79), (40, 24)).1, 1);
    }

    #[test]
    fn a_prompt_of_several_lines_counts_the_rows_above_the_last() {
        let (text, row) = layout("Which?\n  1 one\nYours: ", "2", (40, 24));
        assert_eq!((text.as_str(), row), ("Which?\r\n  1 one\r\nYours: 2", 2));
        let wraps = format!("{}\n\nYours: ", "x".repeat(41));
        assert_eq!(layout(&wraps, "", (40, 24)).1, 3);
        let full = format!("{}\nYours: ", "x".repeat(40));
        assert_eq!(layout(&full, "", (40, 24)).1, 1);
        assert!(layout(&wraps, &"y".repeat(5000), (40, 24)).1 <= 12);
    }

    #[test]
    fn a_prompt_shows_the_end_of_what_does_not_fit() {
        let typed = "x".repeat(5000) + "END";
        let (text, row) = layout("code: ", &typed, (40, 24));
        assert!(text.starts_with("code: ...x"));
        assert!(text.trim_end().ends_with("END"));
        assert!(row <= 12);
    }

    #[test]
    fn a_prompt_lets_no_control_character_through() {
        assert_eq!(layout("", "a\u{1b}b\nc\u{e4}", (40, 24)).0, "a?b c?");
    }
}
