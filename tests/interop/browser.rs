//! Chromium on a host of the laboratory, with the page of this folder in it.
//!
//! The page asks the small HTTP server here for jobs and posts their outcomes, so nothing of the
//! browser is driven from outside. It is served at the host's LAN address, without TLS: what only
//! secure contexts have is not there.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::Lab;
use crate::net::Host;

/// What the server gives out beside jobs.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/page.js", "text/javascript", include_str!("page.js")),
    ("/invite.js", "text/javascript", include_str!("invite.js")),
    (
        "/transfer.js",
        "text/javascript",
        include_str!("transfer.js"),
    ),
    ("/blake3.js", "text/javascript", include_str!("blake3.js")),
];
/// Nothing here but DTLS transfers takes long, and 64 MiB are some seconds also on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The page asks again when there was no job for this long.
const LONG_POLL: Duration = Duration::from_secs(5);
const MAX_LINE: u64 = 8 << 10;
const MAX_HEADERS: usize = 64;
const MAX_BODY: u64 = 1 << 20;

/// A running browser with the page. It is ended when dropped.
pub struct Browser {
    name: &'static str,
    child: Child,
    office: Arc<Office>,
    server: Option<JoinHandle<()>>,
}

/// A job whose outcome has not been asked for yet.
pub struct Pending<'a> {
    browser: &'a Browser,
    id: u64,
    shown: String,
}

/// Where tests leave jobs and the page leaves outcomes.
struct Office {
    start: Instant,
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Default)]
struct Papers {
    jobs: VecDeque<Value>,
    last_id: u64,
    outcomes: HashMap<u64, Value>,
    said: Vec<String>,
    is_closed: bool,
}

