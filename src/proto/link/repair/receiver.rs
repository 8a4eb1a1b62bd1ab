//! The receiving side: puts datagrams back into order, and says what has arrived.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::{Ack, HEADER, MAX_RUNS, expand};

/// Datagrams after the next one that are looked at; the sender keeps within it.
pub const SPAN: u64 = 8192;
/// Bytes held back behind a hole: the largest SCTP window, with all headers, and half as much.
const MAX_HELD: usize = 6 << 20;
/// An acknowledgement leaves after so many frames, or so late, whichever is first.
const ACK_EVERY: u32 = 16;
pub const ACK_DELAY: Duration = Duration::from_millis(2);
/// A hole holds back what is behind it for so many round trips, but within these bounds. A repair
/// takes one, and so does the repair of a repair; the lower bound is for a round trip that this
/// side knows badly, because it sends little.
const HOLD_ROUND_TRIPS: u32 = 8;
const MIN_HOLD: Duration = Duration::from_secs(1);
const MAX_HOLD: Duration = Duration::from_secs(3);
/// After such a silence a hole is not older than what came with it: nothing could mend it.
const SILENCE: Duration = Duration::from_millis(100);

/// How long a hole holds back what is behind it. After this SCTP is shown the loss.
#[must_use]
pub fn hold(round_trip: Duration) -> Duration {
    (round_trip * HOLD_ROUND_TRIPS).clamp(MIN_HOLD, MAX_HOLD)
}

/// One for each connection.
#[derive(Debug)]
pub struct Receiver {
    room: u32,
    /// The place that is to be handed over next.
    next: u64,
    /// What waits from that place on; the first is missing while there are any.
    held: VecDeque<Option<Vec<u8>>>,
    held_bytes: usize,
    ready: VecDeque<Vec<u8>>,
    /// Since when the place `next` holds others back.
    hole_since: Option<Instant>,
    heard: Instant,
    /// Transmissions that arrived, as ranges with their ends, oldest first.
    arrived: VecDeque<(u64, u64)>,
    largest_at: Instant,
    delivered: u64,
    marked: u32,
    /// Frames since the last acknowledgement, and when the next is due.
    unacked: u32,
    ack_due: Option<Instant>,
    /// Places that were given up.
    given_up: u64,
}

impl Receiver {
    /// `room`: what our socket holds when nobody reads, in bytes.
    pub fn new(now: Instant, room: u32) -> Self {
        Self {
            room,
            next: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            ready: VecDeque::new(),
            hole_since: None,
            heard: now,
            arrived: VecDeque::new(),
            largest_at: now,
            delivered: 0,
            marked: 0,
            unacked: 0,
            ack_due: None,
            given_up: 0,
        }
    }

    /// Takes an authentic frame. `marked`: a router saw congestion; `round_trip`: what is known.
    pub fn handle_data(
        &mut self,
        now: Instant,
        (tx, seq): (u32, u32),
        datagram: &[u8],
        marked: bool,
        round_trip: Duration,
    ) {
        let newest = self.arrived.back().map(|(_, last)| *last);
        let tx = expand(tx, newest.map_or(0, |last| last + 1));
        let seq = expand(seq, self.next);
        if seq >= self.next.saturating_add(SPAN) || !self.note(tx) {
            return;
        }
        if newest.is_none_or(|last| tx > last) {
            // A gap is told at once: the repair waits for it.
            if newest.is_some_and(|last| tx > last + 1) {
                self.unacked = self.unacked.max(ACK_EVERY - 2);
            }
            self.largest_at = now;
        }
        self.delivered += (HEADER + datagram.len()) as u64;
        self.marked = self.marked.wrapping_add(u32::from(marked));
        self.unacked += 1;
        self.ack_due.get_or_insert(now + ACK_DELAY);
        self.place(seq, datagram);
        if now.saturating_duration_since(self.heard) > SILENCE {
            self.hole_since = self.hole_since.map(|_| now);
        }
        self.heard = now;
        self.hand_over(now);
        let hold = hold(round_trip);
        while self.held_bytes > MAX_HELD
            || self
                .hole_since
                .is_some_and(|since| now.saturating_duration_since(since) > hold)
        {
            self.give_up(now);
        }
    }

