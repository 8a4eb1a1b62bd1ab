//! The sending side: what leaves when, and what leaves again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::{Ack, HEADER, Keys, expand};
use super::rate::{Outcome, Rate, Stamp};
use super::receiver::{ACK_DELAY, SPAN};

/// Bytes that wait or are on the way; SCTP's window keeps far below. What comes beyond is dropped,
/// as a full queue of a router would.
const MAX_QUEUED: usize = 8 << 20;
/// Of what is sent, this much may wait to leave in one go; and this much time of the rate. The
/// first makes batches worth a system call, the second makes up for timers of a millisecond.
const BATCH: f64 = 24_000.0;
const QUANTUM: Duration = Duration::from_millis(1);
const CREDIT: Duration = Duration::from_millis(4);
/// Two datagrams leave at once.
const FIRST_CREDIT: f64 = 3000.0;
/// A transmission counts as lost when one sent this share of a round trip later has arrived.
const PATIENCE: f64 = 0.125;
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// How long, in round trips, a larger patience is kept after the last reordering.
const PATIENCE_KEPT: u32 = 64;
/// The pause after which silence is asked; doubled each time, up to the second, or as long as it is
/// by itself. One datagram each is nothing to a path that is in trouble, and the sooner it is seen to
/// be out of it the better.
const LEAST_PROBE: Duration = Duration::from_millis(10);
const MOST_PROBE: Duration = Duration::from_millis(100);
/// Between transmission numbers that are left out, at most. Who acknowledges one lies.
const SKIP_WITHIN: u64 = 512;
/// Transmissions whose fate is open at most, for a peer that acknowledges nothing.
const MOST_OPEN: usize = 4 * SPAN as usize;
/// Silences in a row at the very start, after which a path is taken for one that swallows what
/// could be marked (RFC 9000 §13.4.2 for the same fear).
const UNMARKED_AFTER: u32 = 2;
/// Copies of one repair at most.
const MOST_COPIES: u32 = 4;
/// A datagram lost so often: the path may not carry its size.
const SUSPICIOUS: u32 = 8;

/// One for each connection.
#[derive(Debug)]
pub struct Sender {
    keys: Keys,
    rate: Rate,
    /// Datagrams from the oldest that is not known to have arrived.
    first_seq: u64,
    datagrams: VecDeque<Datagram>,
    /// The place in `datagrams` of the first that has never left.
    fresh: usize,
    queued_bytes: usize,
    repairs: VecDeque<u64>,
    /// Transmissions from the oldest whose fate is open.
    first_tx: u64,
    sent: VecDeque<Sent>,
    in_flight: u64,
    skip_at: u64,
    dice: u64,
    largest: Option<u64>,
    largest_sent: Instant,
    /// When its acknowledgement came.
    largest_heard: Instant,
    /// What the acknowledgements have counted so far.
    marked: u32,
    /// What the other side's socket holds, once it has said so.
    room: Option<u32>,
    /// How much later than another a transmission may arrive.
    lateness: Duration,
    lateness_at: Instant,
    /// When a silence is asked, and how often it was.
    last_sent: Instant,
    probes: u32,
    probe_now: bool,
    /// When what is in doubt counts as lost.
    doubt: Option<Instant>,
    /// Bytes that may leave, and since when they are counted.
    credit: f64,
    credit_at: Instant,
    /// What waits leaves at once: the layer steps aside.
    hurries: bool,
    /// The peer acknowledged what was never sent.
    distrusted: bool,
    suspicious: bool,
    counts: Counts,
}

/// What a sender did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub frames: u64,
    pub repairs: u64,
    /// Transmissions that counted as lost, and that arrived after all.
    pub lost: u64,
    pub spurious: u64,
    /// Transmissions that a router marked.
    pub marked: u64,
    /// Datagrams for which there was no room.
    pub dropped: u64,
    pub acknowledged: u64,
}

