//! The fuzz bodies: random operations on two machines, joined by two queues the input may spoil.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::bench::{self, Bench, Wish};
use super::hello::{Local, Only};
use super::message::{CancelReason, DeclineReason, MAX_DATA, Offer};
use super::outcome::Outcome;
use super::pipe::{self, Pipe, WINDOW, cost};
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
        .map(|n| Offer::file(format!("f{n}"), (n % 3 != 2).then_some(n as u64 % 5)))
        .collect();
    let local = |verify| Local {
        version: "fuzz",
        verify,
    };
    let wanted = first & 64 != 0;
    let mut sender = Sender::new(local(wanted), files).expect("the offer is within the limits");
    let mut receiver = Receiver::new(local(first & 128 != 0));
    let (mut sender_agreed, mut receiver_agreed) = (!wanted, first & 128 == 0);
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
                sender_agreed = true;
                sender.agree();
            }
            24 => {
                receiver_agreed = true;
                receiver.agree();
            }
            _ => to_receiver.push_back(Frame::Text(input.take(40).to_vec())),
        }
        loop {
            match sender.poll_output() {
                sender::Output::Control(text) => {
                    let early = text.starts_with(r#"{"t":"manifest""#) && !sender_agreed;
                    assert!(!early, "an offer before the person agreed");
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
        assert!(receiver_agreed || receiver.files().is_empty());
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

/// As [`fuzz`], for two pipes.
#[doc(hidden)]
pub fn fuzz_pipe(data: &[u8]) {
    let mut input = Input(data);
    let local = Local {
        version: "fuzz",
        verify: input.byte().unwrap_or(0) % 8 == 7,
    };
    let mut ends = [(); 2].map(|()| {
        PipeEnd::new(match input.byte().unwrap_or(0) % 6 {
            0 => Pipe::new(local, Some(Only::Send)),
            1 => Pipe::new(local, Some(Only::Receive)),
            _ => Pipe::new(local, None),
        })
    });
    while let Some(op) = input.byte() {
        let side = usize::from(op & 1);
        let [first, second] = &mut ends;
        let (end, other) = if side == 0 {
            (first, second)
        } else {
            (second, first)
        };
        match op / 2 % 20 {
            0..=4 => match end.inbox.pop_front() {
                Some(Frame::Text(text)) => end.machine.handle_control(&text),
                Some(Frame::Data(len)) if end.machine.handle_data(len) => {
                    assert!(end.takes, "a stream that nobody takes");
                    end.held += cost(len);
                    end.backlog.push_back(len);
                    assert!(end.held <= WINDOW, "more than the window: {}", end.held);
                }
                Some(Frame::Data(_)) | None => {}
            },
            5..=7 => {
                let len = usize::from(input.byte().unwrap_or(0)) * 300 % (MAX_DATA + 2000);
                let asked = end.asked.take();
                if end.machine.handle_read(len) {
                    assert!(asked.is_some_and(|max| len <= max), "not asked for");
                    other.inbox.push_back(Frame::Data(len));
                }
            }
            8 => end.machine.handle_eof([input.byte().unwrap_or(0) % 2; 32]),
            9 | 10 => {
                if let Some(len) = end.backlog.pop_front() {
                    end.held -= cost(len);
                    end.machine.handle_taken(cost(len));
                }
            }
            11 => {
                if std::mem::take(&mut end.finishing) {
                    end.machine.handle_finished();
                }
            }
            12 => match input.byte().unwrap_or(0) % 10 {
                0 => end.machine.handle_read_error("gone"),
                1 => end.machine.handle_write_error("full"),
                2 => end.machine.handle_mismatch(),
                3 => end.machine.handle_reader_gone(u64::from(op), [0; 32]),
                4 => end.machine.cancel(CancelReason::User, "stop"),
                5 => end.machine.handle_closed(),
                _ => end.machine.agree(),
            },
            13 => end
                .inbox
                .push_back(Frame::Data(MAX_DATA * file(&mut input))),
            14 => end.inbox.push_back(Frame::Data(file(&mut input))),
            15 => end.inbox.push_front(pipe_message(&mut input)),
            16 => end.inbox.push_back(pipe_message(&mut input)),
            17 => spoil(&mut end.inbox, &mut input),
            _ => end.inbox.push_back(Frame::Text(input.take(40).to_vec())),
        }
        for side in 0..2 {
            while let Some(frame) = ends[side].drain() {
                ends[1 - side].inbox.push_back(frame);
            }
        }
    }
}

/// A pipe machine and what its I/O layer would hold.
struct PipeEnd {
    machine: Pipe,
    inbox: VecDeque<Frame>,
    asked: Option<usize>,
    takes: bool,
    backlog: VecDeque<usize>,
    held: u64,
    finishing: bool,
    ended: bool,
}

impl PipeEnd {
    fn new(machine: Pipe) -> Self {
        Self {
            machine,
            inbox: VecDeque::new(),
            asked: None,
            takes: false,
            backlog: VecDeque::new(),
            held: 0,
            finishing: false,
            ended: false,
        }
    }

    /// Takes outputs up to the next message, which it returns.
    fn drain(&mut self) -> Option<Frame> {
        loop {
            match self.machine.poll_output() {
                pipe::Output::Control(text) => {
                    assert!(text.len() <= super::message::MAX_CONTROL);
                    return Some(Frame::Text(text.into_bytes()));
                }
                pipe::Output::Read { max } => {
                    assert!((1..=MAX_DATA).contains(&max));
                    assert!(self.asked.replace(max).is_none(), "two reads at once");
                }
                pipe::Output::Finish { .. } => self.finishing = true,
                pipe::Output::Event(event) => {
                    assert!(!self.ended, "an event after the end: {event:?}");
                    match event {
                        pipe::Event::Open { takes, .. } => self.takes = takes,
                        pipe::Event::Finished(_) => {
                            self.ended = true;
                            self.asked = None;
                        }
                        _ => {}
                    }
                }
                pipe::Output::Idle => break,
            }
        }
        let (outcome, closing) = (self.machine.outcome(), self.machine.closing());
        assert_eq!(outcome.is_some(), self.ended);
        assert_eq!(outcome.is_some(), closing.is_some());
        None
    }
}

/// As [`fuzz`], for two benches; time passes as the input says.
#[doc(hidden)]
pub fn fuzz_bench(data: &[u8], now: Instant) {
    let (mut input, mut now) = (Input(data), now);
    let mut ends = [true, false].map(|joined| {
        let (first, time) = (input.byte().unwrap_or(0), input.byte().unwrap_or(0));
        let local = Local {
            version: "fuzz",
            verify: first % 16 == 15,
        };
        let wish = Wish {
            time: Duration::from_millis(u64::from(time) * 40),
            only: match first % 6 {
                0 => Some(Only::Send),
                1 => Some(Only::Receive),
                _ => None,
            },
            joined,
        };
        BenchEnd {
            machine: Bench::new(local, wish),
            inbox: VecDeque::new(),
            asked: false,
            until: None,
            ended: false,
        }
    });
    for side in 0..2 {
        while let Some(frame) = ends[side].drain(now) {
            ends[1 - side].inbox.push_back(frame);
        }
    }
    while let Some(op) = input.byte() {
        let side = usize::from(op & 1);
        let [first, second] = &mut ends;
        let (end, other) = if side == 0 {
            (first, second)
        } else {
            (second, first)
        };
        match op / 2 % 20 {
            0..=6 => match end.inbox.pop_front() {
                Some(Frame::Text(text)) => end.machine.handle_control(now, &text),
                Some(Frame::Data(len)) => end.machine.handle_data(now, len),
                None => {}
            },
            7..=10 => {
                let len = usize::from(input.byte().unwrap_or(0)) * 300;
                let asked = std::mem::take(&mut end.asked);
                if end.machine.handle_sent(now, len) {
                    assert!(asked, "not asked for");
                    assert!(end.until.is_some_and(|until| now < until), "too late");
                    other.inbox.push_back(Frame::Data(len));
                }
            }
            11 | 12 => now += Duration::from_millis(u64::from(input.byte().unwrap_or(0)) * 7),
            13 => {
                let due = ends
                    .iter()
                    .filter_map(|end| end.machine.poll_timeout())
                    .min();
                now = now.max(due.unwrap_or(now));
                for end in &mut ends {
                    end.machine.handle_timeout(now);
                }
            }
            14 => match input.byte().unwrap_or(0) % 8 {
                0 => end.machine.cancel(CancelReason::User, "stop"),
                1 => end.machine.handle_closed(),
                _ => end.machine.agree(now),
            },
            15 => end.inbox.push_back(Frame::Data(file(&mut input))),
            16 => end.inbox.push_front(bench_message(&mut input)),
            17 => spoil(&mut end.inbox, &mut input),
            _ => {
                // What comes at once, so that inputs get far.
                for _ in 0..8 {
                    match end.inbox.pop_front() {
                        Some(Frame::Text(text)) => end.machine.handle_control(now, &text),
                        Some(Frame::Data(len)) => end.machine.handle_data(now, len),
                        None => break,
                    }
                }
            }
        }
        for side in 0..2 {
            while let Some(frame) = ends[side].drain(now) {
                ends[1 - side].inbox.push_back(frame);
            }
        }
    }
}

/// A bench machine and what its I/O layer would hold.
struct BenchEnd {
    machine: Bench,
    inbox: VecDeque<Frame>,
    asked: bool,
    /// When it is to stop sending.
    until: Option<Instant>,
    ended: bool,
}

impl BenchEnd {
    /// Takes outputs up to the next message, which it returns.
    fn drain(&mut self, now: Instant) -> Option<Frame> {
        loop {
            match self.machine.poll_output() {
                bench::Output::Control(text) => {
                    assert!(text.len() <= super::message::MAX_CONTROL);
                    return Some(Frame::Text(text.into_bytes()));
                }
                bench::Output::Send { max } => {
                    assert!((1..=MAX_DATA).contains(&max) && !self.asked);
                    self.asked = true;
                }
                bench::Output::Event(event) => {
                    assert!(!self.ended, "an event after the end: {event:?}");
                    match event {
                        bench::Event::Phase(bench::Phase::Sending(time)) => {
                            assert!(time <= Duration::from_millis(255 * 40));
                            (self.until, self.asked) = (Some(now + time), false);
                        }
                        bench::Event::Finished(_) => (self.ended, self.asked) = (true, false),
                        _ => {}
                    }
                }
                bench::Output::Idle => break,
            }
        }
        let (outcome, closing) = (self.machine.outcome(), self.machine.closing());
        assert_eq!(outcome.is_some(), self.ended);
        assert_eq!(outcome.is_some(), closing.is_some());
        let results = self.machine.results();
        for one in [results.sent, results.received].into_iter().flatten() {
            assert!(one.counted.rate().is_finite());
            assert!(
                one.layer
                    .loss()
                    .is_none_or(|loss| (0.0..=1.0).contains(&loss))
            );
        }
        if outcome == Some(&Outcome::Done) {
            assert!(results.round_trip.is_some());
            assert!(results.sent.or(results.received).is_some());
        }
        None
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
    let text = match input.byte().unwrap_or(0) % 14 {
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
        11 => r#"{"t":"agree"}"#.to_owned(),
        12 => {
            r#"{"t":"hello","knothole":"x","proto":[1,1],"role":"send","verify":true}"#.to_owned()
        }
        _ => r#"{"t":"shiny","opt":true}"#.to_owned(),
    };
    Frame::Text(text.into_bytes())
}

/// The same for a pipe.
fn pipe_message(input: &mut Input<'_>) -> Frame {
    let (i, n) = (file(input), file(input) % 6);
    let hash = format!("{:02x}", n % 2).repeat(32);
    let text = match input.byte().unwrap_or(0) % 9 {
        0 => r#"{"t":"hello","knothole":"x","proto":[1,2],"role":"pipe"}"#.to_owned(),
        1 => r#"{"t":"hello","knothole":"x","proto":[1,2],"role":"pipe","only":"send"}"#.to_owned(),
        2 => r#"{"t":"agree"}"#.to_owned(),
        3 => format!(r#"{{"t":"grant","to":{}}}"#, i * n * 20_000),
        4 => format!(
            r#"{{"t":"end","i":{},"size":{i},"blake3":"{hash}"}}"#,
            n / 5
        ),
        5 => format!(r#"{{"t":"ack","i":{},"blake3":"{hash}"}}"#, n / 5),
        6 => format!(r#"{{"t":"stop","size":{i},"blake3":"{hash}"}}"#),
        7 => r#"{"t":"bye"}"#.to_owned(),
        _ => return message(input),
    };
    Frame::Text(text.into_bytes())
}

/// The same for a bench.
fn bench_message(input: &mut Input<'_>) -> Frame {
    let (i, n) = (file(input), file(input) % 6);
    let text = match input.byte().unwrap_or(0) % 12 {
        0 => format!(
            r#"{{"t":"hello","knothole":"x","proto":[1,2],"role":"bench","ms":{}}}"#,
            i * n
        ),
        1 => r#"{"t":"hello","knothole":"x","proto":[1,2],"role":"bench","ms":9,"only":"send"}"#
            .to_owned(),
        2 => format!(r#"{{"t":"ping","n":{i}}}"#),
        3 => format!(r#"{{"t":"pong","n":{i}}}"#),
        4 => r#"{"t":"begin"}"#.to_owned(),
        5 => format!(r#"{{"t":"over","bytes":{}}}"#, i * n),
        6 => format!(r#"{{"t":"counted","bytes":{},"us":{i}}}"#, i * n),
        7 => format!(r#"{{"t":"counted","bytes":{i},"us":{n},"slowest":{n},"fastest":{i}}}"#),
        8 => format!(r#"{{"t":"layer","on":true,"frames":{n},"lost":{i},"rate":{i}}}"#),
        9 => format!(r#"{{"t":"layer","on":false,"late":{}}}"#, (1_u64 << 53) - 1),
        10 => r#"{"t":"bye"}"#.to_owned(),
        _ => return message(input),
    };
    Frame::Text(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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

        #[test]
        fn random_operations_after_words_were_compared_never_break_the_contract(
            wish in 1..4_u8,
            data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            // Three files; hellos, both agree, both words arrive, manifest, accept; then anything.
            let mut ops = vec![64 * wish + 2, 0, 4, 23, 24, 0, 4, 0, 13, 4];
            ops.extend(data);
            super::fuzz(&ops);
        }

        #[test]
        fn random_operations_on_pipes_never_break_the_contract(
            data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            super::fuzz_pipe(&data);
        }

        #[test]
        fn random_operations_on_benches_never_break_the_contract(
            data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            super::fuzz_bench(&data, Instant::now());
        }

        #[test]
        fn random_operations_on_benches_that_measure_never_break_the_contract(
            only in 0..4_u8,
            before in 0..60_usize,
            data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            // Hellos; time passes and everything comes, for a while; then anything.
            let mut ops = vec![only, 50, 2, 50, 0, 1];
            ops.extend([26, 36, 37, 36, 37].repeat(before));
            ops.extend(data);
            super::fuzz_bench(&ops, Instant::now());
        }

        #[test]
        fn random_operations_on_joined_pipes_never_break_the_contract(
            only in prop_oneof![Just(0u8), Just(1), Just(2)],
            data in prop::collection::vec(any::<u8>(), 0..1500),
        ) {
            // Hellos and grants; then anything.
            let mut ops = vec![0, only, 2, 0, 1, 0, 1];
            ops.extend(data);
            super::fuzz_pipe(&ops);
        }
    }
}
