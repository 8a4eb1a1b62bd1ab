//! Peers that send or take more, or less, than a program can live with: memory stays bounded, what
//! the user asks for is heeded, and it ends.

use std::time::Duration;

use knothole::io::peer::{Issuer, Joiner};
use knothole::proto::token;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::env::Env;
use crate::peers::{BOUND, Talk, against_receive, against_send, fails, hash, hello, network};
use crate::peers::{offer, on_runtime, unobeyed};
use crate::process::{names, noise, start};

/// What a program may hold, in KiB: itself, the windows, and 10 MB of a manifest.
pub const MOST: u64 = 128 << 10;

/// A control message that is to be ignored, of the greatest length.
fn ignorable() -> String {
    let message =
        |fill: usize| json!({"t": "x", "opt": true, "fill": "y".repeat(fill)}).to_string();
    message(65_536 - message(0).len())
}

#[test]
fn messages_to_ignore_fill_nothing() {
    let env = Env::new();
    let ran = against_receive(&env, &["-y"], async |talk| {
        let (long, short) = (ignorable(), r#"{"t":"x","opt":true}"#);
        talk.say(hello("send")).await;
        for _ in 0..1500 {
            talk.say_text(&long).await;
        }
        for _ in 0..20_000 {
            talk.say_text(short).await;
        }
        talk.say(json!({"t": "manifest", "files": [{"name": "f", "size": 0}], "total": 0}))
            .await;
        talk.hear_of("accept").await;
        assert!(talk.peak() < MOST, "{} KiB", talk.peak());
        talk.say(json!({"t": "file", "i": 0})).await;
        talk.say(json!({"t": "end", "i": 0, "size": 0, "blake3": hash(b"")}))
            .await;
        talk.hear_of("ack").await;
        talk.say(json!({"t": "bye"})).await;
    });
    assert_eq!(
        (ran.code, names(env.path())),
        (0, vec!["f".to_owned()]),
        "{ran:#?}"
    );

    let env = Env::new().file("f", "hello");
    let ran = against_send(&env, &["f"], async |talk| {
        talk.say(hello("receive")).await;
        for _ in 0..1500 {
            talk.say_text(&ignorable()).await;
        }
        talk.say(json!({"t": "accept"})).await;
        talk.hear_of("end").await;
        assert!(talk.peak() < MOST, "{} KiB", talk.peak());
        talk.say(json!({"t": "ack", "i": 0, "blake3": hash(b"hello")}))
            .await;
        talk.hear_of("bye").await;
    });
    assert_eq!(ran.code, 0, "{ran:#?}");
}

#[test]
fn ctrl_c_is_heeded_in_the_middle_of_a_flood() {
    for receive in [true, false] {
        let env = Env::new().file("f", "hello");
        let ran = on_runtime(async {
            let (talk, process) = if receive {
                let issuer = Issuer::open(&network(), Duration::from_mins(5))
                    .await
                    .unwrap();
                let invite = issuer.invite().0.encode();
                let process = start(&env, &["receive", &invite, "-y"]);
                let (_replies, mut replies) = mpsc::channel(1);
                (
                    Talk::on(issuer.wait(&mut replies, |_| {}).await.unwrap()),
                    process,
                )
            } else {
                let process = start(&env, &["send", "f"]);
                let invite = token::parse_invite(&process.invite()).unwrap();
                let mut joiner = Joiner::start(&network(), &invite, Some(BOUND))
                    .await
                    .unwrap();
                joiner.opened().await.unwrap();
                (Talk::on(joiner.into_link().unwrap()), process)
            };
            talk.say(hello(if receive { "send" } else { "receive" }))
                .await;
            let ignored = r#"{"t":"x","opt":true}"#;
            for _ in 0..1000 {
                talk.say_text(ignored).await;
            }
            process.signal(Signal::INT);
            let mut ended = tokio::task::spawn_blocking(move || process.ended());
            loop {
                tokio::select! {
                    biased;
                    ran = &mut ended => return ran.unwrap(),
                    () = talk.say_text(ignored) => tokio::task::yield_now().await,
                }
            }
        });
        assert_eq!(ran.code, 130, "{ran:#?}");
        unobeyed(&ran);
    }
}

#[test]
fn the_longest_manifest_is_held_and_no_longer_one() {
    // 10,000 names of 1024 bytes, escaped on the wire to six times that.
    let name = |n: usize| format!("{n:04}{}", "\u{1}".repeat(1020));
    let part = |from: usize| -> Value {
        let files: Vec<Value> = (from..from + 10)
            .map(|n| json!({"name": name(n)}))
            .collect();
        json!({"t": "manifest", "files": files, "more": from + 10 < 10_000})
    };
    let env = Env::new();
    let ran = against_receive(&env, &["-y"], async |talk| {
        talk.say(hello("send")).await;
        for from in (0..10_000).step_by(10) {
            talk.say(part(from)).await;
        }
        assert_eq!(talk.last("decline").await["reason"], "name");
        assert!(talk.peak() < MOST, "{} KiB", talk.peak());
    });
    fails(&ran, 1, "refused the file name ");
    assert_eq!(names(env.path()), [""; 0]);
}

#[test]
fn more_data_than_the_disk_takes_waits_on_the_other_side() {
    // Standard output that nobody reads is the slowest disk.
    let env = Env::new();
    on_runtime(async {
        let issuer = Issuer::open(&network(), Duration::from_mins(5))
            .await
            .unwrap();
        let invite = issuer.invite().0.encode();
        let receiver = env
            .command(crate::env::KNOTHOLE)
            .args(["receive", &invite, "-y", "-o", "-"])
            .args(crate::process::LOOPBACK)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (_replies, mut replies) = mpsc::channel(1);
        let talk = Talk::on(issuer.wait(&mut replies, |_| {}).await.unwrap());
        talk.watch(receiver.id());
        offer(&talk, "f", None).await;
        talk.hear_of("accept").await;
        talk.say(json!({"t": "file", "i": 0})).await;
        // Until the other side takes no more: our own buffer stays full.
        let chunk = noise("chunk", 65_536);
        let mut sent = 0;
        while let Ok(()) = tokio::time::timeout(Duration::from_secs(2), async {
            talk.link.writable().await.unwrap();
            talk.link.send_data(chunk.as_slice().into()).await.unwrap();
        })
        .await
        {
            sent += chunk.len();
        }
        assert!(
            sent < 64 << 20,
            "{sent} bytes went into a pipe that nobody reads"
        );
        assert!(talk.peak() < MOST, "{} KiB", talk.peak());
        drop(talk);
        let mut receiver = receiver;
        receiver.kill().unwrap();
        receiver.wait().unwrap();
    });
}

#[test]
fn a_receiver_that_stops_taking_bounds_the_sender_and_ends_it() {
    let env = Env::new();
    let big = std::fs::File::create(env.path().join("f")).unwrap();
    big.set_len(1 << 30).unwrap();
    let ran = against_send(&env, &["f", "--timeout", "3s"], async |talk| {
        talk.say(hello("receive")).await;
        talk.hear_of("manifest").await;
        talk.say(json!({"t": "accept"})).await;
        talk.hear_of("file").await;
        // Nothing of this peer runs on, not even its acknowledgements, until the program gives up.
        crate::process::eventually("the end of the program", || {
            let peak = talk.peak_while_it_runs();
            assert!(peak.unwrap_or(0) < MOST, "{peak:?} KiB");
            peak.is_none().then_some(())
        });
    });
    fails(
        &ran,
        3,
        "the transfer was not finished: nothing heard from the peer for 3 s",
    );
}