#[derive(Debug)]
struct Datagram {
    /// Empty once it has arrived.
    bytes: Vec<u8>,
    arrived: bool,
    /// Copies that wait to leave again, and that are on the way.
    copies: u32,
    open: u32,
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Lost,
    Arrived,
    /// The number was left out.
    Skipped,
}

#[derive(Debug)]
struct Sent {
    seq: u64,
    size: u32,
    stamp: Stamp,
    at: Instant,
    fate: Fate,
}

impl Sender {
    /// `round_trip`: what is known of it; `seed` must be unpredictable.
    pub fn new(now: Instant, keys: Keys, round_trip: Option<Duration>, seed: u64) -> Self {
        let mut sender = Self {
            keys,
            rate: Rate::new(now, round_trip, seed),
            first_seq: 0,
            datagrams: VecDeque::new(),
            fresh: 0,
            queued_bytes: 0,
            repairs: VecDeque::new(),
            first_tx: 0,
            sent: VecDeque::new(),
            in_flight: 0,
            skip_at: 0,
            dice: seed.rotate_left(32) | 1,
            largest: None,
            largest_sent: now,
            largest_heard: now,
            marked: 0,
            room: None,
            lateness: Duration::ZERO,
            lateness_at: now,
            last_sent: now,
            probes: 0,
            probe_now: false,
            doubt: None,
            credit: FIRST_CREDIT,
            credit_at: now,
            hurries: false,
            distrusted: false,
            suspicious: false,
            counts: Counts::default(),
        };
        sender.choose_skip();
        sender
    }

    /// Another path: what was measured of the one before does not hold.
    pub fn change_path(&mut self, now: Instant, round_trip: Option<Duration>) {
        self.rate = Rate::new(now, round_trip, self.dice);
        if let Some(room) = self.room {
            self.rate.handle_room(room.into());
        }
        // What was sent on the other path is sent again, if it is not acknowledged soon.
        self.lateness = Duration::ZERO;
        self.probes = 0;
    }

    /// Queues a datagram.
    pub fn send(&mut self, datagram: &[u8]) {
        if self.queued_bytes + datagram.len() > MAX_QUEUED || self.datagrams.len() as u64 >= SPAN {
            self.counts.dropped += 1;
            return;
        }
        self.queued_bytes += datagram.len();
        self.datagrams.push_back(Datagram {
            bytes: datagram.to_vec(),
            arrived: false,
            copies: 0,
            open: 0,
            tries: 0,
        });
    }

    /// Takes an authentic acknowledgement.
    pub fn handle_ack(&mut self, now: Instant, ack: &Ack) {
        let end = self.first_tx + self.sent.len() as u64;
        let largest = expand(ack.largest, end);
        if largest >= end || self.distrusted {
            self.distrusted = true;
            return;
        }
        let before_largest = self.largest;
        let mut outcome = Outcome {
            marked: ahead(ack.marked, self.marked),
            ..Outcome::default()
        };
        let mut above = largest + 1;
        let mut newest: Option<u64> = None;
        for (index, run) in ack.runs.iter().enumerate() {
            let below = above.saturating_sub(u64::from(*run));
            if index % 2 == 0 {
                for tx in (below.max(self.first_tx)..above).rev() {
                    if self.arrived(now, tx, &mut outcome) {
                        newest = newest.max(Some(tx));
                    }
                }
            }
            above = below;
            if above <= self.first_tx {
                break;
            }
        }
        if self.distrusted {
            return;
        }
        self.marked = self.marked.wrapping_add(outcome.marked);
        self.counts.marked += u64::from(outcome.marked);
        self.room = Some(ack.room);
        self.rate.handle_room(ack.room.into());
        if outcome.delivered > 0 {
            self.probes = 0;
        }
        if let Some(newest) = newest {
            let sent = &self.sent[(newest - self.first_tx) as usize];
            outcome.newest = Some(sent.stamp);
            let at = sent.at;
            if before_largest.is_none_or(|before| newest > before) {
                self.largest = Some(newest);
                self.largest_sent = self.largest_sent.max(at);
                self.largest_heard = now;
                if newest == largest {
                    let took = now.saturating_duration_since(at);
                    let held = Duration::from_micros(ack.hold.into());
                    // Who says that it held a frame for longer than it took gains nothing.
                    let without = took.checked_sub(held).unwrap_or(took);
                    outcome.round_trip = Some(without.max(Duration::from_micros(50)));
                }
            }
        }
        self.forget(ack.next);
        self.find_lost(now, &mut outcome);
        self.trim();
        outcome.in_flight = self.in_flight;
        self.rate.handle_ack(now, &outcome);
    }

