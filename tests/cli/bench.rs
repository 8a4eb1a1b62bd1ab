//! `bench` between two processes: what is measured and told, and each way it can end.

use std::process::Stdio;

use knothole::report::model::{self, BenchReport, Event, PathKind};
use rustix::process::Signal;

use crate::env::{Env, Ran};
use crate::process::{LOOPBACK, Process, event, start, start_with};
use crate::terminal::Window;

/// The issuing side and the joining side.
fn ends(env: &Env, first: &[&str], second: &[&str]) -> (Process, Process) {
    let issuer = start(env, &[&["bench"], first].concat());
    let invite = if first.contains(&"--json") {
        issuer.invite_aside()
    } else {
        issuer.invite()
    };
    let joiner = start(env, &[&["bench", invite.as_str()], second].concat());
    (issuer, joiner)
}

fn both(first: &[&str], second: &[&str]) -> (Ran, Ran) {
    let env = Env::new();
    let (issuer, joiner) = ends(&env, first, second);
    let joined = joiner.ended();
    (issuer.ended(), joined)
}

/// The one object on stdout, read strictly.
#[track_caller]
fn report(ran: &Ran) -> BenchReport {
    let line = ran.stdout.strip_suffix('\n').unwrap_or_default();
    assert!(!line.contains('\n'), "one object: {ran:#?}");
    model::read(line).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}

/// The line of a report with this name, up to what only one side says.
#[track_caller]
fn rate(ran: &Ran, name: &str) -> String {
    let text = ran
        .stdout
        .split_once(name)
        .unwrap_or_else(|| panic!("{name}: {ran:#?}"))
        .1;
    let (rate, _) = text.split_once(" s").unwrap();
    rate.trim().to_owned()
}

#[test]
fn both_sides_tell_a_person_the_same_rates() {
    let (issued, joined) = both(&["--time", "1"], &[]);
    assert_eq!(
        (issued.code, joined.code),
        (0, 0),
        "{issued:#?} {joined:#?}"
    );
    assert_eq!(rate(&issued, "Sent:"), rate(&joined, "Received:"));
    assert_eq!(rate(&issued, "Received:"), rate(&joined, "Sent:"));
    for ran in [&issued, &joined] {
        assert!(rate(ran, "Sent:").contains("iB/s, "), "{ran:#?}");
        assert!(
            rate(ran, "Sent:").ends_with(" in 1.0"),
            "the shorter time: {ran:#?}"
        );
        for words in [
            "Path:       direct (",
            "from 127.0.0.1:",
            "Round trip: ",
            " ms idle, ",
            "jitter ",
        ] {
            assert!(ran.stdout.contains(words), "{words}: {ran:#?}");
        }
        assert_eq!(ran.stdout.matches("counted by the other side").count(), 1);
        assert!(
            ran.stdout.lines().skip(1).all(|line| line.len() <= 80),
            "{ran:#?}"
        );
    }
    let talk: Vec<&str> = joined
        .stderr
        .lines()
        .filter(|line| !line.starts_with("connected directly"))
        .collect();
    assert_eq!(
        talk,
        [
            "connecting",
            "connected",
            "waiting for the other side to say hello",
            "measuring the round trip",
            "sending for 1 s",
            "waiting for the other side to take the rest",
            "receiving for 1 s",
        ]
    );
    let first = issued.stdout.lines().next().unwrap();
    assert!(
        issued
            .stderr
            .contains(&format!("  knothole bench {first}\n")),
        "{issued:#?}"
    );
}

