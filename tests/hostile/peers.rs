//! A peer that has the invite and does not keep to the protocol, against the real program: it
//! gets nothing of the user's, and the user is told in plain characters.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use knothole::io::peer::{Issuer, Joiner, Link, Message, Network};
use knothole::proto::token;
use knothole::report::model::Event;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::env::{Env, KNOTHOLE, Ran};
use crate::process::{LOOPBACK, Process, event, names, start};

pub const BOUND: Duration = Duration::from_secs(20);

pub fn network() -> Network {
    Network {
        stun: vec![],
        turn: None,
        ipv4: true,
        ipv6: false,
        bind: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        patience: Duration::from_secs(30),
        repair: true,
    }
}

pub fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        timeout(Duration::from_mins(1), work)
            .await
            .expect("in time")
    })
}

/// A peer of ours.
pub struct Talk {
    pub link: Link,
    /// Hangs up when it has said everything; otherwise it waits for the program to end.
    pub hangs_up: Cell<bool>,
    /// Of the program.
    id: Cell<u32>,
}

impl Talk {
    pub fn on(link: Link) -> Self {
        Self {
            link,
            hangs_up: Cell::new(false),
            id: Cell::new(0),
        }
    }

    /// The process that this peer talks to.
    pub fn watch(&self, id: u32) {
        self.id.set(id);
    }

    /// The most memory that the program has held so far, in KiB.
    pub fn peak(&self) -> u64 {
        self.peak_while_it_runs().expect("it runs")
    }

    /// The same; `None` when it has ended.
    pub fn peak_while_it_runs(&self) -> Option<u64> {
        peak(self.id.get())
    }