    /// True when the transmission is acknowledged for the first time.
    fn arrived(&mut self, now: Instant, tx: u64, outcome: &mut Outcome) -> bool {
        let Some(sent) = self.sent.get_mut((tx - self.first_tx) as usize) else {
            return false;
        };
        match sent.fate {
            Fate::Arrived => return false,
            Fate::Skipped => {
                self.distrusted = true;
                return false;
            }
            Fate::Open => self.in_flight -= u64::from(sent.size),
            Fate::Lost => self.counts.spurious += 1,
        }
        sent.fate = Fate::Arrived;
        outcome.delivered += u64::from(sent.size);
        self.counts.acknowledged += u64::from(sent.size);
        let (seq, at) = (sent.seq, sent.at);
        // It came later than others that left after it.
        if self.largest.is_some_and(|largest| tx < largest) {
            let late = self.largest_sent.saturating_duration_since(at)
                + now.saturating_duration_since(self.largest_heard);
            if late >= self.lateness {
                self.lateness = late;
            }
            self.lateness_at = now;
        }
        if let Some(index) = seq.checked_sub(self.first_seq)
            && let Some(datagram) = self.datagrams.get_mut(index as usize)
            && !datagram.arrived
        {
            datagram.arrived = true;
            self.queued_bytes -= datagram.bytes.len();
            datagram.bytes = Vec::new();
        }
        true
    }

