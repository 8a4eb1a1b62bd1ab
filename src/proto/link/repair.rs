//! The repair layer: datagrams of DTLS cross a path that loses some of them, in order and paced.
//!
//! SCTP takes every loss for congestion and halves its rate; on a long path it never recovers.
//! Below it, this machine numbers the datagrams, repairs what is lost within a round trip, hands
//! over in order, and sends as fast as a model of the path says ([`rate`]). SCTP sees a clean path
//! and opens its window. Where that does not pay (a short path that loses nothing) the layer steps
//! aside: datagrams travel bare, and the gaps in their record numbers, which DTLS has in the
//! clear, say when it is needed. Frames tell themselves apart, so it comes and goes at any datagram.
//!
//! `docs/link.md` has the frames, the law of the rate, and why.

use std::time::{Duration, Instant};

pub mod frame;
mod fuzz;
mod rate;
mod receiver;
mod sender;
mod yielding;

#[doc(hidden)]
pub use fuzz::{fuzz, fuzz_frame};

use frame::{Frame, Keys};
use receiver::Receiver;
pub use receiver::hold;
use sender::Sender;

/// The name of the capability in a hello: this layer, in the version of its frames.
pub const CAPABILITY: &str = "repair1";

/// What may be on the way bare, in bytes: more gains nothing at 500 MiB/s. A socket that holds less
/// would overflow when all of it comes at once, and SCTP would not recover: to it everything travels
/// paced, in frames.
pub const BARE_ROOM: u32 = 2 << 20;
/// The handshake, and the first words after it: a datagram of these that is lost bare waits for a
/// timer, since nothing follows that would show it. So they travel in frames on any path.
const FIRST: u64 = 64;
/// A path with a round trip from here on is long: the layer pays even where nothing is lost,
/// because SCTP starts slowly and overfills the queue.
const LONG: Duration = Duration::from_millis(5);
/// Below this it is short again.
const SHORT: Duration = Duration::from_millis(3);
/// Of bare records missing, from which on the layer pays on any path: one in so many.
const LOSSY: u32 = 200;
/// It is told twice, so long apart: else it was a buffer that was full at one moment.
const APART: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);
/// After loss the layer stays for so long.
const STAYS: Duration = Duration::from_secs(10);
/// Silence of acknowledgements, while some are waited for, that is no sign of a clean path.
const HEARD: Duration = Duration::from_millis(100);
/// Records are counted by so many, and these may come later than others behind them.
const COUNTED: u64 = 512;
const LATE: u64 = 64;
/// Round trips of which the shortest counts, on a machine that may be busy.
const HINTS: usize = 8;

/// The layer of one connection, both directions.
#[derive(Debug)]
pub struct Repair {
    keys: Keys,
    sender: Sender,
    receiver: Receiver,
    /// The peer understands, and this side wants to.
    allowed: bool,
    on: bool,
    /// For nothing but the first datagrams.
    starting: bool,
    hints: [Option<Duration>; HINTS],
    hint: usize,
    /// When the peer last told of loss, and until when the layer is needed for it.
    loss_told: Option<Instant>,
    lossy_until: Option<Instant>,
    lost_before: u64,
    /// When the last acknowledgement came.
    heard: Option<Instant>,
    gaps: Gaps,
    loss_due: Option<(u32, u32)>,
}

/// What there is to see of the layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Whether it carries what this side sends, now; beyond the first datagrams, which it always does.
    pub on: bool,
    /// Bytes a second that the path was found to take lately.
    pub rate: f64,
    /// The shortest round trip, and the usual one: the difference is the queue.
    pub min_round_trip: Option<Duration>,
    pub round_trip: Duration,
    /// Frames that were sent, how many of them were sent again, and how many counted as lost.
    pub frames: u64,
    pub repairs: u64,
    pub lost: u64,
    /// Repairs of what was only late.
    pub spurious: u64,
    /// Frames that a router marked for congestion (RFC 3168), as the peer tells.
    pub marked: u64,
    /// Datagrams for which there was no room.
    pub dropped: u64,
    /// Holes that this side gave up on.
    pub given_up: u64,
}

