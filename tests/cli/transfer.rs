//! Two processes and what travels between them when everything goes well.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use knothole::report::model::{Event, FileAction, State, TokenKind};

use crate::env::Env;
use crate::process::{event, eventually, fifo, names, noise, pair, plain, start, start_with};

const SENDER: &str = "\
gathering addresses
On the other side, within 1 h:
  knothole receive INVITE
waiting for the other side
connected
connected directly
waiting for the other side to accept
";
const RECEIVER: &str = "\
connecting
connected
connected directly
waiting for the offer
";

#[test]
fn a_file_goes_by_one_invite_alone_on_stdout_and_arrives_the_same() {
    let bytes = noise("one", 100_000);
    let (from, to) = (Env::new().file("photo.jpg", &bytes), Env::new());
    let (sender, receiver) = pair(&from, &["photo.jpg"], &to, &["-y"]);
    let invite = sender.invite();
    let (sent, received) = (sender.ended(), receiver.ended());
    let done = "done: 1 file, 98 KiB\n";
    assert_eq!(
        (sent.code, sent.stdout.as_str(), plain(&sent.stderr)),
        (0, format!("{invite}\n").as_str(), format!("{SENDER}{done}"))
    );
    let offer = "  photo.jpg (98 KiB)\n1 file, 98 KiB\n";
    assert_eq!(
        (
            received.code,
            received.stdout.as_str(),
            plain(&received.stderr)
        ),
        (0, "", format!("{RECEIVER}{offer}{done}"))
    );
    assert_eq!(names(to.path()), ["photo.jpg"]);
    assert_eq!(std::fs::read(to.path().join("photo.jpg")).unwrap(), bytes);
    assert_eq!(std::fs::read(from.path().join("photo.jpg")).unwrap(), bytes);
}

#[test]
fn the_events_of_both_sides_read_strictly_and_come_in_order() {
    let bytes = noise("events", 300_000);
    let hash = blake3::hash(&bytes).to_string();
    let (from, to) = (Env::new(), Env::new());
    std::fs::create_dir(from.path().join("sub")).unwrap();
    std::fs::write(from.path().join("sub/a.bin"), &bytes).unwrap();
    let sender = start(&from, &["send", "--json", "sub/a.bin"]);
    let invite = sender.event("the invite", |event| match event {
        Event::Token {
            kind: TokenKind::Invite,
            token,
        } => Some(token.clone()),
        _ => None,
    });
    let receiver = start(&to, &["receive", "--json", "-y", &invite]);
    let (sent, received) = (sender.ended(), receiver.ended());
    let done = "done: 1 file, 293 KiB\n";
    assert_eq!(
        (sent.code, plain(&sent.stderr)),
        (0, format!("{SENDER}{done}"))
    );
    let offer = "  a.bin (293 KiB)\n1 file, 293 KiB\n";
    assert_eq!(
        (received.code, plain(&received.stderr)),
        (0, format!("{RECEIVER}{offer}{done}"))
    );

    let check = |out: &str, path: &str| {
        let events: Vec<Event> = out.lines().map(event).collect();
        let mut kinds: Vec<String> = Vec::new();
        for event in &events {
            let kind = match event {
                Event::State { state } => format!("{state:?}"),
                Event::Token { kind, .. } => format!("{kind:?}"),
                // A busy machine may make loopback look like a long path.
                Event::Link { .. } => continue,
                Event::Path {
                    protocol,
                    local,
                    remote,
                    ..
                } => {
                    let loopback = |addr: &str| {
                        addr.parse::<std::net::SocketAddr>()
                            .is_ok_and(|a| a.ip().is_loopback())
                    };
                    assert!(
                        protocol == "udp" && loopback(local) && loopback(remote),
                        "{event:?}"
                    );
                    "path".into()
                }
                Event::Progress {
                    bytes: now,
                    total,
                    files_done,
                } => {
                    assert!(
                        *now <= 300_000 && *total == Some(300_000) && *files_done <= 1,
                        "{event:?}"
                    );
                    continue;
                }
                Event::File {
                    path: at,
                    bytes: size,
                    blake3,
                    resumed_from,
                    action,
                } => {
                    assert_eq!(
                        (at.as_str(), *size, blake3, *resumed_from, *action),
                        (path, 300_000, &hash, None, FileAction::Written)
                    );
                    "file".into()
                }
                Event::Done {
                    bytes,
                    files,
                    seconds,
                } => {
                    assert!(
                        (*bytes, *files) == (300_000, 1) && *seconds > 0.0,
                        "{event:?}"
                    );
                    "done".into()
                }
                Event::Words { .. } | Event::Text { .. } | Event::Error { .. } => {
                    panic!("{event:?}")
                }
            };
            kinds.push(kind);
        }
        let progress = |event: &Event| match event {
            Event::Progress { bytes, .. } => Some(*bytes),
            _ => None,
        };
        let progress: Vec<u64> = events.iter().filter_map(progress).collect();
        assert!(
            progress.is_sorted() && progress.last() == Some(&300_000),
            "{progress:?}"
        );
        kinds
    };
    let state = |state: State| format!("{state:?}");
    assert_eq!(
        check(&received.stdout, "a.bin"),
        [
            &state(State::Connecting),
            &state(State::Connected),
            "path",
            &state(State::Verifying),
            "file",
            "done"
        ]
    );
    // The sender's path is the path as given.
    assert_eq!(
        check(&sent.stdout, "sub/a.bin"),
        [
            &state(State::Gathering),
            "Invite",
            &state(State::Waiting),
            &state(State::Connected),
            "path",
            &state(State::Verifying),
            "file",
            "done"
        ]
    );
}

