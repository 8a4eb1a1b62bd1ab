//! A running knothole that a test talks to: its lines are waited for, its end is bounded.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use knothole::report::model::{self, Event};
use rustix::process::{Pid, Signal, kill_process};

use crate::env::{Env, KNOTHOLE, Ran};

/// Nothing leaves the machine.
pub const LOOPBACK: [&str; 4] = ["--stun", "", "--bind", "127.0.0.1"];

/// How long anything may take on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A process. It is killed when dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Said>,
    title: String,
}

#[derive(Default)]
struct Said {
    texts: Mutex<Texts>,
    changed: Condvar,
}

#[derive(Default)]
struct Texts {
    out: Vec<u8>,
    err: Vec<u8>,
    open: u8,
}

/// Starts `knothole ARGS` on the loopback interface in `env`, with an open standard input that
/// the test may type into.
pub fn start(env: &Env, args: &[&str]) -> Process {
    start_with(env, args, Stdio::piped(), Stdio::piped())
}

/// The same, with streams of the test's choice.
pub fn start_with(env: &Env, args: &[&str], stdin: Stdio, stdout: Stdio) -> Process {
    let mut command = env.command(KNOTHOLE);
    let (name, rest) = args.split_first().expect("a subcommand");
    command.arg(name).args(LOOPBACK).args(rest);
    Process::spawn(command, stdin, stdout)
}

/// The sending side in `from`, the receiving one in `to`, joined by the invite on stdout.
pub fn pair(from: &Env, send: &[&str], to: &Env, receive: &[&str]) -> (Process, Process) {
    let sender = start(from, &[&["send"], send].concat());
    let invite = sender.invite();
    let receiver = start(to, &[&["receive", invite.as_str()], receive].concat());
    (sender, receiver)
}

impl Process {
    pub fn spawn(mut command: Command, stdin: Stdio, stdout: Stdio) -> Self {
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect();
        let title = args.join(" ");
        let mut child = command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let said = Arc::<Said>::default();
        if let Some(stdout) = child.stdout.take() {
            listen(stdout, &said, |texts| &mut texts.out);
        }
        listen(child.stderr.take().expect("piped"), &said, |texts| {
            &mut texts.err
        });
        Self {
            stdin: child.stdin.take(),
            child,
            said,
            title,
        }
    }

    /// The first line of stdout, which must be an invite and nothing else.
    #[track_caller]
    pub fn invite(&self) -> String {
        let line = self.line(0);
        assert!(
            line.starts_with("KH") && line.bytes().all(|b| b.is_ascii_alphanumeric()),
            "no invite: {line}"
        );
        line
    }

    /// The invite on stderr, where stdout is a stream.
    #[track_caller]
    pub fn invite_aside(&self) -> String {
        self.wait_for("an invite on stderr", |_, err| {
            let whole = &err[..err.rfind('\n')?];
            let mut words = whole.split(|c: char| !c.is_ascii_alphanumeric());
            let invite = words.find(|word| word.starts_with("KH") && word.len() > 90);
            invite.map(str::to_owned)
        })
    }

