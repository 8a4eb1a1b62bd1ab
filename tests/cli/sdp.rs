//! Offers and answers in place of an invite: both roles, every way they travel, and what is
//! pasted in the wrong place.

use std::io::Write;
use std::time::Duration;

use knothole::proto::sdp::{self, SdpType};
use knothole::report::model::{Event, TokenKind};

use crate::env::{Env, Ran};
use crate::process::{LOOPBACK, Process, eventually, fifo, noise, plain, start};
use crate::terminal::Window;

/// The description on a line of stdout, which must be JSON alone.
#[track_caller]
fn description(process: &Process, kind: SdpType) -> String {
    let line = process.line(0);
    let session = sdp::read(&line).unwrap();
    assert_eq!(session.kind, Some(kind), "{line}");
    assert_eq!(session.to_json(kind), line, "JSON and nothing else");
    line
}

/// The description without lines that begin like one of `begins`.
fn without(json: &str, begins: &[&str]) -> String {
    let session = sdp::read(json).unwrap();
    let keep = |line: &&str| !begins.iter().any(|begin| line.starts_with(begin));
    let lines = session.text.lines().filter(keep);
    let text: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    sdp::json(session.kind.unwrap(), &text)
}

fn raw(json: &str) -> String {
    sdp::read(json).unwrap().text
}

/// The candidates of a description, as they are written.
fn candidates(json: &str) -> Vec<String> {
    let session = sdp::read(json).unwrap();
    let lines = session.candidates.iter();
    lines.map(|candidate| candidate.line.clone()).collect()
}

/// Starts `knothole send f --sdp` and a receiver that takes what `change` makes of the offer.
fn sender_and_answerer(
    from: &Env,
    to: &Env,
    change: impl Fn(&str) -> String,
) -> (Process, Process, String) {
    let sender = start(from, &["send", "f", "--sdp"]);
    let offer = change(&description(&sender, SdpType::Offer));
    let receiver = start(to, &["receive", "-y", &offer]);
    let answer = description(&receiver, SdpType::Answer);
    (sender, receiver, answer)
}

#[track_caller]
fn done(ran: &Ran) {
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:#?}");
}

#[test]
fn an_offer_and_an_answer_connect_two_knotholes_in_both_directions() {
    let bytes = noise("both", 3 << 20);
    let (from, to) = (Env::new().file("f", &bytes), Env::new());
    let (mut sender, receiver, answer) = sender_and_answerer(&from, &to, str::to_owned);
    sender.type_line(&answer);
    let (sent, received) = (sender.ended(), receiver.ended());
    done(&sent);
    done(&received);
    assert_eq!(
        plain(&sent.stderr),
        "\
gathering addresses
Give this offer to the other program, and enter its answer here within 1 h.
A knothole there answers with: knothole receive OFFER
waiting for the other side
connecting
connected
connected directly
waiting for the other side to accept
done: 1 file, 3.0 MiB
"
    );
    assert!(
        received.stderr.starts_with(
            "\
gathering addresses
Give this answer to the side that made the offer.
connecting
connected
"
        ),
        "{received:#?}"
    );
    assert!(std::fs::read(to.path().join("f")).unwrap() == bytes);

    // The receiver makes the offer; the sender answers.
    let to = Env::new();
    let mut receiver = start(&to, &["receive", "-y", "--invite", "--sdp"]);
    let offer = description(&receiver, SdpType::Offer);
    let sender = start(&from, &["send", "f", "--to", &offer]);
    receiver.type_line(&description(&sender, SdpType::Answer));
    done(&sender.ended());
    done(&receiver.ended());
    assert!(std::fs::read(to.path().join("f")).unwrap() == bytes);
}

#[test]
fn raw_sdp_may_come_line_by_line_through_pipes_that_stay_open() {
    let (from, to) = (Env::new().file("f", "slow"), Env::new());
    let mut sender = start(&from, &["send", "f", "--sdp"]);
    let offer = raw(&description(&sender, SdpType::Offer));
    let path = fifo(&to, "pipe");
    let receiver = start(&to, &["receive", "-y", "@pipe"]);
    let mut pipe = std::fs::File::options().write(true).open(&path).unwrap();
    slowly(&mut pipe, &offer);
    let answer = raw(&description(&receiver, SdpType::Answer));
    let mut stdin = sender.take_stdin();
    slowly(&mut stdin, &answer);
    done(&sender.ended());
    done(&receiver.ended());
    drop((pipe, stdin));
}