impl Repair {
    /// `seed` must be unpredictable; `room`: what our socket holds when nobody reads, in bytes.
    #[must_use]
    pub fn new(now: Instant, keys: Keys, seed: u64, room: u32) -> Self {
        Self {
            sender: Sender::new(now, keys.clone(), None, seed),
            receiver: Receiver::new(now, room),
            keys,
            allowed: false,
            on: false,
            starting: false,
            hints: [None; HINTS],
            hint: 0,
            loss_told: None,
            lossy_until: None,
            lost_before: 0,
            heard: None,
            gaps: Gaps::default(),
            loss_due: None,
        }
    }

    /// The peer understands frames: they may be sent from now on.
    pub fn allow(&mut self) {
        self.allowed = true;
    }

    /// The peer understands no frames of this version: what waits still leaves, and no other.
    pub fn forbid(&mut self) {
        self.allowed = false;
    }

    /// A check of the path was answered after `sample`.
    pub fn handle_round_trip(&mut self, sample: Duration) {
        self.hints[self.hint % HINTS] = Some(sample);
        self.hint = self.hint.wrapping_add(1);
    }

    /// What was sent goes another way from now on.
    pub fn handle_path(&mut self, now: Instant) {
        self.hints = [None; HINTS];
        self.sender.change_path(now, None);
    }

    /// Whether the next datagram is to be given to [`send`](Self::send), or travels bare.
    pub fn wants(&mut self, now: Instant) -> bool {
        if !self.allowed {
            self.step_aside();
            return self.on;
        }
        self.note_loss(now);
        let counts = self.sender.counts();
        let lossy = self.lossy_until.is_some_and(|until| now < until);
        let shortest = self.shortest();
        let cramped = self.sender.room().is_some_and(|room| room < BARE_ROOM);
        let long = shortest.is_some_and(|shortest| shortest >= LONG);
        let first = self.sender.room().is_none() || counts.frames - counts.repairs < FIRST;
        let needed = lossy || cramped || first;
        self.starting = first && !(lossy || cramped || long);
        if !self.on {
            self.on = needed || long;
            if self.on {
                if self.sender.is_done() {
                    self.sender.change_path(now, shortest);
                }
                self.sender.hurry(false);
            }
        } else if !needed && self.is_heard(now) && shortest.is_some_and(|one| one < SHORT) {
            self.step_aside();
        } else {
            self.sender.hurry(false);
        }
        self.on
    }

    /// Loss keeps the layer, and what was to leave at once is paced again.
    fn note_loss(&mut self, now: Instant) {
        let counts = self.sender.counts();
        if counts.lost - counts.spurious > self.lost_before {
            self.lost_before = counts.lost - counts.spurious;
            self.lossy_until = Some(now + STAYS);
            self.sender.hurry(false);
        }
    }

    /// A path on which nothing is acknowledged is not one that loses nothing.
    fn is_heard(&self, now: Instant) -> bool {
        let heard = self.heard.map(|at| now.saturating_duration_since(at));
        heard.is_some_and(|silence| silence < HEARD) || self.sender.is_done()
    }

    /// A datagram that travels bare must not overtake those that wait here.
    fn step_aside(&mut self) {
        self.sender.hurry(true);
        self.on &= self.sender.is_waiting();
    }

    /// Whether it carries what this side sends, beyond the first datagrams of a path that needs no
    /// repair.
    #[must_use]
    pub fn is_repairing(&self) -> bool {
        self.on && !self.starting
    }

    fn shortest(&self) -> Option<Duration> {
        let measured = self.sender.rate().min_round_trip();
        self.hints.iter().flatten().copied().chain(measured).min()
    }

    /// Queues a datagram.
    pub fn send(&mut self, datagram: &[u8]) {
        self.sender.send(datagram);
    }

