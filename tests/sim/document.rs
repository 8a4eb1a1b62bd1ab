//! What docs/protocol.md shows is what the machines say.

use std::time::{Duration, Instant};

use knothole::proto::app::message::Message;
use knothole::proto::app::transfer::{receiver, sender};
use knothole::proto::app::{
    Bench, CancelReason, Closing, DeclineReason, Offer, Only, Outcome, Pipe, Receiver, Sender,
    bench, pipe,
};

use crate::world::LOCAL;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

#[test]
fn every_complete_message_in_the_document_can_be_read() {
    let shown = |line: &&str| line.starts_with(r#"{"t":"#) && !line.contains('…');
    let lines: Vec<&str> = DOCUMENT.lines().filter(shown).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        assert!(
            matches!(Message::parse(line.as_bytes()), Ok(Some(_))),
            "{line}"
        );
    }
}

#[test]
fn the_list_of_words_is_the_published_one() {
    let list = include_bytes!("../../src/proto/app/words/english.txt");
    let digest = ring::digest::digest(&ring::digest::SHA256, list);
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(DOCUMENT.contains(&hex), "{hex}");
}

#[test]
fn every_reason_is_documented() {
    let cancel = CancelReason::ALL.iter().map(|reason| reason.word());
    for word in cancel.chain(DeclineReason::ALL.iter().map(|reason| reason.word())) {
        assert!(DOCUMENT.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn the_whole_talk_happens_as_it_is_shown() {
    let shown: Vec<&str> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("S→R {") || line.starts_with("R→S {"))
        .collect();
    let offer = vec![Offer::file("empty", Some(0))];
    let mut sender = Sender::new(LOCAL, offer).unwrap();
    let mut receiver = Receiver::new(LOCAL);
    let mut said = Vec::new();
    let mut before = usize::MAX;
    while before != said.len() {
        before = said.len();
        let mut texts = Vec::new();
        loop {
            match sender.poll_output() {
                sender::Output::Control(text) => texts.push(text),
                sender::Output::Read { .. } => sender.handle_eof(blake3::hash(b"")),
                sender::Output::Event(_) => {}
                sender::Output::Idle => break,
            }
        }
        for text in texts {
            receiver.handle_control(text.as_bytes());
            said.push(format!("S→R {text}"));
        }
        let mut texts = Vec::new();
        loop {
            match receiver.poll_output() {
                receiver::Output::Control(text) => texts.push(text),
                receiver::Output::Offer { .. } => receiver.accept(),
                receiver::Output::Finish { file, .. } => receiver.handle_committed(file),
                receiver::Output::Begin { .. } | receiver::Output::Event(_) => {}
                receiver::Output::Idle => break,
            }
        }
        for text in texts {
            sender.handle_control(text.as_bytes());
            said.push(format!("R→S {text}"));
        }
    }
    assert_eq!(said, shown);
    assert_eq!(sender.outcome(), Some(&Outcome::Done));
    assert_eq!(receiver.outcome(), Some(&Outcome::Done));
}

#[test]
fn the_pipes_talk_happens_as_it_is_shown() {
    let shown: Vec<&str> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("A→B {") || line.starts_with("B→A {"))
        .collect();
    let mut ends = [
        ("A→B", Pipe::new(LOCAL, None)),
        ("B→A", Pipe::new(LOCAL, Some(Only::Receive))),
    ];
    let mut said = Vec::new();
    let mut before = usize::MAX;
    while before != said.len() {
        before = said.len();
        let texts = ends.each_mut().map(|(way, end)| {
            let mut texts = Vec::new();
            loop {
                match end.poll_output() {
                    pipe::Output::Control(text) => texts.push(text),
                    pipe::Output::Read { .. } => end.handle_eof(blake3::hash(b"")),
                    pipe::Output::Finish { .. } => end.handle_finished(),
                    pipe::Output::Event(_) => {}
                    pipe::Output::Idle => break,
                }
            }
            said.extend(texts.iter().map(|text| format!("{way} {text}")));
            texts
        });
        let [from_a, from_b] = texts;
        from_a
            .iter()
            .for_each(|text| ends[1].1.handle_control(text.as_bytes()));
        from_b
            .iter()
            .for_each(|text| ends[0].1.handle_control(text.as_bytes()));
    }
    assert_eq!(said, shown);
    for (_, end) in &ends {
        assert_eq!(end.outcome(), Some(&Outcome::Done));
        assert_eq!(end.closing(), Some(Closing::Now));
    }
}

#[test]
fn the_benches_talk_happens_as_it_is_shown() {
    let shown: Vec<&str> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("J→I {") || line.starts_with("I→J {"))
        .collect();
    let wish = |joined, only| bench::Wish {
        time: Duration::from_secs(1),
        only,
        joined,
    };
    let mut ends = [
        ("J→I", Bench::new(LOCAL, wish(true, None))),
        ("I→J", Bench::new(LOCAL, wish(false, Some(Only::Receive)))),
    ];
    let mut now = Instant::now();
    let mut said = Vec::new();
    while ends.iter().any(|(_, end)| end.outcome().is_none()) {
        let texts = ends.each_mut().map(|(way, end)| {
            let mut texts = Vec::new();
            loop {
                match end.poll_output() {
                    bench::Output::Control(text) => texts.push(text),
                    bench::Output::Send { .. } | bench::Output::Event(_) => {}
                    bench::Output::Idle => break,
                }
            }
            said.extend(texts.iter().map(|text| format!("{way} {text}")));
            texts
        });
        let quiet = texts.iter().all(Vec::is_empty);
        let [from_j, from_i] = texts;
        for text in from_j {
            ends[1].1.handle_control(now, text.as_bytes());
        }
        for text in from_i {
            ends[0].1.handle_control(now, text.as_bytes());
        }
        if quiet {
            let due = ends.iter().filter_map(|(_, end)| end.poll_timeout()).min();
            now = due.unwrap_or_else(|| panic!("it does not go on: {said:#?}"));
            for (_, end) in &mut ends {
                end.handle_timeout(now);
            }
        }
    }
    for (_, end) in &ends {
        assert_eq!(end.outcome(), Some(&Outcome::Done));
    }
    let first = |line: &String| !line.contains(r#""n":"#) || line.contains(r#""n":0}"#);
    said.retain(first);
    assert_eq!(said, shown);
    assert_eq!(bench::ECHOES, 20);
}

#[test]
fn the_limits_of_a_pipe_are_the_documented_ones() {
    assert_eq!(pipe::WINDOW, 4_194_304);
    assert_eq!((pipe::cost(0), pipe::MAX_AHEAD), (256, 16 << 20));
}
