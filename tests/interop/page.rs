//! Chromium and knothole.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::browser::Browser;
use super::{needs_browser, run_with_browser};
use crate::Lab;
use crate::net::{Nat, Net, behind};
use crate::proc::Peer;

pub const MIB: usize = 1 << 20;
/// Chromium is on the way to allow no changes of its descriptions.
const NO_MUNGING: &[&str] = &["--force-fieldtrials=WebRTC-NoSdpMangleUfrag/Enabled/"];

#[test]
fn the_page_joins_an_invite_and_receives_64_mib() {
    run_with_browser(|lab| joins_and_receives(lab, &[]));
}

#[test]
fn the_page_joins_an_invite_and_receives_64_mib_where_descriptions_must_not_be_changed() {
    run_with_browser(|lab| joins_and_receives(lab, NO_MUNGING));
}

#[test]
fn the_page_joins_an_invite_and_sends_64_mib() {
    run_with_browser(|lab| joins_and_sends(lab, &[]));
}

#[test]
fn the_page_joins_an_invite_and_sends_64_mib_where_descriptions_must_not_be_changed() {
    run_with_browser(|lab| joins_and_sends(lab, NO_MUNGING));
}

#[test]
fn knothole_answers_an_offer_of_the_page() {
    run_with_browser(|lab| answers_the_page(lab, Candidates::InTheDescription));
}

#[test]
fn knothole_answers_an_offer_whose_candidates_come_later_and_resolves_them() {
    run_with_browser(|lab| answers_the_page(lab, Candidates::Later));
}

#[test]
fn the_page_answers_an_offer_of_knothole() {
    run_with_browser(|lab| answers_knothole(lab, Candidates::InTheDescription));
}

#[test]
fn the_page_answers_an_offer_and_knothole_resolves_the_candidates_that_come_later() {
    run_with_browser(|lab| answers_knothole(lab, Candidates::Later));
}

#[test]
fn no_message_is_longer_than_the_answer_allows() {
    run_with_browser(|lab| {
        let net = lan()?;
        let page = lab.browser("page", &net.hosts[1], &[])?;
        let file = lab.file("data.bin", 4 * MIB)?;
        let mut knothole = lab
            .knothole("knothole", &net.hosts[0])
            .args(["send", "--sdp", "--json", "--stun", ""])
            .arg(&file)
            .start()?;
        let offer = description(&knothole.token("offer")?.text)?;
        let answer = page.ask(json!({"do": "answer", "offer": offer}))?;
        // Chromium leaves it away where it is the default (RFC 8841, section 6.1).
        let sdp = answer["sdp"].as_str().context("an answer has SDP")?;
        ensure!(!sdp.contains("max-message-size"), "{sdp}");
        let sdp = format!("{sdp}a=max-message-size:16384\r\n");
        knothole.type_line(&json!({"type": "answer", "sdp": sdp}).to_string())?;
        let received = page.ask(json!({"do": "receive"}))?;
        knothole.succeeds()?;
        ensure!(received["longest"] == 16384, "{received}");
        same(&received["files"][0], "data.bin", &file)
    });
}

#[test]
fn the_page_and_a_raw_pipe_swap_bytes_at_the_same_time() {
    run_with_browser(|lab| {
        let net = lan()?;
        let page = lab.browser("page", &net.hosts[1], &[])?;
        // The page closes when it has everything. Its own part is shorter, so that its last message
        // has arrived long before: rtc 0.21.1 loses one that the end of the channel overtakes.
        let file = lab.file("data.bin", 12 * MIB)?;
        let out = lab.dir().join("out.bin");
        net.hosts[0].ns.count_frames()?;
        let mut knothole = lab
            .knothole("knothole", &net.hosts[0])
            .args(["pipe", "--raw", "--json", "--stun", ""])
            .between(file.clone(), out.clone())
            .start()?;
        page.ask(json!({"do": "join", "invite": knothole.token("invite")?.text}))?;
        let swapped = page.ask(json!({"do": "swap", "size": 3 * MIB, "expected": 12 * MIB}))?;
        knothole.succeeds()?;
        ensure!(swapped["received"] == is(&file)?, "{swapped}");
        ensure!(swapped["sent"] == is(&out)?, "{swapped}");
        ensure!(
            net.hosts[0].ns.frames()? == [0, 0],
            "a page was sent frames"
        );
        Ok(())
    });
}

