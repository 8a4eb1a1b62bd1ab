//! Words compared on two real terminals (`--verify`): nothing is told before both persons agreed,
//! and everything else than a yes of both ends it.

use knothole::report::model::Event;

use crate::env::Env;
use crate::process::{LOOPBACK, event, names, pair};
use crate::terminal::Window;

const QUESTION: &str = "The same on both screens? [y/N] ";

/// A sender of `secret-name.txt` and a receiver, each in a window of its own, who meet in a folder
/// and are asked for the words.
fn windows(send: &[&str], receive: &[&str]) -> (Env, Window, Window) {
    let env = Env::new().file("secret-name.txt", "hello");
    let folder = env.path().join("via");
    std::fs::create_dir(&folder).unwrap();
    std::fs::create_dir(env.path().join("in")).unwrap();
    let via = format!("--via=file:{}", folder.display());
    let open = |args: &[&str], more: &[&str]| {
        let args = [args, &LOOPBACK, &[via.as_str()], more].concat();
        Window::open(&env, &args)
    };
    let mut sender = open(&["send", "secret-name.txt"], send);
    let mut receiver = open(&["receive", "-o", "in"], receive);
    sender.wait_for(QUESTION);
    receiver.wait_for(QUESTION);
    (env, sender, receiver)
}