    /// A DTLS datagram came in bare.
    pub fn handle_bare(&mut self, datagram: &[u8]) {
        if let Some(told) = self.gaps.handle(datagram)
            && self.allowed
        {
            self.loss_due = Some(told);
        }
    }

    /// Takes a frame; false when it is none of the peer's. `marked`: a router saw congestion.
    pub fn handle_frame(&mut self, now: Instant, frame: &[u8], marked: bool) -> bool {
        match self.keys.read(frame) {
            Some(Frame::Data { tx, seq, datagram }) => {
                let round_trip = self.sender.rate().round_trip();
                let round_trip = self
                    .shortest()
                    .map_or(round_trip, |one| one.max(round_trip));
                self.receiver
                    .handle_data(now, (tx, seq), datagram, marked, round_trip);
            }
            Some(Frame::Ack(ack)) => {
                self.heard = Some(now);
                self.sender.handle_ack(now, &ack);
                self.note_loss(now);
            }
            Some(Frame::Loss { missing, of }) => self.handle_loss(now, missing, of),
            None => return false,
        }
        true
    }

    fn handle_loss(&mut self, now: Instant, missing: u32, of: u32) {
        if u64::from(missing) * u64::from(LOSSY) < u64::from(of) {
            return;
        }
        let before = *self.loss_told.get_or_insert(now);
        let since = now.saturating_duration_since(before);
        if APART.contains(&since) {
            self.lossy_until = Some(now + STAYS);
        }
        if since >= APART.start {
            self.loss_told = Some(now);
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.sender.handle_timeout(now);
        self.note_loss(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit)
    /// have work, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let both = [self.sender.poll_timeout(), self.receiver.poll_timeout()];
        both.into_iter().flatten().min()
    }

    /// Appends frames of one size (the last may be shorter) to `batch`, at most so many and of so
    /// many bytes together; returns that size, or `None` when nothing may leave now.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        batch: &mut Vec<u8>,
        most: usize,
        room: usize,
    ) -> Option<usize> {
        if let Some((missing, of)) = self.loss_due.take() {
            let frame = self.keys.write_loss(missing, of);
            batch.extend_from_slice(&frame);
            return Some(frame.len());
        }
        if let Some(ack) = self.receiver.poll_ack(now) {
            let frame = self.keys.write_ack(&ack);
            batch.extend_from_slice(&frame);
            return Some(frame.len());
        }
        self.sender.poll_transmit(now, batch, most, room)
    }

    /// The next datagram for DTLS, in the order in which they were sent.
    pub fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        let datagram = self.receiver.poll_datagram()?;
        self.handle_bare(&datagram);
        Some(datagram)
    }

    /// The length of the next datagram.
    #[must_use]
    pub fn peek_datagram(&self) -> Option<usize> {
        self.receiver.peek()
    }

    /// Whether routers may mark what leaves now (RFC 3168).
    #[must_use]
    pub fn is_markable(&self) -> bool {
        self.sender.is_markable()
    }

    /// Whether something waits to leave.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.sender.is_waiting()
    }

    /// Whether large datagrams were lost again and again, so that the path may not carry them:
    /// once for each time.
    pub fn poll_suspicion(&mut self) -> bool {
        self.sender.poll_suspicion()
    }

    /// Panics when a bound does not hold.
    fn check(&self) {
        self.sender.check();
        self.receiver.check();
    }

    /// What there is to see.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (counts, rate) = (self.sender.counts(), self.sender.rate());
        Stats {
            on: self.is_repairing(),
            rate: rate.found(),
            min_round_trip: rate.min_round_trip(),
            round_trip: rate.round_trip(),
            frames: counts.frames,
            repairs: counts.repairs,
            lost: counts.lost,
            spurious: counts.spurious,
            marked: counts.marked,
            dropped: counts.dropped,
            given_up: self.receiver.given_up(),
        }
    }
}

/// Counts what is missing among records that are numbered in the clear (RFC 6347 §4.1).
#[derive(Debug, Default)]
struct Gaps {
    /// The first number of the records that are counted.
    first: Option<u64>,
    /// How many of them were seen, and of those after them.
    seen: [u64; 2],
}