    pub async fn say(&self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    pub async fn say_text(&self, text: &str) {
        // The program may be gone already, which is what some of these lead to.
        let _ = timeout(BOUND, self.link.send_control(text))
            .await
            .expect("in time");
    }

    pub async fn data(&self, bytes: &[u8]) {
        let _ = timeout(BOUND, self.link.send_data(BytesMut::from(bytes)))
            .await
            .expect("in time");
    }

    /// The next control message; `null` when there is none any more.
    pub async fn hear(&self) -> Value {
        loop {
            match timeout(BOUND, self.link.recv()).await.expect("in time") {
                Ok(Message::Control(text)) => return serde_json::from_slice(&text).unwrap(),
                Ok(Message::Data(_)) => {}
                Err(_) => return Value::Null,
            }
        }
    }

    pub async fn hear_of(&self, kind: &str) -> Value {
        loop {
            let message = self.hear().await;
            assert!(!message.is_null(), "closed before {kind}");
            if message["t"] == kind {
                return message;
            }
        }
    }

    /// Waits for the program's last word, and closes as the protocol says.
    pub async fn last(&self, kind: &str) -> Value {
        self.hangs_up.set(true);
        self.hear_of(kind).await
    }
}

/// The most memory that a process has held so far, in KiB; `None` when it has ended.
pub fn peak(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

pub fn hello(role: &str) -> Value {
    json!({"t": "hello", "knothole": "6.6.6", "proto": [1, 1], "role": role})
}

/// Runs `receive ARGS` against a sender that does `evil` after its hello.
pub fn against_receive(env: &Env, args: &[&str], evil: impl AsyncFnOnce(&Talk)) -> Ran {
    on_runtime(async {
        let issuer = Issuer::open(&network(), Duration::from_mins(5))
            .await
            .unwrap();
        let invite = issuer.invite().0.encode();
        let receiver = start(env, &[&["receive", &invite], args].concat());
        let (_replies, mut replies) = mpsc::channel(1);
        let link = timeout(BOUND, issuer.wait(&mut replies, |_| {}))
            .await
            .expect("in time")
            .unwrap();
        finish(Talk::on(link), receiver, evil).await
    })
}

/// Runs `send ARGS` against a receiver that does `evil` instead of a hello.
pub fn against_send(env: &Env, args: &[&str], evil: impl AsyncFnOnce(&Talk)) -> Ran {
    on_runtime(async {
        let sender = start(env, &[&["send"], args].concat());
        let invite = token::parse_invite(&sender.invite()).unwrap();
        let mut joiner = Joiner::start(&network(), &invite, Some(BOUND))
            .await
            .unwrap();
        joiner.opened().await.unwrap();
        finish(Talk::on(joiner.into_link().unwrap()), sender, evil).await
    })
}

pub async fn finish(talk: Talk, process: Process, evil: impl AsyncFnOnce(&Talk)) -> Ran {
    talk.watch(process.id());
    evil(&talk).await;
    let mut talk = Some(talk);
    if let Some(talk) = talk.take_if(|talk| talk.hangs_up.get()) {
        talk.link.close().await;
    }
    let ended = tokio::task::spawn_blocking(move || process.ended()).await;
    drop(talk);
    match ended {
        Ok(ran) => ran,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// One error, this exit code, and no character that a terminal would obey.
#[track_caller]
pub fn fails(ran: &Ran, code: i32, words: &str) {
    let last = ran
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_default();
    assert_eq!(ran.code, code, "{ran:#?}");
    assert!(last.contains(words), "{words}\n{ran:#?}");
    assert_eq!(ran.stderr.matches("error: ").count(), 1, "{ran:#?}");
    unobeyed(ran);
}

#[track_caller]
pub fn unobeyed(ran: &Ran) {
    for text in [&ran.stdout, &ran.stderr] {
        let bad = text.chars().find(|c| {
            (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{200b}' | '\u{2066}')
        });
        assert_eq!(bad, None, "{ran:#?}");
    }
    assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
}

pub async fn offer(talk: &Talk, name: &str, size: Option<u64>) {
    talk.say(hello("send")).await;
    talk.say(json!({"t": "manifest", "files": [{"name": name, "size": size}], "total": size}))
        .await;
}

pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

#[test]
fn names_that_lead_out_of_the_folder_or_into_the_terminal_are_refused() {
    let folder = Env::new();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for name in [
        "../escaped",
        "/tmp/knothole-escaped",
        "a/../../escaped",
        "..",
        "a\\..\\escaped",
        "C:escaped",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "x\u{9b}31m",
        "invoice\u{202e}fdp.exe",
        "a\nerror: fake",
        "a\r[Y/n]",
        ".knothole-x.part",
    ] {
        for yes in [
            &["-y", "-o", "in"][..],
            &["-y", "-o", "in/mine"],
            &["-y", "-o", "in", "--overwrite"],
        ] {
            let ran = against_receive(&folder, yes, async |talk| {
                offer(talk, name, Some(3)).await;
                assert_eq!(talk.last("decline").await["reason"], "name");
            });
            let ran = Ran {
                stderr: ran.stderr.replace("\\nerror: fake", ""),
                ..ran
            };
            fails(&ran, 1, "refused the file name ");
            assert_eq!(ran.stdout, "");
            assert_eq!(names(&folder.path().join("in")), [""; 0], "{name:?}");
            assert_eq!(names(folder.path()), ["in"], "{name:?}");
        }
    }
}

#[test]
fn texts_of_the_peer_are_escaped_wherever_they_are_shown() {
    let evil = "\u{1b}[2J\u{1b}[31m\u{202e}\u{7}\r\nerror: fake\u{9b}";
    let loud = |role: &str| json!({"t": "hello", "knothole": &evil, "proto": [1, 1], "role": role});
    let ran = against_receive(&Env::new(), &["-y", "-v"], async |talk| {
        talk.say(loud("send")).await;
        talk.say(json!({"t": "cancel", "reason": "error", "text": evil.repeat(9)}))
            .await;
    });
    fails(
        &Ran {
            stderr: ran.stderr.replace("\\nerror: fake", ""),
            ..ran
        },
        3,
        "the other side cancelled (\\u{1b}[2J",
    );

    let env = Env::new().file("f", "x");
    let ran = against_send(&env, &["f", "-v"], async |talk| {
        talk.say(loud("receive")).await;
        talk.say(json!({"t": "decline", "reason": "user", "text": evil}))
            .await;
    });
    fails(
        &Ran {
            stderr: ran.stderr.replace("\\nerror: fake", ""),
            ..ran
        },
        1,
        "the receiver declined (\\u{1b}[2J",
    );

    // Unknown types and broken messages are quoted, too.
    let ran = against_send(&env, &["f"], async |talk| {
        talk.say(hello("receive")).await;
        talk.say(json!({"t": evil})).await;
    });
    fails(
        &Ran {
            stderr: ran.stderr.replace("nerror: fake", ""),
            ..ran
        },
        3,
        "the other side broke the protocol: a control message of unknown type",
    );

    // Under --json the text is the peer's, inside a JSON string.
    let ran = against_receive(&Env::new(), &["-y", "--json"], async |talk| {
        talk.say(hello("send")).await;
        talk.say(json!({"t": "cancel", "reason": "error", "text": evil}))
            .await;
    });
    assert_eq!(ran.code, 3, "{ran:#?}");
    unobeyed(&ran);
}

/// Runs `receive` on a terminal against a sender that does `evil`, and returns all that it drew.
fn drawn_by_receive(env: &Env, evil: impl AsyncFnOnce(&Talk)) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let screen = openpt(flags).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let terminal = ioctl_tiocgptpeer(&screen, flags).unwrap();
    // Ours are gone then: the reading ends when the program has let go of the terminal, too.
    let [input, output, error] = [0; 3].map(|_| Stdio::from(terminal.try_clone().unwrap()));
    drop(terminal);
    on_runtime(async {
        let issuer = Issuer::open(&network(), Duration::from_mins(5))
            .await
            .unwrap();
        let mut child = env
            .command("setsid")
            .args(["-c", KNOTHOLE, "receive", "-v", &issuer.invite().0.encode()])
            .args(LOOPBACK)
            .stdin(input)
            .stdout(output)
            .stderr(error)
            .spawn()
            .unwrap();
        let mut screen = File::from(screen);
        let drawn = std::thread::spawn(move || {
            let (mut drawn, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(n @ 1..) = screen.read(&mut buffer) {
                drawn.extend_from_slice(&buffer[..n]);
            }
            String::from_utf8(drawn).unwrap()
        });
        let (_replies, mut replies) = mpsc::channel(1);
        let link = timeout(BOUND, issuer.wait(&mut replies, |_| {}))
            .await
            .expect("in time")
            .unwrap();
        let talk = Talk::on(link);
        evil(&talk).await;
        talk.link.close().await;
        assert_ne!(child.wait().unwrap().code(), Some(0));
        drawn.join().unwrap()
    })
}

#[test]
fn a_terminal_obeys_neither_a_name_nor_a_text_of_the_peer() {
    const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}2Jfdp.exe";
    let by_name = drawn_by_receive(&Env::new(), async |talk| {
        offer(talk, EVIL, Some(3)).await;
        assert_eq!(talk.hear_of("decline").await["reason"], "name");
    });
    let by_text = drawn_by_receive(&Env::new(), async |talk| {
        talk.say(json!({"t": "hello", "knothole": EVIL, "proto": [1, 1], "role": "send"}))
            .await;
        talk.say(json!({"t": "cancel", "reason": "error", "text": EVIL}))
            .await;
        while !talk.hear().await.is_null() {}
    });
    for drawn in [by_name, by_text] {
        // The program clears its own lines, so not every sequence is the peer's.
        for bad in ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{202e}", "\u{9b}"] {
            assert!(!drawn.contains(bad), "{bad:?}: {drawn:?}");
        }
        assert!(drawn.contains("\\u{1b}]0;owned"), "{drawn:?}");
    }
}

#[test]
fn a_terminal_does_not_obey_what_a_turn_server_says() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let turn = format!("turn:{}", server.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((n, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&refusal(&buffer[..n], b"no\x1b[2J\xc2\x9b2J"), from);
        }
    });
    let env = Env::new().file("f", "x");
    let turn = ["--turn", &turn, "--turn-user", "u", "--turn-pass", "p"];
    let args = [&["send", "f", "--expires", "1s"], turn.as_slice()].concat();
    let ran = start(&env, &args).ended();
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stderr.contains("no\\u{1b}[2J"), "{ran:#?}");
    unobeyed(&ran);
}

