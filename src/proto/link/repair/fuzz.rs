//! What the fuzzer runs: two ends and a network between them that loses, repeats, swaps and
//! forges; and a peer that lies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::{Ack, BODY, Frame, Keys, MAX_RUNS, Role, VERSION};
use super::{BARE_ROOM, Repair, frame};
use crate::proto::fuzz::Input;

/// Reads `data` as a frame, as it is and with the right tag.
///
/// # Panics
///
/// When what was read is written as other bytes.
#[doc(hidden)]
pub fn fuzz_frame(data: &[u8]) {
    let (here, there) = keys();
    // A tag cannot be guessed; if the fuzzer ever does, it is a frame like another.
    let _ = here.read(data);
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    let sealed = there.seal_for_tests(*kind, body);
    match here.read(&sealed) {
        Some(Frame::Data { tx, seq, datagram }) => {
            let mut again = vec![];
            there.write_data(&mut again, tx.into(), seq.into(), datagram);
            assert_eq!(again, sealed);
        }
        Some(Frame::Ack(ack)) => assert_eq!(there.write_ack(&ack), sealed),
        Some(Frame::Loss { missing, of }) => assert_eq!(there.write_loss(missing, of), sealed),
        None => assert!(
            !matches!((*kind, body.len()), (0x53, 9..) | (0x55, 8)),
            "a frame that was not read"
        ),
    }
    assert_eq!(there.read(&sealed), None, "one's own frame");
}

/// Reads operations out of `data`.
///
/// # Panics
///
/// When a datagram comes out that did not go in, twice or out of order; when one is missing at the
/// end though nothing was given up; when the ends do not come to rest; or when a bound does not hold.
#[doc(hidden)]
pub fn fuzz(data: &[u8], start: Instant) {
    let mut input = Input(data);
    let mut talk = Talk::new(start);
    while let Some(op) = input.byte() {
        let side = usize::from(op >> 7);
        match op & 0x0f {
            0..=3 => {
                let len = 8 + input.below(256) * usize::from(op >> 4 & 7);
                talk.send(side, len);
            }
            4 => talk.pass(Duration::from_micros(100 << input.below(16))),
            5..=7 => talk.deliver(side),
            8 => drop(talk.ways[side].pop_front()),
            9 => {
                let twin = talk.ways[side].front().cloned();
                talk.ways[side].extend(twin);
            }
            10 => {
                let some = usize::from(talk.ways[side].len() > 1);
                talk.ways[side].rotate_left(some);
            }
            11 => {
                let len = input.below(64);
                let mut frame = vec![0x53 + op % 3];
                frame.extend_from_slice(input.take(len));
                let taken = talk.ends[side].handle_frame(talk.now, &frame, false);
                talk.lied |= taken;
            }
            12 => {
                let number = |input: &mut Input<'_>| u32::from_be_bytes(input.array());
                let runs = input.below(MAX_RUNS + 1);
                let ack = Ack {
                    largest: number(&mut input),
                    hold: number(&mut input),
                    next: number(&mut input),
                    delivered: u64::from(number(&mut input)),
                    marked: number(&mut input),
                    room: number(&mut input),
                    runs: (0..runs)
                        .map(|_| input.byte().unwrap_or(0).into())
                        .collect(),
                };
                talk.lie(side, |keys| keys.write_ack(&ack));
            }
            13 => {
                let (tx, seq) = (input.array(), input.array());
                let (tx, seq) = (u32::from_be_bytes(tx), u32::from_be_bytes(seq));
                talk.lie(side, |keys| {
                    let mut frame = vec![];
                    keys.write_data(&mut frame, tx.into(), seq.into(), &[0; 1400]);
                    frame
                });
            }
            14 => talk.lie(side, |keys| keys.write_loss(op.into(), 100)),
            _ => {
                let sample = Duration::from_millis(1 << input.below(10));
                talk.ends[side].handle_round_trip(sample);
                if op & 0x40 != 0 {
                    talk.ends[side].handle_path(talk.now);
                }
            }
        }
        talk.check();
    }
    talk.settle();
}

struct Talk {
    now: Instant,
    ends: [Repair; 2],
    /// What is on the way to the other end of each.
    ways: [VecDeque<Vec<u8>>; 2],
    sent: [u64; 2],
    got: [u64; 2],
    lied: bool,
}