#[test]
fn many_files_of_odd_sizes_and_names_arrive_in_one_go() {
    let all: [(&str, usize); 9] = [
        ("empty", 0),
        ("one byte", 1),
        ("a name with  spaces.txt", 2),
        ("-rf", 3),
        ("naïve ☃ 文件 🦀.bin", 65_535),
        ("chunk", 65_536),
        ("chunk and one", 65_537),
        ("$(echo x);`y`&'z", 4),
        (".hidden", 5),
    ];
    let (from, to) = (Env::new(), Env::new());
    for (name, len) in all {
        std::fs::write(from.path().join(name), noise(name, len)).unwrap();
    }
    let mut args = vec!["--"];
    args.extend(all.iter().map(|(name, _)| *name));
    let (sender, receiver) = pair(&from, &args, &to, &["-y"]);
    let (sent, received) = (sender.ended(), receiver.ended());
    let total: usize = all.iter().map(|(_, len)| len).sum();
    assert_eq!(total, 196_623);
    let done = "done: 9 files, 192 KiB\n";
    assert_eq!(
        (sent.code, plain(&sent.stderr)),
        (0, format!("{SENDER}{done}"))
    );
    assert_eq!((received.code, received.stdout.as_str()), (0, ""));
    for (name, len) in all {
        assert_eq!(
            std::fs::read(to.path().join(name)).unwrap(),
            noise(name, len),
            "{name}"
        );
        assert!(
            received.stderr.contains(&format!("\n  {name} (")),
            "{}",
            received.stderr
        );
    }
    assert!(
        plain(&received.stderr).ends_with(&format!("\n9 files, 192 KiB\n{done}")),
        "{}",
        received.stderr
    );
    assert_eq!(names(to.path()).len(), all.len());
}