/// Writes lines with pauses longer than those inside a paste.
fn slowly(to: &mut impl Write, text: &str) {
    for line in text.lines() {
        writeln!(to, "{line}").unwrap();
        std::thread::sleep(Duration::from_millis(70));
    }
}

#[test]
fn a_folder_carries_offer_and_answer_without_a_word_of_the_user() {
    let shared = tempfile::tempdir().unwrap();
    let via = format!("file:{}", shared.path().display());
    let (from, to) = (Env::new().file("f", "by folder"), Env::new());
    let sender = start(&from, &["send", "f", "--sdp", "--via", &via]);
    let offer = eventually("the offer", || {
        std::fs::read_to_string(shared.path().join("invite")).ok()
    });
    assert_eq!(sdp::read(&offer).unwrap().kind, Some(SdpType::Offer));
    // An offer says itself that it wants an answer.
    let receiver = start(&to, &["receive", "-y", "--via", &via]);
    for ran in [sender.ended(), receiver.ended()] {
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:#?}");
    }
    assert_eq!(
        std::fs::read_to_string(to.path().join("f")).unwrap(),
        "by folder"
    );
    assert_eq!(crate::process::names(shared.path()), [""; 0]);
}

#[test]
fn what_is_no_answer_is_named_and_the_wait_goes_on() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let (mut sender, receiver, answer) = sender_and_answerer(&from, &to, str::to_owned);
    let offer = sender.line(0);
    let other = start(&from, &["send", "f", "--sdp"]);
    let invite = start(&from, &["send", "f"]).invite();
    let candidate = format!("a={}", candidates(&answer)[0]);
    for (text, words) in [
        (
            offer.as_str(),
            "warning: this is your own offer; give it to the other side",
        ),
        (
            &other.line(0),
            "warning: this is an offer, and the answer belongs here; ",
        ),
        (
            &invite,
            "warning: this is a knothole invite, not a session description; ",
        ),
        (
            &candidate,
            "warning: these are candidates without their session description; ",
        ),
        (
            "hello",
            "warning: there is no session description (SDP) in this; ",
        ),
        (&answer[..400], "it was cut"),
    ] {
        sender.type_line(text);
        sender.says(words);
    }
    sender.type_line(&answer);
    done(&sender.ended());
    done(&receiver.ended());
}

#[test]
fn what_is_no_offer_is_refused_at_once() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let (_sender, _receiver, answer) = sender_and_answerer(&from, &to, str::to_owned);
    let invite = start(&from, &["send", "f"]).invite();
    let short = answer.replace("answer", "offer").replace("65536", "4096");
    for (args, words) in [
        (
            vec!["receive", &answer],
            "error: this is an answer, and an offer belongs here\nhint: give the answer to the side that made the offer, or make a new offer there\n",
        ),
        (
            vec!["receive", "--sdp", &invite],
            "error: this is a knothole invite, not a session description\nhint: leave out --sdp to use the invite; here belongs what another WebRTC program made\n",
        ),
        (
            vec!["receive", &short],
            "error: the other side takes messages of at most 4096 bytes, and at least 8192 are needed\nhint: let the other program take messages of 65536 bytes\n",
        ),
    ] {
        to.run(&args).is(2, "", words);
    }
}

#[test]
fn nobody_can_answer_when_the_input_has_ended() {
    let from = Env::new().file("f", "x");
    let args = [&["send", "f", "--sdp"], LOOPBACK.as_slice()].concat();
    let ran = from.run(&args);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(
        ran.stderr
            .contains("\nerror: the input ended before an answer came\nhint: "),
        "{ran:#?}"
    );
}

#[test]
fn an_offer_expires() {
    let from = Env::new().file("f", "x");
    let ran = start(&from, &["send", "f", "--sdp", "--expires", "1s"]).ended();
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(
        ran.stderr
            .contains("\nerror: no answer came before the offer expired\nhint: make a new offer"),
        "{ran:#?}"
    );
}