    /// Drops what the other side has handed over, or given up.
    fn forget(&mut self, next: u32) {
        let next = expand(next, self.first_seq).min(self.first_seq + self.fresh as u64);
        while self.first_seq < next {
            self.drop_first();
        }
        while self.fresh > 0 && self.datagrams.front().is_some_and(|first| first.arrived) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(datagram) = self.datagrams.pop_front() {
            self.queued_bytes -= datagram.bytes.len();
            self.first_seq += 1;
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    fn patience(&self) -> Duration {
        let round_trip = self.rate.round_trip();
        let usual = round_trip.mul_f64(PATIENCE).max(LEAST_PATIENCE);
        usual.max((self.lateness.mul_f64(1.25)).min(round_trip))
    }

    /// Counts as lost what left so long before something that has arrived, and repairs it.
    fn find_lost(&mut self, now: Instant, outcome: &mut Outcome) {
        self.doubt = None;
        let Some(largest) = self.largest else {
            return;
        };
        if now.saturating_duration_since(self.lateness_at) > self.rate.round_trip() * PATIENCE_KEPT
        {
            self.lateness /= 2;
            self.lateness_at = now;
        }
        let patience = self.patience();
        let known = largest.saturating_sub(self.first_tx) as usize;
        for index in 0..known.min(self.sent.len()) {
            let sent = &mut self.sent[index];
            if sent.fate != Fate::Open {
                continue;
            }
            // What left so much later has arrived; or it left a little later, and the rest of the
            // patience has passed since that was told.
            let earlier = self.largest_sent.saturating_duration_since(sent.at);
            let due = self.largest_heard + patience.saturating_sub(earlier);
            if now < due {
                self.doubt = Some(self.doubt.map_or(due, |before| before.min(due)));
                continue;
            }
            sent.fate = Fate::Lost;
            self.in_flight -= u64::from(sent.size);
            outcome.lost += u64::from(sent.size);
            self.counts.lost += 1;
            let seq = sent.seq;
            self.repair(seq);
        }
    }

    /// Sends a datagram again of which no copy is on the way. The more often it was lost, the more
    /// copies leave: everything behind it waits.
    fn repair(&mut self, seq: u64) {
        let index = seq.checked_sub(self.first_seq);
        let Some(datagram) = index.and_then(|index| self.datagrams.get_mut(index as usize)) else {
            return;
        };
        datagram.open = datagram.open.saturating_sub(1);
        if datagram.arrived || datagram.open > 0 || datagram.copies > 0 {
            return;
        }
        datagram.copies = datagram.tries.clamp(1, MOST_COPIES);
        let large = datagram.bytes.len() > crate::proto::link::size::SAFE;
        self.suspicious |= large && datagram.tries >= SUSPICIOUS;
        let at = self.repairs.partition_point(|before| *before < seq);
        self.repairs.insert(at, seq);
    }

    /// Drops transmissions whose fate is known and no longer of interest: one that counts as lost
    /// is remembered for two round trips, to see whether it arrives after all.
    fn trim(&mut self) {
        let keep = self.rate.round_trip() * 2;
        while let Some(first) = self.sent.front() {
            let old = self.largest_sent.saturating_duration_since(first.at) > keep;
            let settled = match first.fate {
                Fate::Open => false,
                Fate::Arrived | Fate::Skipped => true,
                Fate::Lost => old || self.sent.len() > MOST_OPEN / 2,
            };
            if !settled || Some(self.first_tx) >= self.largest {
                break;
            }
            self.sent.pop_front();
            self.first_tx += 1;
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.doubt.is_some_and(|at| at <= now) {
            let mut outcome = Outcome::default();
            self.find_lost(now, &mut outcome);
            outcome.in_flight = self.in_flight;
            self.rate.handle_ack(now, &outcome);
        }
        if self.probe_at().is_some_and(|at| at <= now) {
            self.probes += 1;
            self.last_sent = now;
            self.probe_now = true;
        }
    }

    /// When silence is asked: nothing was acknowledged for longer than it should take.
    fn probe_at(&self) -> Option<Instant> {
        // Where nothing is waited for, a second copy of something may still be on the way.
        if self.in_flight == 0 || self.fresh == 0 || self.probe_now {
            return None;
        }
        let usual = self.rate.round_trip() + self.rate.variation() * 4 + ACK_DELAY * 2;
        let pause = usual.max(LEAST_PROBE) * 2u32.saturating_pow(self.probes.min(16));
        Some(self.last_sent + pause.min(MOST_PROBE.max(usual)))
    }

    /// When there is something to do, if nothing comes in.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ready = self.wants_to_send().then(|| self.ready_at());
        [ready, self.probe_at(), self.doubt]
            .into_iter()
            .flatten()
            .min()
    }

    fn wants_to_send(&self) -> bool {
        self.probe_now
            || !self.repairs.is_empty() && self.has_room()
            || self.fresh < self.datagrams.len() && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.hurries || (self.in_flight as f64) < self.rate.window()
    }

    /// What leaves at least in one go: as much as a timer's time gives, unless less waits.
    fn quantum(&self) -> f64 {
        let next = self.next_size().unwrap_or(0) as f64;
        let waits = (self.datagrams.len() - self.fresh + self.repairs.len()) as f64 * next;
        let batch = (self.rate.pace() * QUANTUM.as_secs_f64()).min(BATCH);
        batch.min(waits).max(next)
    }

    fn ready_at(&self) -> Instant {
        let short = self.quantum() - self.credit;
        if self.probe_now || self.hurries || short <= 0.0 {
            return self.credit_at;
        }
        let wait = Duration::try_from_secs_f64(short / self.rate.pace());
        // A little later rather than a little too early, again and again.
        self.credit_at + wait.unwrap_or(Duration::from_secs(1)) + Duration::from_micros(1)
    }

    fn next_seq(&self) -> Option<u64> {
        let fresh = (self.fresh < self.datagrams.len()).then(|| self.first_seq + self.fresh as u64);
        self.repairs.front().copied().or(fresh)
    }

    /// The size of the frame that leaves next.
    fn next_size(&self) -> Option<usize> {
        let index = self.next_seq()?.checked_sub(self.first_seq)? as usize;
        Some(self.datagrams.get(index)?.bytes.len() + HEADER)
    }

    /// Appends frames of one size (the last may be shorter) to `batch`, up to `most` of them and
    /// `room` bytes; returns that size, or `None` when nothing may leave now.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        batch: &mut Vec<u8>,
        most: usize,
        room: usize,
    ) -> Option<usize> {
        self.count_credit(now);
        let probe = std::mem::take(&mut self.probe_now);
        if probe {
            return self.transmit_probe(now, batch);
        }
        self.skip_settled();
        if !self.wants_to_send() {
            if self.has_room() {
                self.rate.handle_idle(self.in_flight);
            }
            return None;
        }
        if self.credit < self.quantum() && !self.hurries {
            return None;
        }
        let mut segment = None;
        for _ in 0..most {
            let Some(size) = self.next_size() else { break };
            let fits = segment.is_none_or(|segment| size <= segment);
            if !fits
                || batch.len() + size > room
                || !self.has_room()
                || self.credit < size as f64 && !self.hurries
            {
                break;
            }
            let Some(seq) = self.next_seq() else { break };
            self.credit -= size as f64;
            self.transmit(now, seq, batch);
            let whole = *segment.get_or_insert(size);
            if size < whole {
                break;
            }
            self.skip_settled();
        }
        segment
    }

    /// Drops repairs of what has arrived meanwhile.
    fn skip_settled(&mut self) {
        while let Some(&seq) = self.repairs.front() {
            let index = seq.checked_sub(self.first_seq);
            let open = index.and_then(|index| self.datagrams.get(index as usize));
            if open.is_some_and(|datagram| !datagram.arrived) {
                break;
            }
            self.repairs.pop_front();
        }
    }

    /// Asks by sending again what was waited for the longest; it may be what is missing.
    fn transmit_probe(&mut self, now: Instant, batch: &mut Vec<u8>) -> Option<usize> {
        let open = self.datagrams.iter().take(self.fresh);
        let index = open.take_while(|datagram| datagram.arrived).count();
        if index >= self.fresh || self.sent.len() >= MOST_OPEN {
            return None;
        }
        let size = self.datagrams[index].bytes.len() + HEADER;
        self.credit -= size as f64;
        self.transmit(now, self.first_seq + index as u64, batch);
        Some(size)
    }

    fn transmit(&mut self, now: Instant, seq: u64, batch: &mut Vec<u8>) {
        let index = (seq - self.first_seq) as usize;
        let mut tx = self.first_tx + self.sent.len() as u64;
        let stamp = self.rate.handle_sent(now, self.in_flight);
        let mut sent = Sent {
            seq,
            size: 0,
            stamp,
            at: now,
            fate: Fate::Skipped,
        };
        if tx == self.skip_at {
            self.sent.push_back(Sent { ..sent });
            self.choose_skip();
            tx += 1;
        }
        let datagram = &mut self.datagrams[index];
        datagram.tries += 1;
        datagram.open += 1;
        datagram.copies = datagram.copies.saturating_sub(1);
        if datagram.copies == 0 && self.repairs.front() == Some(&seq) {
            self.repairs.pop_front();
        }
        self.counts.frames += 1;
        if index < self.fresh {
            self.counts.repairs += 1;
        } else {
            self.fresh = index + 1;
        }
        self.keys.write_data(batch, tx, seq, &datagram.bytes);
        sent.size = (datagram.bytes.len() + HEADER) as u32;
        sent.fate = Fate::Open;
        self.in_flight += u64::from(sent.size);
        self.sent.push_back(sent);
        self.last_sent = now;
    }

    fn count_credit(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.credit_at);
        self.credit_at = self.credit_at.max(now);
        let pace = self.rate.pace();
        let most = (pace * CREDIT.as_secs_f64()).max(FIRST_CREDIT);
        self.credit = (self.credit + pace * passed.as_secs_f64()).min(most);
    }

