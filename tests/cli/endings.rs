//! Transfers that end early: a signal, a changing file, a vanished peer, a second joiner. Each
//! with the exit code and the words on both sides, and nothing half-done left behind.

use std::fs::File;
use std::io::{Read, Write};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::Env;
use crate::process::{Process, eventually, fifo, names, pair, plain, start};

/// A transfer of a stream that is in its middle and stays there: the sender's input is open.
struct Middle {
    from: Env,
    to: Env,
    sender: Process,
    receiver: Process,
    stdin: ChildStdin,
}

fn middle(send: &[&str], receive: &[&str]) -> Middle {
    let (from, to) = (Env::new(), Env::new());
    let (mut sender, receiver) = pair(
        &from,
        &[&["-"], send].concat(),
        &to,
        &[&["-y"], receive].concat(),
    );
    let mut stdin = sender.take_stdin();
    stdin.write_all(&[7; 300_000]).unwrap();
    eventually("data at the receiver", || {
        part_len(&to).filter(|len| *len == 300_000)
    });
    Middle {
        from,
        to,
        sender,
        receiver,
        stdin,
    }
}

fn part_len(to: &Env) -> Option<u64> {
    let name = names(to.path())
        .into_iter()
        .find(|name| name.starts_with(".knothole-"))?;
    Some(std::fs::metadata(to.path().join(name)).ok()?.len())
}

const STOPPING: &str = "stopping; Ctrl-C again quits at once\n";

#[test]
fn ctrl_c_at_the_receiver_tells_the_sender_and_leaves_nothing() {
    let Middle {
        from,
        to,
        sender,
        receiver,
        stdin,
    } = middle(&[], &[]);
    receiver.signal(Signal::INT);
    let (received, sent) = (receiver.ended(), sender.ended());
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (130, ""),
        "{received:?}"
    );
    assert!(
        received
            .stderr
            .ends_with(&format!("{STOPPING}error: stopped by Ctrl-C\n")),
        "{received:?}"
    );
    assert_eq!(sent.code, 3, "{sent:?}");
    assert!(
        sent.stderr.ends_with("\nerror: the other side cancelled\n"),
        "{sent:?}"
    );
    assert_eq!((names(from.path()), names(to.path())), (vec![], vec![]));
    drop(stdin);
}

#[test]
fn ctrl_c_at_the_sender_tells_the_receiver_and_leaves_nothing() {
    let Middle {
        from,
        to,
        sender,
        receiver,
        stdin,
    } = middle(&[], &[]);
    sender.signal(Signal::INT);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(sent.code, 130, "{sent:?}");
    assert!(
        sent.stderr
            .ends_with(&format!("{STOPPING}error: stopped by Ctrl-C\n")),
        "{sent:?}"
    );
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (3, ""),
        "{received:?}"
    );
    assert!(
        received
            .stderr
            .ends_with("\nerror: the other side cancelled\n"),
        "{received:?}"
    );
    assert_eq!((names(from.path()), names(to.path())), (vec![], vec![]));
    drop(stdin);
}

#[test]
fn an_interrupted_receiver_never_leaves_a_temporary_file() {
    // The file is removed on another thread than the one that ends the program: look often.
    for _ in 0..8 {
        let Middle {
            to,
            sender,
            receiver,
            stdin,
            ..
        } = middle(&[], &[]);
        receiver.signal(Signal::INT);
        assert_eq!(receiver.ended().code, 130);
        assert_eq!(names(to.path()), [""; 0], "a temporary file stays");
        assert_eq!(sender.ended().code, 3);
        drop(stdin);
    }
}

