//! A peer at the other end of a `pipe` that does not keep to the protocol, against the real program:
//! nothing of what it says is believed, and nothing grows.

use std::io::{PipeReader, Read, Write, pipe};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use knothole::io::peer::Joiner;
use knothole::proto::token;
use serde_json::{Value, json};

use crate::env::{Env, Ran};
use crate::peers::{BOUND, Talk, fails, finish, hash, hello, network, on_runtime, unobeyed};
use crate::process::{Process, noise, start_with};

/// Runs `pipe` with these streams against a peer that does `evil` instead of a hello.
fn against(stdin: Stdio, stdout: Stdio, args: &[&str], evil: impl AsyncFnOnce(&Talk)) -> Ran {
    let env = Env::new();
    on_runtime(async {
        let program = start_with(&env, &[&["pipe"], args].concat(), stdin, stdout);
        finish(join(&program).await, program, evil).await
    })
}

async fn join(program: &Process) -> Talk {
    let invite = token::parse_invite(&program.invite_aside()).unwrap();
    let joiner = Joiner::start(&network(), &invite, Some(BOUND)).await;
    let mut joiner = joiner.unwrap();
    joiner.opened().await.unwrap();
    Talk::on(joiner.into_link().unwrap())
}

/// With the bytes of `input` at its standard input, and that open or at its end.
fn with_input(input: &[u8], ends: bool, evil: impl AsyncFnOnce(&Talk)) -> (Ran, Vec<u8>) {
    let (stdin, mut feed) = pipe().unwrap();
    let (stdout, output) = pipe().unwrap();
    feed.write_all(input).unwrap();
    let kept = (!ends).then_some(feed);
    let ran = against(stdin.into(), output.into(), &[], evil);
    drop(kept);
    (ran, rest(stdout))
}

fn rest(mut stdout: PipeReader) -> Vec<u8> {
    let mut rest = vec![];
    stdout.read_to_end(&mut rest).unwrap();
    rest
}

fn end(bytes: &[u8], size: usize) -> Value {
    json!({"t": "end", "i": 0, "size": size, "blake3": hash(bytes)})
}

#[test]
fn a_peer_that_never_says_hello_ends_with_the_timeout() {
    let (stdin, feed) = pipe().unwrap();
    let (stdout, output) = pipe().unwrap();
    let ran = against(
        stdin.into(),
        output.into(),
        &["--timeout", "3s"],
        async |_| {},
    );
    drop(feed);
    fails(&ran, 3, "the peer is connected and does not go on");
    assert_eq!(rest(stdout), b"");
}

#[test]
fn a_wrong_hash_or_count_is_exit_4() {
    for end in [
        end(b"other", 5),
        end(b"right", 4),
        end(b"right", 6),
        end(b"right", 0),
    ] {
        let (ran, stdout) = with_input(b"", false, async |talk| {
            talk.say(hello("pipe")).await;
            talk.hear_of("grant").await;
            talk.data(b"right").await;
            talk.say(end).await;
            assert_eq!(talk.last("cancel").await["reason"], "verify");
        });
        fails(
            &ran,
            4,
            "the stream arrived with other bytes than were sent",
        );
        assert_eq!(stdout, b"right", "what came before is the reader's");
    }
    // An acknowledgement of other bytes.
    let (ran, _) = with_input(b"mine", true, async |talk| {
        talk.say(hello("pipe")).await;
        talk.say(json!({"t": "grant", "to": 4096})).await;
        talk.hear_of("end").await;
        talk.say(json!({"t": "ack", "i": 0, "blake3": hash(b"other")}))
            .await;
        assert_eq!(talk.last("cancel").await["reason"], "verify");
    });
    fails(
        &ran,
        4,
        "the stream arrived with other bytes than were sent",
    );
}

#[test]
fn what_breaks_the_protocol_ends_the_pipe() {
    let far = json!({"t": "grant", "to": 1_u64 << 53});
    let twice = json!({"t": "grant", "to": 5000});
    let empty = end(b"", 0);
    let stop = json!({"t": "stop", "size": 99, "blake3": hash(b"")});
    let ack = json!({"t": "ack", "i": 0, "blake3": hash(b"")});
    let bye = json!({"t": "bye"});
    let manifest = json!({"t": "manifest", "files": [{"name": "a", "size": 1}], "total": 1});
    for (words, messages) in [
        ("a grant of 9007199254740992 after one of 0", vec![&far]),
        ("a grant of 5000 after one of 5000", vec![&twice, &twice]),
        (
            "\"end\" for file 0 when no file is due",
            vec![&empty, &empty],
        ),
        ("stop: more bytes than were sent", vec![&stop]),
        ("\"ack\" for file 0 when no file is due", vec![&ack]),
        ("\"bye\" while the streams are open", vec![&bye]),
        ("\"manifest\" while the streams are open", vec![&manifest]),
    ] {
        let (ran, stdout) = with_input(b"", false, async |talk| {
            talk.say(hello("pipe")).await;
            for message in messages {
                talk.say(message.clone()).await;
            }
            assert_eq!(talk.last("cancel").await["reason"], "protocol", "{words}");
        });
        fails(&ran, 3, "the other side broke the protocol: ");
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        assert_eq!(stdout, b"", "{words}");
    }
}

