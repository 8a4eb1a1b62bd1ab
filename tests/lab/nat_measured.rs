//! What `knothole nat` finds behind every kind of NAT, beside other programs, and how often loss
//! leads it astray: by hand, but for a short form of the second.
//!
//! ```sh
//! cargo build --release
//! KNOTHOLE_BIN=target/release/knothole cargo test --test lab -- --ignored --nocapture nat_measured
//! ```

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemon::{Coturn, Serve, stun_url};
use crate::nat::{AD, APD, EI, nat};
use crate::net::{Host, Nat, Net, SERVER, Site, behind};
use crate::{Lab, run};

/// How many processes probe at a time.
const SIDE_BY_SIDE: usize = 8;
/// How long another program may take.
const LIFE: &str = "60";

/// A kind of NAT, and what it is in the words of RFC 4787 and of RFC 3489.
struct Kind {
    site: Site,
    name: &'static str,
    mapping: &'static str,
    filtering: &'static str,
    classic: &'static str,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, nat, mapping, filtering, classic| Kind {
        site: behind(nat),
        name,
        mapping,
        filtering,
        classic,
    };
    let carrier = |name, outer, mapping, classic| Kind {
        site: behind(Nat::PortRestricted).carrier(outer),
        name,
        mapping,
        filtering: APD,
        classic,
    };
    vec![
        kind("open", Nat::Open, "none", EI, "open-internet"),
        kind(
            "firewall",
            Nat::Firewall,
            "none",
            APD,
            "symmetric-udp-firewall",
        ),
        kind("full cone", Nat::FullCone, EI, EI, "full-cone"),
        kind("restricted", Nat::Restricted, EI, AD, "restricted-cone"),
        kind(
            "port-restricted",
            Nat::PortRestricted,
            EI,
            APD,
            "port-restricted-cone",
        ),
        kind(
            "renumbering",
            Nat::Renumbering,
            EI,
            APD,
            "port-restricted-cone",
        ),
        kind("pool", Nat::Pool, EI, APD, "port-restricted-cone"),
        kind("hairpin", Nat::Hairpin, EI, EI, "full-cone"),
        kind(
            "hairpin, filtered",
            Nat::HairpinFiltered,
            EI,
            APD,
            "port-restricted-cone",
        ),
        kind(
            "addr-symmetric",
            Nat::AddressSymmetric,
            AD,
            APD,
            "symmetric",
        ),
        kind("symmetric", Nat::Symmetric, APD, APD, "symmetric"),
        kind("sequential", Nat::Sequential, APD, APD, "symmetric"),
        carrier(
            "carrier, cone",
            Nat::Renumbering,
            EI,
            "port-restricted-cone",
        ),
        carrier("carrier, symmetric", Nat::Symmetric, APD, "symmetric"),
        kind(
            "UDP blocked",
            Nat::UdpBlocked,
            "unknown",
            "unknown",
            "udp-blocked",
        ),
    ]
}

#[test]
#[ignore = "a measurement: run by hand with --ignored --nocapture"]
fn every_kind_beside_what_other_programs_say() {
    run(|lab| {
        println!("| NAT | expected | knothole | s | turnutils_natdiscovery | s | pystun3 | s |");
        println!("|---|---|---|---|---|---|---|---|");
        for kind in kinds() {
            let net = Net::build(&[kind.site])?;
            let _server = Coturn::start(lab, &net)?;
            let host = &net.hosts[0];
            let (report, took) = nat(lab, kind.name, host, &["--stun", &stun_url()])?;
            let word = |key: &str| report[key].as_str().unwrap_or("null").to_owned();
            let found = [word("mapping"), word("filtering"), word("classic")];
            let expected = [kind.mapping, kind.filtering, kind.classic];
            let server = SERVER.to_string();
            let (turnutils, turnutils_took) = other(
                host,
                "turnutils_natdiscovery",
                &["-m", "-f", &server],
                turnutils_words,
            )?;
            let (pystun, pystun_took) = other(
                host,
                "pystun3",
                &["-H", &server, "-P", "3478"],
                pystun_words,
            )?;
            println!(
                "| {} | {} | {} | {:.1} | {turnutils} | {:.1} | {pystun} | {:.1} |",
                kind.name,
                expected.join(", "),
                if found == expected {
                    "the same".to_owned()
                } else {
                    found.join(", ")
                },
                took.as_secs_f64(),
                turnutils_took.as_secs_f64(),
                pystun_took.as_secs_f64()
            );
            ensure!(found == expected, "{}: {report:#}", kind.name);
            std::fs::remove_dir_all(lab.dir().join("coturn"))?;
        }
        Ok(())
    });
}

