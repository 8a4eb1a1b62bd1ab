//! One real machine, and a peer that does not keep to the protocol.

use knothole::proto::app::message::Message;
use knothole::proto::app::transfer::{receiver, sender};
use knothole::proto::app::{
    CancelReason, Closing, Fault, Local, Mismatch, Offer, Outcome, OutcomeKind, Receiver, Sender,
};

use crate::world::LOCAL;

const HELLO_SEND: &str = r#"{"t":"hello","knothole":"0.1.0","proto":[1,1],"role":"send","max_control":65536,"max_data":65536,"caps":[]}"#;
const HELLO_RECEIVE: &str = r#"{"t":"hello","knothole":"0.1.0","proto":[1,1],"role":"receive","max_control":65536,"max_data":65536,"caps":[]}"#;
const MANIFEST: &str =
    r#"{"t":"manifest","files":[{"name":"a","size":3},{"name":"b","size":null}],"total":null}"#;

fn end(i: usize, size: usize, bytes: &[u8]) -> String {
    format!(
        r#"{{"t":"end","i":{i},"size":{size},"blake3":"{}"}}"#,
        blake3::hash(bytes)
    )
}

fn ack(i: usize, bytes: &[u8]) -> String {
    format!(
        r#"{{"t":"ack","i":{i},"blake3":"{}"}}"#,
        blake3::hash(bytes)
    )
}

// ---- In front of the receiver ----------------------------------------------------------------