#[test]
fn text_goes_both_ways_between_the_page_and_a_raw_pipe() {
    run_with_browser(|lab| {
        let net = lan()?;
        let page = lab.browser("page", &net.hosts[1], &[])?;
        let mut knothole = lab
            .knothole("knothole", &net.hosts[0])
            .args(["pipe", "--raw", "--json", "--stun", ""])
            .start()?;
        page.ask(json!({"do": "join", "invite": knothole.token("invite")?.text}))?;
        knothole.type_line("Grüße \u{2603}")?;
        let heard = page.ask(json!({"do": "hear"}))?;
        ensure!(heard == "Grüße \u{2603}\n", "{heard}");
        page.ask(json!({"do": "say", "text": "und zurück \u{2603}\n"}))?;
        let line = knothole.stdout_line(0)?.text;
        ensure!(line == "und zurück \u{2603}", "{line}");
        page.ask(json!({"do": "hang up"}))?;
        knothole.succeeds().map(drop)
    });
}

#[test]
fn a_page_whose_ice_has_failed_still_connects_when_the_path_opens() {
    // It waits more than it computes, so it does not wait for its turn.
    crate::run_with(needs_browser, |lab| {
        let net = lan()?;
        let page = lab.browser("page", &net.hosts[1], &[])?;
        let mut knothole = lab
            .knothole("knothole", &net.hosts[0])
            .args(["receive", "--invite", "--json", "-y", "--stun", ""])
            .start()?;
        let invite = knothole.token("invite")?.text;
        let nft = |rules: &str| net.hosts[0].ns.output("nft", &[rules]);
        nft("table inet cut { chain in { type filter hook input priority 0; policy drop; }; }")?;
        page.ask(json!({"do": "join", "invite": invite}))?;
        page.says("connection: failed")?;
        nft("delete table inet cut")?;
        let sent = page.ask(json!({"do": "send", "name": "data.bin", "size": MIB}))?;
        knothole.succeeds()?;
        same(
            &sent["files"][0],
            "data.bin",
            &knothole.dir.join("data.bin"),
        )
    });
}

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
        ensure!(received["files"] == sent["files"], "{received} {sent}");
        ensure!(received["files"][0]["size"] == 8 * MIB, "{received}");
        Ok(())
    });
}

fn joins_and_receives(lab: &Lab, flags: &[&str]) -> Result<()> {
    let net = lan()?;
    let page = lab.browser("page", &net.hosts[1], flags)?;
    forbids_munging(&page, !flags.is_empty())?;
    let file = lab.file("data.bin", 64 * MIB)?;
    let mut knothole = lab
        .knothole("knothole", &net.hosts[0])
        .args(["send", "--json", "--stun", ""])
        .arg(&file)
        .start()?;
    page.ask(json!({"do": "join", "invite": knothole.token("invite")?.text}))?;
    let received = page.ask(json!({"do": "receive"}))?;
    knothole.succeeds()?;
    same(&received["files"][0], "data.bin", &file)
}

fn joins_and_sends(lab: &Lab, flags: &[&str]) -> Result<()> {
    let net = lan()?;
    let page = lab.browser("page", &net.hosts[1], flags)?;
    forbids_munging(&page, !flags.is_empty())?;
    let mut knothole = lab
        .knothole("knothole", &net.hosts[0])
        .args(["receive", "--invite", "--json", "-y", "--stun", ""])
        .start()?;
    page.ask(json!({"do": "join", "invite": knothole.token("invite")?.text}))?;
    let sent = page.ask(json!({"do": "send", "name": "data.bin", "size": 64 * MIB}))?;
    knothole.succeeds()?;
    same(
        &sent["files"][0],
        "data.bin",
        &knothole.dir.join("data.bin"),
    )
}

/// How Chromium's candidates come to knothole. They are names under `.local`, of mDNS.
#[derive(Clone, Copy, PartialEq)]
enum Candidates {
    InTheDescription,
    /// One a line, after it. And the page gets none of knothole's: only knothole can find the other.
    Later,
}

impl Candidates {
    /// What knothole says, as the page gets it.
    fn of_knothole(self, text: &str) -> Result<Value> {
        let mut description = description(text)?;
        if self == Self::Later {
            let sdp = description["sdp"].as_str().unwrap_or_default();
            let lines = sdp.split_inclusive('\n');
            let bare: String = lines
                .filter(|line| !line.starts_with("a=candidate:"))
                .collect();
            description["sdp"] = json!(bare);
        }
        Ok(description)
    }