/// What another program says, in a few words, and how long it took.
fn other(
    host: &Host,
    program: &str,
    args: &[&str],
    words: impl FnOnce(&str) -> String,
) -> Result<(String, Duration)> {
    let started = Instant::now();
    let output = host
        .ns
        .command("timeout")
        .args([LIFE, program])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.to_owned())?;
    let took = started.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(match output.status.code() {
        Some(124) => (format!("nothing within {LIFE} s"), took),
        _ => (words(&text), took),
    })
}

fn turnutils_words(text: &str) -> String {
    let mut said: Vec<&str> = vec![];
    for line in text.lines() {
        let line = line.trim();
        for end in [" Mapping!", " Filtering!"] {
            if let Some(words) = line.strip_suffix(end) {
                said.push(words.strip_prefix("NAT with ").unwrap_or(words));
            }
        }
    }
    if said.is_empty() {
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        return format!("\"{}\"", last.unwrap_or("").trim());
    }
    said.join(", ")
}

fn pystun_words(text: &str) -> String {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("NAT Type: "));
    line.unwrap_or("nothing").to_owned()
}

/// How many of some runs were wrong, and how many said `unknown`.
#[derive(Clone, Copy, Default)]
struct Tally {
    runs: usize,
    wrong: usize,
    unknown: usize,
}

/// Probes behind a NAT on a link that loses packets.
fn lossy(lab: &Lab, kind: &Kind, of_thousand: u16, runs: usize) -> Result<Tally> {
    let net = Net::build(&[kind.site])?;
    let _server = Serve::start(lab, &net)?;
    net.lose(0, of_thousand)?;
    let todo = Mutex::new((0..runs).collect::<VecDeque<_>>());
    let tally = Mutex::new(Tally::default());
    let lock = |queue: &Mutex<VecDeque<usize>>| {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE.min(runs))
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(number) = lock(&todo) {
                        let name = format!("{}-{number}", kind.name);
                        let args = ["--stun", &stun_url(), "--no-gateway"];
                        let (report, _) = nat(lab, &name, &net.hosts[0], &args)?;
                        let facts = [("mapping", kind.mapping), ("filtering", kind.filtering)];
                        let unknown = facts.iter().any(|(key, _)| report[*key] == "unknown");
                        let wrong = facts
                            .iter()
                            .any(|(key, is)| report[*key] != *is && report[*key] != "unknown");
                        if wrong {
                            eprintln!("wrong: {}: {report:#}", kind.name);
                        }
                        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                        tally.runs += 1;
                        tally.wrong += usize::from(wrong);
                        tally.unknown += usize::from(unknown);
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a worker does not panic")?;
        }
        anyhow::Ok(())
    })?;
    let tally = *tally.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(tally.runs == runs, "{} of {runs} ran", tally.runs);
    Ok(tally)
}

/// Kinds that answer; loss beside silence by design says nothing new.
fn answering() -> Vec<Kind> {
    let mut kinds = kinds();
    kinds.retain(|kind| kind.classic != "udp-blocked");
    kinds
}

#[test]
fn loss_in_a_real_network_makes_no_wrong_verdict() {
    run(|lab| {
        for name in ["restricted", "symmetric"] {
            let kinds = answering();
            let kind = kinds.iter().find(|kind| kind.name == name).context(name)?;
            let tally = lossy(lab, kind, 100, 8)?;
            ensure!(tally.wrong == 0, "{name}: {} of 8 are wrong", tally.wrong);
            ensure!(
                tally.unknown <= 2,
                "{name}: {} of 8 are unknown",
                tally.unknown
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "a measurement: run by hand with --ignored --nocapture"]
fn a_thousand_runs_on_a_lossy_link() {
    run(|lab| {
        let kinds = answering();
        let each = 1000usize.div_ceil(kinds.len());
        println!("| NAT | runs | wrong | unknown |\n|---|---|---|---|");
        let mut all = Tally::default();
        for kind in &kinds {
            let tally = lossy(lab, kind, 100, each)?;
            println!(
                "| {} | {} | {} | {} |",
                kind.name, tally.runs, tally.wrong, tally.unknown
            );
            all.runs += tally.runs;
            all.wrong += tally.wrong;
            all.unknown += tally.unknown;
        }
        println!("| all | {} | {} | {} |", all.runs, all.wrong, all.unknown);
        ensure!(all.wrong == 0, "{} wrong", all.wrong);
        Ok(())
    });
}