#[test]
fn sigterm_ends_either_side_with_143() {
    let Middle {
        to,
        sender,
        receiver,
        stdin,
        ..
    } = middle(&[], &[]);
    receiver.signal(Signal::TERM);
    let (received, sent) = (receiver.ended(), sender.ended());
    assert_eq!(
        (received.code, received.stdout.as_str(), sent.code),
        (143, "", 3),
        "{received:?}"
    );
    assert!(
        received
            .stderr
            .ends_with("stopping\nerror: stopped by SIGTERM\n"),
        "{received:?}"
    );
    assert!(
        sent.stderr.ends_with("\nerror: the other side cancelled\n"),
        "{sent:?}"
    );
    assert_eq!(names(to.path()), [""; 0]);
    drop(stdin);

    let Middle {
        to,
        sender,
        receiver,
        stdin,
        ..
    } = middle(&[], &[]);
    sender.signal(Signal::TERM);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (143, 3, ""),
        "{sent:?}"
    );
    assert!(
        sent.stderr
            .ends_with("stopping\nerror: stopped by SIGTERM\n"),
        "{sent:?}"
    );
    assert_eq!(names(to.path()), [""; 0]);
    drop(stdin);
}

#[test]
fn a_second_ctrl_c_quits_the_receiver_at_once_and_leaves_nothing() {
    let Middle {
        to,
        sender,
        receiver,
        stdin,
        ..
    } = middle(&[], &[]);
    // A peer that does not answer keeps the polite end waiting.
    sender.signal(Signal::STOP);
    receiver.signal(Signal::INT);
    receiver.says(STOPPING);
    let second = Instant::now();
    receiver.signal(Signal::INT);
    let received = receiver.ended();
    assert!(
        second.elapsed() < Duration::from_millis(1500),
        "not at once: {:?}",
        second.elapsed()
    );
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (130, ""),
        "{received:?}"
    );
    assert_eq!(names(to.path()), [""; 0], "a temporary file stays");
    sender.signal(Signal::CONT);
    drop(stdin);
}

#[test]
fn a_second_ctrl_c_quits_the_sender_at_once() {
    let Middle {
        sender,
        receiver,
        stdin,
        ..
    } = middle(&[], &[]);
    receiver.signal(Signal::STOP);
    sender.signal(Signal::INT);
    sender.says(STOPPING);
    let second = Instant::now();
    sender.signal(Signal::INT);
    let sent = sender.ended();
    assert!(
        second.elapsed() < Duration::from_millis(1500),
        "not at once: {:?}",
        second.elapsed()
    );
    assert_eq!(sent.code, 130, "{sent:?}");
    receiver.signal(Signal::CONT);
    drop(stdin);
}

#[test]
fn one_ctrl_c_ends_a_side_whose_peer_does_not_answer() {
    let Middle {
        to,
        sender,
        receiver,
        stdin,
        ..
    } = middle(&[], &[]);
    sender.signal(Signal::STOP);
    receiver.signal(Signal::INT);
    let received = receiver.ended_within(Duration::from_secs(6));
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (130, ""),
        "{received:?}"
    );
    assert_eq!(names(to.path()), [""; 0], "a temporary file stays");
    sender.signal(Signal::CONT);
    assert_eq!(sender.ended().code, 3);
    drop(stdin);
}

#[test]
fn ctrl_c_ends_a_receiver_whose_output_nobody_reads() {
    let (from, to) = (Env::new(), Env::new());
    let file = File::create(from.path().join("zeros")).unwrap();
    file.set_len(64 << 20).unwrap();
    let sink = fifo(&to, "sink");
    let (sender, receiver) = pair(&from, &["zeros"], &to, &["-y", "-o", "sink"]);
    let mut reader = File::open(sink).unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    receiver.signal(Signal::INT);
    let (received, sent) = (
        receiver.ended_within(Duration::from_secs(10)),
        sender.ended(),
    );
    assert_eq!(
        (received.code, received.stdout.as_str(), sent.code),
        (130, "", 3),
        "{received:?}"
    );
    assert!(
        sent.stderr.ends_with("\nerror: the other side cancelled\n"),
        "{sent:?}"
    );
}