#[test]
fn a_hundred_files_outnumber_what_may_be_unacknowledged() {
    let (from, to) = (Env::new(), Env::new());
    let all: Vec<String> = (0..100).map(|n| format!("file {n:03}")).collect();
    for name in &all {
        std::fs::write(from.path().join(name), noise(name, name.len() * 31)).unwrap();
    }
    let args: Vec<&str> = all.iter().map(String::as_str).collect();
    let (sender, receiver) = pair(&from, &args, &to, &["-y", "-q"]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (
            sent.code,
            received.code,
            received.stdout.as_str(),
            received.stderr.as_str()
        ),
        (0, 0, "", "")
    );
    assert!(
        sent.stderr.contains("\ndone: 100 files, "),
        "{}",
        sent.stderr
    );
    assert_eq!(names(to.path()), all);
    for name in &all {
        assert_eq!(
            std::fs::read(to.path().join(name)).unwrap(),
            noise(name, name.len() * 31)
        );
    }
}

#[test]
fn twenty_mebibytes_arrive_the_same() {
    let bytes = noise("twenty", 20 << 20);
    let (from, to) = (Env::new().file("big", &bytes), Env::new());
    let (sender, receiver) = pair(&from, &["big"], &to, &["-y"]);
    let (sent, received) = (sender.ended(), receiver.ended());
    let done = "done: 1 file, 20 MiB\n";
    assert_eq!(
        (sent.code, plain(&sent.stderr)),
        (0, format!("{SENDER}{done}"))
    );
    assert_eq!((received.code, received.stdout.as_str()), (0, ""));
    assert!(std::fs::read(to.path().join("big")).unwrap() == bytes);
}

#[test]
fn a_gibibyte_arrives_the_same() {
    const SIZE: u64 = 1 << 30;
    let (from, to) = (Env::new(), Env::new());
    let mut hasher = blake3::Hasher::new();
    let mut file = File::create(from.path().join("huge")).unwrap();
    let mut reader = blake3::Hasher::new().update(b"huge").finalize_xof();
    let mut block = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        reader.fill(&mut block);
        hasher.update(&block);
        file.write_all(&block).unwrap();
    }
    drop(file);
    let (sender, receiver) = pair(&from, &["huge"], &to, &["-y"]);
    let long = std::time::Duration::from_mins(4);
    let (sent, received) = (sender.ended_within(long), receiver.ended_within(long));
    let done = "done: 1 file, 1.0 GiB\n";
    assert_eq!(
        (sent.code, plain(&sent.stderr)),
        (0, format!("{SENDER}{done}"))
    );
    assert_eq!((received.code, received.stdout.as_str()), (0, ""));
    let mut arrived = blake3::Hasher::new();
    let mut file = File::open(to.path().join("huge")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), SIZE);
    loop {
        let read = file.read(&mut block).unwrap();
        if read == 0 {
            break;
        }
        arrived.update(&block[..read]);
    }
    assert_eq!(arrived.finalize(), hasher.finalize());
    eprintln!("1 GiB: {}", sent.stderr.lines().last().unwrap_or_default());
}

#[test]
fn standard_input_becomes_standard_output_and_nothing_is_added() {
    let bytes = noise("stream", 3_000_001);
    let (from, to) = (Env::new(), Env::new());
    let mut sender = start(&from, &["send", "-"]);
    let mut stdin = sender.take_stdin();
    let feeding = std::thread::spawn({
        let bytes = bytes.clone();
        move || stdin.write_all(&bytes)
    });
    let out = to.path().join("out");
    let receiver = start_with(
        &to,
        &["receive", "-y", "-o", "-", &sender.invite()],
        Stdio::null(),
        File::create(&out).unwrap().into(),
    );
    let (sent, received) = (sender.ended(), receiver.ended());
    feeding.join().unwrap().unwrap();
    let done = "done: 1 file, 2.9 MiB\n";
    assert_eq!(
        (sent.code, plain(&sent.stderr)),
        (0, format!("{SENDER}{done}"))
    );
    assert_eq!(received.code, 0);
    assert!(
        plain(&received.stderr).starts_with(RECEIVER),
        "{}",
        received.stderr
    );
    assert!(
        plain(&received.stderr).ends_with(&format!(
            "unknown size)\n1 file, total size unknown\n{done}"
        )),
        "{}",
        received.stderr
    );
    assert!(std::fs::read(out).unwrap() == bytes);
    assert_eq!(names(to.path()), ["out"]);
}

