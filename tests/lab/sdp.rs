//! Offers and answers in place of an invite, between real NATs.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use knothole::proto::sdp::{self, SdpType};

use crate::cases::{MIB, arrives, stun};
use crate::daemon::Coturn;
use crate::net::{Nat, Net, behind};
use crate::proc::Peer;
use crate::{Lab, eventually, run};

#[test]
fn candidates_given_40_s_after_offer_and_answer_join_two_port_restricted_nats() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Renumbering), behind(Nat::Renumbering)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", 4 * MIB)?;
        let (mut alice, mut bob) = sides(lab, &net, &file)?;
        let offer = alice.token("offer")?.text;
        bob.type_line(&without(&offer, &["a=candidate", "a=end-of-candidates"])?)?;
        let answer = bob.token("answer")?.text;
        alice.type_line(&without(&answer, &["a=candidate", "a=end-of-candidates"])?)?;
        alice.says(&["has no address to send to"])?;
        sleep(Duration::from_secs(40));
        for (peer, description) in [(&mut alice, answer), (&mut bob, offer)] {
            ensure!(peer.is_running()?, "gave up before there was a candidate");
            for candidate in sdp::read(&description)?.candidates {
                peer.type_line(&candidate.line)?;
            }
        }
        let route = bob.route()?;
        ensure!(route.remote.ip() == net.sites[0].external, "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn a_transfer_of_plain_peers_outlives_20_s_in_which_nothing_passes() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::FullCone), behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", 10 * MIB)?;
        let router = &net.sites[1];
        net.shape(1, "8mbit")?;
        for host in &net.hosts {
            host.ns.count_frames()?;
        }
        let (mut alice, mut bob) = sides(lab, &net, &file)?;
        bob.type_line(&without(&alice.token("offer")?.text, &["a=x-knothole"])?)?;
        let answer = bob.token("answer")?.text;
        ensure!(!answer.contains("knothole"), "{answer}");
        alice.type_line(&answer)?;
        bob.route()?;
        eventually(Duration::from_secs(30), "2 MiB", || {
            Ok(router.received()? > 2 * MIB as u64)
        })?;
        net.cut(1)?;
        sleep(Duration::from_secs(20));
        net.mend()?;
        for peer in [&mut alice, &mut bob] {
            ensure!(peer.is_running()?, "ended before the link was back");
        }
        arrives(&file, &mut alice, &mut bob)?;
        for host in &net.hosts {
            ensure!(host.ns.frames()? == [0, 0], "a plain peer was sent frames");
        }
        Ok(())
    });
}

/// The side that makes the offer, and the one that waits for it on its standard input.
fn sides(lab: &Lab, net: &Net, file: &std::path::Path) -> Result<(Peer, Peer)> {
    let life = Duration::from_mins(2);
    let alice = lab
        .knothole("alice", &net.hosts[0])
        .args(["send", "--sdp", "--json"])
        .args(stun())
        .arg(file.to_str().context("a plain path")?)
        .life(life)
        .start()?;
    let bob = lab
        .knothole("bob", &net.hosts[1])
        .args(["receive", "--sdp", "--json", "-y", "-"])
        .args(stun())
        .life(life)
        .start()?;
    Ok((alice, bob))
}

/// The description without lines that begin like one of `begins`.
fn without(json: &str, begins: &[&str]) -> Result<String> {
    let session = sdp::read(json)?;
    let keep = |line: &&str| !begins.iter().any(|begin| line.starts_with(begin));
    let lines = session.text.lines().filter(keep);
    let text: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    Ok(sdp::json(session.kind.unwrap_or(SdpType::Offer), &text))
}