#[test]
fn ctrl_c_while_waiting_for_a_peer_ends_at_once() {
    let from = Env::new().file("f", "x");
    let sender = start(&from, &["send", "f"]);
    let invite = sender.invite();
    sender.says("waiting for the other side\n");
    sender.signal(Signal::INT);
    let sent = sender.ended_within(Duration::from_secs(3));
    assert_eq!(
        (sent.code, sent.stdout.as_str()),
        (130, format!("{invite}\n").as_str())
    );
    assert!(
        sent.stderr
            .ends_with(&format!("{STOPPING}error: stopped by Ctrl-C\n")),
        "{sent:?}"
    );
    // The joiner of an invite that is gone can be stopped too.
    let receiver = start(&Env::new(), &["receive", "-y", &invite]);
    receiver.says("connecting\n");
    receiver.signal(Signal::INT);
    let received = receiver.ended_within(Duration::from_secs(3));
    assert_eq!((received.code, received.stdout.as_str()), (130, ""));
}

#[test]
fn a_receiver_that_is_killed_is_noticed_within_the_timeout() {
    let Middle {
        sender,
        receiver,
        stdin,
        ..
    } = middle(&["--timeout", "5s"], &[]);
    let killed = Instant::now();
    drop(receiver);
    let sent = sender.ended_within(Duration::from_secs(12));
    let after = killed.elapsed();
    assert!(after > Duration::from_secs(2), "too early: {after:?}");
    assert_eq!(sent.code, 3, "{sent:?}");
    assert!(
        sent.stderr.contains(
            "\nerror: the transfer was not finished: nothing heard from the peer for 5 s\nhint: "
        ),
        "{sent:?}"
    );
    drop(stdin);
}

#[test]
fn a_sender_that_is_killed_is_noticed_and_nothing_is_left() {
    let Middle {
        to,
        sender,
        receiver,
        // Open until the end: the end of the data must not get out before the sender dies.
        stdin: _stdin,
        ..
    } = middle(&[], &["--timeout", "5s"]);
    drop(sender);
    let received = receiver.ended_within(Duration::from_secs(12));
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (3, ""),
        "{received:?}"
    );
    assert!(
        received.stderr.contains(
            "\nerror: the transfer was not finished: nothing heard from the peer for 5 s\nhint: "
        ),
        "{received:?}"
    );
    assert_eq!(names(to.path()), [""; 0]);
}

/// A file of zeros on its way to a receiver that has stopped taking any.
fn stalled(len: u64) -> (Env, Env, Process, Process, File) {
    let (from, to) = (Env::new(), Env::new());
    let file = File::create(from.path().join("growing")).unwrap();
    file.set_len(len).unwrap();
    let (sender, receiver) = pair(&from, &["growing"], &to, &["-y"]);
    eventually("data at the receiver", || {
        part_len(&to).filter(|len| *len > 0)
    });
    receiver.signal(Signal::STOP);
    (from, to, sender, receiver, file)
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_fails_both_sides_and_leaves_nothing() {
    let (_from, to, sender, receiver, file) = stalled(1 << 30);
    file.set_len(1 << 20).unwrap();
    receiver.signal(Signal::CONT);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(sent.code, 3, "{sent:?}");
    assert!(
        sent.stderr
            .contains("\nerror: cannot send \"growing\": it ")
            && sent.stderr.contains(" while it was being sent"),
        "{sent:?}"
    );
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (3, ""),
        "{received:?}"
    );
    assert!(
        received.stderr.contains(
            "\nerror: the other side cancelled: a file changed while being sent, at growing"
        ),
        "{received:?}"
    );
    assert_eq!(names(to.path()), [""; 0]);
}

