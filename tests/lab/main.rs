//! The NAT laboratory: knothole between real NATs, made of Linux network namespaces.
//!
//! Each test builds its own small internet ([`net`]), starts a STUN and TURN server in it
//! ([`daemon`]) and runs knothole on its hosts ([`proc`]). The cases are in [`cases`], and in [`roads`]
//! those over long and lossy paths; [`selfcheck`] shows, without knothole, that the NATs are what
//! they are called.
//!
//! All of it stays in namespaces that have no way out, and goes when the test ends. Needed are
//! root (or `unshare -Urnm` with a tmpfs on /run) and the tools in [`TOOLS`]. What happens
//! without them, and how the tests that ran are counted, is in [`tools`].
//!
//! The tests wait much and compute little, so run them all at once:
//! `cargo test --test lab -- --test-threads 16`. `KNOTHOLE_BIN` names another binary to try.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "the laboratory is all effects: clocks, threads, processes"
)]

mod cases;
mod daemon;
#[path = "../shared/dice.rs"]
mod dice;
#[path = "../interop/mod.rs"]
mod interop;
mod nat;
mod nat_measured;
mod net;
mod proc;
#[path = "../shared/road.rs"]
mod road;
mod roads;
mod sdp;
mod selfcheck;
#[path = "../shared/stun.rs"]
mod stun;
#[path = "../shared/tools.rs"]
mod tools;
#[path = "../shared/tun.rs"]
mod tun;

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// The programs the laboratory is made of, each with the Debian package it comes from.
const TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("turnserver", "coturn"),
    ("turnutils_natdiscovery", "coturn"),
    ("miniupnpd", "miniupnpd-nftables"),
    ("setpriv", "util-linux"),
];

/// What one test has: a folder, and what is to be shown if it fails.
pub struct Lab {
    dir: TempDir,
    exhibits: Mutex<Vec<Exhibit>>,
}

/// Tells something about a failed test, at the time of asking.
type Exhibit = Box<dyn Fn() -> String + Send>;

/// Runs one test in a laboratory, or says why it cannot be run.
pub fn run<F: FnOnce(&Lab) -> Result<()>>(case: F) {
    run_with(|| Ok(()), case);
}

/// Runs one test that needs more than the others; `more` says what of it is missing.
pub fn run_with<F: FnOnce(&Lab) -> Result<()>>(more: impl FnOnce() -> Result<(), String>, case: F) {
    let missing = requirements().map_err(str::to_owned).and_then(|()| more());
    tools::run(tools::name_of::<F>(), missing, || in_lab(case));
}

/// Runs one test over roads, which need a device of the kernel.
pub fn run_on_roads<F: FnOnce(&Lab) -> Result<()>>(case: F) {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    let found = || {
        net::trial_of_a_road().map_err(|error| format!("a kernel with TUN interfaces ({error:#})"))
    };
    run_with(|| FOUND.get_or_init(found).clone(), case);
}

fn in_lab(case: impl FnOnce(&Lab) -> Result<()>) {
    let lab = Lab {
        dir: TempDir::with_prefix("knothole-lab-").expect("make a temporary folder"),
        exhibits: Mutex::default(),
    };
    match catch_unwind(AssertUnwindSafe(|| case(&lab))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            lab.show();
            panic!("{error:#}");
        }
        Err(panic) => {
            lab.show();
            resume_unwind(panic);
        }
    }
}

impl Lab {
    /// The folder of this test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps something to be shown if the test fails.
    pub fn exhibit(&self, show: impl Fn() -> String + Send + 'static) {
        let mut exhibits = self.exhibits.lock().unwrap_or_else(PoisonError::into_inner);
        exhibits.push(Box::new(show));
    }

    /// Makes a file of `len` bytes that do not compress, the same in every run.
    pub fn file(&self, name: &str, len: usize) -> Result<PathBuf> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let bytes: Vec<u8> = words.flatten().take(len).collect();
        let path = self.dir().join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }

    fn show(&self) {
        for show in &*self.exhibits.lock().unwrap_or_else(PoisonError::into_inner) {
            eprintln!("{}", show());
        }
    }
}

/// A system tool by name, found in the sbin folders too.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", tools::search_path()).env("LC_ALL", "C");
    command
}

/// Runs a command to its end with `input` on its stdin, and returns its stdout.
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    use std::process::Stdio;

    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let shown = words.join(" ");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| shown.clone())?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    // A program that stops early closes its stdin; its own message says more than EPIPE.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{shown}: {}: {}\n{stdout}\ninput:\n{input}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

/// Asks `done` until it says yes, for at most `bound`.
pub fn eventually(
    bound: Duration,
    what: impl Display,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        if start.elapsed() > bound {
            bail!("{what}: not within {bound:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether the laboratory can be built here: found out by building the smallest one.
fn requirements() -> Result<(), &'static str> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        tools::missing(&TOOLS)?;
        net::sweep();
        net::trial().map_err(|error| {
            let error = format!("{error:#}");
            let error = error.lines().next().unwrap_or_default();
            format!("root and a kernel with namespaces, veth, bridge, nftables NAT, tbf ({error})")
        })
    });
    found.as_ref().copied().map_err(String::as_str)
}
