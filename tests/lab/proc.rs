//! knothole as a process on a host of the laboratory.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::Lab;
use crate::net::Host;

/// How long a process may take, unless told.
const LIFE: Duration = Duration::from_mins(1);

/// A command line to be run: knothole, or another program.
pub struct Knothole<'a> {
    lab: &'a Lab,
    host: &'a Host,
    name: String,
    program: PathBuf,
    args: Vec<String>,
    life: Duration,
    stdin: Option<PathBuf>,
    stdout: Option<PathBuf>,
}

/// A running knothole. It is killed when dropped.
pub struct Peer {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    transcript: Arc<Transcript>,
    deadline: Instant,
    /// The folder it runs in.
    pub dir: PathBuf,
}

/// What a process has said, line by line.
struct Transcript {
    start: Instant,
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<Line>,
    streams_closed: u8,
}

struct Line {
    at: Duration,
    stream: Stream,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// A token that was printed, and when, counted from the start of the process.
pub struct Token {
    pub text: String,
    pub at: Duration,
}

/// How a process ended.
pub struct Ended {
    pub status: ExitStatus,
    pub after: Duration,
}

/// The path two peers have chosen, as one of them tells it.
#[derive(Debug)]
pub struct Route {
    pub kind: String,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// The program under test.
pub fn binary() -> PathBuf {
    let binary = env::var_os("KNOTHOLE_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_knothole")),
        PathBuf::from,
    );
    fs::canonicalize(&binary).unwrap_or(binary)
}

impl Lab {
    /// Prepares a knothole called `name` on `host`.
    pub fn knothole<'a>(&'a self, name: impl Into<String>, host: &'a Host) -> Knothole<'a> {
        self.program(name, host, binary())
    }

    /// Prepares another program called `name` on `host`.
    pub fn program<'a>(
        &'a self,
        name: impl Into<String>,
        host: &'a Host,
        program: PathBuf,
    ) -> Knothole<'a> {
        Knothole {
            lab: self,
            host,
            name: name.into(),
            program,
            args: vec![],
            life: LIFE,
            stdin: None,
            stdout: None,
        }
    }
}

impl Knothole<'_> {
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let args = args
            .into_iter()
            .map(|a| a.as_ref().to_string_lossy().into_owned());
        self.args.extend(args);
        self
    }

    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Bounds the whole run.
    pub fn life(self, life: Duration) -> Self {
        Self { life, ..self }
    }

    /// Has stdin read from one file and stdout written to another.
    pub fn between(self, stdin: PathBuf, stdout: PathBuf) -> Self {
        Self {
            stdin: Some(stdin),
            stdout: Some(stdout),
            ..self
        }
    }

    /// Starts it in a folder and with a home of its own; nothing of the user's is seen.
    pub fn start(self) -> Result<Peer> {
        let home = self.lab.dir().join(format!("home-{}", self.name));
        let dir = self.lab.dir().join(&self.name);
        for new in [&home, &dir] {
            fs::create_dir(new).with_context(|| new.display().to_string())?;
        }
        let mut command = self.host.ns.command(&self.program.to_string_lossy());
        let path = command
            .get_envs()
            .find_map(|(key, value)| (key == "PATH").then_some(value?.to_owned()))
            .context("tools have a PATH")?;
        command
            .args(&self.args)
            .current_dir(&dir)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_RUNTIME_DIR", &home)
            .env("TMPDIR", &home)
            .env("NO_COLOR", "1")
            .env("TERM", "dumb")
            .env("LC_ALL", "C.UTF-8")
            .env("RUST_BACKTRACE", "1")
            .stdin(match &self.stdin {
                Some(path) => File::open(path)?.into(),
                None => Stdio::piped(),
            })
            .stdout(match &self.stdout {
                Some(path) => File::create(path)?.into(),
                None => Stdio::piped(),
            })
            .stderr(Stdio::piped());

        let start = Instant::now();
        let mut child = command.spawn().context("setpriv")?;
        let transcript = Arc::new(Transcript {
            start,
            said: Mutex::default(),
            changed: Condvar::new(),
        });
        listen(child.stdout.take(), Stream::Stdout, &transcript);
        listen(child.stderr.take(), Stream::Stderr, &transcript);
        let shown = Arc::clone(&transcript);
        let program = self.program.file_name().unwrap_or_default();
        let (program, args) = (program.to_string_lossy(), self.args.join(" "));
        let title = format!("--- {}: {program} {args}", self.name);
        self.lab
            .exhibit(move || format!("{title}\n{}", shown.render()));
        Ok(Peer {
            name: self.name,
            stdin: child.stdin.take(),
            child,
            transcript,
            deadline: start + self.life,
            dir,
        })
    }
}

impl Peer {
    /// Waits for the first token of a kind, as an event.
    pub fn token(&self, kind: &str) -> Result<Token> {
        self.nth_token(kind, 0)
    }

    /// Waits for a later token of a kind: the second is number 1.
    pub fn nth_token(&self, kind: &str, number: usize) -> Result<Token> {
        self.wait_for(&format!("{kind} number {number}"), |lines| {
            let tokens = events(lines, "token").filter(|(_, event)| event["kind"] == kind);
            let (line, event) = { tokens }.nth(number)?;
            let text = event["token"].as_str()?.to_owned();
            Some(Token { text, at: line.at })
        })
    }