    /// The most memory it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.split_whitespace().next());
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a number of KiB")
            * 1024
    }

    /// A line of stdout, by its number from 0.
    #[track_caller]
    pub fn line(&self, number: usize) -> String {
        self.wait_for(&format!("line {number} of stdout"), |out, _| {
            let whole = &out[..out.rfind('\n')?];
            whole.lines().nth(number).map(str::to_owned)
        })
    }

    /// The first event on stdout of which `of` makes something.
    #[track_caller]
    pub fn event<T>(&self, what: &str, of: impl Fn(&Event) -> Option<T>) -> T {
        self.wait_for(what, |out, _| {
            let whole = &out[..out.rfind('\n')?];
            whole.lines().find_map(|line| of(&event(line)))
        })
    }

    /// Waits for words on stderr.
    #[track_caller]
    pub fn says(&self, words: &str) {
        self.wait_for(&format!("{words:?}"), |_, err| {
            err.contains(words).then_some(())
        });
    }

    /// Types a line.
    #[track_caller]
    pub fn type_line(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{text}").expect("it reads");
    }

    /// Its standard input, to be written to or closed.
    #[track_caller]
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is open")
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process id"), signal).expect("it runs");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end and tells everything it said.
    #[track_caller]
    pub fn ended(self) -> Ran {
        self.ended_within(PATIENCE)
    }

    /// The same, for ends that must not take long.
    #[track_caller]
    pub fn ended_within(mut self, bound: Duration) -> Ran {
        let until = Instant::now() + bound;
        self.wait_until(until, "the end of its output", |_, _, open| {
            (!open).then_some(())
        });
        while self.is_running() {
            assert!(
                Instant::now() < until,
                "{} closed its output and runs on",
                self.title
            );
            std::thread::yield_now();
        }
        let status = self.child.wait().expect("a child");
        let texts = self
            .said
            .texts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ran {
            code: status
                .code()
                .unwrap_or_else(|| panic!("{}: {status}", self.title)),
            stdout: String::from_utf8(texts.out.clone()).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(texts.err.clone()).expect("UTF-8 on stderr"),
        }
    }

    #[track_caller]
    fn wait_for<T>(&self, what: &str, found: impl Fn(&str, &str) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        self.wait_until(until, what, |out, err, open| {
            let found = found(out, err);
            assert!(
                found.is_some() || open,
                "{}: ended without {what}\nstdout: {out}\nstderr: {err}",
                self.title
            );
            found
        })
    }

    #[track_caller]
    fn wait_until<T>(
        &self,
        until: Instant,
        what: &str,
        found: impl Fn(&str, &str, bool) -> Option<T>,
    ) -> T {
        let mut texts = self
            .said
            .texts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let out = String::from_utf8_lossy(&texts.out).into_owned();
            let err = String::from_utf8_lossy(&texts.err).into_owned();
            if let Some(found) = found(&out, &err, texts.open > 0) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{}: not in time: {what}\nstdout: {out}\nstderr: {err}",
                self.title
            );
            let woken = self.said.changed.wait_timeout(texts, left);
            texts = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(
    mut stream: impl Read + Send + 'static,
    said: &Arc<Said>,
    place: fn(&mut Texts) -> &mut Vec<u8>,
) {
    let said = Arc::clone(said);
    said.texts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .open += 1;
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).unwrap_or(0);
            let mut texts = said.texts.lock().unwrap_or_else(PoisonError::into_inner);
            if read == 0 {
                texts.open -= 1;
            }
            place(&mut texts).extend_from_slice(&buffer[..read]);
            drop(texts);
            said.changed.notify_all();
            if read == 0 {
                return;
            }
        }
    });
}

/// Reads one line of `--json`, strictly.
#[track_caller]
pub fn event(line: &str) -> Event {
    model::read(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Talk with everything that differs between two runs replaced: codes, addresses and times.
pub fn plain(talk: &str) -> String {
    let mut plain = String::new();
    for line in talk.lines() {
        if line.starts_with("connected directly: ") {
            plain += "connected directly";
        } else if let Some((what, _)) = line
            .strip_prefix("done: ")
            .and_then(|t| t.split_once(" in "))
        {
            plain += &format!("done: {what}");
        } else {
            let word = |word: &str| {
                if word.len() > 90 && word.starts_with("KH") {
                    "INVITE"
                } else {
                    word
                }
                .to_owned()
            };
            plain += &line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        }
        plain.push('\n');
    }
    plain
}

/// Waits until `there` gives something: for what shows only in a folder.
#[track_caller]
pub fn eventually<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Bytes that do not repeat, the same for the same `seed`.
pub fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Makes a FIFO in the environment.
pub fn fifo(env: &Env, name: &str) -> std::path::PathBuf {
    assert!(
        env.command("mkfifo")
            .arg(name)
            .status()
            .expect("mkfifo")
            .success()
    );
    env.path().join(name)
}
