//! Chromium and knothole.

use anyhow::{Result, ensure};
use serde_json::json;

use super::browser::Browser;
use super::run_with_browser;
use crate::net::{Nat, Net, behind};

const MIB: usize = 1 << 20;

#[test]
fn the_page_hashes_as_blake3_does() {
    run_with_browser(|lab| {
        let net = lan()?;
        let page = lab.browser("page", &net.hosts[0], &[])?;
        // Around the borders of blocks, chunks and subtrees.
        let lengths = [
            0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4096, 4097, 5120, 8193,
            16384, 31744, 102_400,
        ];
        let hashes = page.ask(json!({"do": "hash", "lengths": lengths}))?;
        let expected = lengths.map(|length| {
            let bytes: Vec<u8> = (0..length).map(|i: u32| (i % 251) as u8).collect();
            blake3::hash(&bytes).to_hex().to_string()
        });
        ensure!(hashes == json!(expected), "{hashes}");
        Ok(())
    });
}

#[test]
fn two_pages_agree_on_the_protocol() {
    run_with_browser(|lab| {
        let net = lan()?;
        let alice = lab.browser("alice", &net.hosts[0], &[])?;
        let bob = lab.browser("bob", &net.hosts[1], &[])?;
        introduce(&alice, &bob)?;
        let receiving = bob.begin(json!({"do": "receive"}));
        let sent = alice.ask(json!({"do": "send", "name": "data.bin", "size": 8 * MIB}))?;
        let received = receiving.outcome()?;
        ensure!(
            received["files"][0]["blake3"] == sent["blake3"],
            "{received}"
        );
        ensure!(received["files"][0]["size"] == 8 * MIB, "{received}");
        Ok(())
    });
}

/// Two pages connect, by offer and answer.
fn introduce(alice: &Browser, bob: &Browser) -> Result<()> {
    let offer = alice.ask(json!({"do": "offer"}))?;
    let answer = bob.ask(json!({"do": "answer", "offer": offer}))?;
    alice.ask(json!({"do": "take", "answer": answer}))?;
    for page in [alice, bob] {
        page.ask(json!({"do": "open"}))?;
    }
    Ok(())
}

/// A LAN with two hosts and no way out.
fn lan() -> Result<Net> {
    Net::build(&[behind(Nat::PortRestricted).hosts(2)])
}