#[test]
fn a_stream_flows_before_it_ends() {
    let (from, to) = (Env::new(), Env::new());
    let mut sender = start(&from, &["send", "-"]);
    let mut stdin = sender.take_stdin();
    let receiver = start(&to, &["receive", "-y", "-o", "-", &sender.invite()]);
    for line in ["first", "second", "third"] {
        writeln!(stdin, "{line}").unwrap();
        let number = ["first", "second", "third"]
            .iter()
            .position(|l| *l == line)
            .unwrap();
        assert_eq!(receiver.line(number), line);
    }
    drop(stdin);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, "first\nsecond\nthird\n")
    );
}

#[test]
fn an_empty_stream_is_a_file_called_stdin() {
    let (from, to) = (Env::new(), Env::new());
    let mut sender = start(&from, &["send", "-"]);
    drop(sender.take_stdin());
    let receiver = start(&to, &["receive", "-y", &sender.invite()]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, "")
    );
    assert_eq!(names(to.path()), ["stdin"]);
    assert_eq!(std::fs::read(to.path().join("stdin")).unwrap(), b"");
}

#[test]
fn replies_and_invites_go_through_fifos() {
    let (from, to) = (Env::new().file("f", "through a FIFO"), Env::new());
    let (replies, invites) = (fifo(&from, "replies"), fifo(&from, "invites"));
    let shell = |script: &str| {
        let mut command = from.command("/bin/sh");
        command.args(["-c", script, "sh", crate::env::KNOTHOLE]);
        crate::process::Process::spawn(command, Stdio::null(), Stdio::piped())
    };
    let sender = shell("\"$1\" send f --stun '' --bind 127.0.0.1 <replies >invites");
    // Both ends stay open for as long as the sender runs, as a script would have them.
    let keyboard = File::options().write(true).open(&replies).unwrap();
    let mut invites = File::open(&invites).unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        assert_eq!(invites.read(&mut byte).unwrap(), 1, "{line:?}");
        line.push(byte[0]);
    }
    let invite = String::from_utf8(line).unwrap();
    (&keyboard).write_all(b"SC07-21ZE-91H0\n").unwrap();
    let receiver = start(&to, &["receive", "-y", invite.trim()]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (
            sent.code,
            sent.stdout.as_str(),
            received.code,
            received.stdout.as_str()
        ),
        (0, "", 0, "")
    );
    assert_eq!(plain(&sent.stderr), format!("{SENDER}done: 1 file, 14 B\n"));
    let mut rest = Vec::new();
    invites.read_to_end(&mut rest).unwrap();
    assert_eq!(
        (
            rest.as_slice(),
            std::fs::read(to.path().join("f")).unwrap().as_slice()
        ),
        (&b""[..], &b"through a FIFO"[..])
    );
}

#[test]
fn a_fifo_is_sent_as_a_stream_and_written_to_as_one() {
    let bytes = noise("fifo", 500_000);
    let (from, to) = (Env::new(), Env::new());
    let (source, sink) = (fifo(&from, "pipe"), fifo(&to, "sink"));
    let (sender, receiver) = pair(&from, &["pipe"], &to, &["-y", "-o", "sink"]);
    let feeding = std::thread::spawn({
        let bytes = bytes.clone();
        move || std::fs::write(source, bytes)
    });
    assert!(std::fs::read(sink).unwrap() == bytes);
    feeding.join().unwrap().unwrap();
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, "")
    );
    assert_eq!(names(to.path()), ["sink"]);
}