/// The numbered words of the last question on a screen.
fn words(window: &Window) -> Vec<String> {
    let seen = window.seen();
    let (above, _) = seen.rsplit_once(QUESTION).unwrap();
    let shown: Vec<&str> = above.split_whitespace().rev().take(12).collect();
    let shown: Vec<&str> = shown.into_iter().rev().collect();
    let numbers: Vec<&str> = shown.iter().copied().step_by(2).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6"], "{seen}");
    shown
        .into_iter()
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn both_screens_show_the_same_words_and_names_come_only_after_both_said_yes() {
    for (send, receive) in [
        (&["--verify"][..], &[][..]),
        (&[], &["--verify"]),
        (&["--verify"], &["--verify"]),
    ] {
        let (env, mut sender, mut receiver) = windows(send, receive);
        assert_eq!(words(&sender), words(&receiver));
        let why = |mine: &[&str]| match mine {
            [] => "The other side wants to compare words:",
            _ => "Read these words to each other:",
        };
        sender.wait_for(why(send));
        receiver.wait_for(why(receive));
        sender.type_in("y\r");
        sender.wait_for("waiting for the other side");
        assert!(
            !receiver.seen().contains("secret-name"),
            "{}",
            receiver.seen()
        );
        receiver.type_in("yes\r");
        receiver.wait_for("secret-name.txt (5 B)");
        receiver.wait_for("Receive? [Y/n] ");
        receiver.type_in("\r");
        receiver.wait_for("done: ");
        assert_eq!(receiver.end().0, 0);
        assert_eq!(sender.end().0, 0);
        assert_eq!(names(&env.path().join("in")), ["secret-name.txt"]);
    }
}

#[test]
fn a_no_on_either_side_is_exit_4_on_both_and_says_what_it_means() {
    for keys in ["n\r", "\r", "perhaps\r"] {
        for at_sender in [true, false] {
            let (env, mut sender, mut receiver) = windows(&["--verify"], &["-y"]);
            let (no, yes) = if at_sender {
                (&mut sender, &mut receiver)
            } else {
                (&mut receiver, &mut sender)
            };
            no.type_in(keys);
            if keys == "perhaps\r" {
                // What was typed before the question is asked again is thrown away.
                let question = if at_sender {
                    "Read these"
                } else {
                    "The other side"
                };
                no.wait_for(&format!("please answer y or n\r\n\x1b[?2004h{question}"));
                no.type_in("no\r");
            }
            no.wait_for("the words on the two screens differ");
            yes.wait_for("the other side cancelled: the words on the two screens differ");
            for window in [&mut *no, &mut *yes] {
                window.wait_for("somebody may be in the middle");
                window.wait_for("make a new invite");
            }
            assert_eq!(sender.end(), (4, String::new()));
            assert!(
                !receiver.seen().contains("secret-name"),
                "{}",
                receiver.seen()
            );
            assert_eq!(receiver.end(), (4, String::new()));
            assert_eq!(names(&env.path().join("in")), [""; 0]);
        }
    }
}

#[test]
fn a_yes_of_one_side_alone_moves_nothing() {
    let (env, mut sender, mut receiver) = windows(&["--verify"], &["-y"]);
    sender.type_in("y\r");
    sender.wait_for("waiting for the other side");
    receiver.type_in("n\r");
    sender.wait_for("the words on the two screens differ");
    assert_eq!(receiver.end().0, 4);
    assert_eq!(sender.end().0, 4);
    assert_eq!(names(&env.path().join("in")), [""; 0]);
}

#[test]
fn ctrl_c_at_the_words_is_130_gives_the_terminal_back_and_the_other_side_hears_it() {
    for at_sender in [true, false] {
        let (_env, mut sender, mut receiver) = windows(&["--verify"], &[]);
        let (stops, hears) = if at_sender {
            (&mut sender, &mut receiver)
        } else {
            (&mut receiver, &mut sender)
        };
        stops.type_in("\x03");
        stops.wait_for("stopped by Ctrl-C");
        hears.wait_for("the other side cancelled");
        let (sent, received) = (sender.end().0, receiver.end().0);
        let (stopped, heard) = if at_sender {
            (sent, received)
        } else {
            (received, sent)
        };
        assert_eq!((stopped, heard), (130, 3), "{at_sender}");
    }
}

#[test]
fn a_peer_that_vanishes_while_the_person_compares_is_noticed() {
    let (_env, sender, mut receiver) = windows(&["--verify"], &["--timeout", "6s"]);
    sender.kill();
    receiver.wait_for("nothing heard from the peer for 6 s");
    assert_eq!(receiver.end().0, 3);
}

#[test]
fn without_a_terminal_both_sides_hear_that_nobody_can_compare_and_yes_to_all_is_no_yes() {
    for (send, receive) in [
        (&["f", "--verify"][..], &["-y"][..]),
        (&["f"], &["-y", "--verify"]),
    ] {
        let from = Env::new().file("f", "x");
        let to = Env::new();
        let (sender, receiver) = pair(&from, send, &to, receive);
        for ran in [sender.ended(), receiver.ended()] {
            assert_eq!(ran.code, 1, "{ran:#?}");
            assert!(
                ran.stderr
                    .contains("to compare the words on\nhint: people compare words"),
                "{ran:#?}"
            );
        }
        assert_eq!(names(to.path()), [""; 0]);
    }
}

#[test]
fn one_side_with_a_terminal_is_told_that_the_other_has_none() {
    let env = Env::new().file("f", "x");
    let folder = env.path().join("via");
    std::fs::create_dir(&folder).unwrap();
    let via = format!("--via=file:{}", folder.display());
    let mut window = Window::open(
        &env,
        &[&["send", "f", "--verify", &via], &LOOPBACK[..]].concat(),
    );
    let receiver = crate::process::start(&env, &["receive", "-y", "--json", &via]);
    window.wait_for("the other side cancelled: no terminal there to compare the words on");
    assert_eq!(window.end().0, 1);
    let ran = receiver.ended();
    assert_eq!(ran.code, 1, "{ran:#?}");
    let Some(Event::Error { kind, .. }) = ran.stdout.lines().last().map(event) else {
        panic!("{ran:#?}")
    };
    assert_eq!(kind, "no-terminal");
}

#[test]
fn a_script_gets_the_words_as_an_event_and_the_person_still_answers() {
    let (_env, mut sender, mut receiver) = windows(&["--verify", "--json"], &["-y", "-q"]);
    let shown = words(&receiver);
    sender.type_in("y\r");
    receiver.type_in("y\r");
    let (code, out) = sender.end();
    assert_eq!((code, receiver.end().0), (0, 0), "{out}");
    let told = out.lines().map(event).find_map(|event| match event {
        Event::Words { words } => Some(words),
        _ => None,
    });
    assert_eq!(told, Some(shown));
}

#[test]
fn the_variable_asks_for_words_too() {
    let from = Env::new().file("f", "x").var("KNOTHOLE_VERIFY", "1");
    let (sender, receiver) = pair(&from, &["f"], &Env::new(), &["-y"]);
    assert_eq!((sender.ended().code, receiver.ended().code), (1, 1));
}