#[test]
fn json_is_one_object_and_the_invite_is_beside_it() {
    let args = ["--json", "--time", "1"];
    let (issued, joined) = both(&args, &args);
    assert_eq!(
        (issued.code, joined.code),
        (0, 0),
        "{issued:#?} {joined:#?}"
    );
    let (first, second) = (report(&issued), report(&joined));
    assert_eq!(
        (&first.sent, &first.received),
        (&second.received, &second.sent)
    );
    let (ours, theirs) = (first.path.unwrap(), second.path.unwrap());
    assert_eq!((ours.local, ours.remote), (theirs.remote, theirs.local));
    assert!(
        [PathKind::Host, PathKind::Prflx].contains(&ours.kind),
        "{ours:?}"
    );
    for report in [report(&issued), report(&joined)] {
        assert_eq!((report.command.as_str(), report.error), ("bench", None));
        let trip = report.round_trip.unwrap();
        assert_eq!(trip.echoes, 20);
        assert!(trip.min_ms <= trip.median_ms && trip.median_ms <= trip.max_ms);
        for one in [report.sent.unwrap(), report.received.unwrap()] {
            assert!(
                one.bytes > 0 && one.seconds > 0.9 && one.seconds <= 1.0,
                "{one:?}"
            );
            assert!(
                (one.rate as f64 - one.bytes as f64 / one.seconds).abs() <= 1.0,
                "{one:?}"
            );
            assert_eq!(one.slowest.is_some(), one.fastest.is_some());
        }
    }
    assert!(!issued.stderr.contains("\"schema\""), "{issued:#?}");
}

#[test]
fn quiet_leaves_the_invite_and_the_report() {
    let (issued, joined) = both(&["-q", "--time", "1"], &["-q"]);
    for ran in [&issued, &joined] {
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:#?}");
        assert!(ran.stdout.contains("\nSent: ") && ran.stdout.contains("\nReceived: "));
    }
}

#[test]
fn one_direction_is_measured_alone() {
    for (first, second) in [
        (
            &["--json", "--time", "1", "--send-only"][..],
            &["--json"][..],
        ),
        (&["--json", "--time", "1"], &["--json", "--recv-only"]),
    ] {
        let (issued, joined) = both(first, second);
        assert_eq!(
            (issued.code, joined.code),
            (0, 0),
            "{issued:#?} {joined:#?}"
        );
        let (first, second) = (report(&issued), report(&joined));
        assert!(
            first.sent.is_some() && first.received.is_none(),
            "{first:?}"
        );
        assert!(
            second.sent.is_none() && second.received.is_some(),
            "{second:?}"
        );
    }
    for (flag, words) in [
        ("--send-only", "error: both sides want to send\n"),
        ("--recv-only", "error: both sides want to receive\n"),
    ] {
        let (issued, joined) = both(&[flag], &[flag]);
        for ran in [issued, joined] {
            assert_eq!(ran.code, 3, "{ran:#?}");
            assert!(ran.stderr.contains(words), "{ran:#?}");
        }
    }
}

#[test]
fn without_the_layer_its_figures_are_not_known() {
    let args = ["--json", "--time", "1", "--no-repair"];
    let (issued, joined) = both(&args, &args);
    for ran in [issued, joined] {
        let report = report(&ran);
        assert_eq!(report.sent.unwrap().link, None);
        assert_eq!(report.received.unwrap().link, None);
    }
}