#[test]
fn a_file_that_grows_while_it_is_sent_fails_both_sides_and_leaves_nothing() {
    let (_from, to, sender, receiver, file) = stalled(128 << 20);
    file.set_len((128 << 20) + 1).unwrap();
    receiver.signal(Signal::CONT);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(sent.code, 3, "{sent:?}");
    assert!(
        sent.stderr
            .contains("\nerror: cannot send \"growing\": it ")
            && sent.stderr.contains(" while it was being sent"),
        "{sent:?}"
    );
    assert!(
        sent.stderr
            .contains("\nhint: send it again when nothing writes to it\n"),
        "{sent:?}"
    );
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (3, ""),
        "{received:?}"
    );
    assert!(
        received.stderr.contains(
            "\nerror: the other side cancelled: a file changed while being sent, at growing"
        ),
        "{received:?}"
    );
    assert_eq!(names(to.path()), [""; 0]);
}

#[test]
fn a_file_that_changes_behind_a_pipe_fails_the_receiver_too() {
    let (from, to) = (Env::new(), Env::new());
    let file = File::create(from.path().join("zeros")).unwrap();
    file.set_len(64 << 20).unwrap();
    let sink = fifo(&to, "sink");
    let (sender, receiver) = pair(&from, &["zeros"], &to, &["-y", "-o", "sink"]);
    let mut reader = File::open(sink).unwrap();
    reader.read_exact(&mut [0; 1000]).unwrap();
    file.set_len(0).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (3, 3, ""),
        "{sent:?}"
    );
    assert!(rest.len() < 64 << 20);
}

#[test]
fn an_invite_is_good_for_one_joiner_only() {
    let (from, to, late) = (Env::new().file("f", "once"), Env::new(), Env::new());
    let (sender, receiver) = pair(&from, &["f"], &to, &["-y"]);
    let invite = sender.invite();
    assert_eq!((sender.ended().code, receiver.ended().code), (0, 0));
    let ran = start(&late, &["receive", "-y", "--timeout", "2s", &invite])
        .ended_within(Duration::from_secs(8));
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert!(
        ran.stderr
            .contains("\nerror: not connected: no path to the peer within 2 s; tried 127.0.0.1:"),
        "{ran:?}"
    );
    assert_eq!(names(late.path()), [""; 0]);
}

#[test]
fn of_two_joiners_exactly_one_gets_the_file() {
    for _ in 0..3 {
        let from = Env::new().file("f", "for one");
        let (one, two) = (Env::new(), Env::new());
        let sender = start(&from, &["send", "f"]);
        let invite = sender.invite();
        let args = ["receive", "-y", "--timeout", "3s", invite.as_str()];
        let (a, b) = (start(&one, &args), start(&two, &args));
        let (a, b, sent) = (a.ended(), b.ended(), sender.ended());
        assert_eq!(sent.code, 0, "{sent:?}");
        let mut codes = [a.code, b.code];
        codes.sort_unstable();
        assert_eq!(codes, [0, 3], "{a:?}\n{b:?}");
        let mut there = [names(one.path()), names(two.path())];
        there.sort();
        assert_eq!(there, [vec![], vec!["f".to_owned()]]);
        assert!(
            plain(&sent.stderr).ends_with("\ndone: 1 file, 7 B\n"),
            "{sent:?}"
        );
    }
}

#[test]
fn a_reader_of_the_received_stream_that_leaves_ends_it_quietly() {
    let (from, to) = (Env::new(), Env::new());
    File::create(from.path().join("zeros"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let sender = start(&from, &["send", "zeros"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let args = ["receive", "-y", "-o", "-", &sender.invite()];
    let receiver =
        crate::process::start_with(&to, &args, std::process::Stdio::null(), writer.into());
    let mut reader = reader;
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    let (received, sent) = (receiver.ended(), sender.ended());
    assert_eq!(sent.code, 3, "{sent:?}");
    assert!(
        !received.stderr.contains("panicked") && !sent.stderr.contains("panicked"),
        "{received:?}"
    );
    // The contract: a closed stdout pipe is a quiet exit.
    assert!(!received.stderr.contains("error: "), "{received:?}");
}