    /// Waits for a line of stdout, by its number from 0, for runs without `--json`.
    pub fn stdout_line(&self, number: usize) -> Result<Token> {
        self.wait_for(&format!("line {number} of stdout"), |lines| {
            let line = of(lines, Stream::Stdout).nth(number)?;
            let text = line.text.clone();
            Some(Token { text, at: line.at })
        })
    }

    /// Waits for an event by its name.
    pub fn event(&self, name: &str) -> Result<Value> {
        self.wait_for(&format!("event {name}"), |lines| {
            events(lines, name).next().map(|(_, event)| event)
        })
    }

    /// Every event of this name so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let said = self.transcript.lock();
        events(&said.lines, name).map(|(_, event)| event).collect()
    }

    /// Waits for the one object that a diagnosis prints.
    pub fn object(&self) -> Result<Value> {
        let line = self.stdout_line(0)?;
        serde_json::from_str(&line.text).with_context(|| line.text)
    }

    /// Waits for the path that was chosen.
    pub fn route(&self) -> Result<Route> {
        let event = self.event("path")?;
        let text = |key: &str| {
            let text = event[key].as_str();
            text.with_context(|| format!("no {key} in {event}"))
        };
        let address = |key: &str| {
            let address = text(key)?.parse();
            address.with_context(|| format!("{key} in {event}"))
        };
        ensure!(text("protocol")? == "udp", "{event}");
        Ok(Route {
            kind: text("type")?.into(),
            local: address("local")?,
            remote: address("remote")?,
        })
    }

    /// Waits for one of these words on stderr.
    pub fn says(&self, words: &[&str]) -> Result<()> {
        self.wait_for(&format!("{words:?} on stderr"), |lines| {
            let mut lines = of(lines, Stream::Stderr);
            lines
                .any(|line| words.iter().any(|word| line.text.contains(word)))
                .then_some(())
        })
    }

    /// Everything on stderr so far.
    pub fn stderr(&self) -> String {
        let said = self.transcript.lock();
        let lines = of(&said.lines, Stream::Stderr);
        lines.fold(String::new(), |all, line| all + &line.text + "\n")
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Types a line.
    pub fn type_line(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is open")?;
        writeln!(stdin, "{text}").with_context(|| format!("typing at {}", self.name))?;
        self.transcript.hear(Stream::Stdin, text.to_owned());
        Ok(())
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> Result<Ended> {
        let all = format!("the end of {}", self.name);
        let closed = self.transcript.wait(self.deadline, |said| {
            (said.streams_closed == 2).then_some(())
        });
        closed.with_context(|| all.clone())?;
        let after = self.transcript.start.elapsed();
        crate::eventually(Duration::from_secs(5), all, || Ok(!self.is_running()?))?;
        let status = self.child.wait()?;
        Ok(Ended { status, after })
    }

    /// Waits for the end, which must be a good one.
    pub fn succeeds(&mut self) -> Result<Ended> {
        let ended = self.ended()?;
        ensure!(
            ended.status.success(),
            "{} ended: {}",
            self.name,
            ended.status
        );
        Ok(ended)
    }

    fn wait_for<T>(&self, what: &str, found: impl Fn(&[Line]) -> Option<T>) -> Result<T> {
        let name = &self.name;
        let found = self
            .transcript
            .wait(self.deadline, |said| match found(&said.lines) {
                Some(thing) => Some(Ok(thing)),
                None if said.streams_closed == 2 => Some(Err(())),
                None => None,
            });
        match found.with_context(|| format!("{what} from {name}"))? {
            Ok(thing) => Ok(thing),
            Err(()) => bail!("{name} ended without {what}"),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Transcript {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, stream: Stream, text: String) {
        let at = self.start.elapsed();
        self.lock().lines.push(Line { at, stream, text });
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().streams_closed += 1;
        self.changed.notify_all();
    }

    fn wait<T>(&self, deadline: Instant, found: impl Fn(&Said) -> Option<T>) -> Result<T> {
        let mut said = self.lock();
        loop {
            if let Some(thing) = found(&said) {
                return Ok(thing);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "not after {:.1?}", self.start.elapsed());
            let woken = self.changed.wait_timeout(said, left);
            said = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for line in &self.lock().lines {
            let mark = match line.stream {
                Stream::Stdin => '<',
                Stream::Stdout => '>',
                Stream::Stderr => '!',
            };
            let at = line.at.as_secs_f64();
            let _ = writeln!(text, "{at:8.3} {mark} {}", line.text);
        }
        text
    }
}

fn of(lines: &[Line], stream: Stream) -> impl Iterator<Item = &Line> {
    lines.iter().filter(move |line| line.stream == stream)
}

fn events<'a>(lines: &'a [Line], name: &str) -> impl Iterator<Item = (&'a Line, Value)> {
    // `pipe` has its events on stderr.
    let heard = lines.iter().filter(|line| line.stream != Stream::Stdin);
    heard.filter_map(move |line| {
        let event: Value = serde_json::from_str(&line.text).ok()?;
        (event["event"] == name).then_some((line, event))
    })
}

fn listen(stream: Option<impl Read + Send + 'static>, kind: Stream, to: &Arc<Transcript>) {
    // What goes to a file is not listened to.
    let Some(stream) = stream else {
        return to.close();
    };
    let to = Arc::clone(to);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = vec![];
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line);
            to.hear(kind, text.trim_end_matches(['\r', '\n']).into());
            line.clear();
        }
        to.close();
    });
}