    /// Types what the page says; its candidates must be names.
    fn type_in(self, page: &Browser, description: &Value, knothole: &mut Peer) -> Result<()> {
        let sdp = description["sdp"].as_str().unwrap_or_default();
        if self == Self::InTheDescription {
            ensure!(sdp.contains(".local "), "{sdp}");
            return knothole.type_line(&description.to_string());
        }
        ensure!(!sdp.contains("a=candidate:"), "{sdp}");
        knothole.type_line(&description.to_string())?;
        let candidates = page.ask(json!({"do": "candidates"}))?;
        let candidates = candidates.as_array().context("candidates are a list")?;
        ensure!(!candidates.is_empty(), "no candidates");
        for candidate in candidates {
            let line = candidate.as_str().context("a candidate is a text")?;
            ensure!(line.contains(".local "), "{line}");
            knothole.type_line(line)?;
        }
        Ok(())
    }
}

fn answers_the_page(lab: &Lab, candidates: Candidates) -> Result<()> {
    let net = lan()?;
    let page = lab.browser("page", &net.hosts[1], &[])?;
    let later = candidates == Candidates::Later;
    let offer = page.ask(json!({"do": "offer", "trickle": later}))?;
    let mut knothole = lab
        .knothole("knothole", &net.hosts[0])
        .args(["receive", "--json", "-y", "--stun", "", "-"])
        .start()?;
    candidates.type_in(&page, &offer, &mut knothole)?;
    let answer = candidates.of_knothole(&knothole.token("answer")?.text)?;
    page.ask(json!({"do": "take", "answer": answer}))?;
    let opened = page.ask(json!({"do": "open"}))?;
    ensure!(opened["maxMessageSize"] == 65536, "{opened}");
    let sent = page.ask(json!({"do": "send", "name": "data.bin", "size": 4 * MIB}))?;
    knothole.succeeds()?;
    same(
        &sent["files"][0],
        "data.bin",
        &knothole.dir.join("data.bin"),
    )
}

fn answers_knothole(lab: &Lab, candidates: Candidates) -> Result<()> {
    let net = lan()?;
    let page = lab.browser("page", &net.hosts[1], &[])?;
    let file = lab.file("data.bin", 4 * MIB)?;
    let mut knothole = lab
        .knothole("knothole", &net.hosts[0])
        .args(["send", "--sdp", "--json", "--stun", ""])
        .arg(&file)
        .start()?;
    let offer = candidates.of_knothole(&knothole.token("offer")?.text)?;
    let later = candidates == Candidates::Later;
    let answer = page.ask(json!({"do": "answer", "offer": offer, "trickle": later}))?;
    candidates.type_in(&page, &answer, &mut knothole)?;
    let received = page.ask(json!({"do": "receive"}))?;
    knothole.succeeds()?;
    same(&received["files"][0], "data.bin", &file)
}

/// What knothole prints is what browsers take.
fn description(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// What the page says about a file is true of this one.
fn same(said: &Value, name: &str, file: &Path) -> Result<()> {
    let mut expected = is(file)?;
    expected["name"] = json!(name);
    ensure!(*said == expected, "{said} is not {expected}");
    Ok(())
}

/// The contents of a file, as the page would say it.
fn is(file: &Path) -> Result<Value> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let hash = blake3::hash(&bytes).to_hex();
    Ok(json!({"size": bytes.len(), "blake3": hash.as_str()}))
}

/// Whether the field trial is really on.
fn forbids_munging(page: &Browser, expected: bool) -> Result<()> {
    let forbids = page.ask(json!({"do": "munge"}))?;
    ensure!(
        forbids == expected,
        "changed descriptions are refused: {forbids}"
    );
    Ok(())
}

/// Two pages connect, by offer and answer.
pub fn introduce(alice: &Browser, bob: &Browser) -> Result<()> {
    let offer = alice.ask(json!({"do": "offer"}))?;
    let answer = bob.ask(json!({"do": "answer", "offer": offer}))?;
    alice.ask(json!({"do": "take", "answer": answer}))?;
    for page in [alice, bob] {
        page.ask(json!({"do": "open"}))?;
    }
    Ok(())
}

/// A LAN with two hosts and no way out.
pub fn lan() -> Result<Net> {
    Net::build(&[behind(Nat::PortRestricted).hosts(2)])
}
