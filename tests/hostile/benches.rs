//! A peer at the other end of a `bench` that does not keep to the protocol, against the real
//! program: it is not sent to longer than agreed, not waited for without end, and its lies are
//! numbers and nothing else.

use knothole::io::peer::Joiner;
use knothole::proto::token;
use serde_json::{Value, json};

use crate::env::{Env, Ran};
use crate::floods::MOST;
use crate::peers::{BOUND, Talk, fails, finish, hello, network, on_runtime, unobeyed};
use crate::process::start;

/// Runs `bench ARGS` against a joiner that does `evil` instead of a hello.
fn against(args: &[&str], evil: impl AsyncFnOnce(&Talk)) -> Ran {
    let env = Env::new();
    on_runtime(async {
        let program = start(
            &env,
            &[&["bench", "--time", "1", "--timeout", "3s"], args].concat(),
        );
        let invite = token::parse_invite(&program.invite()).unwrap();
        let joiner = Joiner::start(&network(), &invite, Some(BOUND)).await;
        let mut joiner = joiner.unwrap();
        joiner.opened().await.unwrap();
        let talk = Talk::on(joiner.into_link().unwrap());
        finish(talk, program, evil).await
    })
}

fn bench(ms: u64) -> Value {
    let mut hello = hello("bench");
    hello["ms"] = ms.into();
    hello
}

/// Says hello, and gives and takes all echoes.
async fn echo(talk: &Talk, ms: u64) {
    talk.say(bench(ms)).await;
    for n in 0..20 {
        talk.hear_of("ping").await;
        talk.say(json!({"t": "pong", "n": n})).await;
    }
    for n in 0..20 {
        talk.say(json!({"t": "ping", "n": n})).await;
    }
    while talk.hear_of("pong").await["n"] != 19 {}
}

const MUTE: &str = "not everything was measured: the peer is connected and does not go on";

#[test]
fn a_peer_that_does_not_go_on_ends_with_the_timeout() {
    std::thread::scope(|scope| {
        for stage in 0..6 {
            scope.spawn(move || {
                let only = if stage < 4 {
                    "--recv-only"
                } else {
                    "--send-only"
                };
                let ran = against(&[only], async |talk| {
                    match stage {
                        0 => return,
                        1 => return talk.say(bench(1000)).await,
                        _ => echo(talk, 1000).await,
                    }
                    match stage {
                        // It never begins; it begins and never ends.
                        2 => {}
                        3 => {
                            talk.say(json!({"t": "begin"})).await;
                            talk.hear_of("counted").await;
                        }
                        // It never tells what came; it tells, and never says farewell.
                        4 => {
                            talk.hear_of("over").await;
                        }
                        _ => {
                            let over = talk.hear_of("over").await;
                            let counted = json!({"t": "counted", "bytes": over["bytes"], "us": 1});
                            talk.say(counted).await;
                            assert_eq!(talk.hear_of("layer").await["t"], "layer");
                        }
                    }
                });
                if stage == 5 {
                    // All is measured; only the farewell is missing.
                    assert_eq!(ran.code, 0, "{ran:#?}");
                } else {
                    fails(&ran, 3, MUTE);
                    assert_eq!(ran.stdout.contains("Round trip: "), stage > 1, "{ran:#?}");
                }
            });
        }
    });
}

#[test]
fn a_peer_that_wants_an_hour_gets_the_second_that_was_asked_for() {
    let ran = against(&["--send-only"], async |talk| {
        echo(talk, 3_600_000).await;
        talk.hear_of("begin").await;
        let over = talk.hear_of("over").await;
        // All of it in a microsecond, as far as this peer says.
        talk.say(json!({"t": "counted", "bytes": over["bytes"], "us": 1}))
            .await;
        talk.hear_of("layer").await;
        talk.say(json!({"t": "bye"})).await;
        // Closing may overtake what has not arrived.
        while talk.link.outstanding().await > 0 {
            tokio::task::yield_now().await;
        }
        talk.hangs_up.set(true);
    });
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(
        ran.stdout.contains("Tbit/s") || ran.stdout.contains("Gbit/s"),
        "{ran:#?}"
    );
    assert!(ran.stdout.contains("counted by the other side"), "{ran:#?}");
}