    fn choose_skip(&mut self) {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let next = self.first_tx + self.sent.len() as u64;
        self.skip_at = next + 2 + self.dice % SKIP_WITHIN;
    }

    /// From now on what waits leaves at once, or no longer.
    pub fn hurry(&mut self, hurries: bool) {
        self.hurries = hurries;
    }

    /// Whether routers may mark what is sent: not where everything that could be marked was lost.
    pub fn is_markable(&self) -> bool {
        self.largest.is_some() || self.probes < UNMARKED_AFTER
    }

    /// Whether something waits to leave.
    pub fn is_waiting(&self) -> bool {
        self.next_seq().is_some()
    }

    /// Whether everything that was sent has arrived, or was given up.
    pub fn is_done(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether a large datagram was lost again and again: once for each time.
    pub fn poll_suspicion(&mut self) -> bool {
        std::mem::take(&mut self.suspicious)
    }

    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Panics when a bound does not hold.
    pub(super) fn check(&self) {
        assert!(self.queued_bytes <= MAX_QUEUED && self.datagrams.len() as u64 <= SPAN);
        assert!(self.fresh <= self.datagrams.len());
        assert!(self.repairs.len() <= self.datagrams.len() + SPAN as usize);
        assert!(self.sent.len() <= MOST_OPEN + 2 * SPAN as usize);
        let open = self.sent.iter().filter(|sent| sent.fate == Fate::Open);
        let bytes: u64 = open.map(|sent| u64::from(sent.size)).sum();
        assert_eq!(bytes, self.in_flight);
    }

    /// What the other side's socket holds when nobody reads, in bytes; `None` until it has said so.
    pub fn room(&self) -> Option<u32> {
        self.room
    }
}

/// How far a counter of the peer is ahead; nothing when an older report comes late.
fn ahead(new: u32, old: u32) -> u32 {
    let ahead = new.wrapping_sub(old);
    if ahead < 1 << 31 { ahead } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, Role};
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const ROUND_TRIP: Duration = Duration::from_millis(40);

