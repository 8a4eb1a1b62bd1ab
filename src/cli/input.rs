//! What people and scripts type or pipe in: tokens, reply codes, yes or no.
//!
//! A terminal in its usual (canonical) mode cuts lines at 1024 or 4096 characters, so questions
//! are asked with that mode off and a small editor of our own. The terminal is given back when
//! the question is over, on panic, and on signals. A terminal whose foreground is someone else's
//! is not touched until it is ours.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios};
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;
use super::ui::{Ctx, Ui};
use crate::io::files::read_whole;
use crate::proto::sdp::{self, Extent};
use crate::proto::token::picture::{self, PictureError};
use crate::proto::token::{self, TokenError};
use crate::report::sanitize::Shown;

/// The longest input that is read: a token in a long chat that was copied as a whole.
pub const LIMIT: usize = token::MAX_TEXT;

const LIMIT_SHOWN: &str = "256 KiB";

/// A newline that is followed by more within this time is a line break inside a paste: chat
/// programs break long texts, and nobody types that fast.
const PASTE_GAP: Duration = Duration::from_millis(50);

/// How long a QR code is looked for in a picture: seconds are enough for any that has one, and
/// one that was made to be hard ends.
const LOOKING: Duration = Duration::from_secs(30);
/// A newline in a session description that is followed by more within this time is within it.
const LINE_GAP: Duration = Duration::from_millis(500);
/// The same where its end is missing: the pipe may be slow.
const STALLED_GAP: Duration = Duration::from_secs(3);

/// What is too long is read on until it pauses for so long, because the shell would take the rest
/// of a paste for commands. A slow line stalls for longer than [`PASTE_GAP`].
const STALL: Duration = Duration::from_millis(250);
/// The same inside a paste whose end is going to be marked: only a lost marker takes as long.
const MARKED_STALL: Duration = Duration::from_secs(2);
/// What is too long is not read on for ever either, in bytes: no clipboard is larger.
const MOST_SWALLOWED: usize = 16 << 20;

/// The most of what was typed that a prompt is asked to show, in bytes: more than any terminal.
const MOST_SHOWN: usize = 16 * 1024;

/// How often a run with a question looks whether the terminal is its own.
const FOREGROUND_CHECK: Duration = Duration::from_millis(500);

/// Where a token comes from. The text itself is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// Given as it is, by argument or environment.
    Text(String),
    /// `@FILE`; a FIFO will do.
    File(PathBuf),
    /// `-`.
    Stdin,
    /// A picture of its QR code; `-` for standard input.
    Picture(PathBuf),
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Stdin => f.write_str("Stdin"),
            Self::Picture(path) => f.debug_tuple("Picture").field(path).finish(),
        }
    }
}

impl FromStr for TokenSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix('@')) {
            ("-", _) => Ok(Self::Stdin),
            (_, Some("")) => Err("the file name after @ is missing".to_owned()),
            (_, Some(path)) => Ok(Self::File(path.into())),
            _ if text.trim().is_empty() => Err("it is empty".to_owned()),
            _ if text.len() > LIMIT => Err(format!("it is longer than {LIMIT_SHOWN}")),
            _ => Ok(Self::Text(text.to_owned())),
        }
    }
}

impl TokenSource {
    /// Whether reading it uses up standard input.
    #[must_use]
    pub fn is_stdin(&self) -> bool {
        match self {
            Self::Stdin => true,
            Self::Picture(path) => path == Path::new("-"),
            Self::Text(_) | Self::File(_) => false,
        }
    }
}

/// Reads the text of a token: from its source, or where there is none, by asking with `prompt`.
///
/// # Errors
/// There is nothing to read, nobody to ask (the failure names the ways to give a token), or the
/// run was asked to stop.
pub async fn read_token(
    source: Option<&TokenSource>,
    prompt: &str,
    ctx: &Ctx,
) -> Result<String, Failure> {
    let text = match source {
        Some(TokenSource::Text(text)) => text.clone(),
        Some(TokenSource::File(path)) => {
            let path = path.clone();
            on_thread(ctx, move || read_file(&path)).await?
        }
        Some(TokenSource::Picture(path)) => read_picture(path, ctx).await?,
        Some(TokenSource::Stdin) if !io::stdin().is_terminal() => {
            on_thread(ctx, read_stdin).await?
        }
        _ => match ask_line(prompt, ctx).await? {
            Answer::Line(line) => line,
            Answer::End => return Err(no_token("no token was given")),
            Answer::Nobody => {
                return Err(no_token(
                    "no token given, and there is no terminal to ask on",
                ));
            }
        },
    };
    let text = text.trim();
    if text.is_empty() {
        Err(no_token("the token is empty"))
    } else {
        Ok(text.to_owned())
    }
}

