//! Transfers over long and bad roads, each of which changes while it is used or is not what it seems.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cases::{MIB, Transfer, turn};
use crate::daemon::Coturn;
use crate::net::{Nat, Net, SERVER, behind};
use crate::proc::Peer;
use crate::road::Counted;
use crate::{Lab, eventually, run_on_roads};

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_lab_roads_lose_what_their_seed_says_and_are_as_long_as_asked() {
    run_on_roads(|_| {
        let lost_of = || {
            let net = Net::build(&[behind(Nat::Open).road(10.0, 100.0)])?;
            net.road(0).change(|way| way.loss = 0.05);
            reaches(&net.hosts[0].socket()?, net.sites[0].lan)?;
            let server = net.server.socket((SERVER.into(), 0))?;
            reaches(&server, Ipv4Addr::new(198, 51, 100, 1))?;
            let (from, to) = (
                net.hosts[0].socket()?,
                net.server.socket((SERVER.into(), 0))?,
            );
            let lost = lost(&net, &from, &to)?;
            let [_, there] = net.road(0).counted();
            ensure!(there.lost == lost.len() as u64, "{there:?} {lost:?}");
            net.road(0).change(|way| way.loss = 0.0);
            let took = round_trip(&from, &to)?;
            // It looks at its packets five times in a millisecond.
            ensure!(took >= Duration::from_micros(9500), "{took:?}");
            Ok(lost)
        };
        let (one, other) = (lost_of()?, lost_of()?);
        ensure!((20..100).contains(&one.len()), "{} of 1000", one.len());
        ensure!(one == other, "{one:?} {other:?}");
        Ok(())
    });
}