/// An answer to a TURN request that refuses it for this reason (RFC 8489, sections 14.8 to 14.10).
fn refusal(request: &[u8], reason: &[u8]) -> Vec<u8> {
    // The first request is refused in any case, for want of a realm and a nonce.
    let first = !request.windows(4).any(|bytes| bytes == [0, 0x15, 0, 4]);
    let error = [&[0, 0, 4, if first { 1 } else { 86 }], reason].concat();
    let attributes = [(9, &*error), (0x14, b"here"), (0x15, b"once")];
    let mut body = vec![];
    for (kind, value) in attributes {
        body.extend([0, kind]);
        body.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let head = [request[0] | 1, request[1] | 0x10];
    [&head, &length, &request[4..20], &body].concat()
}

#[test]
fn somebody_in_the_middle_makes_the_words_differ_and_learns_no_name() {
    let env = Env::new().file("secret-name", "x");
    let ends = on_runtime(async {
        let sender = start(&env, &["send", "secret-name", "--verify", "--json"]);
        let invite = sender.event("the invite", |event| match event {
            Event::Token { token, .. } => Some(token.clone()),
            _ => None,
        });
        // The middle takes the place of the joiner, and hands over an invite of its own.
        let taken = token::parse_invite(&invite).unwrap();
        let mut joiner = Joiner::start(&network(), &taken, Some(BOUND))
            .await
            .unwrap();
        joiner.opened().await.unwrap();
        let to_sender = Talk::on(joiner.into_link().unwrap());
        let issuer = Issuer::open(&network(), Duration::from_mins(5))
            .await
            .unwrap();
        let handed = issuer.invite().0.encode();
        let receiver = start(&env, &["receive", "--json", "-y", &handed]);
        let (_replies, mut replies) = mpsc::channel(1);
        let link = issuer.wait(&mut replies, |_| {}).await.unwrap();
        let to_receiver = Talk::on(link);
        let pass = async |from: &Talk, to: &Talk| {
            to.say(from.hear().await).await;
            // Nobody is there to compare; until then each side had all it needs to show words.
            assert_eq!(from.hear().await["reason"], "no-terminal");
        };
        tokio::join!(
            pass(&to_sender, &to_receiver),
            pass(&to_receiver, &to_sender)
        );
        to_sender.link.close().await;
        to_receiver.link.close().await;
        tokio::task::spawn_blocking(move || [sender.ended(), receiver.ended()])
            .await
            .unwrap()
    });
    let [at_sender, at_receiver] = ends.map(|ran| {
        assert_eq!(ran.code, 1, "{ran:#?}");
        let words = |event| match event {
            Event::Words { words } => Some(words),
            _ => None,
        };
        let told = ran.stdout.lines().map(event).find_map(words);
        told.unwrap_or_else(|| panic!("no words: {ran:#?}"))
    });
    assert_eq!((at_sender.len(), at_receiver.len()), (6, 6));
    assert_ne!(at_sender, at_receiver);
}

#[test]
fn a_peer_cannot_agree_for_the_person() {
    let env = Env::new().file("f", "x");
    for agrees in [false, true] {
        let ran = against_send(&env, &["f"], async |talk| {
            let mut hello = hello("receive");
            hello["verify"] = json!(true);
            talk.say(hello).await;
            if agrees {
                talk.say(json!({"t": "agree"})).await;
                talk.say(json!({"t": "accept"})).await;
            }
            let mut heard = vec![];
            loop {
                let message = talk.hear().await;
                assert!(!message.is_null());
                heard.push(message["t"].as_str().unwrap().to_owned());
                if message["t"] == "cancel" {
                    break;
                }
            }
            assert_eq!(heard, ["hello", "cancel"]);
            talk.hangs_up.set(true);
        });
        assert!(matches!(ran.code, 1 | 3), "{ran:#?}");
        unobeyed(&ran);
    }
}

#[test]
fn a_wrong_hash_is_exit_4_and_touches_nothing() {
    let env = Env::new().file("mine", "precious");
    let ran = against_receive(&env, &["-y", "--overwrite"], async |talk| {
        offer(talk, "mine", Some(5)).await;
        talk.hear_of("accept").await;
        talk.say(json!({"t": "file", "i": 0})).await;
        talk.data(b"wrong").await;
        talk.say(json!({"t": "end", "i": 0, "size": 5, "blake3": hash(b"right")}))
            .await;
        assert_eq!(talk.hear_of("cancel").await["reason"], "verify");
    });
    fails(&ran, 4, "mine arrived with other bytes than were sent");
    assert_eq!(names(env.path()), ["mine"]);
    assert_eq!(std::fs::read(env.path().join("mine")).unwrap(), b"precious");
}

/// Offers a text of this size, and after the program's yes sends these bytes with this hash.
async fn send_text(talk: &Talk, size: usize, bytes: &[u8], hash: &str) {
    talk.say(hello("send")).await;
    let text = json!({"name": "t", "size": size, "kind": "text"});
    talk.say(json!({"t": "manifest", "files": [text], "total": size}))
        .await;
    talk.hear_of("accept").await;
    talk.say(json!({"t": "file", "i": 0})).await;
    talk.data(bytes).await;
    talk.say(json!({"t": "end", "i": 0, "size": bytes.len(), "blake3": hash}))
        .await;
}

#[test]
fn a_text_is_not_shown_before_it_is_verified_and_only_if_it_is_one() {
    let evil = "\u{1b}[2Jerror: fake".as_bytes();
    for json in [&[][..], &["--json"]] {
        for (bytes, hashed, code, reason, words) in [
            (evil, &b"else"[..], 4, "verify", "arrived with other bytes"),
            (
                b"\xff\xfe",
                b"\xff\xfe",
                3,
                "protocol",
                "a text that is not UTF-8",
            ),
        ] {
            let env = Env::new();
            let ran = against_receive(&env, json, async |talk| {
                send_text(talk, bytes.len(), bytes, &hash(hashed)).await;
                assert_eq!(talk.last("cancel").await["reason"], reason);
            });
            fails(&ran, code, words);
            assert!(!ran.stdout.contains("fake"), "{ran:#?}");
            assert!(!ran.stdout.contains("\"text\""), "{ran:#?}");
            assert_eq!(names(env.path()), [""; 0]);
        }
    }
    // It never gets as far as being taken.
    let text = |size: Value| json!({"name": "t", "size": size, "kind": "text"});
    for (files, total) in [
        (json!([text(json!(65_537))]), json!(65_537)),
        (json!([text(json!(null))]), json!(null)),
        (json!([text(json!(1)), {"name": "f", "size": 1}]), json!(2)),
        (json!([text(json!(1)), text(json!(1))]), json!(2)),
    ] {
        let env = Env::new();
        let ran = against_receive(&env, &["-y"], async |talk| {
            talk.say(hello("send")).await;
            talk.say(json!({"t": "manifest", "files": files, "total": total}))
                .await;
            assert_eq!(talk.last("cancel").await["reason"], "protocol");
        });
        fails(&ran, 3, "the other side broke the protocol: ");
        assert_eq!(names(env.path()), [""; 0]);
    }
    // More than was announced is more than is held.
    let ran = against_receive(&Env::new(), &[], async |talk| {
        send_text(talk, 2, b"three", &hash(b"three")).await;
        assert_eq!(talk.last("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "more data for file 0 than its size of 2 bytes");
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_kind_that_is_not_known_is_a_file_which_is_asked_for() {
    let env = Env::new();
    let ran = against_receive(&env, &[], async |talk| {
        talk.say(hello("send")).await;
        let file = json!({"name": "f", "size": 1, "kind": "hologram"});
        talk.say(json!({"t": "manifest", "files": [file], "total": 1}))
            .await;
        assert_eq!(talk.last("decline").await["reason"], "no-terminal");
    });
    fails(&ran, 1, "there is no terminal to ask on");
    assert_eq!(names(env.path()), [""; 0]);
}

#[test]
fn what_breaks_the_protocol_ends_the_transfer_and_leaves_nothing() {
    let end = |size: u64| json!({"t": "end", "i": 0, "size": size, "blake3": hash(b"12345")});
    let cases: [(&str, &str, &[Step]); 18] = [
        (
            "more bytes than announced",
            "more data for file 0 than its size of 5 bytes",
            &[Step::Accepted, Step::Begin, Step::Data(6)],
        ),
        (
            "more in pieces",
            "more data for file 0 than its size of 5 bytes",
            &[Step::Accepted, Step::Begin, Step::Data(5), Step::Data(1)],
        ),
        ("data before accept", "file data ", &[Step::Data(5)]),
        (
            "a file inside a file",
            "\"file\" inside a file",
            &[Step::Accepted, Step::Begin, Step::Begin],
        ),
        (
            "data without a file",
            "file data ",
            &[Step::Accepted, Step::Data(5)],
        ),
        (
            "an end too early",
            "file 0 ends at 3 bytes; its size was given as 5",
            &[Step::Accepted, Step::Begin, Step::Data(3), Step::End(3)],
        ),
        (
            "bye before the end",
            "\"bye\" ",
            &[Step::Accepted, Step::Begin, Step::Bye],
        ),
        (
            "another file",
            "\"file\" for file 1 ",
            &[Step::Accepted, Step::Text(r#"{"t":"file","i":1}"#)],
        ),
        (
            "an ack from the sender",
            "\"ack\" ",
            &[Step::Accepted, Step::Ack],
        ),
        (
            "hello again",
            "\"hello\" ",
            &[Step::Text(
                r#"{"t":"hello","knothole":"1","proto":[1,1],"role":"send"}"#,
            )],
        ),
        (
            "no JSON",
            "a control message that cannot be read",
            &[Step::Text("hello?")],
        ),
        (
            "data after the end",
            "file data outside a file",
            &[
                Step::Accepted,
                Step::Begin,
                Step::Data(5),
                Step::Right,
                Step::Data(1),
            ],
        ),
        (
            "the end twice",
            "\"end\" for file 0 when no file is due",
            &[
                Step::Accepted,
                Step::Begin,
                Step::Data(5),
                Step::Right,
                Step::Right,
            ],
        ),
        (
            "words to agree on that nobody asked for",
            "\"agree\" ",
            &[Step::Accepted, Step::Text(r#"{"t":"agree"}"#)],
        ),
        (
            "a number with a fraction",
            "a control message that cannot be read",
            &[Step::Accepted, Step::Text(r#"{"t":"file","i":0.0}"#)],
        ),
        (
            "a number too large",
            "a control message that cannot be read",
            &[
                Step::Accepted,
                Step::Text(r#"{"t":"file","i":18446744073709551616}"#),
            ],
        ),
        (
            "lists in lists",
            "a control message that cannot be read",
            &[Step::Accepted, Step::Nested],
        ),
        (
            "keys twice",
            "a control message that cannot be read",
            &[Step::Text(r#"{"t":"file","i":0,"i":0}"#)],
        ),
    ];
    for (what, words, steps) in cases {
        let env = Env::new().file("mine", "precious");
        let ran = against_receive(&env, &["-y", "--overwrite"], async |talk| {
            offer(talk, "mine", Some(5)).await;
            for step in steps {
                match step {
                    Step::Accepted => drop(talk.hear_of("accept").await),
                    Step::Begin => talk.say(json!({"t": "file", "i": 0})).await,
                    Step::Data(len) => talk.data(&vec![b'x'; *len]).await,
                    Step::End(size) => talk.say(end(*size)).await,
                    Step::Bye => talk.say(json!({"t": "bye"})).await,
                    Step::Ack => {
                        talk.say(json!({"t": "ack", "i": 0, "blake3": hash(b"")}))
                            .await;
                    }
                    Step::Right => {
                        let end = json!({"t": "end", "i": 0, "size": 5, "blake3": hash(b"xxxxx")});
                        talk.say(end).await;
                    }
                    Step::Nested => talk.say_text(&nested()).await,
                    Step::Text(text) => talk.say_text(text).await,
                }
            }
            assert_eq!(talk.last("cancel").await["reason"], "protocol", "{what}");
        });
        fails(&ran, 3, "the other side broke the protocol: ");
        assert!(ran.stderr.contains(words), "{what}: {}", ran.stderr);
        assert_eq!(names(env.path()), ["mine"], "{what}");
        // One that came whole and verified is in its place, as it was allowed to be.
        let whole = steps.iter().any(|step| matches!(step, Step::Right));
        let bytes = std::fs::read(env.path().join("mine")).unwrap();
        assert!(
            bytes == b"precious" || (whole && bytes == b"xxxxx"),
            "{what}: {bytes:?}"
        );
    }
}

/// As deep as a control message is long.
fn nested() -> String {
    let head = r#"{"t":"x","opt":true,"deep":"#;
    head.to_owned() + &"[".repeat(65_536 - head.len())
}

enum Step {
    Accepted,
    Begin,
    Data(usize),
    End(u64),
    /// The end that agrees with the bytes.
    Right,
    Nested,
    Bye,
    Ack,
    Text(&'static str),
}

#[test]
fn messages_at_and_over_the_limits_are_refused() {
    // Messages of nearly the allowed length, full of things to keep.
    let files: Vec<Value> = (0..1000)
        .map(|n| json!({"name": format!("{n:040}"), "size": 0}))
        .collect();
    let part = json!({"t": "manifest", "files": files, "more": true});
    assert!((60_000..65_536).contains(&part.to_string().len()));
    let env = Env::new();
    let ran = against_receive(&env, &["-y"], async |talk| {
        talk.say(hello("send")).await;
        for _ in 0..11 {
            talk.say(part.clone()).await;
        }
        assert_eq!(talk.last("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "more than 10000 files");

    for (files, total, words) in [
        (
            json!([{"name": "f", "size": 1}]),
            json!(2),
            "a total that is not the sum",
        ),
        (
            json!([{"name": "f", "size": 1}]),
            json!(null),
            "a total that is not the sum",
        ),
        (
            json!([{"name": "a", "size": (1_u64 << 53) - 1}, {"name": "b", "size": 1}]),
            json!(0),
            "sizes that add up to more than",
        ),
        (
            json!([{"name": "a", "size": u64::MAX}, {"name": "b", "size": u64::MAX}]),
            json!(null),
            "sizes that add up to more than",
        ),
        (json!([]), json!(0), "cannot be read"),
        (
            json!([{"name": "f", "size": -1}]),
            json!(0),
            "cannot be read",
        ),
    ] {
        let ran = against_receive(&env, &["-y"], async |talk| {
            talk.say(hello("send")).await;
            talk.say(json!({"t": "manifest", "files": files, "total": total}))
                .await;
            assert_eq!(talk.last("cancel").await["reason"], "protocol");
        });
        fails(&ran, 3, words);
    }

    // As much explanation as fits, all of it to be escaped.
    let text = "\u{1b}\u{202e}".repeat(65_000 / 9);
    let cancel = json!({"t": "cancel", "reason": "user", "text": text});
    assert!(
        (60_000..=65_536).contains(&cancel.to_string().len()),
        "{}",
        cancel.to_string().len()
    );
    let ran = against_receive(&env, &["-y"], async |talk| {
        talk.say(cancel.clone()).await;
    });
    fails(&ran, 3, "the other side cancelled (\\u{1b}\\u{202e}");
    assert!(ran.stderr.len() < 1000, "{ran:#?}");

    let name = "n".repeat(1025);
    let ran = against_receive(&env, &["-y"], async |talk| {
        offer(talk, &name, Some(0)).await;
        assert_eq!(talk.hear_of("cancel").await["reason"], "protocol");
    });
    fails(&ran, 3, "a name must be 1 to 1024 bytes");

    // More than any disk has.
    let ran = against_receive(&env, &["-y"], async |talk| {
        offer(talk, "big", Some((1 << 53) - 1)).await;
        assert_eq!(talk.hear_of("decline").await["reason"], "space");
    });
    assert_eq!(ran.code, 3, "{ran:#?}");
    unobeyed(&ran);
    assert_eq!(names(env.path()), [""; 0]);
}

#[test]
fn a_sender_that_hangs_up_at_any_moment_leaves_nothing() {
    for stage in 0..5 {
        let env = Env::new();
        let ran = on_runtime(async {
            let issuer = Issuer::open(&network(), Duration::from_mins(5))
                .await
                .unwrap();
            let invite = issuer.invite().0.encode();
            let receiver = start(&env, &["receive", &invite, "-y", "--timeout", "6s"]);
            let (_replies, mut replies) = mpsc::channel(1);
            let link = issuer.wait(&mut replies, |_| {}).await.unwrap();
            let talk = Talk::on(link);
            if stage > 0 {
                talk.say(hello("send")).await;
            }
            if stage > 1 {
                talk.say(json!({"t": "manifest", "files": [{"name": "f", "size": 5}], "total": 5}))
                    .await;
                talk.hear_of("accept").await;
            }
            if stage > 2 {
                talk.say(json!({"t": "file", "i": 0})).await;
            }
            if stage > 3 {
                talk.data(b"123").await;
            }
            talk.link.close().await;
            tokio::task::spawn_blocking(move || receiver.ended())
                .await
                .unwrap()
        });
        fails(&ran, 3, "the transfer was not finished: ");
        assert_eq!(
            (ran.stdout.as_str(), names(env.path())),
            ("", vec![]),
            "stage {stage}"
        );
    }
}

#[test]
fn a_receiver_that_lies_about_what_it_has_convinces_nobody() {
    let env = Env::new().file("f", "hello");
    // A hash of something else: both sides have different bytes.
    let ran = against_send(&env, &["f"], async |talk| {
        talk.say(hello("receive")).await;
        talk.hear_of("manifest").await;
        talk.say(json!({"t": "accept"})).await;
        talk.hear_of("end").await;
        talk.say(json!({"t": "ack", "i": 0, "blake3": hash(b"other")}))
            .await;
        assert_eq!(talk.hear_of("cancel").await["reason"], "verify");
    });
    fails(&ran, 4, "f arrived with other bytes than were sent");

    let right = hash(b"hello");
    let ack = || json!({"t": "ack", "i": 0, "blake3": right});
    for (what, early, message) in [
        ("an ack before the manifest is accepted", true, ack()),
        (
            "an ack for a file that was not sent",
            false,
            json!({"t": "ack", "i": 1, "blake3": right}),
        ),
        ("a bye", false, json!({"t": "bye"})),
        ("a second accept", false, json!({"t": "accept"})),
        (
            "a late decline",
            false,
            json!({"t": "decline", "reason": "user"}),
        ),
        (
            "a manifest",
            false,
            json!({"t": "manifest", "files": [{"name": "x", "size": 0}], "total": 0}),
        ),
        (
            "a hash in capitals",
            false,
            json!({"t": "ack", "i": 0, "blake3": right.to_uppercase()}),
        ),
    ] {
        let ran = against_send(&env, &["f"], async |talk| {
            talk.say(hello("receive")).await;
            talk.hear_of("manifest").await;
            if !early {
                talk.say(json!({"t": "accept"})).await;
                talk.hear_of("end").await;
            }
            talk.say(message).await;
            assert_eq!(talk.last("cancel").await["reason"], "protocol", "{what}");
        });
        fails(&ran, 3, "the other side broke the protocol: ");
        assert!(!ran.stderr.contains("done: "), "{what}: {}", ran.stderr);
    }

    for (what, text) in [
        ("an accept before hello", r#"{"t":"accept"}"#.to_owned()),
        ("no JSON", "hello?".to_owned()),
        (
            "keys twice",
            r#"{"t":"hello","t":"hello","knothole":"1","proto":[1,1],"role":"receive"}"#.to_owned(),
        ),
        ("lists in lists", nested()),
        (
            "no version",
            r#"{"t":"hello","knothole":"1","proto":[0,0],"role":"receive"}"#.to_owned(),
        ),
        (
            "too small a limit",
            r#"{"t":"hello","knothole":"1","proto":[1,1],"role":"receive","max_data":1}"#
                .to_owned(),
        ),
    ] {
        let ran = against_send(&env, &["f"], async |talk| {
            talk.say_text(&text).await;
            assert_eq!(talk.last("cancel").await["reason"], "protocol", "{what}");
        });
        fails(&ran, 3, "the other side broke the protocol: ");
    }

    // File data from the side that should take it.
    let ran = against_send(&env, &["f"], async |talk| {
        talk.say(hello("receive")).await;
        talk.hear_of("manifest").await;
        talk.data(b"for you").await;
        assert_eq!(talk.hear_of("cancel").await["reason"], "protocol");
    });
    fails(
        &ran,
        3,
        "the other side broke the protocol: file data from the receiving side",
    );
}

#[test]
fn a_receiver_that_goes_without_a_word_is_no_success() {
    let env = Env::new().file("f", "hello");
    let ran = on_runtime(async {
        let sender = start(&env, &["send", "f"]);
        let invite = token::parse_invite(&sender.invite()).unwrap();
        let mut joiner = Joiner::start(&network(), &invite, Some(BOUND))
            .await
            .unwrap();
        joiner.opened().await.unwrap();
        let talk = Talk::on(joiner.into_link().unwrap());
        talk.say(hello("receive")).await;
        talk.say(json!({"t": "accept"})).await;
        talk.hear_of("end").await;
        // Everything has arrived, and nothing was acknowledged.
        talk.link.close().await;
        tokio::task::spawn_blocking(move || sender.ended())
            .await
            .unwrap()
    });
    fails(
        &ran,
        3,
        "the transfer was not finished: the peer closed the connection",
    );
    assert!(!ran.stderr.contains("done: "), "{ran:#?}");
}

#[test]
fn the_same_role_and_another_version_are_named() {
    let env = Env::new();
    let ran = against_receive(&env, &["-y"], async |talk| {
        talk.say(hello("receive")).await;
        assert_eq!(talk.hear_of("cancel").await["reason"], "role");
    });
    fails(&ran, 3, "");
    assert!(ran.stderr.contains("receive"), "{ran:#?}");
    let ran = against_receive(&env, &["-y"], async |talk| {
        talk.say(json!({"t": "hello", "knothole": "9.0.0", "proto": [7, 9], "new": {"keys": [1]}}))
            .await;
        assert_eq!(talk.hear_of("cancel").await["reason"], "version");
    });
    fails(&ran, 3, "9");
    assert!(
        ran.stderr.ends_with("\nhint: update knothole here\n"),
        "{ran:#?}"
    );
}

#[test]
fn an_invite_lets_one_joiner_in_and_no_other() {
    let env = Env::new().file("f", "hello");
    let ran = on_runtime(async {
        let sender = start(&env, &["send", "f"]);
        let invite = token::parse_invite(&sender.invite()).unwrap();
        let mut first = Joiner::start(&network(), &invite, Some(BOUND))
            .await
            .unwrap();
        first.opened().await.unwrap();
        let talk = Talk::on(first.into_link().unwrap());
        talk.say(hello("receive")).await;
        talk.hear_of("manifest").await;
        let bound = Some(Duration::from_secs(3));
        let mut second = Joiner::start(&network(), &invite, bound).await.unwrap();
        let refused = second.opened().await;
        assert!(refused.is_err(), "two joiners on one invite");
        talk.say(json!({"t": "accept"})).await;
        talk.hear_of("end").await;
        talk.say(json!({"t": "ack", "i": 0, "blake3": hash(b"hello")}))
            .await;
        talk.last("bye").await;
        talk.link.close().await;
        tokio::task::spawn_blocking(move || sender.ended())
            .await
            .unwrap()
    });
    assert_eq!(ran.code, 0, "{ran:#?}");
    unobeyed(&ran);
}