    #[test]
    fn a_hole_is_repaired_when_its_successors_have_arrived() {
        let mut end = End::new();
        let sent = end.send(8);
        end.acknowledge_after(ROUND_TRIP, &sent, &[2]);
        assert!(end.drain().is_empty(), "it may be only late");
        end.pass(6 * MS);
        let repaired = end.drain();
        assert_eq!(repaired.iter().map(|one| one.1).collect::<Vec<_>>(), [2]);
        assert!(repaired[0].0 > sent[7].0, "with a number of its own");
        assert_eq!(end.sender.counts().repairs, 1);
    }

    #[test]
    fn a_lost_tail_is_asked_for_soon_and_then_less_often() {
        let mut end = End::new();
        let sent = end.send(4);
        end.acknowledge_after(ROUND_TRIP, &sent, &[3]);
        let start = end.now;
        let mut at = vec![];
        while at.len() < 4 {
            end.now = end.sender.poll_timeout().unwrap();
            end.sender.handle_timeout(end.now);
            for (_, seq) in end.drain() {
                assert_eq!(seq, 3);
                at.push(end.now);
            }
        }
        assert!(at[0] - start < ROUND_TRIP * 3, "{at:?}");
        assert!(at[1] - at[0] > ROUND_TRIP, "{at:?}");
        assert!(at[3] - at[2] < ROUND_TRIP * 4, "{at:?}");
    }