/// Reads a text from standard input, to its end; one longer than `limit` bytes is cut behind it.
///
/// # Errors
/// It cannot be read, is not UTF-8, or the run was asked to stop.
pub async fn read_text(limit: u64, ctx: &Ctx) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        ctx.ui
            .note("type the text; Ctrl-D on an empty line ends it");
    }
    on_thread(ctx, move || {
        let mut text = Vec::new();
        let read = io::stdin().lock().take(limit + 1).read_to_end(&mut text);
        read.map_err(|error| {
            Failure::usage("cannot read the text from standard input").because(error)
        })?;
        // A character cut in the middle belongs to a text that is too long, which comes first.
        let whole = text.len() as u64 <= limit;
        String::from_utf8(text).or_else(|error| {
            if whole || error.utf8_error().error_len().is_some() {
                return Err(Failure::usage("the text is not UTF-8")
                    .hint("send it as a stream: knothole send -"));
            }
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        })
    })
    .await
}

/// Asks a question that is answered with yes or no; `None` when there is no terminal to ask on,
/// or the answer was the end of input.
///
/// # Errors
/// The run was asked to stop, or the terminal cannot be read.
pub async fn confirm(question: &str, default: bool, ctx: &Ctx) -> Result<Option<bool>, Failure> {
    let choices = if default { "[Y/n]" } else { "[y/N]" };
    loop {
        match ask_any(&format!("{question} {choices} "), Kind::Decision, ctx).await? {
            Answer::Nobody | Answer::End => return Ok(None),
            Answer::Line(line) => match line.trim().to_ascii_lowercase().as_str() {
                "" => return Ok(Some(default)),
                "y" | "yes" => return Ok(Some(true)),
                "n" | "no" => return Ok(Some(false)),
                _ => ctx.ui.note("please answer y or n"),
            },
        }
    }
}

/// The reply codes that arrive while the issuer waits: typed at a prompt, or one a line from a
/// standard input that is no terminal. Dropping it stops the reading and gives the terminal back.
#[derive(Debug)]
pub struct Lines {
    /// Dropped first, so that a thread that waits for room in the channel goes on.
    lines: mpsc::Receiver<String>,
    _reading: Option<Reading>,
    interactive: bool,
}

impl Lines {
    /// Starts reading. `stdin_taken` says that standard input carries something else (`send -`);
    /// a terminal can be asked even then. Without anything to read from, no line ever comes.
    #[must_use]
    pub fn start(prompt: &str, stdin_taken: bool, ui: &Ui) -> Self {
        Self::open(prompt, stdin_taken, false, ui)
    }

    /// The same for texts of many lines: what comes together is one.
    #[must_use]
    pub fn pastes(prompt: &str, stdin_taken: bool, ui: &Ui) -> Self {
        Self::open(prompt, stdin_taken, true, ui)
    }

    fn open(prompt: &str, stdin_taken: bool, joins: bool, ui: &Ui) -> Self {
        let terminal = Terminal::find(stdin_taken);
        let interactive = terminal.is_some();
        let reader = match terminal {
            Some(terminal) => Some(Reader::terminal(terminal, prompt, Kind::Text, ui)),
            None if !stdin_taken && !io::stdin().is_terminal() => {
                io::stdin().as_fd().try_clone_to_owned().ok().map(|input| {
                    let mut reader = Reader::lines(input);
                    reader.joins = joins;
                    reader
                })
            }
            None => None,
        };
        let (send, lines) = mpsc::channel(16);
        let ui = ui.clone();
        let refused = move || ui.warn(&too_long().message);
        Self {
            lines,
            _reading: reader.and_then(|reader| read_lines(reader, send, refused).ok()),
            interactive,
        }
    }

    /// Returns the next line. The end of input is no error and no line: this then waits for ever,
    /// as it is one of several things that the issuer waits for.
    pub async fn next(&mut self) -> String {
        match self.lines.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }

    /// Returns the next line; `None` when no more can come.
    pub async fn recv(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Whether there is a prompt on a terminal.
    #[must_use]
    pub fn interactive(&self) -> bool {
        self.interactive
    }
}

/// Reads lines on a thread of their own; tells `refused` about one that is too long.
fn read_lines(
    reader: Reader,
    send: mpsc::Sender<String>,
    refused: impl Fn() + Send + 'static,
) -> io::Result<Reading> {
    Reading::start(reader, move |reader, woken| {
        loop {
            match reader.next(Some(woken)) {
                Ok(Got::Line(line)) if line.trim().is_empty() => {}
                Ok(Got::Line(line)) => {
                    if send.blocking_send(line).is_err() {
                        break;
                    }
                }
                Ok(Got::TooLong) => refused(),
                Ok(Got::End | Got::Woken) | Err(_) => break,
            }
        }
    })
}

/// A thread that reads. Dropping this ends the reading, and gives the terminal back before anything
/// else is shown.
#[derive(Debug)]
struct Reading {
    wake: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Reading {
    fn start(
        mut reader: Reader,
        read: impl FnOnce(&mut Reader, &OwnedFd) + Send + 'static,
    ) -> io::Result<Self> {
        // Closing the one end makes the other readable: that is the whole message.
        let (woken, wake) = pipe_with(PipeFlags::CLOEXEC)?;
        let thread = std::thread::Builder::new()
            .name("input".into())
            .spawn(move || read(&mut reader, &woken))?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Gives the terminal back as it was found. Safe to call at any time, from any thread.
pub fn restore_terminal() {
    if let Some(saved) = saved().take() {
        saved.restore();
    }
}

/// Takes the terminal again after the run was stopped (Ctrl-Z) and continued; in the background,
/// leaves it to the shell.
pub(super) fn resumed(ui: &Ui) {
    let ours = saved().as_ref().map(|saved| {
        foreground(&saved.terminal) && set_raw(&saved.terminal, &saved.before).is_ok()
    });
    match ours {
        Some(true) => ui.wake_prompt(),
        Some(false) => ui.forget_prompt(),
        None => {}
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A text, which may have been typed before the question was there.
    Text,
    /// A yes or no, also by the Enter key alone. What was typed before is no answer to it.
    Decision,
}

enum Answer {
    Line(String),
    End,
    Nobody,
}

async fn ask_line(prompt: &str, ctx: &Ctx) -> Result<Answer, Failure> {
    loop {
        match ask_any(prompt, Kind::Text, ctx).await? {
            Answer::Line(line) if line.trim().is_empty() => {}
            answer => return Ok(answer),
        }
    }
}

async fn ask_any(prompt: &str, kind: Kind, ctx: &Ctx) -> Result<Answer, Failure> {
    let Some(terminal) = Terminal::find(false) else {
        return Ok(Answer::Nobody);
    };
    let unreadable =
        |error: io::Error| Failure::incomplete("cannot read from the terminal").because(error);
    let reader = Reader::terminal(terminal, prompt, kind, &ctx.ui);
    let (send, answer) = oneshot::channel();
    let _reading = Reading::start(reader, |reader, woken| {
        let _ = send.send(reader.next(Some(woken)));
    })
    .map_err(unreadable)?;
    let got = tokio::select! {
        got = answer => got,
        cause = ctx.stop.wait() => return Err(Failure::interrupted(cause)),
    };
    match got {
        Ok(Ok(Got::Line(line))) => Ok(Answer::Line(line)),
        Ok(Ok(Got::TooLong)) => Err(too_long()),
        Ok(Err(error)) => Err(unreadable(error)),
        Ok(Ok(Got::End | Got::Woken)) | Err(_) => Ok(Answer::End),
    }
}

/// Runs a read that may block for long. The thread is left alone when the run is stopped: it
/// holds nothing but the read.
async fn on_thread<T: Send + 'static>(
    ctx: &Ctx,
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (send, answer) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = send.send(read());
    });
    tokio::select! {
        read = answer => read.unwrap_or_else(|_| Err(Failure::incomplete("the read was cut short"))),
        cause = ctx.stop.wait() => Err(Failure::interrupted(cause)),
    }
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| {
        let failure =
            Failure::usage(format!("cannot read the token from {}", path.display())).kind("token");
        failure.because(error)
    };
    // Opening a FIFO waits for its writer.
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return read_piped(file.into()).map_err(failed)?;
    }
    let mut text = Vec::new();
    file.take(LIMIT as u64 + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() > LIMIT {
        return Err(too_long());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads what the QR code in a picture says.
async fn read_picture(path: &Path, ctx: &Ctx) -> Result<String, Failure> {
    if path == Path::new("-") && io::stdin().is_terminal() {
        return Err(
            Failure::usage("standard input is a terminal, which brings no picture")
                .kind("picture")
                .hint("name the file, or pipe it in"),
        );
    }
    let name = match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => format!("{path:?}"),
    };
    let opened = path.to_owned();
    let bytes = on_thread(ctx, move || {
        read_whole(&opened, picture::MAX_PICTURE).map_err(|error| {
            let failure = Failure::usage(error.to_string()).kind("picture");
            failure.hint(error.hint().unwrap_or(PictureError::NotAPicture.hint()))
        })
    });
    let bytes = bytes.await?;
    ctx.ui.phase("looking for a QR code");
    let about = name.clone();
    let read = on_thread(ctx, move || {
        picture::read(&bytes).map_err(|error| {
            let mut message = format!("no invite in {about}: {error}");
            match &error {
                PictureError::NotAnInvite(text) => {
                    message += &format!("; it says {:.60}", Shown(text));
                }
                PictureError::Broken(why) => message += &format!(": {:.60}", Shown(why)),
                _ => {}
            }
            Failure::usage(message).kind("picture").hint(error.hint())
        })
    });
    match tokio::time::timeout(LOOKING, read).await {
        Ok(read) => read,
        Err(_) => {
            let seconds = LOOKING.as_secs();
            Err(
                Failure::usage(format!("no QR code was found in {name} within {seconds} s"))
                    .kind("picture")
                    .hint(PictureError::NoCode.hint()),
            )
        }
    }
}

fn read_stdin() -> Result<String, Failure> {
    let failed = |error| {
        Failure::usage("cannot read the token from standard input")
            .kind("token")
            .because(error)
    };
    let fd = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    read_piped(fd).map_err(failed)?
}

/// Reads the first lines up to a pause. Not up to the end: the writer of a FIFO may keep it open
/// for as long as it runs.
fn read_piped(fd: OwnedFd) -> io::Result<Result<String, Failure>> {
    let mut reader = Reader::lines(fd);
    reader.joins = true;
    loop {
        return Ok(match reader.next(None)? {
            Got::Line(line) if line.trim().is_empty() => continue,
            Got::Line(line) => Ok(line),
            Got::TooLong => Err(too_long()),
            Got::End | Got::Woken => Ok(String::new()),
        });
    }
}

fn no_token(message: &str) -> Failure {
    Failure::usage(message)
        .kind("token")
        .hint("give it as TOKEN, @FILE, - for standard input, or in KNOTHOLE_TOKEN")
}

fn too_long() -> Failure {
    Failure::usage(format!(
        "what was given is longer than {LIMIT_SHOWN}; that is no token"
    ))
    .kind("token")
    .hint(TokenError::TooLong.hint())
}

/// A terminal to ask on.
#[derive(Debug)]
struct Terminal {
    input: OwnedFd,
    /// Where to write, if not stderr.
    output: Option<File>,
}

impl Terminal {
    /// Standard input, if it is a terminal; else, when at least stderr is one, the terminal that
    /// the run was started from.
    fn find(stdin_taken: bool) -> Option<Self> {
        let open = || File::options().read(true).write(true).open("/dev/tty");
        let err = io::stderr().is_terminal();
        let input = if !stdin_taken && io::stdin().is_terminal() {
            io::stdin().as_fd().try_clone_to_owned().ok()?
        } else if err {
            open().ok()?.into()
        } else {
            return None;
        };
        let output = if err { None } else { Some(open().ok()?) };
        Some(Self { input, output })
    }
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Line(String),
    /// A line that is longer than [`LIMIT`] was there, and was dropped.
    TooLong,
    End,
    /// Someone wants the reading to end.
    Woken,
}

/// Reads lines from a terminal or a pipe, and can be woken.
struct Reader {
    input: OwnedFd,
    question: Option<Question>,
    editor: Editor,
    /// Whether lines that follow one another closely are one.
    joins: bool,
    /// Bytes that were read behind the end of the last line.
    ahead: Vec<u8>,
    /// The prompt does not show yet what was read.
    undrawn: bool,
    ended: bool,
}

impl Reader {
    fn terminal(terminal: Terminal, prompt: &str, kind: Kind, ui: &Ui) -> Self {
        let Terminal { input, output } = terminal;
        let question = Question {
            ui: ui.clone(),
            prompt: prompt.to_owned(),
            output,
            kind,
            mode: None,
            told: false,
        };
        let mut reader = Self::lines(input);
        reader.question = Some(question);
        reader.joins = true;
        reader
    }

    fn lines(input: OwnedFd) -> Self {
        Self {
            input,
            question: None,
            editor: Editor::default(),
            joins: false,
            ahead: Vec::new(),
            undrawn: false,
            ended: false,
        }
    }

    fn next(&mut self, woken: Option<&OwnedFd>) -> io::Result<Got> {
        loop {
            if let Some(got) = self.digest() {
                return Ok(got);
            }
            if self.ended {
                let line = self.editor.take();
                return Ok(line.unwrap_or(Got::End));
            }
            let on_stage = match &mut self.question {
                Some(question) => question.enter(&self.input)?,
                None => true,
            };
            let pause = self.editor.pause().filter(|_| on_stage && self.joins);
            let timeout = match pause {
                // Drawn once all is read that is there: a long paste is not drawn bit by bit.
                _ if on_stage && self.undrawn => Some(Duration::ZERO),
                None => self.question.as_ref().map(|_| FOREGROUND_CHECK),
                some => some,
            };
            let timespec = timeout.map(timespec);
            let ours = on_stage.then_some(&self.input);
            let mut fds: Vec<PollFd<'_>> = ours
                .into_iter()
                .chain(woken)
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            let ready = match poll(&mut fds, timespec.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if woken.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
                return Ok(Got::Woken);
            }
            if ready == 0 {
                if std::mem::take(&mut self.undrawn) {
                    self.draw();
                } else if pause.is_some()
                    && let Some(got) = self.line()
                {
                    return Ok(got);
                }
                continue;
            }
            // What was typed meanwhile may be meant for the shell.
            if self.question.is_some() && !foreground(&self.input) {
                continue;
            }
            let mut buffer = [0; 4096];
            match rustix::io::read(&self.input, &mut buffer) {
                // EIO: the terminal has gone, or is someone else's for good.
                Ok(0) | Err(rustix::io::Errno::IO) => self.ended = true,
                Ok(n) => self.ahead.extend_from_slice(&buffer[..n]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Feeds what was read to the editor, up to the end of a line where lines are not joined.
    fn digest(&mut self) -> Option<Got> {
        if self.ahead.is_empty() {
            return None;
        }
        let mut bytes = std::mem::take(&mut self.ahead).into_iter();
        while let Some(byte) = bytes.next() {
            if self.question.is_none() {
                self.editor.push(byte);
                if self.editor.newline && !self.joins {
                    self.ahead = bytes.collect();
                    return Some(self.editor.take().unwrap_or(Got::Line(String::new())));
                }
                // A pipe may go on for ever, and no shell takes what is left in it.
                if self.editor.too_long && self.joins {
                    return self.editor.take();
                }
                continue;
            }
            match self.editor.key(byte) {
                Key::More => {}
                Key::End => {
                    self.ended = true;
                    return None;
                }
                Key::Enter => {
                    self.ahead = bytes.collect();
                    return self.line();
                }
            }
        }
        if self.editor.swallowed > MOST_SWALLOWED {
            return self.line();
        }
        self.undrawn = self.question.is_some();
        None
    }

    fn draw(&mut self) {
        if let Some(question) = &self.question {
            question.ui.typed(&self.editor.shown());
        }
    }

    /// Ends the line that is being edited; an empty one on a terminal usually does not count.
    fn line(&mut self) -> Option<Got> {
        self.undrawn = false;
        self.draw();
        let got = self.editor.take();
        if let Some(question) = &self.question {
            if got.is_none() && question.kind == Kind::Text {
                question.ui.typed("");
                return None;
            }
            question.ui.entered();
        }
        Some(got.unwrap_or(Got::Line(String::new())))
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
    }
}

impl Drop for Reader {
    /// The shell would take the rest of a paste for commands.
    fn drop(&mut self) {
        let Some(question) = &self.question else {
            return;
        };
        if question.mode.is_none() || !(self.editor.pasting || self.editor.refused) {
            return;
        }
        let mut read = 0;
        let mut buffer = [0; 4096];
        while self.editor.pasting && read < MOST_SWALLOWED {
            let mut fds = [PollFd::new(&self.input, PollFlags::IN)];
            if !matches!(poll(&mut fds, Some(&timespec(MARKED_STALL))), Ok(1..)) {
                break;
            }
            match rustix::io::read(&self.input, &mut buffer) {
                Ok(n @ 1..) => {
                    read += n;
                    for byte in &buffer[..n] {
                        self.editor.key(*byte);
                    }
                }
                _ => break,
            }
        }
        let _ = rustix::termios::tcflush(&self.input, QueueSelector::IFlush);
    }
}

/// A prompt on a terminal.
struct Question {
    ui: Ui,
    prompt: String,
    output: Option<File>,
    kind: Kind,
    mode: Option<RawMode>,
    told: bool,
}

impl Question {
    /// Takes the terminal if it is ours to take, and says whether it is.
    fn enter(&mut self, terminal: &OwnedFd) -> io::Result<bool> {
        if !foreground(terminal) {
            if self.mode.take().is_some() {
                self.ui.forget_prompt();
                self.ui.close_prompt();
            }
            if !self.told {
                self.told = true;
                self.ui
                    .verbose(1, "in the background: nothing is read from the terminal");
            }
            return Ok(false);
        }
        if self.mode.is_none() {
            self.mode = Some(RawMode::enter(terminal)?);
            if self.kind == Kind::Decision {
                rustix::termios::tcflush(terminal, QueueSelector::IFlush)?;
            }
            let output = self.output.as_ref().and_then(|file| file.try_clone().ok());
            self.ui.open_prompt(&self.prompt, output);
        }
        Ok(true)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if self.mode.take().is_some() {
            self.ui.close_prompt();
        }
    }
}

/// The terminal without canonical mode and echo, until dropped.
struct RawMode;

impl RawMode {
    fn enter(terminal: &OwnedFd) -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(terminal)?;
        let terminal = terminal.try_clone()?;
        // Registered first: whatever happens from here on gives the terminal back.
        let mut slot = saved();
        let saved = slot.insert(Saved { terminal, before });
        set_raw(&saved.terminal, &saved.before)?;
        Ok(Self)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore_terminal();
    }
}

struct Saved {
    terminal: OwnedFd,
    before: Termios,
}

impl Saved {
    fn restore(&self) {
        // From the background this would stop the run; the shell has set its own modes anyway.
        if foreground(&self.terminal) {
            let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
            let _ = rustix::io::write(&self.terminal, PASTE_MARKERS_OFF);
        }
    }
}

/// A global, because panics and the second Ctrl-C must give the terminal back whoever took it.
static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

/// Asks the terminal to mark pastes, so that a line break in one is told from Enter.
const PASTE_MARKERS_ON: &[u8] = b"\x1b[?2004h";
const PASTE_MARKERS_OFF: &[u8] = b"\x1b[?2004l";

fn saved() -> MutexGuard<'static, Option<Saved>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_raw(terminal: &OwnedFd, before: &Termios) -> io::Result<()> {
    let mut raw = before.clone();
    // Signals (ISIG) stay on: Ctrl-C is not ours to reinvent.
    raw.local_modes -=
        LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL | LocalModes::IEXTEN;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)?;
    if !super::ui::dumb() {
        let _ = rustix::io::write(terminal, PASTE_MARKERS_ON);
    }
    Ok(())
}

fn foreground(terminal: &OwnedFd) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// A line being typed.
#[derive(Debug, Default)]
struct Editor {
    text: Vec<u8>,
    escape: Escape,
    pasting: bool,
    /// The last byte ended a line, unless more follows at once.
    newline: bool,
    too_long: bool,
    /// Bytes that came after it was too long.
    swallowed: usize,
    /// A line before this one was too long.
    refused: bool,
}

#[derive(Debug, Default, PartialEq)]
enum Escape {
    #[default]
    None,
    Begun,
    /// Parameters of a control sequence so far.
    Sequence(Vec<u8>),
    /// One more byte, then it is over.
    Single,
}

enum Key {
    More,
    Enter,
    End,
}

impl Editor {
    /// Takes a byte from a terminal.
    fn key(&mut self, byte: u8) -> Key {
        match std::mem::take(&mut self.escape) {
            Escape::None => {}
            Escape::Begun => {
                self.escape = match byte {
                    b'[' => Escape::Sequence(Vec::new()),
                    b'O' => Escape::Single,
                    _ => Escape::None,
                };
                return Key::More;
            }
            Escape::Single => return Key::More,
            Escape::Sequence(mut sequence) => {
                if (0x40..=0x7e).contains(&byte) {
                    match (byte, sequence.as_slice()) {
                        (b'~', b"200") => self.pasting = true,
                        (b'~', b"201") => self.pasting = false,
                        _ => {}
                    }
                } else if sequence.len() < 16 {
                    sequence.push(byte);
                    self.escape = Escape::Sequence(sequence);
                }
                return Key::More;
            }
        }
        match byte {
            0x1b => self.escape = Escape::Begun,
            // In a paste, line ends are text; the Enter comes after it.
            b'\r' | b'\n' if self.pasting => self.push(b' '),
            b'\r' | b'\n' => self.push(b'\n'),
            b'\t' => self.push(b' '),
            // Nor is anything else in it a key.
            0..0x20 | 0x7f if self.pasting => {}
            0x04 if self.text.is_empty() => return Key::End,
            0x04 => return Key::Enter,
            0x08 | 0x7f => {
                while self.text.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                self.newline = false;
            }
            // ^U and ^W
            0x15 => self.text.clear(),
            0x17 => {
                let word = |byte: &u8| !byte.is_ascii_whitespace();
                let end = self.text.iter().rposition(word).map_or(0, |i| i + 1);
                let start = self.text[..end]
                    .iter()
                    .rposition(|b| !word(b))
                    .map_or(0, |i| i + 1);
                self.text.truncate(start);
            }
            0..0x20 => {}
            _ => self.push(byte),
        }
        Key::More
    }

    /// How long the input pauses where the line ends, if it may end here.
    fn pause(&self) -> Option<Duration> {
        match (self.too_long, self.pasting) {
            (true, true) => Some(MARKED_STALL),
            (true, false) => Some(STALL),
            (false, _) => self.newline.then(|| self.gap()),
        }
    }

    /// A description has many lines, and a slow pipe or terminal brings them one by one.
    fn gap(&self) -> Duration {
        match sdp::extent(&String::from_utf8_lossy(&self.text)) {
            Extent::Whole => PASTE_GAP,
            Extent::Open => LINE_GAP,
            Extent::Unfinished => STALLED_GAP,
        }
    }

    /// Takes a byte as text.
    fn push(&mut self, byte: u8) {
        self.newline = byte == b'\n';
        self.swallowed += usize::from(self.too_long);
        if self.text.len() < LIMIT {
            self.text.push(byte);
        } else if !byte.is_ascii_whitespace() {
            self.too_long = true;
        }
    }

    /// Ends the line; `None` when there is nothing in it but space.
    fn take(&mut self) -> Option<Got> {
        let done = std::mem::take(self);
        // A paste that is not over goes on in the next line.
        self.pasting = done.pasting;
        self.refused = done.refused || done.too_long;
        if done.too_long {
            return Some(Got::TooLong);
        }
        let text = String::from_utf8_lossy(&done.text);
        let text = text.trim();
        (!text.is_empty()).then(|| Got::Line(text.to_owned()))
    }

    /// The end of the text, as much as a prompt could show.
    fn shown(&self) -> String {
        let from = self.text.len().saturating_sub(MOST_SHOWN);
        let text = self.text.get(from..).unwrap_or_default();
        String::from_utf8_lossy(text)
            .trim_end_matches('\n')
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::io::write;

    fn typed(keys: &[u8]) -> Editor {
        let mut editor = Editor::default();
        for key in keys {
            assert!(matches!(editor.key(*key), Key::More), "{key}");
        }
        editor
    }

    fn line(text: &str) -> Got {
        Got::Line(text.to_owned())
    }

    fn reader() -> (Reader, OwnedFd) {
        let (input, output) = rustix::pipe::pipe().unwrap();
        (Reader::lines(input), output)
    }

    #[test]
    fn the_editing_keys_do_what_the_terminal_did() {
        for (keys, text) in [
            (&b"abc\x7fd"[..], "abd"),
            (b"a\xc3\xa4\x7fb", "ab"),
            (b"\x7f\x7fa", "a"),
            (b"one two\x15three", "three"),
            (b"one two  \x17x", "one x"),
            (b"\x17x", "x"),
            (b"a\x1b[Db\x1b[1;5Cc\x1bOAd", "abcd"),
            (b"a\tb\x01", "a b"),
        ] {
            assert_eq!(typed(keys).shown(), text, "{keys:?}");
        }
    }

    #[test]
    fn ctrl_d_ends_the_input_on_an_empty_line_and_the_line_otherwise() {
        assert!(matches!(Editor::default().key(4), Key::End));
        assert!(matches!(typed(b"abc").key(4), Key::Enter));
    }

    #[test]
    fn a_marked_paste_may_have_line_breaks() {
        let mut editor = typed(b"\x1b[200~AB\r\nCD\n\x04\x1b[201~");
        assert!(!editor.newline, "only Enter ends the line");
        assert!(matches!(editor.key(b'\r'), Key::More));
        assert!(editor.newline);
        assert_eq!(editor.take(), Some(line("AB  CD")));
    }

    #[test]
    fn a_line_of_any_length_up_to_the_limit_is_kept() {
        let mut editor = typed(&vec![b'x'; LIMIT]);
        editor.key(b'\n');
        assert_eq!(editor.take(), Some(line(&"x".repeat(LIMIT))));
        let mut editor = typed(&vec![b'x'; LIMIT + 1]);
        assert_eq!(editor.take(), Some(Got::TooLong));
        assert_eq!(editor.take(), None, "the next line is a new one");
    }

    #[test]
    fn a_pipe_is_read_line_by_line_to_its_end() {
        let (mut reader, output) = reader();
        write(&output, b"one\n\ntwo\nthree").unwrap();
        drop(output);
        let lines: Vec<_> = std::iter::repeat_with(|| reader.next(None).unwrap())
            .take(6)
            .collect();
        assert_eq!(
            lines,
            [
                line("one"),
                line(""),
                line("two"),
                line("three"),
                Got::End,
                Got::End
            ]
        );
    }

    #[test]
    fn a_token_over_several_lines_is_read_without_waiting_for_the_end() {
        let (input, output) = rustix::pipe::pipe().unwrap();
        write(&output, b"\nAB\nCD\n").unwrap();
        // `output` stays open, as a FIFO's writer does.
        assert_eq!(read_piped(input).unwrap().unwrap(), "AB\nCD");
        drop(output);
    }

    #[test]
    fn a_read_can_be_woken() {
        let (mut reader, _output) = reader();
        let (woken, wake) = rustix::pipe::pipe().unwrap();
        drop(wake);
        assert_eq!(reader.next(Some(&woken)).unwrap(), Got::Woken);
    }

    #[tokio::test]
    async fn lines_stop_when_dropped_though_nothing_was_read() {
        let (mut reader, output) = reader();
        reader.joins = true;
        let (send, lines) = mpsc::channel(1);
        let mut lines = Lines {
            lines,
            _reading: Some(read_lines(reader, send, || ()).unwrap()),
            interactive: false,
        };
        write(&output, b"abc\n").unwrap();
        assert_eq!(lines.next().await, "abc");
        write(&output, b"1\n").unwrap();
        drop(lines);
    }

    #[test]
    fn sources_are_told_apart_and_keep_quiet() {
        assert_eq!("-".parse(), Ok(TokenSource::Stdin));
        assert_eq!("@a b".parse(), Ok(TokenSource::File("a b".into())));
        let text: TokenSource = "KH1SECRET".parse().unwrap();
        assert_eq!(format!("{text:?}"), "Text(..)");
        for bad in ["", "  ", "@"] {
            assert!(bad.parse::<TokenSource>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_whole_and_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "AB\nCD\n").unwrap();
        assert_eq!(read_file(&path).unwrap(), "AB\nCD\n");
        std::fs::write(&path, vec![b'x'; LIMIT + 1]).unwrap();
        assert!(read_file(&path).unwrap_err().message.contains("256 KiB"));
        let gone = read_file(&dir.path().join("gone")).unwrap_err();
        assert_eq!(gone.exit, crate::exit::Exit::Usage);
        assert!(gone.to_string().contains("No such file"), "{gone}");
        assert!(read_file(dir.path()).is_err(), "a folder");
    }

    proptest! {
        #[test]
        fn no_keys_make_the_editor_panic(keys: Vec<u8>) {
            let mut editor = Editor::default();
            for key in keys {
                editor.key(key);
                editor.shown();
            }
            editor.take();
        }
    }
}