#[test]
fn another_command_at_the_other_side_is_named() {
    let env = Env::new().file("f", "x");
    let sender = start(&env, &["send", "f"]);
    let bench = start(&env, &["bench", &sender.invite(), "--json"]);
    let (sent, measured) = (sender.ended(), bench.ended());
    assert_eq!(
        (sent.code, measured.code),
        (3, 3),
        "{sent:#?} {measured:#?}"
    );
    assert!(
        sent.stderr
            .contains("error: this side wants to send, the other to bench\n"),
        "{sent:#?}"
    );
    let said = measured.stdout.strip_suffix('\n').unwrap();
    match event(said) {
        Event::Error { kind, message, .. } => {
            assert_eq!(kind, "role");
            assert_eq!(message, "this side wants to bench, the other to send");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_does_not_measure_is_not_waited_for_without_end() {
    let env = Env::new();
    let bench = start(&env, &["bench", "--timeout", "3s"]);
    let other = start_with(
        &env,
        &["pipe", "--raw", &bench.invite()],
        Stdio::piped(),
        Stdio::piped(),
    );
    let ran = bench.ended();
    assert_eq!(ran.code, 3, "{ran:#?}");
    let words = "error: not everything was measured: the peer is connected and does not go on";
    assert!(ran.stderr.contains(words), "{ran:#?}");
    drop(other);
}

#[test]
fn ctrl_c_tells_the_other_side_and_leaves_what_was_measured() {
    let env = Env::new();
    let time = ["--json", "--time", "3600"];
    let (issuer, joiner) = ends(&env, &time, &time);
    joiner.says("sending for 1 h\n");
    joiner.signal(Signal::INT);
    let (stopped, told) = (joiner.ended(), issuer.ended());
    assert_eq!(
        (stopped.code, told.code),
        (130, 3),
        "{stopped:#?} {told:#?}"
    );
    assert!(
        stopped.stderr.ends_with("error: stopped by Ctrl-C\n"),
        "{stopped:#?}"
    );
    assert!(
        told.stderr.contains("error: the other side cancelled\n"),
        "{told:#?}"
    );
    for (ran, words) in [
        (stopped, "stopped by Ctrl-C"),
        (told, "the other side cancelled"),
    ] {
        let report = report(&ran);
        assert_eq!(report.error.as_deref(), Some(words));
        assert!(report.round_trip.is_some() && report.sent.is_none() && report.received.is_none());
    }
}

#[test]
fn before_anything_is_measured_there_is_no_report() {
    let env = Env::new();
    let issuer = start(&env, &["bench", "--json"]);
    issuer.invite_aside();
    issuer.signal(Signal::TERM);
    let ran = issuer.ended();
    assert_eq!(ran.code, 143, "{ran:#?}");
    assert!(
        matches!(event(ran.stdout.trim_end()), Event::Error { .. }),
        "{ran:#?}"
    );
}

#[test]
fn a_killed_peer_is_no_success() {
    let env = Env::new();
    let (issuer, joiner) = ends(&env, &["--timeout", "2s"], &[]);
    issuer.says("receiving for 10 s\n");
    joiner.signal(Signal::KILL);
    let ran = issuer.ended();
    assert_eq!(ran.code, 3, "{ran:#?}");
    let words = "error: not everything was measured: nothing heard from the peer for 2 s";
    assert!(ran.stderr.contains(words), "{ran:#?}");
    assert!(
        ran.stdout.contains("Round trip: ") && !ran.stdout.contains("Received:"),
        "{ran:#?}"
    );
}

#[test]
fn words_that_nobody_can_compare_let_nothing_be_measured() {
    let (issued, joined) = both(&["--verify"], &[]);
    for ran in [issued, joined] {
        assert_eq!(ran.code, 1, "{ran:#?}");
        assert!(
            ran.stderr.contains("hint: people compare words"),
            "{ran:#?}"
        );
        assert!(!ran.stdout.contains("Round trip"), "{ran:#?}");
    }
}

#[test]
fn a_folder_carries_the_invite_and_stdout_is_the_report_alone() {
    let env = Env::new();
    let via = format!("--via=file:{}", env.path().display());
    let args = ["--time", "1", "--send-only", via.as_str()];
    let issuer = start(&env, &[&["bench"], &args[..]].concat());
    let joiner = start(&env, &["bench", "--join", via.as_str()]);
    let (issued, joined) = (issuer.ended(), joiner.ended());
    assert_eq!(
        (issued.code, joined.code),
        (0, 0),
        "{issued:#?} {joined:#?}"
    );
    assert!(issued.stdout.starts_with("Path: "), "{issued:#?}");
    assert!(!joined.stdout.contains("Sent:"), "{joined:#?}");
}

#[test]
fn a_narrow_terminal_has_the_report_in_its_width() {
    let env = Env::new();
    let other = start(&env, &["bench", "--time", "1", "--recv-only"]);
    let invite = other.invite();
    let args = [&["bench"], &LOOPBACK[..], &[invite.as_str()]].concat();
    let mut window = Window::sized_whole(&env, &args, 40);
    window.wait_for("repair layer");
    let seen = window.seen();
    let (_, report) = seen.split_once("Path:").unwrap_or_else(|| panic!("{seen}"));
    for line in report.lines().skip(1) {
        let line = line.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        assert!(line.trim_end().chars().count() <= 40, "{line:?}");
    }
    assert!(report.contains("counted by the other side"), "{seen}");
    assert_eq!(window.end().0, 0);
    assert_eq!(other.ended().code, 0);
}