    #[test]
    fn what_comes_late_teaches_patience() {
        let mut end = End::new();
        for round in 0..3 {
            let sent = end.send(8);
            end.acknowledge_after(ROUND_TRIP, &sent, &[sent[0].1]);
            end.pass(8 * MS);
            let repaired = end.drain().len();
            assert_eq!(repaired, usize::from(round == 0), "in round {round}");
            end.acknowledge_after(MS, &sent, &[]);
        }
        assert_eq!(end.sender.counts().spurious, 1);
    }

    #[test]
    fn a_repair_that_is_lost_leaves_twice() {
        let mut end = End::new();
        let sent = end.send(8);
        end.acknowledge_after(ROUND_TRIP, &sent, &[2]);
        end.pass(6 * MS);
        let repaired = end.drain();
        let after = end.send(8);
        end.acknowledge_after(ROUND_TRIP, &after, &[]);
        end.pass(6 * MS);
        let again: Vec<u64> = end.drain().iter().map(|one| one.1).collect();
        assert_eq!((repaired.len(), again), (1, vec![2, 2]));
    }

    #[test]
    fn who_acknowledges_what_was_never_sent_is_not_believed_again() {
        let mut end = End::new();
        let mut lie = None;
        for _ in 0..200 {
            let sent = end.send(8);
            let gap = sent.windows(2).find(|two| two[1].0 > two[0].0 + 1);
            if let Some(gap) = gap {
                lie = Some((gap[0].0 + 1, sent.clone()));
                break;
            }
            end.acknowledge_after(ROUND_TRIP, &sent, &[]);
        }
        let (skipped, sent) = lie.expect("numbers are left out now and then");
        let ack = Ack {
            largest: skipped as u32,
            runs: vec![1],
            ..Ack::default()
        };
        let before = end.sender.counts().acknowledged;
        end.sender.handle_ack(end.now, &ack);
        end.acknowledge_after(ROUND_TRIP, &sent, &[]);
        assert_eq!(end.sender.counts().acknowledged, before);
        let ahead = Ack {
            largest: 1 << 20,
            runs: vec![1],
            ..Ack::default()
        };
        let mut other = End::new();
        other.send(1);
        other.sender.handle_ack(other.now, &ahead);
        assert!(other.sender.distrusted);
    }

    #[test]
    fn marks_are_counted_once() {
        let mut end = End::new();
        let sent = end.send(4);
        let ack = end.acknowledge_after(ROUND_TRIP, &sent, &[]);
        for (marked, counted) in [(3, 3), (3, 3), (1, 3), (5, 5)] {
            let ack = Ack {
                marked,
                ..ack.clone()
            };
            end.sender.handle_ack(end.now, &ack);
            assert_eq!(end.sender.counts().marked, counted);
        }
    }

    #[test]
    fn an_old_acknowledgement_again_changes_nothing() {
        let mut end = End::new();
        let first = end.send(4);
        let old = end.acknowledge_after(ROUND_TRIP, &first, &[]);
        let second = end.send(4);
        end.acknowledge_after(ROUND_TRIP, &second, &[]);
        let before = (end.sender.counts(), end.sender.rate.found());
        end.sender.handle_ack(end.now + MS, &old);
        assert_eq!((end.sender.counts(), end.sender.rate.found()), before);
        assert_eq!(end.drain(), []);
    }

    #[test]
    fn at_rest_there_is_no_timer() {
        let mut end = End::new();
        assert_eq!(end.sender.poll_timeout(), None);
        let sent = end.send(4);
        assert!(end.sender.poll_timeout().is_some());
        end.acknowledge_after(ROUND_TRIP, &sent, &[]);
        assert_eq!(end.sender.poll_timeout(), None);
        assert!(end.sender.is_done());
    }

    #[test]
    fn a_large_datagram_that_is_always_lost_is_suspicious() {
        let mut end = End::new();
        let large = end.send_of(1, 1400);
        let mut lost = large.clone();
        for _ in 0..40 {
            let small = end.send_of(8, 100);
            end.acknowledge_after(ROUND_TRIP, &small, &[0]);
            end.pass(10 * MS);
            lost.extend(end.drain());
            if end.sender.poll_suspicion() {
                assert!(lost.len() >= SUSPICIOUS as usize, "{}", lost.len());
                assert!(!end.sender.poll_suspicion(), "once for each time");
                return;
            }
        }
        panic!("{} were lost", lost.len());
    }

