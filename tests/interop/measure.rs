//! How fast Chromium and knothole are together, beside two Chromiums: by hand.
//!
//! ```sh
//! cargo build --release
//! KNOTHOLE_BIN=target/release/knothole cargo test --test lab -- --ignored --nocapture chromium_beside
//! ```
//!
//! Three kinds of transfers take turns, round after round, between the same two hosts, over a veth
//! LAN without delay. The pages always run the same code: file, hash, protocol. The time is the
//! page's own, from the open channel to the last acknowledgement. Only ratios of one run mean
//! something: all share the cores of the machine.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::browser::Browser;
use super::page::{MIB, introduce, lan};
use super::run_with_browser;
use crate::Lab;
use crate::net::Net;

const SIZE: usize = 64 * MIB;
const ROUNDS: usize = 5;

#[test]
#[ignore = "a measurement: run by hand with --ignored --nocapture, and a release build in KNOTHOLE_BIN"]
fn chromium_beside_two_chromiums() {
    run_with_browser(|lab| {
        let net = lan()?;
        let alice = lab.browser("alice", &net.hosts[0], &[])?;
        let bob = lab.browser("bob", &net.hosts[1], &[])?;
        let mut rates: [(&str, Vec<f64>); 3] = [
            ("Chromium to Chromium", vec![]),
            ("knothole to Chromium", vec![]),
            ("Chromium to knothole", vec![]),
        ];
        for round in 0..=ROUNDS {
            let measured = [
                between_pages(&alice, &bob)?,
                to_page(lab, &net, &bob, round)?,
                from_page(lab, &net, &bob, round)?,
            ];
            // The first round warms up.
            if round > 0 {
                for ((_, rates), rate) in rates.iter_mut().zip(measured) {
                    rates.push(rate);
                }
            }
        }
        let binary = std::env::var("KNOTHOLE_BIN").unwrap_or_else(|_| "the debug build".into());
        eprintln!(
            "{} MiB, MiB/s, {ROUNDS} rounds, knothole: {binary}",
            SIZE / MIB
        );
        for (name, mut rates) in rates {
            rates.sort_by(f64::total_cmp);
            let (low, median, high) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
            eprintln!("{name}: median {median:.1} (from {low:.1} to {high:.1})");
        }
        Ok(())
    });
}

fn between_pages(alice: &Browser, bob: &Browser) -> Result<f64> {
    introduce(alice, bob)?;
    let receiving = bob.begin(json!({"do": "receive"}));
    alice.ask(json!({"do": "send", "name": "data.bin", "size": SIZE}))?;
    rate(&receiving.outcome()?)
}

fn to_page(lab: &Lab, net: &Net, page: &Browser, round: usize) -> Result<f64> {
    let file = lab.file("data.bin", SIZE)?;
    let mut knothole = lab
        .knothole(format!("sender-{round}"), &net.hosts[0])
        .args(["send", "--json", "--stun", ""])
        .arg(&file)
        .start()?;
    page.ask(json!({"do": "join", "invite": knothole.token("invite")?.text}))?;
    let received = page.ask(json!({"do": "receive"}))?;
    knothole.succeeds()?;
    rate(&received)
}

fn from_page(lab: &Lab, net: &Net, page: &Browser, round: usize) -> Result<f64> {
    let mut knothole = lab
        .knothole(format!("receiver-{round}"), &net.hosts[0])
        .args(["receive", "--invite", "--json", "-y", "--stun", ""])
        .start()?;
    page.ask(json!({"do": "join", "invite": knothole.token("invite")?.text}))?;
    let sent = page.ask(json!({"do": "send", "name": "data.bin", "size": SIZE}))?;
    knothole.succeeds()?;
    std::fs::remove_file(knothole.dir.join("data.bin"))?;
    rate(&sent)
}

/// In MiB/s.
fn rate(outcome: &Value) -> Result<f64> {
    let seconds = outcome["seconds"]
        .as_f64()
        .context("the page says how long it took")?;
    ensure!(seconds > 0.0, "{outcome}");
    Ok((SIZE / MIB) as f64 / seconds)
}