    /// The next datagram, in the order of the sender.
    pub fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// The length of what [`poll_datagram`](Self::poll_datagram) gives next.
    pub fn peek(&self) -> Option<usize> {
        self.ready.front().map(Vec::len)
    }

    /// An acknowledgement, when one is due.
    pub fn poll_ack(&mut self, now: Instant) -> Option<Ack> {
        if self.unacked < ACK_EVERY && self.ack_due.is_none_or(|due| now < due) {
            return None;
        }
        self.unacked = 0;
        self.ack_due = None;
        let (_, largest) = *self.arrived.back()?;
        let mut runs = Vec::new();
        let mut above: Option<u64> = None;
        for (first, last) in self.arrived.iter().rev() {
            if let Some(above) = above {
                runs.push(short(above - last - 1));
            }
            runs.push(short(last - first + 1));
            above = Some(*first);
            // A run that does not fit ends what can be told.
            if runs.len() + 2 > MAX_RUNS || runs.contains(&u16::MAX) {
                break;
            }
        }
        let hold = now.saturating_duration_since(self.largest_at).as_micros();
        Some(Ack {
            largest: largest as u32,
            hold: u32::try_from(hold).unwrap_or(u32::MAX),
            next: self.next as u32,
            delivered: self.delivered,
            marked: self.marked,
            room: self.room,
            runs,
        })
    }

    /// When an acknowledgement is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ack_due
    }

    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Panics when a bound does not hold.
    pub(super) fn check(&self) {
        assert!(self.held.len() as u64 <= SPAN && self.held_bytes <= MAX_HELD);
        assert!(self.arrived.len() <= MAX_RUNS / 2 + 1);
        assert!(
            self.held.front().is_none_or(Option::is_none),
            "ready and held"
        );
    }

    /// Notes that a transmission arrived; false when it had, or is too old to be told.
    fn note(&mut self, tx: u64) -> bool {
        let at = self.arrived.partition_point(|(first, _)| *first <= tx);
        if let Some((_, last)) = at
            .checked_sub(1)
            .and_then(|before| self.arrived.get(before))
            && tx <= *last
        {
            return false;
        }
        let joins_below = at > 0 && self.arrived[at - 1].1 + 1 == tx;
        let joins_above = self
            .arrived
            .get(at)
            .is_some_and(|(first, _)| *first == tx + 1);
        match (joins_below, joins_above) {
            (true, true) => {
                self.arrived[at - 1].1 = self.arrived[at].1;
                self.arrived.remove(at);
            }
            (true, false) => self.arrived[at - 1].1 = tx,
            (false, true) => self.arrived[at].0 = tx,
            (false, false) => {
                let full = self.arrived.len() > MAX_RUNS / 2;
                if full && at == 0 {
                    return false;
                }
                self.arrived.insert(at, (tx, tx));
                if full {
                    self.arrived.pop_front();
                }
            }
        }
        true
    }

    fn place(&mut self, seq: u64, datagram: &[u8]) {
        // Twice the same: a repair that was not needed.
        let Some(index) = seq.checked_sub(self.next) else {
            return;
        };
        // Below SPAN, so it fits.
        let index = index as usize;
        if self.held.len() <= index {
            self.held.resize(index + 1, None);
        }
        let place = &mut self.held[index];
        if place.is_none() {
            self.held_bytes += datagram.len();
            *place = Some(datagram.to_vec());
        }
    }

    /// Moves what is in order to where it is taken from.
    fn hand_over(&mut self, now: Instant) {
        let before = self.next;
        while let Some(Some(_)) = self.held.front() {
            if let Some(Some(datagram)) = self.held.pop_front() {
                self.held_bytes -= datagram.len();
                self.ready.push_back(datagram);
                self.next += 1;
            }
        }
        if self.held.is_empty() {
            self.hole_since = None;
        } else if self.hole_since.is_none() || self.next != before {
            self.hole_since = Some(now);
        }
    }

    /// Goes on behind the hole: SCTP sees the loss.
    fn give_up(&mut self, now: Instant) {
        while let Some(None) = self.held.front() {
            self.held.pop_front();
            self.next += 1;
            self.given_up += 1;
        }
        self.hole_since = None;
        self.hand_over(now);
    }
}