#[test]
fn more_bytes_than_announced_are_never_taken() {
    let mut it = Victim::receiving();
    it.says(r#"{"t":"file","i":0}"#);
    it.sends(2);
    assert!(it.receiver.handle_data(2).is_none());
    it.drain();
    it.ended_by(&Fault::TooMuchData { file: 0, size: 3 });
}

#[test]
fn fewer_bytes_than_announced_are_a_fault_when_admitted() {
    let mut it = Victim::receiving();
    it.says(r#"{"t":"file","i":0}"#);
    it.sends(2);
    it.says(&end(0, 2, b"ab"));
    it.ended_by(&Fault::WrongSize {
        file: 0,
        size: 3,
        end: 2,
    });
}

#[test]
fn fewer_bytes_than_claimed_at_the_end_fail_verification() {
    for claimed in ["0", "1"] {
        let mut it = Victim::receiving();
        it.says(r#"{"t":"file","i":0}"#);
        it.sends(3);
        it.says(&end(0, 3, b"abc"));
        it.receiver.handle_committed(0);
        it.says(r#"{"t":"file","i":1}"#);
        it.sends(5);
        it.says(&end(1, 5 + claimed.len(), b"abcde"));
        assert_eq!(it.outcome().kind(), OutcomeKind::Verification);
        assert!(
            it.said
                .last()
                .unwrap()
                .starts_with(r#"{"t":"cancel","reason":"verify","i":1"#)
        );
    }
}

#[test]
fn a_wrong_hash_fails_verification_and_is_never_acknowledged() {
    let mut it = Victim::receiving();
    it.says(r#"{"t":"file","i":0}"#);
    it.sends(3);
    it.says(&end(0, 3, b"not these"));
    it.receiver.handle_mismatch(0);
    it.drain();
    assert_eq!(it.outcome().kind(), OutcomeKind::Verification);
    it.receiver.handle_committed(0);
    it.drain();
    assert!(!it.said.iter().any(|said| said.contains(r#""ack""#)));
}

#[test]
fn data_at_the_wrong_moment_is_a_fault() {
    for (script, when) in [
        (&[][..], "before \"hello\""),
        (&[HELLO_SEND], "before the end of the manifest"),
        (&[HELLO_SEND, MANIFEST], "before \"accept\""),
    ] {
        let mut it = Victim::new(script);
        assert!(it.receiver.handle_data(1).is_none());
        it.drain();
        it.ended_by(&Fault::UnexpectedData { when });
    }
    let mut it = Victim::receiving();
    assert!(it.receiver.handle_data(1).is_none());
    it.drain();
    it.ended_by(&Fault::UnexpectedData {
        when: "outside a file",
    });
}

#[test]
fn data_messages_of_no_bytes_or_too_many_are_a_fault() {
    for len in [0, 65_537, usize::MAX] {
        let mut it = Victim::receiving();
        it.says(r#"{"t":"file","i":0}"#);
        assert!(it.receiver.handle_data(len).is_none());
        it.drain();
        it.ended_by(&Fault::DataLength { len });
    }
}

#[test]
fn messages_in_the_wrong_order_are_a_fault() {
    for script in [
        &[MANIFEST][..],
        &[r#"{"t":"accept"}"#],
        &[HELLO_SEND, HELLO_SEND],
        &[HELLO_SEND, r#"{"t":"file","i":0}"#],
        &[HELLO_SEND, MANIFEST, MANIFEST],
        &[HELLO_SEND, MANIFEST, r#"{"t":"file","i":0}"#],
        &[HELLO_SEND, MANIFEST, r#"{"t":"bye"}"#],
        &[HELLO_SEND, MANIFEST, r#"{"t":"decline","reason":"user"}"#],
    ] {
        let it = Victim::new(script);
        assert!(
            matches!(it.outcome(), Outcome::Protocol(Fault::Unexpected { .. })),
            "{script:?}"
        );
    }
    for script in [
        &[r#"{"t":"file","i":1}"#][..],
        &[r#"{"t":"file","i":2}"#],
        &[r#"{"t":"file","i":18446744073709551615}"#],
        &[&end(0, 0, b"")],
        &[r#"{"t":"file","i":0}"#, r#"{"t":"file","i":1}"#],
        &[r#"{"t":"file","i":0}"#, &end(1, 0, b"")],
        &[r#"{"t":"bye"}"#],
        &[&ack(0, b"")],
        &[HELLO_SEND],
        &[MANIFEST],
    ] {
        let mut it = Victim::receiving();
        script.iter().for_each(|line| it.says(line));
        assert!(matches!(it.outcome(), Outcome::Protocol(_)), "{script:?}");
        assert!(
            it.said
                .last()
                .unwrap()
                .starts_with(r#"{"t":"cancel","reason":"protocol""#)
        );
    }
}

#[test]
fn what_cannot_be_read_is_a_fault_and_told_so() {
    let long = format!(r#"{{"t":"bye","pad":"{}"}}"#, "x".repeat(65_536));
    for (text, told) in [
        (long.as_str(), "65536 is the limit"),
        (r#"{"t":"shiny"}"#, "unknown type"),
        ("hello?", "cannot be read"),
        (r#"{"t":"file","i":"0"}"#, "cannot be read"),
    ] {
        let mut it = Victim::receiving();
        it.says(text);
        assert!(it.outcome().to_string().contains(told), "{}", it.outcome());
        assert!(it.said.last().unwrap().contains(told));
        assert_eq!(it.outcome().kind(), OutcomeKind::Failed);
    }
    let mut it = Victim::receiving();
    it.says(r#"{"t":"shiny","opt":true}"#);
    assert_eq!(it.receiver.outcome(), None);
}

#[test]
fn a_manifest_beyond_the_limits_is_a_fault() {
    let many = (0..3000)
        .map(|_| r#"{"name":"x"}"#)
        .collect::<Vec<_>>()
        .join(",");
    let part = format!(r#"{{"t":"manifest","files":[{many}],"more":true}}"#);
    let mut it = Victim::new(&[HELLO_SEND, &part, &part, &part, &part]);
    it.ended_by(&Fault::TooManyFiles);

    let huge = r#"{"name":"x","size":9007199254740991}"#;
    for (files, total, fault) in [
        (format!("{huge},{huge}"), "1", Fault::TotalTooLarge),
        (
            r#"{"name":"x","size":18446744073709551615}"#.into(),
            "1",
            Fault::TotalTooLarge,
        ),
        (r#"{"name":"x","size":4}"#.into(), "5", Fault::WrongTotal),
        (r#"{"name":"x","size":4}"#.into(), "null", Fault::WrongTotal),
        (r#"{"name":"x"}"#.into(), "0", Fault::WrongTotal),
    ] {
        let text = format!(r#"{{"t":"manifest","files":[{files}],"total":{total}}}"#);
        it = Victim::new(&[HELLO_SEND, &text]);
        it.ended_by(&fault);
    }
}

#[test]
fn a_text_that_is_not_one_is_a_fault() {
    let text = |size: &str| format!(r#"{{"name":"t","size":{size},"kind":"text"}}"#);
    let file = r#"{"name":"f","size":1}"#;
    for files in [
        text("65537"),
        text("null"),
        format!("{file},{}", text("1")),
        format!("{},{file}", text("1")),
        format!("{},{}", text("1"), text("1")),
    ] {
        let it = Victim::new(&[
            HELLO_SEND,
            &format!(r#"{{"t":"manifest","files":[{files}],"total":null}}"#),
        ]);
        assert!(
            matches!(it.outcome(), Outcome::Protocol(Fault::Malformed { .. })),
            "{files}: {:?}",
            it.outcome()
        );
    }
    // Over two parts it is the same.
    let part = |files: &str, rest: &str| format!(r#"{{"t":"manifest","files":[{files}],{rest}}}"#);
    let it = Victim::new(&[
        HELLO_SEND,
        &part(&text("1"), r#""more":true"#),
        &part(file, r#""total":2"#),
    ]);
    assert!(matches!(
        it.outcome(),
        Outcome::Protocol(Fault::Malformed { .. })
    ));

    let mut it = Victim::new(&[HELLO_SEND, &part(&text("1"), r#""total":1"#)]);
    it.receiver.accept();
    it.says(r#"{"t":"file","i":0}"#);
    it.sends(1);
    it.says(&end(0, 1, b"\xff"));
    it.receiver.handle_not_text(0);
    it.drain();
    it.ended_by(&Fault::NotText);
}

#[test]
fn a_sixty_fifth_file_without_acknowledgements_is_a_fault() {
    let files = vec![r#"{"name":"x","size":0}"#; 70].join(",");
    let manifest = format!(r#"{{"t":"manifest","files":[{files}],"total":0}}"#);
    let mut it = Victim::new(&[HELLO_SEND, &manifest]);
    it.receiver.accept();
    for i in 0..64 {
        it.says(&format!(r#"{{"t":"file","i":{i}}}"#));
        it.says(&end(i, 0, b""));
    }
    assert_eq!(it.receiver.outcome(), None);
    it.says(r#"{"t":"file","i":64}"#);
    it.ended_by(&Fault::TooManyUnacked);
}

#[test]
fn nothing_after_the_end_has_an_effect() {
    let mut it = Victim::receiving();
    it.says(r#"{"t":"bye"}"#);
    let (outcome, said) = (it.outcome().clone(), it.said.len());
    it.says(r#"{"t":"file","i":0}"#);
    it.says("garbage");
    assert!(it.receiver.handle_data(3).is_none());
    it.receiver.accept();
    it.receiver.cancel(CancelReason::User, "");
    it.receiver.handle_write_error(0, "late");
    it.drain();
    assert_eq!((it.outcome(), it.said.len()), (&outcome, said));
    assert_eq!(it.receiver.closing(), Some(Closing::AwaitPeer));
    it.says(r#"{"t":"cancel","reason":"user","text":""}"#);
    assert_eq!(it.receiver.closing(), Some(Closing::Now));
}

#[test]
fn a_sender_cannot_talk_a_receiver_into_done_early() {
    let mut it = Victim::receiving();
    it.says(r#"{"t":"file","i":0}"#);
    it.sends(3);
    it.says(&end(0, 3, b"abc"));
    it.says(r#"{"t":"file","i":1}"#);
    it.says(&end(1, 0, b""));
    it.receiver.handle_closed();
    it.drain();
    assert_eq!(it.receiver.outcome(), None, "both files wait for the disk");
    it.receiver.handle_committed(1);
    it.drain();
    assert_eq!(it.receiver.outcome(), None);
    it.receiver.handle_mismatch(0);
    it.drain();
    assert_eq!(it.outcome().kind(), OutcomeKind::Verification);
}

#[test]
fn a_sender_cannot_offer_anything_before_both_persons_agreed() {
    let asks = HELLO_SEND.replace(r#""caps""#, r#""verify":true,"caps""#);
    let when = "before the words were compared";
    for (agreed_here, agreed_there) in [(false, false), (true, false), (false, true)] {
        for line in [
            MANIFEST,
            r#"{"t":"file","i":0}"#,
            r#"{"t":"bye"}"#,
            &end(0, 0, b""),
        ] {
            let mut it = Victim::comparing(&asks, agreed_here, agreed_there);
            it.says(line);
            assert!(
                matches!(it.outcome(), Outcome::Protocol(Fault::Unexpected { when: at, .. }) if *at == when),
                "{line}: {:?}",
                it.outcome()
            );
            assert_eq!(it.receiver.files(), []);
        }
        let mut it = Victim::comparing(&asks, agreed_here, agreed_there);
        assert!(it.receiver.handle_data(1).is_none());
        it.drain();
        it.ended_by(&Fault::UnexpectedData { when });
    }
    let mut it = Victim::comparing(&asks, true, true);
    it.says(MANIFEST);
    it.receiver.accept();
    it.drain();
    assert_eq!(it.said.last().unwrap(), r#"{"t":"accept"}"#);
    let mut it = Victim::comparing(&asks, false, true);
    it.says(r#"{"t":"agree"}"#);
    it.ended_by(&Fault::Unexpected {
        t: "agree",
        when: "after \"agree\"",
    });
}

// ---- In front of the sender ------------------------------------------------------------------

#[test]
fn acknowledgements_never_earned_are_a_fault() {
    for (ack, due) in [
        (ack(0, b"abc"), None),
        (ack(1, b"abc"), None),
        (
            r#"{"t":"ack","i":99999999999,"blake3":"%"}"#.replace('%', &"0".repeat(64)),
            None,
        ),
    ] {
        let mut sender = Offering::accepted();
        sender.says(&ack);
        let Outcome::Protocol(Fault::WrongFile {
            t: "ack", due: got, ..
        }) = sender.outcome()
        else {
            panic!("{:?}", sender.outcome())
        };
        assert_eq!(*got, due);
    }
}

#[test]
fn acknowledgements_twice_or_out_of_order_are_a_fault() {
    for acks in [[0, 0], [1, 0]] {
        let mut it = Offering::accepted();
        it.sends_file(b"abc");
        it.sends_file(b"defg");
        let contents: [&[u8]; 2] = [b"abc", b"defg"];
        acks.iter().for_each(|i| it.says(&ack(*i, contents[*i])));
        assert!(matches!(
            it.outcome(),
            Outcome::Protocol(Fault::WrongFile { .. })
        ));
    }
}

#[test]
fn an_acknowledgement_with_another_hash_fails_verification() {
    let mut it = Offering::accepted();
    it.sends_file(b"abc");
    it.says(&ack(0, b"abd"));
    assert_eq!(it.outcome().kind(), OutcomeKind::Verification);
    assert!(
        it.said
            .last()
            .unwrap()
            .starts_with(r#"{"t":"cancel","reason":"verify","i":0"#)
    );
}

#[test]
fn a_bye_from_the_receiver_or_a_second_accept_is_a_fault() {
    for line in [
        r#"{"t":"bye"}"#,
        r#"{"t":"accept"}"#,
        r#"{"t":"decline","reason":"user"}"#,
        HELLO_RECEIVE,
        MANIFEST,
    ] {
        let mut it = Offering::accepted();
        it.says(line);
        assert!(
            matches!(it.outcome(), Outcome::Protocol(Fault::Unexpected { .. })),
            "{line}"
        );
    }
    let mut early = Offering::new();
    early.says(r#"{"t":"accept"}"#);
    assert!(matches!(
        early.outcome(),
        Outcome::Protocol(Fault::Unexpected { .. })
    ));
}

#[test]
fn data_from_the_receiving_side_is_a_fault() {
    let mut it = Offering::accepted();
    it.sender.handle_data(10);
    it.drain();
    assert!(matches!(
        it.outcome(),
        Outcome::Protocol(Fault::UnexpectedData { .. })
    ));
}

#[test]
fn a_read_that_comes_back_after_the_end_is_dropped() {
    let mut it = Offering::accepted();
    assert_eq!(it.read, Some((0, 65_536)));
    it.says(r#"{"t":"cancel","reason":"user","text":"stop"}"#);
    assert!(!it.sender.handle_read(3));
    it.sender.handle_eof(blake3::hash(b"abc"));
    it.sender.handle_read_error("late");
    it.sender.handle_changed();
    it.drain();
    assert_eq!(it.outcome().kind(), OutcomeKind::Failed);
    assert_eq!(it.sender.sent_bytes(), 0);
}

#[test]
fn a_receiver_cannot_have_the_names_before_both_persons_agreed() {
    for script in [
        &[r#"{"t":"accept"}"#][..],
        &[r#"{"t":"agree"}"#, r#"{"t":"accept"}"#],
        &[r#"{"t":"agree"}"#, r#"{"t":"agree"}"#],
        &[r#"{"t":"decline","reason":"user"}"#],
        &[HELLO_RECEIVE],
    ] {
        let mut it = Offering::verified();
        it.says(HELLO_RECEIVE);
        script.iter().for_each(|line| it.says(line));
        assert!(
            matches!(it.outcome(), Outcome::Protocol(Fault::Unexpected { .. })),
            "{script:?}"
        );
        assert!(it.said_nothing_of_the_users(), "{:?}", it.said);
    }
    // The person's own word is not enough either, and counts once.
    let mut it = Offering::verified();
    it.sender.agree();
    it.says(HELLO_RECEIVE);
    assert_eq!(it.said.len(), 1, "there was nothing to agree to yet");
    it.sender.agree();
    it.sender.agree();
    it.drain();
    assert_eq!(it.said[1..], [r#"{"t":"agree"}"#]);
    assert!(it.said_nothing_of_the_users(), "{:?}", it.said);
    it.says(r#"{"t":"agree"}"#);
    assert!(
        it.said[2].starts_with(r#"{"t":"manifest""#),
        "{:?}",
        it.said
    );
    it.says(r#"{"t":"agree"}"#);
    assert!(matches!(it.outcome(), Outcome::Protocol(_)));
}

#[test]
fn agreement_that_nobody_asked_for_is_a_fault() {
    for early in [&[][..], &[HELLO_RECEIVE]] {
        let mut it = Offering::new();
        early.iter().for_each(|line| it.says(line));
        it.says(r#"{"t":"agree"}"#);
        assert!(matches!(
            it.outcome(),
            Outcome::Protocol(Fault::Unexpected { t: "agree", .. })
        ));
    }
    for early in [&[][..], &[HELLO_SEND], &[HELLO_SEND, MANIFEST]] {
        let mut it = Victim::new(early);
        it.says(r#"{"t":"agree"}"#);
        assert!(matches!(
            it.outcome(),
            Outcome::Protocol(Fault::Unexpected { t: "agree", .. })
        ));
    }
}

#[test]
fn a_smaller_limit_of_the_peer_is_kept() {
    let mut it = Offering::new();
    it.says(&HELLO_RECEIVE.replace(r#""max_data":65536"#, r#""max_data":2048"#));
    it.says(r#"{"t":"accept"}"#);
    assert_eq!(it.read, Some((0, 2048)));
    assert!(!it.sender.handle_read(2049));
    it.drain();
    assert_eq!(it.outcome().word(), "internal");
}

// ---- Hellos that do not fit ------------------------------------------------------------------

#[test]
fn versions_that_do_not_meet_are_told_by_each_to_the_other() {
    let newer = HELLO_SEND
        .replace("[1,1]", "[2,3]")
        .replace("0.1.0", "9.0.0");
    let it = Victim::new(&[&newer]);
    assert_eq!(
        it.outcome().to_string(),
        "the other side (knothole 9.0.0) speaks protocol versions 2 to 3, this one version 1: \
         update this side"
    );
    assert_eq!(
        it.said.last().unwrap(),
        r#"{"t":"cancel","reason":"version","text":"it speaks version 1, this side versions 2 to 3"}"#
    );
    let mut sender = Offering::new();
    sender.says(&newer);
    assert!(matches!(
        sender.outcome(),
        Outcome::Incompatible(Mismatch::Versions { .. })
    ));
    let meets = HELLO_SEND.replace("[1,1]", "[1,3]");
    assert_eq!(Victim::new(&[&meets]).receiver.peer().unwrap().proto, 1);
}

#[test]
fn two_senders_and_two_receivers_say_so() {
    let it = Victim::new(&[HELLO_RECEIVE]);
    assert_eq!(it.outcome().to_string(), "both sides want to receive");
    let mut sender = Offering::new();
    sender.says(HELLO_SEND);
    assert_eq!(sender.outcome().to_string(), "both sides want to send");
    assert!(sender.said.last().unwrap().contains(r#""reason":"role""#));
    assert_eq!(sender.outcome().kind(), OutcomeKind::Failed);
}

// ---- Scaffolding -----------------------------------------------------------------------------

/// A real receiver.
struct Victim {
    receiver: Receiver,
    said: Vec<String>,
}

impl Victim {
    fn new(script: &[&str]) -> Self {
        let mut it = Self {
            receiver: Receiver::new(LOCAL),
            said: Vec::new(),
        };
        it.drain();
        script.iter().for_each(|line| it.says(line));
        it
    }

    /// After this hello, which wants the words compared.
    fn comparing(hello: &str, agreed_here: bool, agreed_there: bool) -> Self {
        let mut it = Self::new(&[hello]);
        if agreed_here {
            it.receiver.agree();
            it.drain();
            assert_eq!(it.said.last().unwrap(), r#"{"t":"agree"}"#);
        }
        if agreed_there {
            it.says(r#"{"t":"agree"}"#);
        }
        it
    }

    fn receiving() -> Self {
        let mut it = Self::new(&[HELLO_SEND, MANIFEST]);
        it.receiver.accept();
        it.drain();
        assert_eq!(it.said.last().unwrap(), r#"{"t":"accept"}"#);
        it
    }

    fn says(&mut self, line: &str) {
        self.receiver.handle_control(line.as_bytes());
        self.drain();
    }

    fn sends(&mut self, len: usize) {
        assert!(self.receiver.handle_data(len).is_some());
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.receiver.poll_output() {
                receiver::Output::Control(text) => self.said.push(text),
                receiver::Output::Idle => break,
                _ => {}
            }
        }
    }

    fn outcome(&self) -> &Outcome {
        self.receiver.outcome().expect("ended")
    }

    fn ended_by(&self, fault: &Fault) {
        assert_eq!(self.outcome(), &Outcome::Protocol(fault.clone()));
        assert!(
            self.said
                .last()
                .unwrap()
                .starts_with(r#"{"t":"cancel","reason":"protocol""#)
        );
    }
}

/// A real sender of two files, `abc` and a stream.
struct Offering {
    sender: Sender,
    said: Vec<String>,
    read: Option<(usize, usize)>,
}

impl Offering {
    fn new() -> Self {
        Self::of(LOCAL)
    }

    /// One whose person wants the words compared.
    fn verified() -> Self {
        Self::of(Local {
            verify: true,
            ..LOCAL
        })
    }

    fn of(local: Local<'static>) -> Self {
        let files = vec![
            Offer::file("a", Some(3)),
            Offer::file("b", None),
            Offer::file("c", Some(9)),
        ];
        let sender = Sender::new(local, files).unwrap();
        let mut it = Self {
            sender,
            said: Vec::new(),
            read: None,
        };
        it.drain();
        it
    }

    fn accepted() -> Self {
        let mut it = Self::new();
        it.says(HELLO_RECEIVE);
        it.says(r#"{"t":"accept"}"#);
        it
    }

    fn says(&mut self, line: &str) {
        self.sender.handle_control(line.as_bytes());
        self.drain();
    }

    fn said_nothing_of_the_users(&self) -> bool {
        let harmless = ["hello", "agree", "cancel"];
        self.said.iter().all(|text| {
            let message = Message::parse(text.as_bytes()).unwrap().unwrap();
            harmless.contains(&message.name())
        })
    }

    fn sends_file(&mut self, bytes: &[u8]) {
        assert!(self.read.take().is_some());
        assert!(self.sender.handle_read(bytes.len()));
        self.drain();
        assert!(self.read.take().is_some());
        self.sender.handle_eof(blake3::hash(bytes));
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.sender.poll_output() {
                sender::Output::Control(text) => self.said.push(text),
                sender::Output::Read { file, max } => self.read = Some((file, max)),
                sender::Output::Event(_) => {}
                sender::Output::Idle => break,
            }
        }
    }

    fn outcome(&self) -> &Outcome {
        self.sender.outcome().expect("ended")
    }
}
