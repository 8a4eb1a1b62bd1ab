//! aiortc and knothole: plain bytes both ways at the same time, whoever makes the offer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::in_turn;
use super::page::{MIB, lan};
use crate::Lab;
use crate::net::Host;
use crate::proc::Peer;

const PROGRAM: &str = include_str!("peer.py");

#[test]
fn aiortc_answers_an_offer_of_knothole() {
    run_with_aiortc(|lab| {
        let net = lan()?;
        let exchange = Exchange::prepare(lab)?;
        let via = lab.dir().join("via");
        fs::create_dir(&via)?;
        let mut knothole = lab
            .knothole("knothole", &net.hosts[0])
            .args(["pipe", "--raw", "--sdp", "--json", "--stun", "", "--via"])
            .arg(format!("file:{}", via.display()))
            .between(exchange.ours.clone(), exchange.from_aiortc.clone())
            .start()?;
        let mut aiortc = exchange.start(lab, &net.hosts[1], "answer")?;
        aiortc.type_line(&knothole.token("offer")?.text)?;
        // In one step, as what is half written must not be read.
        fs::write(via.join("new"), aiortc.stdout_line(0)?.text)?;
        fs::rename(via.join("new"), via.join("reply"))?;
        exchange.ends(&mut knothole, &mut aiortc)
    });
}

#[test]
fn knothole_answers_an_offer_of_aiortc() {
    run_with_aiortc(|lab| {
        let net = lan()?;
        let exchange = Exchange::prepare(lab)?;
        let mut aiortc = exchange.start(lab, &net.hosts[1], "offer")?;
        let mut knothole = lab
            .knothole("knothole", &net.hosts[0])
            .args(["pipe", "--raw", "--json", "--stun", ""])
            .arg(aiortc.stdout_line(0)?.text)
            .between(exchange.ours.clone(), exchange.from_aiortc.clone())
            .start()?;
        aiortc.type_line(&knothole.token("answer")?.text)?;
        exchange.ends(&mut knothole, &mut aiortc)
    });
}

/// What goes which way.
struct Exchange {
    ours: PathBuf,
    from_us: PathBuf,
    theirs: PathBuf,
    from_aiortc: PathBuf,
}

impl Exchange {
    fn prepare(lab: &Lab) -> Result<Self> {
        let exchange = Self {
            ours: lab.file("ours.bin", 4 * MIB)?,
            from_us: lab.dir().join("from-us.bin"),
            theirs: lab.file("theirs.bin", 3 * MIB)?,
            from_aiortc: lab.dir().join("from-aiortc.bin"),
        };
        // An echo must not look like an answer.
        let other: Vec<u8> = fs::read(&exchange.theirs)?
            .iter()
            .map(|byte| !byte)
            .collect();
        fs::write(&exchange.theirs, other)?;
        Ok(exchange)
    }

    fn start(&self, lab: &Lab, host: &Host, role: &str) -> Result<Peer> {
        let program = lab.dir().join("peer.py");
        fs::write(&program, PROGRAM)?;
        lab.program("aiortc", host, python())
            .arg(program)
            .arg(role)
            .args([&self.theirs, &self.from_us])
            .arg((4 * MIB).to_string())
            .start()
    }

    fn ends(&self, knothole: &mut Peer, aiortc: &mut Peer) -> Result<()> {
        aiortc.succeeds()?;
        knothole.succeeds()?;
        same(&self.ours, &self.from_us)?;
        same(&self.theirs, &self.from_aiortc)
    }
}

fn same(sent: &Path, received: &Path) -> Result<()> {
    ensure!(
        fs::read(sent)? == fs::read(received)?,
        "{received:?} is not {sent:?}"
    );
    Ok(())
}

fn run_with_aiortc<F: FnOnce(&Lab) -> Result<()>>(case: F) {
    in_turn(|| crate::run_with(needs_aiortc, case));
}

fn needs_aiortc() -> Result<(), String> {
    let python = python();
    let is_there = python.is_file();
    let missing = || format!("aiortc for {} (.ci/run installs it)", python.display());
    is_there.then_some(()).ok_or_else(missing)
}

/// The Python of the virtual environment that `.ci/run` makes in cargo's target folder.
fn python() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop/bin/python")
}