#[test]
fn a_flood_without_end_is_counted_for_its_time_and_then_given_up() {
    let ran = against(&["--recv-only"], async |talk| {
        echo(talk, 1000).await;
        talk.say(json!({"t": "begin"})).await;
        let block = vec![b'x'; 1 << 16];
        // Until the program hangs up on it.
        while talk.link.writable().await.is_ok() {
            if talk.link.send_data(block.as_slice().into()).await.is_err() {
                break;
            }
            let Some(peak) = talk.peak_while_it_runs() else {
                break;
            };
            assert!(peak < MOST, "{peak} KiB");
            if talk.link.silence().as_secs() > 1 {
                break;
            }
        }
    });
    fails(&ran, 3, MUTE);
}

#[test]
fn what_breaks_the_protocol_ends_the_bench() {
    let long =
        json!({"t": "hello", "knothole": "6", "proto": [1, 1], "role": "bench", "ms": 3_600_001});
    let never = json!({"t": "hello", "knothole": "6", "proto": [1, 1], "role": "bench"});
    let ahead = json!({"t": "ping", "n": 1});
    let forged = json!({"t": "pong", "n": 19});
    let grant = json!({"t": "grant", "to": 1000});
    for (words, messages) in [
        ("\"ms\" must be 1 to 3600000", vec![&long]),
        ("\"ms\" must be 1 to 3600000", vec![&never]),
        ("ping: not the next one", vec![&bench(1000), &ahead]),
        ("pong: not the next one", vec![&bench(1000), &forged]),
        (
            "\"grant\" while the round trip is measured",
            vec![&bench(1000), &grant],
        ),
    ] {
        let ran = against(&[], async |talk| {
            for message in messages {
                talk.say(message.clone()).await;
            }
            assert_eq!(talk.last("cancel").await["reason"], "protocol", "{words}");
        });
        fails(&ran, 3, "the other side broke the protocol: ");
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        assert!(!ran.stdout.contains("Round trip"), "{ran:#?}");
    }
}

#[test]
fn lies_about_what_came_or_was_sent_are_faults() {
    let counted = |bytes: u64, us: u64| json!({"t": "counted", "bytes": bytes, "us": us});
    for lie in [
        counted(1 << 52, 1000),
        counted(1, 1_000_001),
        counted(1, 0),
        json!({"t": "counted", "bytes": 9, "us": 9, "slowest": 8, "fastest": 7}),
        json!({"t": "counted", "bytes": -1, "us": 9}),
    ] {
        let ran = against(&["--send-only"], async |talk| {
            echo(talk, 1000).await;
            talk.hear_of("over").await;
            talk.say(lie).await;
            assert_eq!(talk.last("cancel").await["reason"], "protocol");
        });
        fails(&ran, 3, "the other side broke the protocol: ");
        assert!(!ran.stdout.contains("Sent:"), "{ran:#?}");
    }
    let ran = against(&["--recv-only"], async |talk| {
        echo(talk, 1000).await;
        talk.say(json!({"t": "begin"})).await;
        talk.data(b"12345").await;
        talk.say(json!({"t": "over", "bytes": 6})).await;
        assert_eq!(talk.last("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "over: another number of bytes than came");
}

#[test]
fn the_wildest_figures_of_the_layer_are_shown_in_plain_characters() {
    let ran = against(&["--recv-only", "-v"], async |talk| {
        echo(talk, 1000).await;
        talk.say(json!({"t": "begin"})).await;
        talk.say(json!({"t": "over", "bytes": 0})).await;
        talk.hear_of("counted").await;
        let most = (1_u64 << 53) - 1;
        talk.say(
            json!({"t": "layer", "on": true, "frames": 1, "lost": most, "repairs": most,
            "late": 0, "rate": most, "round_trip": most, "least": most}),
        )
        .await;
        talk.last("bye").await;
    });
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stdout.contains("100.0 % lost"), "{ran:#?}");
    assert!(ran.stdout.contains("told by the other side"), "{ran:#?}");
    unobeyed(&ran);
}

#[test]
fn a_peer_that_hangs_up_in_the_middle_leaves_what_was_measured() {
    let ran = against(&["--send-only"], async |talk| {
        echo(talk, 1000).await;
        talk.hear_of("begin").await;
        talk.hangs_up.set(true);
    });
    fails(
        &ran,
        3,
        "not everything was measured: the peer closed the connection",
    );
    assert!(
        ran.stdout.contains("Round trip: ") && !ran.stdout.contains("Sent:"),
        "{ran:#?}"
    );
}