impl Lab {
    /// Starts a browser called `name` on `host`, with more `flags`.
    pub fn browser(&self, name: &'static str, host: &Host, flags: &[&str]) -> Result<Browser> {
        let dir = self.dir().join(name);
        fs::create_dir(&dir)?;
        let log = dir.join("log");
        let office = Arc::new(Office {
            start: Instant::now(),
            papers: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = host.ns.listen(host.address)?;
        let url = format!("http://{}/", listener.local_addr()?);
        let server = serve(listener, &office)?;

        let spawned = host
            .ns
            .command("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args(["--no-first-run", "--disable-background-networking"])
            .args([
                "--disable-component-update",
                "--disable-sync",
                "--disable-breakpad",
            ])
            .arg(format!("--user-data-dir={}", dir.display()))
            .args(flags)
            .arg(&url)
            .env("HOME", &dir)
            .env("TMPDIR", &dir)
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .env("XDG_CACHE_HOME", dir.join("cache"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .env_remove("DISPLAY")
            .current_dir(&dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn();
        let child = spawned.context("setpriv")?;
        let shown = Arc::clone(&office);
        self.exhibit(move || {
            let said = shown.lock().said.join("\n");
            let log = fs::read_to_string(&log).unwrap_or_default();
            let lines = log.lines().filter(|line| !line.contains("dbus/"));
            let lines: Vec<&str> = lines.rev().take(20).collect();
            let tail: String = { lines.iter().rev() }
                .map(|line| format!("! {line}\n"))
                .collect();
            format!("--- {name}: the page said\n{said}\n{tail}")
        });
        Ok(Browser {
            name,
            child,
            office,
            server: Some(server),
        })
    }
}

impl Browser {
    /// Has a job done and waits for its outcome.
    pub fn ask(&self, job: Value) -> Result<Value> {
        self.begin(job).outcome()
    }

    /// Has a job begun. Jobs begin in order; they may overlap.
    pub fn begin(&self, mut job: Value) -> Pending<'_> {
        let shown: String = job.to_string().chars().take(200).collect();
        let mut papers = self.office.lock();
        papers.last_id += 1;
        let id = papers.last_id;
        job["id"] = json!(id);
        papers.jobs.push_back(job);
        drop(papers);
        self.office.note(&format!("< {shown}"));
        self.office.changed.notify_all();
        Pending {
            browser: self,
            id,
            shown,
        }
    }

    /// Waits until the page has said a line that holds these words.
    pub fn says(&self, words: &str) -> Result<()> {
        let what = format!("{words:?} from {}", self.name);
        self.office
            .wait(PATIENCE, |papers| {
                { papers.said.iter() }
                    .any(|line| line.contains(words))
                    .then_some(())
            })
            .context(what)
    }
}

impl Pending<'_> {
    pub fn outcome(self) -> Result<Value> {
        let what = format!("{} in {}", self.shown, self.browser.name);
        let found = (self.browser.office).wait(PATIENCE, |papers| papers.outcomes.remove(&self.id));
        let outcome = found.with_context(|| what.clone())?;
        match outcome["error"].as_str() {
            Some(error) => bail!("{what}: {error}"),
            None => Ok(outcome["value"].clone()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.office.lock().is_closed = true;
        self.office.changed.notify_all();
        // All of its processes are in the group; a browser of a test has nothing to tidy up.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

impl Office {
    fn lock(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, line: &str) {
        let at = self.start.elapsed().as_secs_f64();
        self.lock().said.push(format!("{at:8.3} {line}"));
        self.changed.notify_all();
    }

    fn wait<T>(
        &self,
        bound: Duration,
        mut found: impl FnMut(&mut Papers) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + bound;
        let mut papers = self.lock();
        loop {
            if let Some(thing) = found(&mut papers) {
                return Ok(thing);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero() && !papers.is_closed, "not within {bound:?}");
            let woken = self.changed.wait_timeout(papers, left);
            papers = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Answers one request: its status, type and body.
    fn answer(&self, method: &str, path: &str, body: &str) -> (&'static str, &'static str, String) {
        let none = |status| (status, "text/plain", String::new());
        match (method, path) {
            ("GET", "/job") => match self.wait(LONG_POLL, |papers| papers.jobs.pop_front()) {
                Ok(job) => ("200 OK", "application/json", job.to_string()),
                Err(_) => none("204 No Content"),
            },
            ("POST", "/said") => {
                self.note(&format!("> {body}"));
                none("204 No Content")
            }
            ("POST", "/result") => {
                let shown: String = body.chars().take(1000).collect();
                self.note(&format!("> {shown}"));
                let outcome: Value = serde_json::from_str(body).unwrap_or_default();
                let Some(id) = outcome["id"].as_u64() else {
                    return none("400 Bad Request");
                };
                self.lock().outcomes.insert(id, outcome);
                self.changed.notify_all();
                none("204 No Content")
            }
            ("GET", _) => match FILES.iter().find(|(name, ..)| *name == path) {
                Some((_, kind, contents)) => ("200 OK", kind, (*contents).to_owned()),
                None => none("404 Not Found"),
            },
            _ => none("405 Method Not Allowed"),
        }
    }
}

/// Answers requests on threads of their own until the office is closed.
fn serve(listener: TcpListener, office: &Arc<Office>) -> Result<JoinHandle<()>> {
    // On Linux this bounds `accept` too.
    socket2::SockRef::from(&listener).set_read_timeout(Some(Duration::from_millis(100)))?;
    let office = Arc::clone(office);
    Ok(thread::spawn(move || {
        while !office.lock().is_closed {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return office.note(&format!("! accept: {error}")),
            };
            let office = Arc::clone(&office);
            thread::spawn(move || {
                if let Err(error) = converse(&stream, &office) {
                    office.note(&format!("! {error:#}"));
                }
            });
        }
    }))
}

/// One request and its answer.
fn converse(stream: &TcpStream, office: &Office) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut line = || -> Result<String> {
        let mut line = String::new();
        (&mut reader).take(MAX_LINE).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let request = line()?;
    if request.is_empty() {
        return Ok(()); // a connection the browser made in advance and did not use
    }
    let mut length = 0;
    for number in 0.. {
        ensure!(number < MAX_HEADERS, "too many headers");
        let header = line()?;
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    ensure!(length <= MAX_BODY, "a body of {length} bytes");
    let mut body = vec![];
    reader.take(length).read_to_end(&mut body)?;
    let mut words = request.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (status, kind, text) = office.answer(method, path, &String::from_utf8(body)?);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let mut stream = stream;
    stream.write_all((head + &text).as_bytes())?;
    Ok(())
}