#[test]
fn another_certificate_than_the_description_says_ends_with_its_own_words() {
    let (from, to) = (Env::new().file("f", "secret"), Env::new());
    let (mut sender, receiver, answer) = sender_and_answerer(&from, &to, str::to_owned);
    let session = sdp::read(&answer).unwrap();
    let print = session.fingerprint.to_string();
    let other = if print.starts_with("00") { "01" } else { "00" };
    sender.type_line(&answer.replace(&print, &format!("{other}{}", &print[2..])));
    let sent = sender.ended();
    assert_eq!(sent.code, 4, "{sent:#?}");
    assert!(
        sent.stderr.contains("\nerror: not connected: the other side has another certificate than its description says\nhint: "),
        "{sent:#?}"
    );
    let received = receiver.ended();
    assert_eq!(received.code, 4, "{received:#?}");
    assert!(
        received
            .stderr
            .contains("\nerror: not connected: the other side refused our certificate\nhint: "),
        "{received:#?}"
    );
    assert!(!to.path().join("f").exists());
}

#[test]
fn candidates_may_come_later_as_lines_or_json() {
    let bytes = noise("late", 100_000);
    for json in [false, true] {
        let (from, to) = (Env::new().file("f", &bytes), Env::new());
        let hide = |text: &str| without(text, &["a=candidate", "a=end-of-candidates"]);
        let (mut sender, receiver, answer) = sender_and_answerer(&from, &to, hide);
        receiver.says("the other side's description has no address to send to");
        sender.type_line(&hide(&answer));
        sender.says("the other side's description has no address to send to");
        sender.type_line("candidate:1 1 udp 5 192.0.2.7 9 typ host ufrag other");
        sender.says("warning: this candidate belongs to another description");
        sender.type_line("candidate:1 1 tcp 5 127.0.0.1 9 typ host tcptype passive");
        sender.says("warning: this candidate is for TCP, and knothole sends over UDP");
        sender.type_line("candidate:1 1 udp 5 example.org 9 typ host");
        sender.says("names a host instead of an address; only .local names are looked up");
        let line = candidates(&answer).remove(0);
        sender.type_line(&if json {
            format!(r#"{{"candidate":"{line}","sdpMid":"0","sdpMLineIndex":0}}"#)
        } else {
            format!("a={line}")
        });
        done(&sender.ended());
        done(&receiver.ended());
        assert!(std::fs::read(to.path().join("f")).unwrap() == bytes);
    }
}

#[test]
fn peers_that_do_not_say_that_they_are_knothole_meet_as_plain_ones() {
    let bytes = noise("plain", 8 << 20);
    let (from, to) = (Env::new().file("f", &bytes), Env::new());
    let stranger = |text: &str| {
        without(text, &["a=x-knothole", "a=max-message-size"])
            .replace("a=mid:0", "a=mid:data")
            .replace("BUNDLE 0", "BUNDLE data")
            .replace("a=setup", "a=max-message-size:16384\\r\\na=setup")
    };
    let (mut sender, receiver, answer) = sender_and_answerer(&from, &to, stranger);
    sender.type_line(&stranger(&answer));
    done(&sender.ended());
    done(&receiver.ended());
    assert!(std::fs::read(to.path().join("f")).unwrap() == bytes);
}

#[test]
fn an_offer_may_choose_to_begin_the_handshake_itself_or_not() {
    for (offered, answered) in [("active", "passive"), ("passive", "active")] {
        let (from, to) = (Env::new().file("f", "x"), Env::new());
        let choose = |text: &str| text.replace("setup:actpass", &format!("setup:{offered}"));
        let sender = start(&from, &["send", "f", "--sdp"]);
        let offer = choose(&description(&sender, SdpType::Offer));
        let receiver = start(&to, &["receive", "-y", &offer]);
        let answer = description(&receiver, SdpType::Answer);
        assert!(answer.contains(&format!("setup:{answered}")), "{answer}");
    }
    // Who answers passively waits for us to begin.
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let begin = |text: &str| text.replace("setup:actpass", "setup:active");
    let (mut sender, receiver, answer) = sender_and_answerer(&from, &to, begin);
    sender.type_line(&answer);
    done(&sender.ended());
    done(&receiver.ended());
}

#[test]
fn sections_that_are_not_wanted_are_refused_at_their_place() {
    let to = Env::new();
    let offer = include_str!("../sdp/chromium-offer-av.sdp");
    let receiver = start(&to, &["receive", "-y", offer]);
    let answer = sdp::read(&description(&receiver, SdpType::Answer)).unwrap();
    let offer = sdp::read(offer).unwrap();
    let media = |session: &sdp::Session| -> Vec<_> {
        let sections = session.sections.iter();
        sections.map(|s| (s.media.clone(), s.mid.clone())).collect()
    };
    assert!(offer.sections.len() > 1);
    assert_eq!(media(&answer), media(&offer));
    assert_eq!(answer.mid, offer.mid);
}

#[test]
fn of_a_crowd_of_candidates_only_the_first_are_ever_sent_anything() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let socket = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (early, late) = (socket(), socket());
    let sender = start(&from, &["send", "f", "--sdp"]);
    let offer = description(&sender, SdpType::Offer);
    let crowd: String = (0..500u16)
        .map(|n| {
            let addr = match n {
                10 => early.local_addr().unwrap(),
                400 => late.local_addr().unwrap(),
                _ => std::net::SocketAddr::from(([127, 1, 1, 1], 1000 + n)),
            };
            let (ip, port) = (addr.ip(), addr.port());
            format!("a=candidate:9 1 udp 9 {ip} {port} typ host\r\n")
        })
        .collect();
    let offer = raw(&without(&offer, &["a=candidate", "a=end-of-candidates"])) + &crowd;
    let receiver = start(&to, &["receive", "-y", "-v", &offer]);
    receiver.says("a candidate of the other side is one too many");
    // What was sent to one of the first shows that a whole round has been.
    for socket in [&early, &late] {
        socket.set_nonblocking(true).unwrap();
    }
    let mut check = [0; 1500];
    for _ in 0..3 {
        eventually("a check", || early.recv(&mut check).ok());
    }
    assert!(late.recv(&mut check).is_err(), "it was one too many");
}

