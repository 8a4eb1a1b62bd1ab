//! The fuzz body: random operations on both machines, joined by two queues the input may spoil.

use std::collections::VecDeque;

use super::hello::Local;
use super::message::{CancelReason, DeclineReason, MAX_DATA, Offer};
use super::outcome::Outcome;
use super::transfer::{Receiver, Sender, receiver, sender};
use crate::proto::fuzz::Input;

#[derive(Clone)]
enum Frame {
    Text(Vec<u8>),
    Data(usize),
}

/// Reads operations out of `data` and applies them; panics when a machine breaks its contract.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let mut input = Input(data);
    let first = input.byte().unwrap_or(0);
    let count = match usize::from(first & 63) {
        // More than may be sent ahead of their acknowledgements.
        63 => 70,
        n => n + 1,
    };
    let files = (0..count)
        .map(|n| Offer {
            name: format!("f{n}"),
            size: (n % 3 != 2).then_some(n as u64 % 5),
        })
        .collect();
    let local = |verify| Local {
        version: "fuzz",
        verify,
    };
    let wanted = first & 64 != 0;
    let mut sender = Sender::new(local(wanted), files).expect("the offer is within the limits");
    let mut receiver = Receiver::new(local(first & 128 != 0));
    let (mut sender_agreed, mut receiver_agreed) = (false, false);
    let (mut to_receiver, mut to_sender) = (VecDeque::new(), VecDeque::new());
    let (mut sender_ends, mut receiver_ends) = (0, 0);
    let mut reading = None;

    while let Some(op) = input.byte() {
        match op % 26 {
            0..=3 => match to_receiver.pop_front() {
                Some(Frame::Text(text)) => receiver.handle_control(&text),
                Some(Frame::Data(len)) => drop(receiver.handle_data(len)),
                None => {}
            },
            4..=7 => match to_sender.pop_front() {
                Some(Frame::Text(text)) => sender.handle_control(&text),
                Some(Frame::Data(len)) => sender.handle_data(len),
                None => {}
            },
            8 | 9 => {
                let len = usize::from(input.byte().unwrap_or(0) % 6);
                if sender.handle_read(len) {
                    assert!(
                        reading.is_some(),
                        "a read that was not asked for was counted"
                    );
                    to_receiver.push_back(Frame::Data(len));
                }
            }
            10 => sender.handle_eof([input.byte().unwrap_or(0) % 2; 32]),
            11 | 12 => receiver.handle_committed(file(&mut input)),
            13 => receiver.accept(),
            14 => match input.byte().unwrap_or(0) % 8 {
                0 => sender.handle_changed(),
                1 => sender.handle_read_error("gone"),
                2 => receiver.handle_mismatch(file(&mut input)),
                3 => receiver.handle_write_error(file(&mut input), "full"),
                4 => receiver.decline(DeclineReason::Other, "no"),
                5 => drop(sender.handle_read(MAX_DATA + file(&mut input))),
                6 => sender.cancel(CancelReason::User, "stop"),
                _ => receiver.cancel(CancelReason::User, "stop"),
            },
            15 => sender.handle_closed(),
            16 => receiver.handle_closed(),
            17 => to_receiver.push_back(Frame::Data(MAX_DATA * file(&mut input))),
            18 => to_sender.push_back(Frame::Data(file(&mut input))),
            19 => to_receiver.push_front(message(&mut input)),
            20 => to_sender.push_front(message(&mut input)),
            21 => spoil(&mut to_receiver, &mut input),
            22 => spoil(&mut to_sender, &mut input),
            23 => {
                sender.agree();
                sender_agreed = true;
            }
            24 => {
                receiver.agree();
                receiver_agreed = true;
            }
            _ => to_receiver.push_back(Frame::Text(input.take(40).to_vec())),
        }
        loop {
            match sender.poll_output() {
                sender::Output::Control(text) => {
                    let shown = text.starts_with(r#"{"t":"manifest""#);
                    assert!(
                        !shown || !wanted || (sender_agreed && receiver_agreed),
                        "{text}"
                    );
                    transmit(&mut to_receiver, text);
                }
                sender::Output::Read { file, .. } => reading = Some(file),
                sender::Output::Event(event) => {
                    assert_eq!(sender_ends, 0, "an event after the end: {event:?}");
                    sender_ends += usize::from(matches!(event, sender::Event::Finished(_)));
                }
                sender::Output::Idle => break,
            }
        }
        loop {
            match receiver.poll_output() {
                receiver::Output::Control(text) => transmit(&mut to_sender, text),
                receiver::Output::Event(event) => {
                    assert_eq!(receiver_ends, 0, "an event after the end: {event:?}");
                    receiver_ends += usize::from(matches!(event, receiver::Event::Finished(_)));
                }
                receiver::Output::Idle => break,
                _ => {}
            }
        }
        assert_eq!(sender_ends == 1, sender.outcome().is_some());
        assert_eq!(receiver_ends == 1, receiver.outcome().is_some());
        assert_eq!(sender.outcome().is_some(), sender.closing().is_some());
        assert_eq!(receiver.outcome().is_some(), receiver.closing().is_some());
        if sender.outcome() == Some(&Outcome::Done) {
            assert_eq!(sender.acked_files(), count);
        }
        if receiver.outcome() == Some(&Outcome::Done) {
            assert_eq!(receiver.committed_files(), receiver.files().len());
        }
    }
}