#[test]
fn data_at_the_wrong_moment_never_reaches_the_reader() {
    let (ran, stdout) = with_input(b"", false, async |talk| {
        talk.data(b"early").await;
        assert_eq!(talk.last("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "file data before \"hello\"");
    assert_eq!(stdout, b"");

    let (ran, stdout) = with_input(b"", false, async |talk| {
        talk.say(hello("pipe")).await;
        talk.hear_of("grant").await;
        talk.data(b"all").await;
        talk.say(end(b"all", 3)).await;
        talk.data(b" and more").await;
        assert_eq!(talk.last("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "file data after \"end\"");
    assert_eq!(stdout, b"all");

    let (ran, stdout) = with_input(b"", false, async |talk| {
        let mut only = hello("pipe");
        only["only"] = "receive".into();
        talk.say(only).await;
        talk.data(b"for nobody").await;
        assert_eq!(talk.last("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "file data from a side that only receives");
    assert_eq!(stdout, b"");
}

#[test]
fn more_than_was_granted_is_refused_while_the_reader_waits() {
    let (stdout, output) = pipe().unwrap();
    let ran = against(Stdio::null(), output.into(), &[], async |talk| {
        talk.say(hello("pipe")).await;
        let grant = talk.hear_of("grant").await["to"].as_u64().unwrap();
        let block = vec![b'x'; 1 << 16];
        // Nobody reads, so nothing but a pipe's worth is granted anew.
        for _ in 0..2 * (grant >> 16) {
            talk.data(&block).await;
        }
        assert_eq!(talk.last("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "more data than was granted, which is ");
    drop(stdout);
}

#[test]
fn a_peer_that_grants_nothing_has_nothing_read_for_it() {
    let (stdin, mut feed) = pipe().unwrap();
    let fed = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&fed);
    std::thread::spawn(move || {
        while feed.write_all(&[b'x'; 1 << 16]).is_ok() {
            count.fetch_add(1 << 16, Ordering::Relaxed);
        }
    });
    let ran = against(stdin.into(), Stdio::null(), &[], async |talk| {
        talk.say(hello("pipe")).await;
        for to in 1..300 {
            // Less than a message counts for.
            talk.say(json!({"t": "grant", "to": to % 257 + to})).await;
            if to > 120 {
                break;
            }
        }
        talk.say(json!({"t": "cancel", "reason": "error", "text": "\u{1b}[2Jno"}))
            .await;
    });
    fails(&ran, 3, "the other side cancelled (\\u{1b}[2Jno)");
    let fed = fed.load(Ordering::Relaxed);
    assert!(fed < 4 << 20, "{fed} bytes were read for nobody");
}

#[test]
fn what_came_before_a_hang_up_is_the_readers_and_the_end_is_no_success() {
    let whole = noise("half of it", 300_000);
    let (stdin, kept) = pipe().unwrap();
    let (stdout, output) = pipe().unwrap();
    let (ran, got) = on_runtime(async {
        let program = start_with(&Env::new(), &["pipe"], stdin.into(), output.into());
        let talk = join(&program).await;
        talk.say(hello("pipe")).await;
        talk.hear_of("grant").await;
        for piece in whole.chunks(50_000) {
            talk.data(piece).await;
        }
        // Closing may overtake what has not arrived.
        while talk.link.outstanding().await > 0 {
            tokio::task::yield_now().await;
        }
        talk.link.close().await;
        // More than the pipe to the reader holds: the rest is still in the program.
        let ended = move || (rest(stdout), program.ended());
        let (got, ran) = tokio::task::spawn_blocking(ended).await.unwrap();
        (ran, got)
    });
    fails(
        &ran,
        3,
        "the transfer was not finished: the peer closed the connection",
    );
    assert!(got == whole, "{} bytes", got.len());
    drop(kept);

    // Everything, but the acknowledgement of this side's stream.
    let (ran, _) = with_input(b"mine", true, async |talk| {
        talk.say(hello("pipe")).await;
        talk.say(json!({"t": "grant", "to": 4096})).await;
        talk.hear_of("end").await;
        talk.say(end(b"", 0)).await;
        talk.hear_of("ack").await;
        talk.hangs_up.set(true);
    });
    fails(
        &ran,
        3,
        "the transfer was not finished: the peer closed the connection",
    );
}

#[test]
fn a_sender_or_a_receiver_at_the_other_end_is_named() {
    let (ran, _) = with_input(b"", false, async |talk| {
        talk.say(hello("send")).await;
        assert_eq!(talk.last("cancel").await["reason"], "role");
    });
    fails(&ran, 3, "this side wants to pipe, the other to send");
    unobeyed(&ran);
}