impl Gaps {
    /// How many were missing of how many, when that is known and there is something to tell.
    fn handle(&mut self, datagram: &[u8]) -> Option<(u32, u32)> {
        let number = record_number(datagram)?;
        let first = *self.first.get_or_insert(number);
        let place = number.checked_sub(first)?;
        match place / COUNTED {
            0 => self.seen[0] += 1,
            1 => self.seen[1] += 1,
            // Far ahead: a forger's, or the rest was lost with it.
            _ => {
                *self = Self::default();
                return None;
            }
        }
        if place < COUNTED + LATE {
            return None;
        }
        let missing = COUNTED.saturating_sub(self.seen[0]);
        self.first = Some(first + COUNTED);
        self.seen = [self.seen[1], 0];
        let short = |number| u32::try_from(number).unwrap_or(u32::MAX);
        (missing > 0).then(|| (short(missing), short(COUNTED)))
    }
}

/// The number of an encrypted record.
fn record_number(datagram: &[u8]) -> Option<u64> {
    match datagram {
        [20..=25, 254, _, epoch_high, epoch_low, number @ ..]
            if (*epoch_high, *epoch_low) != (0, 0) =>
        {
            let number = number.get(..6)?;
            Some(
                number
                    .iter()
                    .fold(0, |all, byte| all << 8 | u64::from(*byte)),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::frame::Role;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_framed_before_the_peer_said_that_it_understands() {
        let (now, mut here, _) = two();
        here.handle_round_trip(100 * MS);
        assert!(!here.wants(now));
        here.allow();
        assert!(here.wants(now));
    }

    #[test]
    fn nothing_more_is_framed_once_the_peer_said_that_it_does_not_understand() {
        let (now, mut here, _) = two();
        here.allow();
        here.handle_round_trip(100 * MS);
        assert!(here.wants(now));
        here.send(&record(1));
        here.forbid();
        assert!(here.wants(now), "what waits must not be overtaken");
        assert!(here.poll_transmit(now, &mut vec![], 8, 60_000).is_some());
        assert!(!here.wants(now));
        assert!(!here.stats().on);
    }

    #[test]
    fn a_short_clean_path_has_no_layer_and_a_long_one_has() {
        for (round_trip, wanted) in [(MS / 5, false), (2 * MS, false), (5 * MS, true)] {
            let (now, mut here, mut there) = two();
            here.allow();
            assert!(here.wants(now), "nothing is known");
            let now = roomy(now, &mut here, &mut there);
            here.handle_round_trip(20 * round_trip);
            here.handle_round_trip(round_trip);
            assert_eq!(
                here.wants(now),
                wanted,
                "{round_trip:?}: the shortest counts"
            );
        }
    }

    #[test]
    fn loss_brings_the_layer_in_on_a_short_path_and_its_end_sends_it_away() {
        let (mut now, mut here, mut there) = two();
        for end in [&mut here, &mut there] {
            end.allow();
            end.handle_round_trip(MS / 5);
        }
        now = roomy(now, &mut here, &mut there);
        let mut first = None;
        for number in 0..8192 {
            now += MS / 20;
            if number % 100 != 3 {
                there.handle_bare(&record(number));
            }
            let mut batch = vec![];
            while there.poll_transmit(now, &mut batch, 8, 60_000).is_some() {
                assert!(here.handle_frame(now, &batch, false));
                first.get_or_insert(now);
                batch.clear();
            }
            let long = first.is_some_and(|first| now - first >= 80 * MS);
            let once = first.is_none_or(|first| now - first < 50 * MS);
            if long || once {
                assert_eq!(here.wants(now), long, "once may have been a full buffer");
            }
        }
        assert!(here.wants(now));
        for number in 0..100 {
            let mut large = record(number);
            large.resize(1400, 7);
            here.send(&large);
        }
        now += STAYS;
        here.heard = Some(now);
        assert!(here.wants(now), "what waits must not be overtaken");
        let mut batch = vec![];
        while here.poll_transmit(now, &mut batch, 8, 60_000).is_some() {
            batch.clear();
        }
        assert!(!here.wants(now));
    }

    #[test]
    fn a_socket_that_holds_too_little_for_all_at_once_gets_frames_alone() {
        for (room, wanted) in [(BARE_ROOM - 1, true), (BARE_ROOM, false)] {
            let (now, mut here, _) = two();
            let mut there = Repair::new(now, keys()[1].clone(), 7, room);
            here.allow();
            here.handle_round_trip(MS / 5);
            let now = begin(now, &mut here, &mut there);
            assert_eq!(here.wants(now), wanted);
            assert_eq!(here.stats().on, wanted);
        }
    }

    #[test]
    fn the_first_datagrams_are_framed_on_any_path_which_is_no_news() {
        let (now, mut here, mut there) = two();
        here.allow();
        here.handle_round_trip(MS / 5);
        assert!(here.wants(now) && !here.stats().on);
        let now = begin(now, &mut here, &mut there);
        assert!(!here.wants(now));
        let (_, mut far, _) = two();
        far.allow();
        far.handle_round_trip(50 * MS);
        assert!(far.wants(now) && far.stats().on);
    }

    #[test]
    fn a_clean_path_is_told_nothing_and_late_records_are_not_missing() {
        let (now, _, mut there) = two();
        there.allow();
        for number in (0..4096).map(|number: u64| number ^ 3) {
            there.handle_bare(&record(number));
            assert_eq!(there.poll_timeout(), None);
            assert_eq!(
                there.poll_transmit(now, &mut vec![], 8, 60_000),
                None,
                "{number}"
            );
        }
    }

    #[test]
    fn records_in_the_clear_and_junk_are_not_counted() {
        assert_eq!(
            record_number(&record(0x0102_0304_0506)),
            Some(0x0102_0304_0506)
        );
        let mut clear = record(7);
        clear[4] = 0;
        for junk in [&clear[..], &[], &[23, 254, 253, 0, 1, 0], &[1; 40]] {
            assert_eq!(record_number(junk), None);
        }
    }

    fn record(number: u64) -> Vec<u8> {
        let mut record = vec![23, 254, 253, 0, 1];
        record.extend(&number.to_be_bytes()[2..]);
        record.extend([0; 20]);
        record
    }

    /// The other side tells that there is room, and the layer steps aside.
    fn roomy(now: Instant, here: &mut Repair, there: &mut Repair) -> Instant {
        let now = begin(now, here, there);
        here.sender.change_path(now, None);
        here.on = false;
        now
    }

    /// The first datagrams, each with its acknowledgement after no time. Returns the time then.
    fn begin(mut now: Instant, here: &mut Repair, there: &mut Repair) -> Instant {
        for _ in 0..FIRST {
            assert!(here.wants(now));
            now = exchange(now, here, there);
        }
        now
    }

    /// One datagram in the clear, and its acknowledgement after no time.
    fn exchange(now: Instant, here: &mut Repair, there: &mut Repair) -> Instant {
        here.send(&[22; 40]);
        let mut batch = vec![];
        assert!(here.poll_transmit(now, &mut batch, 8, 60_000).is_some());
        assert!(there.handle_frame(now, &batch, false));
        batch.clear();
        assert!(there.poll_datagram().is_some());
        let later = now + 2 * MS;
        assert!(there.poll_transmit(later, &mut batch, 8, 60_000).is_some());
        assert!(here.handle_frame(later, &batch, false));
        later
    }

    fn keys() -> [Keys; 2] {
        [
            Keys::new(Role::Offerer, "ours", "theirs"),
            Keys::new(Role::Answerer, "theirs", "ours"),
        ]
    }

    fn two() -> (Instant, Repair, Repair) {
        let now = Instant::now();
        let [here, there] = keys().map(|keys| Repair::new(now, keys, 7, BARE_ROOM));
        (now, here, there)
    }
}