fn short(run: u64) -> u16 {
    u16::try_from(run).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_comes_in_any_order_leaves_in_order() {
        let (now, mut receiver) = receiver();
        for (tx, seq) in [(0, 2), (1, 0), (2, 3), (3, 1), (4, 1), (3, 9)] {
            receiver.handle_data(now, (tx, seq), &[seq as u8], false, MS);
        }
        let all: Vec<u8> = std::iter::from_fn(|| receiver.poll_datagram())
            .flatten()
            .collect();
        assert_eq!(all, [0, 1, 2, 3]);
        assert_eq!(receiver.held_bytes, 0);
    }

    #[test]
    fn an_acknowledgement_tells_runs_from_the_newest_down() {
        let (now, mut receiver) = receiver();
        for tx in [0, 1, 2, 5, 6, 9] {
            receiver.handle_data(now, (tx, tx), b"x", tx == 5, MS);
        }
        let ack = receiver.poll_ack(now + 3 * MS).unwrap();
        assert_eq!((ack.largest, ack.next, ack.marked), (9, 3, 1));
        assert_eq!(ack.room, 1000);
        assert_eq!(ack.runs, [1, 2, 2, 2, 3]);
        assert_eq!(ack.hold, 3000);
        assert_eq!(ack.delivered, 6 * 17);
        assert_eq!(receiver.poll_ack(now + 9 * MS), None, "nothing new");
        assert_eq!(receiver.poll_timeout(), None, "at rest it costs nothing");
    }

    #[test]
    fn an_acknowledgement_leaves_after_sixteen_frames_or_two_milliseconds() {
        let (now, mut receiver) = receiver();
        for tx in 0..15 {
            receiver.handle_data(now, (tx, tx), b"x", false, MS);
            assert_eq!(receiver.poll_ack(now), None);
        }
        assert_eq!(receiver.poll_timeout(), Some(now + ACK_DELAY));
        receiver.handle_data(now, (15, 15), b"x", false, MS);
        assert!(receiver.poll_ack(now).is_some());
        receiver.handle_data(now, (16, 16), b"x", false, MS);
        assert!(receiver.poll_ack(now + ACK_DELAY).is_some());
    }

    #[test]
    fn a_hole_is_given_up_after_eight_round_trips_of_traffic_and_not_for_silence() {
        let (start, mut receiver) = receiver();
        let round_trip = 200 * MS;
        let mut now = start;
        receiver.handle_data(now, (0, 0), b"x", false, round_trip);
        receiver.handle_data(now, (2, 2), b"x", false, round_trip);
        now += Duration::from_secs(30);
        receiver.handle_data(now, (3, 3), b"x", false, round_trip);
        assert_eq!(receiver.given_up(), 0, "the cable was out");
        let back = now;
        for tx in 4.. {
            now += 10 * MS;
            receiver.handle_data(now, (tx, tx), b"x", false, round_trip);
            if receiver.given_up() > 0 {
                break;
            }
        }
        assert_eq!(now - back, 1610 * MS);
        assert_eq!(receiver.held_bytes, 0);
        receiver.handle_data(now, (1, 1), b"late", false, round_trip);
        let all: Vec<Vec<u8>> = std::iter::from_fn(|| receiver.poll_datagram()).collect();
        assert!(!all.contains(&b"late".to_vec()), "order holds");
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let (now, mut receiver) = receiver();
        for n in 1..20_000u32 {
            receiver.handle_data(now, (n, n), &[7; 1400], false, MS);
            receiver.check();
        }
        assert!(receiver.given_up() > 0);
        receiver.handle_data(now, (20_001, 1 << 30), b"x", false, MS);
        receiver.check();
    }

    #[test]
    fn what_has_arrived_is_remembered_within_bounds() {
        let (now, mut receiver) = receiver();
        for n in (0..20_000u32).map(|n| n * 2) {
            receiver.handle_data(now, (n, n / 2), b"x", false, MS);
            receiver.check();
        }
        let ack = receiver.poll_ack(now + ACK_DELAY).unwrap();
        assert!(ack.runs.len() <= MAX_RUNS);
    }

    fn receiver() -> (Instant, Receiver) {
        let now = Instant::now();
        (now, Receiver::new(now, 1000))
    }
}