fn transmit(queue: &mut VecDeque<Frame>, text: String) {
    assert!(text.len() <= super::message::MAX_CONTROL);
    queue.push_back(Frame::Text(text.into_bytes()));
}

/// Drops, doubles or changes the next frame of a queue.
fn spoil(queue: &mut VecDeque<Frame>, input: &mut Input<'_>) {
    let Some(frame) = queue.front_mut() else {
        return;
    };
    match (input.byte().unwrap_or(0) % 4, frame) {
        (0, _) => drop(queue.pop_front()),
        (1, frame) => {
            let twin = frame.clone();
            queue.push_front(twin);
        }
        (_, Frame::Text(text)) => {
            let place = usize::from(input.byte().unwrap_or(0)) % text.len().max(1);
            if let Some(byte) = text.get_mut(place) {
                *byte = input.byte().unwrap_or(b' ');
            }
        }
        (_, Frame::Data(len)) => *len = file(input),
    }
}

/// A file's number; a few are of none.
fn file(input: &mut Input<'_>) -> usize {
    input.below(72)
}

/// A well-formed message at a moment of the input's choosing.
fn message(input: &mut Input<'_>) -> Frame {
    let (i, n) = (file(input), file(input) % 6);
    let hash = format!("{:02x}", n % 2).repeat(32);
    let text = match input.byte().unwrap_or(0) % 12 {
        0 => r#"{"t":"hello","knothole":"x","proto":[1,2],"role":"send"}"#.to_owned(),
        1 => r#"{"t":"hello","knothole":"x","proto":[1,2],"role":"receive"}"#.to_owned(),
        2 => format!(r#"{{"t":"hello","knothole":"x","proto":[{i},{n}],"role":"send"}}"#),
        3 => format!(r#"{{"t":"manifest","files":[{{"name":"a","size":{n}}}],"more":true}}"#),
        4 => format!(r#"{{"t":"manifest","files":[{{"name":"a","size":{n}}}],"total":{n}}}"#),
        5 => format!(r#"{{"t":"file","i":{i}}}"#),
        6 => format!(r#"{{"t":"end","i":{i},"size":{n},"blake3":"{hash}"}}"#),
        7 => format!(r#"{{"t":"ack","i":{i},"blake3":"{hash}"}}"#),
        8 => r#"{"t":"accept"}"#.to_owned(),
        9 => r#"{"t":"bye"}"#.to_owned(),
        10 => format!(r#"{{"t":"cancel","reason":"verify","i":{i}}}"#),
        _ => r#"{"t":"shiny","opt":true}"#.to_owned(),
    };
    Frame::Text(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_operations_never_break_the_contract(
            data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            super::fuzz(&data);
        }

        #[test]
        fn random_operations_after_an_orderly_start_never_break_the_contract(
            data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            // Three files; hellos, manifest, accept; then anything.
            let mut ops = vec![2, 0, 4, 0, 0, 13, 4];
            ops.extend(data);
            super::fuzz(&ops);
        }
    }
}
