//! Peers that are there, answer every ping, and do not go on: each wait for a program has an end.

use std::time::Duration;

use serde_json::json;

use crate::env::Env;
use crate::peers::{against_receive, against_send, fails, hash, hello, offer};
use crate::process::names;

const MUTE: &str = "the transfer was not finished: the peer is connected and does not go on";

#[test]
fn a_sender_that_does_not_go_on_ends_with_the_timeout() {
    std::thread::scope(|scope| {
        for stage in 0..7 {
            scope.spawn(move || {
                let env = Env::new();
                let ran = against_receive(&env, &["-y", "--timeout", "3s"], async |talk| {
                    let part = json!({"t": "manifest", "files": [{"name": "f"}], "more": true});
                    match stage {
                        0 => return,
                        1 => return talk.say(hello("send")).await,
                        2 => {
                            talk.say(hello("send")).await;
                            return talk.say(part).await;
                        }
                        _ => offer(talk, "f", Some(5)).await,
                    }
                    talk.hear_of("accept").await;
                    if stage > 3 {
                        talk.say(json!({"t": "file", "i": 0})).await;
                    }
                    if stage > 4 {
                        talk.data(b"12345").await;
                    }
                    if stage > 5 {
                        let end = json!({"t": "end", "i": 0, "size": 5, "blake3": hash(b"12345")});
                        talk.say(end).await;
                        talk.hear_of("ack").await;
                    }
                });
                if stage == 6 {
                    // Everything is verified and in its place; only the farewell is missing.
                    assert_eq!(
                        (ran.code, names(env.path())),
                        (0, vec!["f".to_owned()]),
                        "{ran:#?}"
                    );
                } else {
                    fails(&ran, 3, MUTE);
                    assert_eq!(names(env.path()), [""; 0], "stage {stage}");
                }
            });
        }
    });
}

#[test]
fn a_receiver_that_says_nothing_ends_with_the_timeout() {
    let env = Env::new().file("f", "hello");
    let ran = against_send(&env, &["f", "--timeout", "3s"], async |_| {});
    fails(&ran, 3, MUTE);
}

#[test]
fn what_may_be_ignored_is_no_going_on() {
    let ran = against_receive(&Env::new(), &["-y", "--timeout", "3s"], async |talk| {
        talk.say(hello("send")).await;
        // Until the program ends, which these must not put off.
        while talk
            .link
            .send_control(r#"{"t":"x","opt":true}"#)
            .await
            .is_ok()
        {
            tokio::select! {
                _ = talk.link.recv() => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            if talk.link.silence() > Duration::from_secs(1) {
                break;
            }
        }
    });
    fails(&ran, 3, MUTE);
}