/// Waits until a neighbour answers that nobody is there: a cable loses what comes before it is up.
fn reaches(socket: &UdpSocket, neighbour: Ipv4Addr) -> Result<()> {
    socket.set_read_timeout(Some(100 * MS))?;
    socket.connect((neighbour, 9))?;
    eventually(Duration::from_secs(10), neighbour, || {
        let answer = socket.send(b"anybody?").and_then(|_| socket.recv(&mut []));
        Ok(answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
    })
}

/// Which of a thousand packets did not come.
fn lost(net: &Net, from: &UdpSocket, to: &UdpSocket) -> Result<BTreeSet<u32>> {
    to.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut missing: BTreeSet<u32> = (0..1000).collect();
    let mut arrived = 0;
    for batch in 0..20 {
        for number in batch * 50..(batch + 1) * 50_u32 {
            from.send_to(&number.to_be_bytes(), to.local_addr()?)?;
        }
        let sent = u64::from(batch + 1) * 50;
        let mut there = Counted::default();
        eventually(Duration::from_secs(10), "all on the road", || {
            there = net.road(0).counted()[1];
            Ok(there.seen >= sent)
        })
        .with_context(|| format!("{sent} sent, {there:?}"))?;
        ensure!(there.seen == sent, "{sent} sent, {there:?}");
        while arrived < there.seen - there.lost {
            let mut number = [0; 4];
            to.recv(&mut number)?;
            ensure!(
                missing.remove(&u32::from_be_bytes(number)),
                "{number:?} twice"
            );
            arrived += 1;
        }
    }
    Ok(missing)
}

fn round_trip(from: &UdpSocket, to: &UdpSocket) -> Result<Duration> {
    from.set_read_timeout(Some(Duration::from_secs(10)))?;
    let start = Instant::now();
    from.send_to(b"there", to.local_addr()?)?;
    let (_, sender) = to.recv_from(&mut [0; 8])?;
    to.send_to(b"back", sender)?;
    from.recv(&mut [0; 8])?;
    Ok(start.elapsed())
}

#[test]
fn a_long_road_that_loses_repeats_and_reorders_brings_every_byte() {
    run_on_roads(|lab| {
        let net = Net::build(&[
            behind(Nat::Open),
            behind(Nat::PortRestricted).road(50.0, 200.0),
        ])?;
        net.road(1).change(|way| {
            way.loss = 0.01;
            way.bursts = (0.0005, 4 * MS);
            (way.reordered, way.duplicated) = (0.01, 0.01);
        });
        let (alice, _) = sent(lab, &net, 24 * MIB, |_| Ok(()))?;
        let [there, back] = net.road(1).counted();
        for way in [there, back] {
            ensure!(way.lost > 0 && way.duplicated > 0, "{way:?}");
        }
        let links = working(&alice)?;
        let shortest = number(last(&links)?, "min_rtt_ms")?;
        ensure!((49.0..75.0).contains(&shortest), "{shortest} ms");
        Ok(())
    });
}

#[test]
fn it_does_so_behind_a_relay() {
    run_on_roads(|lab| {
        let net = Net::build(&[
            behind(Nat::Symmetric),
            behind(Nat::Symmetric).road(40.0, 100.0),
        ])?;
        let _server = Coturn::start(lab, &net)?;
        net.road(1).change(|way| way.loss = 0.01);
        let transfer = Transfer {
            servers: &turn(),
            ..Transfer::between(&net.hosts[0], &net.hosts[1])
        };
        let (alice, bob) = transfer.run(lab, |_| Ok(()))?;
        ensure!(bob.route()?.kind == "relay", "not relayed");
        let links = working(&alice)?;
        let shortest = number(last(&links)?, "min_rtt_ms")?;
        ensure!(shortest >= 39.0, "{shortest} ms");
        Ok(())
    });
}

#[test]
fn a_router_that_marks_is_heeded_and_has_a_shorter_queue() {
    run_on_roads(|lab| {
        let with = |marks: bool| {
            let net = Net::build(&[
                behind(Nat::Open),
                // Slow, so that a busy machine fills it too.
                behind(Nat::PortRestricted).road(40.0, 10.0),
            ])?;
            if marks {
                net.road(1).change(|way| way.marks_at = way.queue / 20.0);
            }
            let transfer = Transfer {
                name: if marks { "-with" } else { "-without" },
                size: 2 * MIB,
                servers: &no_servers(),
                ..Transfer::between(&net.hosts[0], &net.hosts[1])
            };
            let (alice, _) = transfer.run(lab, |_| Ok(()))?;
            let told = number(last(&alice.events("link"))?, "marked")?;
            let [there, _] = net.road(1).counted();
            ensure!((told > 0.0) == marks, "told of {told} marks, {there:?}");
            Ok(there)
        };
        let (without, with) = (with(false)?, with(true)?);
        let mean = |way: &Counted| way.waited.as_secs_f64() / way.seen as f64;
        ensure!(mean(&with) < mean(&without) / 2.0, "{with:?} {without:?}");
        Ok(())
    });
}

#[test]
fn packets_that_become_too_large_in_mid_transfer_are_cut() {
    run_on_roads(|lab| black_hole(lab, true));
}

#[test]
fn packets_that_were_always_too_large_are_cut() {
    run_on_roads(|lab| black_hole(lab, false));
}

/// Packets of more than 1300 bytes vanish, and no one is told.
fn black_hole(lab: &Lab, later: bool) -> Result<()> {
    let net = Net::build(&[
        behind(Nat::Open),
        behind(Nat::PortRestricted).road(20.0, 50.0),
    ])?;
    let close = || net.road(1).change(|way| way.largest = 1300);
    if !later {
        close();
    }
    sent(lab, &net, 12 * MIB, |_| {
        arrive(&net, 4 * MIB)?;
        close();
        Ok(())
    })?;
    let [there, _] = net.road(1).counted();
    ensure!(there.too_large > 0, "no packet was large: {there:?}");
    // A few probes, and what was under way: not the transfer.
    ensure!(there.too_large * 4 < there.seen, "{there:?}");
    Ok(())
}

#[test]
fn a_rate_that_falls_to_a_tenth_and_comes_back_is_followed() {
    run_on_roads(|lab| {
        let net = Net::build(&[
            behind(Nat::Open),
            behind(Nat::PortRestricted).road(30.0, 40.0),
        ])?;
        let road = net.road(1);
        sent(lab, &net, 40 * MIB, |alice| {
            let is_told = |rates: Range<f64>| {
                eventually(Duration::from_secs(30), format!("{rates:?} B/s"), || {
                    let links = alice.events("link");
                    let rate = links.last().map(|link| number(link, "rate")).transpose()?;
                    Ok(rate.is_some_and(|rate| rates.contains(&rate)))
                })
            };
            let (fast, slow) = (3e6..6e6, 0.2e6..1.5e6);
            is_told(fast.clone())?;
            road.change(|way| way.rate /= 10.0);
            is_told(slow)?;
            road.change(|way| way.rate *= 10.0);
            is_told(fast)
        })
        .map(drop)
    });
}

#[test]
fn three_seconds_of_silence_are_outlived() {
    run_on_roads(|lab| {
        let net = Net::build(&[
            behind(Nat::Open),
            behind(Nat::PortRestricted).road(50.0, 80.0),
        ])?;
        let (alice, _) = sent(lab, &net, 16 * MIB, |_| {
            arrive(&net, 4 * MIB)?;
            net.road(1).change(|way| way.loss = 1.0);
            let before = net.road(1).counted();
            sleep(Duration::from_secs(3));
            let after = net.road(1).counted();
            for (before, after) in before.iter().zip(after) {
                let (seen, lost) = (after.seen - before.seen, after.lost - before.lost);
                ensure!(lost > 0 && seen == lost, "{before:?} {after:?}");
            }
            net.road(1).change(|way| way.loss = 0.0);
            Ok(())
        })?;
        working(&alice).map(drop)
    });
}

/// A transfer from the first site to the second, without servers: the first is public.
fn sent(
    lab: &Lab,
    net: &Net,
    size: usize,
    meanwhile: impl FnOnce(&Peer) -> Result<()>,
) -> Result<(Peer, Peer)> {
    let transfer = Transfer {
        size,
        servers: &no_servers(),
        ..Transfer::between(&net.hosts[0], &net.hosts[1])
    };
    transfer.run(lab, meanwhile)
}

fn no_servers() -> [String; 2] {
    ["--stun".into(), String::new()]
}

/// Waits until so many bytes have come to the second host.
fn arrive(net: &Net, bytes: usize) -> Result<()> {
    let host = &net.hosts[1];
    let what = format!("{bytes} bytes");
    eventually(Duration::from_mins(1), what, || {
        Ok(host.received()? > bytes as u64)
    })
}

/// What a sender told of its repair layer, which was on and had something to do.
fn working(sender: &Peer) -> Result<Vec<Value>> {
    let links = sender.events("link");
    let link = last(&links)?;
    ensure!(
        link["repairing"] == true && number(link, "repairs")? > 0.0,
        "{links:?}"
    );
    Ok(links)
}

fn last<T>(all: &[T]) -> Result<&T> {
    all.last().context("nothing was told")
}

fn number(link: &Value, key: &str) -> Result<f64> {
    let number = link[key].as_f64();
    number.with_context(|| format!("no {key} in {link}"))
}
