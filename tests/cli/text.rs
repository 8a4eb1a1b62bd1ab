//! A text for the person at the other side: shown safely on a terminal, to the letter elsewhere.

use std::process::Stdio;

use knothole::report::model::Event;

use crate::env::Env;
use crate::process::{LOOPBACK, event, names, pair, plain, start, start_with};
use crate::terminal::Window;

/// What a terminal would obey, and what it would hide.
const EVIL: &str = "two\r\nlines\tand \u{1b}[2J\u{1b}]52;c;aGk=\u{7} \u{9b}31m \u{202e}back C:\\n";

#[test]
fn a_text_needs_no_yes_and_comes_out_of_a_pipe_to_the_letter() {
    for text in [
        "see you at nine",
        "with a line\n",
        "-v",
        "@x",
        "\u{1f511} näh",
        EVIL,
    ] {
        let to = Env::new();
        let (sender, receiver) = pair(&Env::new(), &["--text", text], &to, &[]);
        let (sent, received) = (sender.ended(), receiver.ended());
        assert_eq!((sent.code, received.code), (0, 0), "{sent:#?}{received:#?}");
        assert_eq!(received.stdout, text);
        let done = format!("done: text, {} B, verified\n", text.len());
        assert!(received.stderr.ends_with(&done), "{received:#?}");
        assert!(
            plain(&sent.stderr).ends_with(&format!(
                "connected directly\nwaiting for the other side\n{done}"
            )),
            "{sent:#?}"
        );
        assert_eq!(names(to.path()), [""; 0]);
    }
}

#[test]
fn a_text_may_come_from_the_environment_which_a_file_that_was_typed_beats() {
    let from = Env::new().var("KNOTHOLE_TEXT", "hyphen");
    let (sender, receiver) = pair(&from, &[], &Env::new(), &[]);
    assert_eq!(receiver.ended().stdout, "hyphen");
    assert_eq!(sender.ended().code, 0);
    let ran = from.run(&["send", "no-such-file"]);
    assert!(ran.stderr.contains("no such file"), "{ran:#?}");
}

#[test]
fn a_text_may_come_from_standard_input_up_to_the_limit_and_no_further() {
    for len in [1, 65_536] {
        let text = "ü".repeat(len / 2) + &"x".repeat(len % 2);
        let mut sender = start(&Env::new(), &["send", "--text", "-"]);
        let mut stdin = sender.take_stdin();
        let bytes = text.clone();
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, bytes.as_bytes()));
        let receiver = start(&Env::new(), &["receive", &sender.invite()]);
        assert_eq!(receiver.ended().stdout, text);
        assert_eq!(sender.ended().code, 0);
    }
    for (bytes, words) in [
        (&b""[..], "the text is empty"),
        (b"\xff", "the text is not UTF-8"),
        (b"cut \xe2\x82", "the text is not UTF-8"),
        (&[b'x'; 65_537], "the text is longer than 64 KiB"),
        (
            "€".repeat(30_000).as_bytes(),
            "the text is longer than 64 KiB",
        ),
    ] {
        let ran = Env::new().stdin(bytes).run(&["send", "--text", "-"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
        assert!(
            ran.stderr.starts_with(&format!("error: {words}")),
            "{ran:#?}"
        );
    }
}

#[test]
fn a_text_goes_alone_and_standard_input_is_read_once() {
    for (args, words) in [
        (&["send", "--text", "x", "file"][..], "cannot be used with"),
        (&["send", "--text", ""], "the text is empty"),
        (
            &["send", "--text", "-", "--to", "-"],
            "standard input cannot be both the data and the token",
        ),
    ] {
        let ran = Env::new().run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
        assert!(ran.stderr.contains(words), "{ran:#?}");
    }
}

#[test]
fn on_a_terminal_lines_stay_lines_and_nothing_is_obeyed() {
    let sender = start(&Env::new(), &["send", "--text", EVIL]);
    let invite = sender.invite();
    let args = [&["receive", invite.as_str()], LOOPBACK.as_slice()].concat();
    let mut window = Window::open_whole(&Env::new(), &args);
    window.wait_for("the other side sends a text of ");
    window.wait_for("done: text, ");
    let seen = window.seen();
    let (_, text) = seen.split_once("the other side sends a text of ").unwrap();
    // The terminal turns line ends into CR LF.
    assert!(
        text.contains(
            "two\r\nlines\tand \\u{1b}[2J\\u{1b}]52;c;aGk=\\u{7} \\u{9b}31m \\u{202e}back C:\\n\r\n"
        ),
        "{text:?}"
    );
    assert_eq!(window.end().0, 0);
    assert_eq!(sender.ended().code, 0);
}

#[test]
fn a_script_gets_the_text_in_an_event() {
    let (from, to) = (Env::new(), Env::new());
    let sender = start(&from, &["send", "--text", EVIL, "--json"]);
    let invite = sender.event("the invite", |event| match event {
        Event::Token { token, .. } => Some(token.clone()),
        _ => None,
    });
    let receiver = start(&to, &["receive", "--json", &invite]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!((sent.code, received.code), (0, 0), "{sent:#?}{received:#?}");
    let told: Vec<Event> = received.stdout.lines().map(event).collect();
    let is_text = |event: &&Event| matches!(event, Event::Text { .. } | Event::File { .. });
    let told: Vec<&Event> = told.iter().filter(is_text).collect();
    assert_eq!(told, [&Event::Text { text: EVIL.into() }]);
    for ran in [sent, received] {
        let last = event(ran.stdout.lines().last().unwrap());
        let Event::Done { bytes, files, .. } = last else {
            panic!("{ran:#?}")
        };
        assert_eq!((bytes, files), (EVIL.len() as u64, 1));
        assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
    }
}

#[test]
fn with_an_output_a_text_is_received_like_a_file() {
    for (output, name) in [("note", "note"), (".", "text.txt")] {
        let to = Env::new();
        let (sender, receiver) = pair(&Env::new(), &["--text", EVIL], &to, &["-y", "-o", output]);
        assert_eq!((sender.ended().code, receiver.ended().code), (0, 0));
        assert_eq!(names(to.path()), [name]);
        let stored = std::fs::read_to_string(to.path().join(name)).unwrap();
        assert_eq!(stored, EVIL);
    }
    let (sender, receiver) = pair(
        &Env::new(),
        &["--text", EVIL],
        &Env::new(),
        &["-y", "-o", "-"],
    );
    assert_eq!(receiver.ended().stdout, EVIL);
    assert_eq!(sender.ended().code, 0);
    // Where something would be written, nobody but a person or -y may say yes.
    let to = Env::new();
    let (sender, receiver) = pair(&Env::new(), &["--text", "x"], &to, &["-o", "note"]);
    assert_eq!((sender.ended().code, receiver.ended().code), (1, 1));
    assert_eq!(names(to.path()), [""; 0]);
}

#[test]
fn a_text_that_nobody_reads_is_not_called_received() {
    let sender = start(&Env::new(), &["send", "--text", "x"]);
    let invite = sender.invite();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let receiver = start_with(
        &Env::new(),
        &["receive", &invite],
        Stdio::null(),
        writer.into(),
    );
    let received = receiver.ended();
    assert_eq!(received.code, 0, "a closed standard output is a quiet end");
    assert!(!received.stderr.contains("done: "), "{received:#?}");
    let sent = sender.ended();
    assert_eq!(sent.code, 3, "{sent:#?}");
    assert!(sent.stderr.contains("its reader went away"), "{sent:#?}");
}
