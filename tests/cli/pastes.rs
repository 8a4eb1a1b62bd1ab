//! What people paste: long chats, decorated and broken codes, and far too much.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use crate::env::Env;
use crate::process::{LOOPBACK, start};
use crate::terminal::Window;
use crate::token::invite;

/// Longer than anything that is read.
const TOO_LONG: usize = 300 * 1024;

/// The ways in which chat and mail programs hand a code on.
fn decorated(token: &str) -> Vec<String> {
    let (head, tail) = token.split_at(37);
    vec![
        format!("> {token}"),
        format!("> > {head}\n> > {tail}\n"),
        format!("  • {token}\n"),
        format!("1. {token}"),
        format!("```\n{token}\n```"),
        format!("`{token}`"),
        format!("\u{201c}{token}\u{201d}."),
        format!("\u{ab}\u{a0}{token}\u{a0}\u{bb}"),
        format!("*{token}* (good for 1 h)"),
        token.chars().flat_map(|c| [c, '\u{200b}']).collect(),
        format!("\u{feff}{head}\u{ad}{tail}"),
        format!("https://knothole.example/#{token}"),
        format!("<https://knothole.example/#{token}>"),
        format!("{head}\r\n{tail}\r\n"),
        format!("{head}=\n{tail}"),
        token
            .as_bytes()
            .chunks(7)
            .map(|c| format!("{} ", String::from_utf8_lossy(c)))
            .collect(),
        format!(
            "On Tue, 3 Nov 2026 at 11:02, Bob <bob@example.org> wrote:\n> Hi! Here is it:\n>\n> {token}\n>\n> Cheers"
        ),
        format!("[11:02] Bob: {token}\n[11:03] Bob: {token}\n"),
        format!("knothole receive {}", token.to_lowercase()),
        format!("\t{token}\t"),
    ]
}

#[test]
fn a_code_is_found_in_whatever_a_chat_made_of_it() {
    let expected = Env::new().run(&["token", &invite()]);
    assert_eq!(expected.code, 0);
    for text in decorated(&invite()) {
        assert_eq!(Env::new().run(&["token", &text]), expected, "{text:?}");
        assert_eq!(
            Env::new().stdin(text.as_str()).run(&["token", "-"]),
            expected,
            "{text:?}"
        );
    }
}

#[test]
fn a_code_is_found_in_whatever_was_pasted_at_the_prompt() {
    let env = Env::new();
    for text in decorated(&invite()) {
        for keys in [format!("{text}\r"), format!("\x1b[200~{text}\x1b[201~\r")] {
            let mut window = Window::open(&env, &["token"]);
            window.wait_for("token: ");
            window.type_in(&keys);
            let (code, out) = window.end();
            assert_eq!(code, 0, "{keys:?}");
            assert!(out.starts_with("An invite: "), "{keys:?}: {out}");
        }
    }
}

#[test]
fn a_chat_of_a_hundred_thousand_characters_is_read_whole() {
    let env = Env::new();
    let chat = "[11:02] Bob: look at this one, it is – really – nice\r".repeat(2_000);
    assert!(chat.len() > 100_000);
    let quote = format!("> {}\r", invite());
    for keys in [
        format!("{chat}{quote}{chat}\r"),
        format!("\x1b[200~{chat}{quote}{chat}\x1b[201~\r"),
    ] {
        let mut window = Window::open(&env, &["token"]);
        window.wait_for("token: ");
        window.type_in(&keys);
        assert_eq!(window.left(), "");
        let (code, out) = window.end();
        assert_eq!(code, 0, "{out}");
    }
}

#[test]
fn a_paste_that_is_too_long_is_refused_and_the_shell_gets_none_of_it() {
    let env = Env::new();
    let lines = "rm -rf precious\r".repeat(TOO_LONG / 16);
    let line = "x".repeat(TOO_LONG);
    for keys in [
        lines.clone(),
        line.clone(),
        format!("\x1b[200~{lines}\x1b[201~"),
        format!("\x1b[200~{line}\x1b[201~"),
    ] {
        let mut window = Window::open(&env, &["token"]);
        window.wait_for("token: ");
        window.type_in(&keys);
        window.wait_for("longer than 256 KiB");
        window.wait_for("paste the code alone");
        assert_eq!(window.left(), "", "{:?}", &keys[..20]);
        assert_eq!(window.end(), (2, String::new()));
    }
}

#[test]
fn a_marked_paste_that_stalls_is_waited_for() {
    let env = Env::new();
    let mut window = Window::open(&env, &["token"]);
    window.wait_for("token: ");
    window.read_on();
    let paste = format!("\x1b[200~{}", "x\r".repeat(TOO_LONG / 2));
    window.type_in(&paste).join().unwrap().unwrap();
    // The stall is what this is about: longer than the one that ends an unmarked paste.
    std::thread::sleep(Duration::from_millis(400));
    window.type_in("rm -rf precious\r\x1b[201~");
    assert_eq!(window.left(), "");
    assert_eq!(window.end(), (2, String::new()));
}

#[test]
fn ctrl_c_inside_a_paste_leaves_nothing_to_the_shell() {
    let env = Env::new();
    let mut window = Window::open(&env, &["token"]);
    window.wait_for("token: ");
    window.type_in("\x1b[200~begun");
    window.wait_for("begun");
    window.type_in("\x03");
    window.wait_for("stopping");
    window.type_in("rm -rf precious\r\x1b[201~");
    assert_eq!(window.left(), "");
    assert_eq!(window.end(), (130, String::new()));
}

#[test]
fn input_without_an_end_is_given_up() {
    let env = Env::new();
    let mut window = Window::open(&env, &["token"]);
    window.wait_for("token: ");
    let mut keyboard = window.keyboard();
    let yes = b"yes\r".repeat(1024);
    // Some kernels leave it waiting in its write when the window is closed: nobody waits for it.
    std::thread::spawn(move || while keyboard.write_all(&yes).is_ok() {});
    window.wait_for("longer than 256 KiB");
    drop(window);
    let zeros = File::open("/dev/zero").unwrap();
    let ran = env
        .command(crate::env::KNOTHOLE)
        .args(["token", "-"])
        .stdin(zeros)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("longer than 256 KiB"), "{said}");
}

#[test]
fn a_paste_that_is_too_long_does_not_end_the_waiting_for_a_reply() {
    let (from, to) = (Env::new().file("f", "after all"), Env::new());
    let mut sender = start(&from, &["send", "f"]);
    let own = sender.invite();
    let mut keyboard = sender.take_stdin();
    keyboard.write_all(&vec![b'x'; TOO_LONG]).unwrap();
    keyboard.write_all(b"\nhello\n").unwrap();
    sender.says("warning: what was given is longer than 256 KiB; that is no token\n");
    sender.says("warning: this is neither an invite nor a reply code; ");
    let receiver = start(&to, &["receive", "-y", &own]);
    assert_eq!((sender.ended().code, receiver.ended().code), (0, 0));
}

#[test]
fn an_enter_that_came_before_the_question_is_no_answer() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let folder = format!("file:{}", to.path().display());
    let args = [&["receive", "--via", &folder], LOOPBACK.as_slice()].concat();
    let mut window = Window::open(&to, &args);
    window.wait_for("waiting for");
    window.type_in("\r\ry\r").join().unwrap().unwrap();
    let sender = start(&from, &["send", "f", "--via", &folder]);
    window.wait_for("Receive? [Y/n] ");
    window.type_in("n\r");
    window.wait_for("you declined");
    assert_eq!(window.end(), (1, String::new()));
    assert_eq!(sender.ended().code, 1);
}