#[test]
fn scripts_read_offer_and_answer_as_events() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let mut sender = start(&from, &["send", "f", "--sdp", "--json"]);
    let token = |process: &Process, wanted: TokenKind| {
        process.event("its description", |event| match event {
            Event::Token { kind, token } if *kind == wanted => Some(token.clone()),
            _ => None,
        })
    };
    let offer = token(&sender, TokenKind::Offer);
    let receiver = start(&to, &["receive", "-y", "--json", &offer]);
    sender.type_line(&token(&receiver, TokenKind::Answer));
    assert_eq!((sender.ended().code, receiver.ended().code), (0, 0));
}

#[test]
fn a_terminal_takes_an_offer_of_many_lines_in_a_long_paste() {
    let (from, to) = (Env::new().file("f", "pasted"), Env::new());
    let mut sender = start(&from, &["send", "f", "--sdp"]);
    let offer = raw(&description(&sender, SdpType::Offer));
    // Standard output is for the data: the answer is shown on the terminal.
    let args = [&["receive", "-y", "-o", "-", "--sdp"], LOOPBACK.as_slice()].concat();
    let mut window = Window::open(&to, &args);
    window.wait_for("offer: ");
    let chat = "> and then she said, quite at length, that this would never work\r\n".repeat(1500);
    window.type_in(&format!("\x1b[200~{chat}{offer}\x1b[201~\r"));
    window.wait_for("Give this answer to the side that made the offer.");
    let screen = window.seen();
    let answer = screen
        .lines()
        .find_map(|line| {
            line.find("{\"type\":\"answer\"")
                .map(|at| line[at..].trim())
        })
        .unwrap_or_else(|| panic!("no answer: {screen}"));
    sender.type_line(answer);
    done(&sender.ended());
    assert_eq!(window.end(), (0, "pasted".to_owned()));
}