impl Talk {
    fn new(now: Instant) -> Self {
        let (here, there) = keys();
        let room = BARE_ROOM;
        let mut ends = [
            Repair::new(now, here, 7, room),
            Repair::new(now, there, 9, room),
        ];
        for end in &mut ends {
            end.allow();
            end.handle_round_trip(Duration::from_millis(20));
        }
        Self {
            now,
            ends,
            ways: [VecDeque::new(), VecDeque::new()],
            sent: [0; 2],
            got: [0; 2],
            lied: false,
        }
    }

    fn send(&mut self, side: usize, len: usize) {
        if !self.ends[side].wants(self.now) {
            return;
        }
        let mut datagram = vec![side.to_le_bytes()[0]; len.max(8)];
        datagram[..8].copy_from_slice(&self.sent[side].to_be_bytes());
        self.sent[side] += 1;
        self.ends[side].send(&datagram);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for end in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now);
            }
        }
        self.drain();
    }

    fn deliver(&mut self, side: usize) {
        if let Some(frame) = self.ways[side].pop_front() {
            self.ends[1 - side].handle_frame(self.now, &frame, false);
            self.drain();
        }
    }

    /// The peer of `side` says something.
    fn lie(&mut self, side: usize, make: impl FnOnce(&Keys) -> Vec<u8>) {
        let (here, there) = keys();
        let frame = make(if side == 0 { &there } else { &here });
        self.lied = true;
        assert!(self.ends[side].handle_frame(self.now, &frame, true));
        self.drain();
    }

    fn drain(&mut self) {
        for side in 0..2 {
            let mut batch = vec![];
            while let Some(size) = self.ends[side].poll_transmit(self.now, &mut batch, 8, 20_000) {
                assert!(size > 0 && !batch.is_empty() && batch.len() <= 20_000);
                for datagram in batch.chunks(size) {
                    assert!(frame::is_frame(datagram));
                    self.ways[side].push_back(datagram.to_vec());
                }
                batch.clear();
            }
            while let Some(datagram) = self.ends[side].poll_datagram() {
                if self.lied {
                    continue;
                }
                let head = datagram.first_chunk().copied().unwrap_or_default();
                let number = u64::from_be_bytes(head);
                let from = 1 - side;
                assert!(number >= self.got[from], "twice, or out of order");
                assert!(number < self.sent[from], "nobody sent it");
                let mark = from.to_le_bytes()[0];
                assert!(datagram[8..].iter().all(|byte| *byte == mark));
                let missing = number - self.got[from];
                let excused =
                    self.ends[side].stats().given_up > 0 || self.ends[from].stats().dropped > 0;
                assert!(missing == 0 || excused, "one is missing");
                self.got[from] = number + 1;
            }
        }
    }

    fn check(&self) {
        for end in &self.ends {
            end.check();
        }
    }

    /// A network that loses nothing, until both ends are at rest.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            self.deliver(0);
            self.deliver(1);
            let on_the_way = self.ways.iter().any(|way| !way.is_empty());
            let next = self.ends.iter().filter_map(Repair::poll_timeout).min();
            match next {
                _ if on_the_way => self.now += Duration::from_micros(100),
                Some(at) => self.pass(at.saturating_duration_since(self.now)),
                None => {
                    let excused = self.ends.iter().any(|end| end.stats().dropped > 0);
                    assert!(
                        self.lied || excused || self.got == self.sent,
                        "at rest, and something is missing"
                    );
                    return;
                }
            }
            if self.lied && !on_the_way {
                // A liar waits for ever for what it said had arrived.
                return;
            }
        }
        assert!(self.lied, "it never comes to rest");
    }
}

fn keys() -> (Keys, Keys) {
    (
        Keys::new(Role::Offerer, "ours", "theirs"),
        Keys::new(Role::Answerer, "theirs", "ours"),
    )
}

impl Keys {
    /// A frame of this kind and body, with the right tag.
    fn seal_for_tests(&self, kind: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, VERSION];
        frame.extend([0; BODY - 2]);
        frame.extend_from_slice(body);
        self.seal(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_network_and_no_liar_breaks_the_contract(
            data in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            super::fuzz(&data, std::time::Instant::now());
        }

        #[test]
        fn no_bytes_break_the_frames(data in prop::collection::vec(any::<u8>(), 0..400)) {
            super::fuzz_frame(&data);
        }
    }
}