#[test]
fn a_folder_carries_the_invite_and_a_reply_of_yesterday_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("reply"), "0000-0000-0000\n").unwrap();
    let via = format!("--via=file:{}", folder.path().display());
    let (from, to) = (Env::new().file("f", "via"), Env::new());
    // The receiver may come first and wait.
    let receiver = start(&to, &["receive", "-y", &via]);
    receiver.says("waiting for ");
    let sender = start(&from, &["send", &via, "f"]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, sent.stdout.as_str()),
        (0, ""),
        "{}",
        sent.stderr
    );
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (0, ""),
        "{}",
        received.stderr
    );
    assert!(!sent.stderr.contains("warning"), "{}", sent.stderr);
    assert_eq!(std::fs::read(to.path().join("f")).unwrap(), b"via");
    assert!(
        !names(folder.path()).contains(&"invite".to_owned()),
        "a used invite stays"
    );
}

#[test]
fn a_folder_carries_the_invite_of_a_receiver_too() {
    let folder = tempfile::tempdir().unwrap();
    let via = format!("--via=file:{}", folder.path().display());
    let (from, to) = (Env::new().file("f", "via"), Env::new());
    let receiver = start(&to, &["receive", "--invite", "-y", &via]);
    let invite = folder.path().join("invite");
    eventually("the invite file", || invite.exists().then_some(()));
    let to_invite = format!("@{}", invite.display());
    let sender = start(&from, &["send", "f", &via, "--to", &to_invite]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, sent.stdout.as_str()),
        (0, ""),
        "{}",
        sent.stderr
    );
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (0, ""),
        "{}",
        received.stderr
    );
    assert_eq!(std::fs::read(to.path().join("f")).unwrap(), b"via");
    assert!(!invite.exists(), "a used invite stays");
}

#[test]
fn the_receiver_can_make_the_invite() {
    let (from, to) = (Env::new().file("f", "towards an invite"), Env::new());
    let receiver = start(&to, &["receive", "--invite", "-y"]);
    let invite = receiver.invite();
    let sender = start(&from, &["send", "f", "--to", &invite]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, sent.stdout.as_str()),
        (0, ""),
        "{}",
        sent.stderr
    );
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (0, format!("{invite}\n").as_str())
    );
    assert!(
        plain(&received.stderr).contains("\n  knothole send FILE --to INVITE\n"),
        "{}",
        received.stderr
    );
    assert_eq!(
        std::fs::read(to.path().join("f")).unwrap(),
        b"towards an invite"
    );
}

#[test]
fn an_invite_comes_by_file_stdin_or_environment_and_survives_a_chat() {
    type Give = fn(&Env, String) -> (Env, Vec<&'static str>, bool);
    let ways: [(&str, Give); 5] = [
        ("@FILE", |_, token| {
            (
                Env::new().file("t", format!("{token}\n")),
                vec!["@t"],
                false,
            )
        }),
        ("-", |_, _| (Env::new(), vec!["-"], true)),
        ("KNOTHOLE_TOKEN", |_, token| {
            (Env::new().var("KNOTHOLE_TOKEN", &token), vec![], false)
        }),
        ("KNOTHOLE_TOKEN=@FILE", |_, token| {
            (
                Env::new().file("t", token).var("KNOTHOLE_TOKEN", "@t"),
                vec![],
                false,
            )
        }),
        ("chat", |_, token| {
            let (a, b) = token.split_at(57);
            let chat = format!(
                "> here is the code:\n\n  {}\n  {}\n\ngood luck, see you\n",
                a.to_lowercase(),
                b.to_lowercase()
            );
            (Env::new().file("chat", chat), vec!["@chat"], false)
        }),
    ];
    for (what, give) in ways {
        let from = Env::new().file("f", what);
        let sender = start(&from, &["send", "f"]);
        let (to, args, typed) = give(&from, sender.invite());
        let mut receiver = start(&to, &[&["receive", "-y"], args.as_slice()].concat());
        if typed {
            receiver.type_line(&sender.invite());
        }
        let (sent, received) = (sender.ended(), receiver.ended());
        assert_eq!(
            (sent.code, received.code, received.stdout.as_str()),
            (0, 0, ""),
            "{what}: {}",
            received.stderr
        );
        assert_eq!(std::fs::read(to.path().join("f")).unwrap(), what.as_bytes());
    }
}