    #[test]
    fn frames_of_one_go_have_one_size_and_the_last_may_be_shorter() {
        let mut end = End::new();
        for len in [500, 500, 300, 500, 600] {
            end.sender.send(&vec![7; len]);
        }
        end.pass(50 * MS);
        let mut all = vec![];
        while let Some(size) = end.sender.poll_transmit(end.now, &mut end.batch, 8, 60_000) {
            let sizes: Vec<usize> = end.batch.chunks(size).map(<[u8]>::len).collect();
            all.push(sizes.iter().map(|size| size - HEADER).collect::<Vec<_>>());
            end.batch.clear();
            end.pass(50 * MS);
        }
        assert_eq!(all, [vec![500, 500, 300], vec![500], vec![600]]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut end = End::new();
        for _ in 0..2 * SPAN {
            end.sender.send(&[7; 1400]);
        }
        end.sender.check();
        assert!(end.sender.counts().dropped > 0);
    }

    /// A sender and its time.
    struct End {
        now: Instant,
        sender: Sender,
        theirs: Keys,
        batch: Vec<u8>,
    }

    impl End {
        fn new() -> Self {
            let now = Instant::now();
            let keys = Keys::new(Role::Offerer, "a", "b");
            Self {
                now,
                sender: Sender::new(now, keys, Some(ROUND_TRIP), 7),
                theirs: Keys::new(Role::Answerer, "b", "a"),
                batch: vec![],
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            if self.sender.poll_timeout().is_some_and(|at| at <= self.now) {
                self.sender.handle_timeout(self.now);
            }
        }

        /// Numbers of transmission and place of everything that leaves now.
        fn drain(&mut self) -> Vec<(u64, u64)> {
            let mut all = vec![];
            while let Some(size) = self
                .sender
                .poll_transmit(self.now, &mut self.batch, 8, 60_000)
            {
                for frame in self.batch.chunks(size) {
                    let Some(Frame::Data { tx, seq, .. }) = self.theirs.read(frame) else {
                        panic!("not a frame");
                    };
                    all.push((tx.into(), seq.into()));
                }
                self.batch.clear();
            }
            self.sender.check();
            all
        }

        fn send(&mut self, count: usize) -> Vec<(u64, u64)> {
            self.send_of(count, 20)
        }

        /// Sends, within the time that it takes.
        fn send_of(&mut self, count: usize, len: usize) -> Vec<(u64, u64)> {
            for _ in 0..count {
                self.sender.send(&vec![7; len]);
            }
            let mut all = vec![];
            for _ in 0..1000 {
                all.extend(self.drain());
                if all.len() >= count {
                    break;
                }
                self.now += MS / 10;
            }
            all
        }

        /// Everything up to the last of `sent` has arrived, but for the places in `missing`.
        fn acknowledge_after(
            &mut self,
            time: Duration,
            sent: &[(u64, u64)],
            missing: &[u64],
        ) -> Ack {
            self.pass(time);
            let arrived = sent.iter().filter(|(_, seq)| !missing.contains(seq));
            let numbers: Vec<u64> = arrived.map(|(tx, _)| *tx).collect();
            let largest = *numbers.last().expect("something has arrived");
            let mut runs = vec![0u16];
            for tx in (sent[0].0..=largest).rev() {
                let here = numbers.contains(&tx);
                if here == (runs.len() % 2 == 0) {
                    runs.push(0);
                }
                if let Some(run) = runs.last_mut() {
                    *run += 1;
                }
            }
            let ack = Ack {
                largest: largest as u32,
                runs,
                ..Ack::default()
            };
            self.sender.handle_ack(self.now, &ack);
            ack
        }
    }
}
