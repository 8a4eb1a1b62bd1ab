//! How fast to send: a model of the path in place of a reaction to loss.
//!
//! After BBR (draft-cardwell-iccrg-bbr-congestion-control, and draft-cheng-iccrg-delivery-rate-
//! estimation for the samples): the highest rate at which the path delivered lately and the
//! shortest round trip lately say how much may be on the way. Chance loses packets at any rate, so
//! loss alone changes nothing. Loss *with* a queue in front of it is congestion, to which this
//! side yields ([`Yielding`]), and a rate that falls while a queue stands is a path that has become
//! slower.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::yielding::Yielding;

/// A frame of full size, in bytes.
pub const FRAME: f64 = 1450.0;
/// What may be on the way before anything is known. More than the ten packets of RFC 6928, because
/// SCTP above begins with three and doubles: this only must not hold it back.
const INITIAL: f64 = 32.0 * FRAME;
const LEAST: f64 = 4.0 * FRAME;
/// Doubles the rate in each round trip (2/ln 2).
const STARTUP_GAIN: f64 = 2.885;
const DRAIN_GAIN: f64 = 0.35;
const UP_GAIN: f64 = 1.25;
const DOWN_GAIN: f64 = 0.75;
/// Of what the path itself holds may be on the way, as BBR has it: with less in the queue than a
/// neighbour's this flow loses its place there.
const WINDOW_GAIN: f64 = 2.0;
/// Start-up is over when the rate has not grown by a quarter in three rounds.
const GROWTH: f64 = 1.25;
const FLAT_ROUNDS: u32 = 3;
/// Rounds for which a sample counts: a cycle of probing and a little.
const PEAK_ROUNDS: u64 = 10;
/// The shortest round trip is measured anew after this, with half of the path empty.
const MIN_RTT_AGE: Duration = Duration::from_secs(5);
/// Or when each round trip of so many cycles of probing was so many times longer: the path has
/// changed, or others keep a queue that our own cannot be.
const LONG_CYCLES: u32 = 2;
const LONG: f64 = 2.5;
const PROBE_RTT: Duration = Duration::from_millis(200);
/// Late acknowledgements and timers of a millisecond: what may be on the way beyond the path's own.
const SLACK: Duration = Duration::from_millis(4);
/// A phase of probing is no shorter, however short the path.
const LEAST_PHASE: Duration = Duration::from_millis(5);
/// Of what was sent in a round; with a queue in front of it more is congestion, where it is also
/// more than so many times what is lost without a queue.
const LOSS_LIMIT: f64 = 0.005;
const CHANCE: f64 = 2.0;
/// Of a round without a queue in what is known of loss by chance.
const CHANCE_WEIGHT: f64 = 1.0 / 16.0;
/// Round trips that are usually so much longer than the shortest: a queue.
const QUEUED: f64 = 1.1;
const QUEUED_MORE: Duration = Duration::from_millis(1);
/// The path is full when so many times what it holds is on the way.
const FILLED: f64 = 1.25;
/// A probe that brought so much more is followed by another at once.
const GROWN: f64 = 1.1;
/// Below this share of the peak, with a queue standing, the path has become slower.
const FALLEN: f64 = 0.6;

/// The state of the model when something was sent.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// There was nothing else to send: what is measured is the application.
    limited: bool,
}

/// What an acknowledgement brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// The newest transmission that it acknowledges for the first time.
    pub newest: Option<Stamp>,
    /// Its round trip without the time that the other side held it.
    pub round_trip: Option<Duration>,
    /// Bytes that arrived, and that were lost, as it shows.
    pub delivered: u64,
    pub lost: u64,
    /// Frames that a router marked (RFC 3168).
    pub marked: u32,
    /// Bytes still on the way.
    pub in_flight: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Grows until the rate does not.
    Startup,
    /// Lets the queue of start-up drain.
    Drain,
    /// A little more than the path gave so far.
    Up { since: Instant },
    /// Lets go what that queued.
    Down { since: Instant },
    /// As much as the path gives.
    Cruise { until: Instant },
    /// Little, to see the path without a queue; and the shortest round trip meanwhile.
    ProbeRtt {
        until: Option<Instant>,
        shortest: Option<Duration>,
    },
}

/// The model of one path in one direction.
#[derive(Debug)]
pub struct Rate {
    phase: Phase,
    /// Rates of delivery in bytes a second by round, falling.
    peaks: VecDeque<(u64, f64)>,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    smoothed: Option<Duration>,
    variation: Duration,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// Samples are the application's until so much is delivered.
    limited_until: Option<u64>,
    round: u64,
    round_end: u64,
    this_round: Round,
    full: f64,
    flat: u32,
    yielding: Yielding,
    /// What is lost without a queue, of what is sent.
    chance: f64,
    /// There was no queue in the round before.
    calm: bool,
    /// The shortest round trip of this cycle of probing, and how many cycles had only long ones.
    cycle: Option<Duration>,
    long_cycles: u32,
    /// The peak from which the rate fell since the shortest round trip was measured.
    fallen_from: f64,
    /// The peak when probing began last.
    before_up: f64,
    /// What the other side's socket holds when nobody reads, in bytes.
    room: f64,
    dice: u64,
}

/// What one round trip showed.
#[derive(Debug, Default)]
struct Round {
    shortest: Option<Duration>,
    /// The sum of the round trips measured, and how many.
    sum: Duration,
    count: u32,
    fastest: f64,
    delivered: u64,
    lost: u64,
    marked: u64,
    most_in_flight: u64,
    limited: bool,
}

impl Rate {
    /// `round_trip`: what is known of it before anything was measured here.
    pub fn new(now: Instant, round_trip: Option<Duration>, seed: u64) -> Self {
        Self {
            phase: Phase::Startup,
            peaks: VecDeque::new(),
            min_rtt: None,
            min_rtt_at: now,
            smoothed: round_trip,
            variation: round_trip.unwrap_or_default() / 2,
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            limited_until: None,
            round: 0,
            round_end: 0,
            this_round: Round::default(),
            full: 0.0,
            flat: 0,
            yielding: Yielding::default(),
            chance: 0.0,
            calm: true,
            cycle: None,
            long_cycles: 0,
            fallen_from: 0.0,
            before_up: 0.0,
            room: f64::INFINITY,
            dice: seed | 1,
        }
    }

    /// The other side's socket holds so many bytes.
    pub fn handle_room(&mut self, room: f64) {
        self.room = room;
    }

    /// A frame leaves, with so much on the way before it.
    pub fn handle_sent(&mut self, now: Instant, in_flight: u64) -> Stamp {
        if in_flight == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        Stamp {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            limited: self
                .limited_until
                .is_some_and(|until| self.delivered <= until),
        }
    }

    /// There is nothing to send, though more might be on the way. What is measured then is the
    /// application; but not where a queue stands all the same: SCTP's window may be smaller than
    /// ours, and still more than the path holds.
    pub fn handle_idle(&mut self, in_flight: u64) {
        if in_flight as f64 > self.path() * FILLED && self.min_rtt.is_some() {
            return;
        }
        self.limited_until = Some(self.delivered + in_flight);
    }

    pub fn handle_ack(&mut self, now: Instant, outcome: &Outcome) {
        self.delivered += outcome.delivered;
        if outcome.delivered > 0 {
            self.delivered_at = now;
        }
        let round = &mut self.this_round;
        round.delivered += outcome.delivered;
        round.lost += outcome.lost;
        round.marked += u64::from(outcome.marked);
        let on_the_way = outcome.in_flight + outcome.delivered + outcome.lost;
        round.most_in_flight = round.most_in_flight.max(on_the_way);
        if let Some(sample) = outcome.round_trip {
            self.measure(now, sample);
        }
        if let Some(stamp) = outcome.newest {
            self.first_sent = self.first_sent.max(stamp.at);
            self.sample(now, &stamp);
            if stamp.delivered >= self.round_end {
                self.round_end = self.delivered;
                self.round += 1;
                self.end_round(now);
            }
        }
        self.advance(now, outcome.in_flight);
    }

    fn measure(&mut self, now: Instant, sample: Duration) {
        self.this_round.sum += sample;
        self.this_round.count += 1;
        let shorter = |before: Option<Duration>| Some(before.unwrap_or(sample).min(sample));
        self.this_round.shortest = shorter(self.this_round.shortest);
        self.cycle = shorter(self.cycle);
        if let Phase::ProbeRtt { shortest, .. } = &mut self.phase {
            *shortest = shorter(*shortest);
        }
        if self.min_rtt.is_none_or(|shortest| sample <= shortest) {
            self.min_rtt = Some(sample);
            self.min_rtt_at = now;
        }
        // RFC 6298 §2.
        match self.smoothed {
            Some(smoothed) => {
                let off = smoothed.abs_diff(sample);
                self.variation = (self.variation * 3 + off) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
        }
    }

    fn sample(&mut self, now: Instant, stamp: &Stamp) {
        let sending = stamp.at.saturating_duration_since(stamp.first_sent);
        let arriving = now.saturating_duration_since(stamp.delivered_at);
        let interval = sending.max(arriving);
        // Shorter ones come from acknowledgements that were held up and came together.
        // And a stamp of another path says nothing about this one.
        let Some(delivered) = self.delivered.checked_sub(stamp.delivered) else {
            return;
        };
        if interval.is_zero() || interval < self.min_rtt.unwrap_or_default() {
            return;
        }
        let rate = delivered as f64 / interval.as_secs_f64();
        self.this_round.limited = stamp.limited;
        self.this_round.fastest = self.this_round.fastest.max(rate);
        if !stamp.limited || rate >= self.peak() {
            self.note_peak(rate);
        }
    }

    fn note_peak(&mut self, rate: f64) {
        while self.peaks.back().is_some_and(|(_, lower)| *lower <= rate) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((self.round, rate));
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::take(&mut self.this_round);
        let shortest = self.min_rtt.unwrap_or_default();
        let least = round.shortest.unwrap_or_default();
        let usual = round.sum / round.count.max(1);
        let queue = shortest.mul_f64(QUEUED) + QUEUED_MORE;
        let standing = least > shortest.mul_f64(2.0) + LEAST_PHASE;

        let sent = (round.delivered + round.lost).max(1) as f64;
        let lost = round.lost as f64 / sent;
        // What a queue dropped may show a round later, when it has drained.
        let calm = usual <= queue;
        if calm && self.calm {
            self.chance += (lost - self.chance) * CHANCE_WEIGHT;
        }
        self.calm = calm;
        let lossy = lost > LOSS_LIMIT + self.chance * CHANCE;
        let marked = round.marked as f64 * FRAME > sent * LOSS_LIMIT;
        let congested = (lossy && !calm) || marked;

        // The path has become slower: what it gave before is no measure. Or longer, which looks the
        // same until the shortest round trip is measured anew, with as little as a slower one holds.
        if standing && !round.limited && round.fastest > 0.0 && round.fastest < self.peak() * FALLEN
        {
            self.fallen_from = self.fallen_from.max(self.peak());
            self.peaks.clear();
            self.peaks.push_back((self.round, round.fastest));
            self.yielding = Yielding::default();
        }
        while let Some((since, _)) = self.peaks.front()
            && self.peaks.len() > 1
            && since + PEAK_ROUNDS < self.round
        {
            self.peaks.pop_front();
        }
        if self.phase == Phase::Startup {
            // A machine that was busy for a moment, and loss by chance, are no reason to end it.
            let full = marked || (congested && least > queue);
            self.end_startup_round(&round, full, standing);
        } else {
            let in_flight = congested.then_some(round.most_in_flight as f64);
            self.yielding
                .handle_round(now, self.round, in_flight, marked);
        }
    }

    fn end_startup_round(&mut self, round: &Round, congested: bool, standing: bool) {
        let peak = self.peak();
        if peak >= self.full * GROWTH {
            self.full = peak;
            self.flat = 0;
        } else if !round.limited {
            self.flat += 1;
        }
        // A queue says the same as a rate that does not grow, and sooner.
        let full = self.flat >= FLAT_ROUNDS || (self.flat >= 1 && standing);
        if full || congested {
            self.phase = Phase::Drain;
        }
    }

    fn advance(&mut self, now: Instant, in_flight: u64) {
        let length = self.phase_length();
        let path = self.path();
        match self.phase {
            Phase::Drain if in_flight as f64 <= path => {
                self.before_up = self.peak();
                self.cruise(now);
            }
            Phase::Up { since } if now >= since + length => {
                self.phase = Phase::Down { since: now };
            }
            Phase::Down { since } if in_flight as f64 <= path || now >= since + length * 2 => {
                self.cruise(now);
            }
            // What the last probe brought shows a round trip later. Where it brought more, there
            // may be several times as much.
            Phase::Cruise { until } if now >= until || self.peak() > self.before_up * GROWN => {
                self.before_up = self.peak();
                self.phase = Phase::Up { since: now };
                self.end_cycle();
            }
            Phase::ProbeRtt {
                until: None,
                shortest,
            } if in_flight as f64 <= (path / 2.0).max(LEAST) => {
                let until = Some(now + PROBE_RTT.max(self.round_trip()));
                self.phase = Phase::ProbeRtt { until, shortest };
            }
            Phase::ProbeRtt {
                until: Some(until),
                shortest,
            } if now >= until => {
                // It counts, shorter than before or not.
                let before = self.min_rtt;
                self.min_rtt = shortest.or(before);
                self.min_rtt_at = now;
                // Longer, and not slower; or others keep the queue.
                let fallen_from = std::mem::take(&mut self.fallen_from);
                if fallen_from > 0.0 && self.min_rtt > before.map(|before| before * 2) {
                    self.note_peak(fallen_from);
                }
                self.cruise(now);
            }
            _ => {}
        }
        let old = now.saturating_duration_since(self.min_rtt_at) > MIN_RTT_AGE;
        let wrong = self.long_cycles >= LONG_CYCLES;
        if (old || wrong) && !matches!(self.phase, Phase::ProbeRtt { .. } | Phase::Startup) {
            self.long_cycles = 0;
            self.phase = Phase::ProbeRtt {
                until: None,
                shortest: None,
            };
        }
    }

    /// The end of a cycle of probing.
    fn end_cycle(&mut self) {
        let long = self.min_rtt.unwrap_or_default().mul_f64(LONG) + LEAST_PHASE;
        self.long_cycles = match self.cycle.take() {
            Some(cycle) if cycle > long => self.long_cycles + 1,
            _ => 0,
        };
    }

    /// Cruises for three to six phases, so that flows on one path do not probe in step.
    fn cruise(&mut self, now: Instant) {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let phases = 3.0 + (self.dice % 1024) as f64 / 1024.0 * 3.0;
        self.phase = Phase::Cruise {
            until: now + self.phase_length().mul_f64(phases),
        };
    }

    fn phase_length(&self) -> Duration {
        self.min_rtt.unwrap_or_default().max(LEAST_PHASE)
    }

    fn peak(&self) -> f64 {
        self.peaks.front().map_or(0.0, |(_, rate)| *rate)
    }

    /// What the path itself holds, in bytes.
    fn path(&self) -> f64 {
        self.peak() * self.min_rtt.unwrap_or_default().as_secs_f64()
    }

    fn plain_window(&self) -> f64 {
        let slack = (self.peak() * SLACK.as_secs_f64()).min(self.room);
        self.path() * WINDOW_GAIN + slack + LEAST
    }

    /// How much may be on the way, in bytes.
    pub fn window(&self) -> f64 {
        if self.peaks.is_empty() {
            return INITIAL;
        }
        let window = match self.phase {
            Phase::ProbeRtt { .. } => self.path() / 2.0,
            Phase::Startup => (self.path() * STARTUP_GAIN + LEAST).max(INITIAL),
            _ => self.plain_window(),
        };
        // Never less than the path itself holds.
        let ceiling = self.yielding.ceiling().max(self.path());
        window.min(ceiling).max(LEAST)
    }

    /// In bytes a second.
    pub fn pace(&self) -> f64 {
        let gain = match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => DRAIN_GAIN,
            Phase::Up { .. } => UP_GAIN,
            Phase::Down { .. } => DOWN_GAIN,
            Phase::Cruise { .. } | Phase::ProbeRtt { .. } => 1.0,
        };
        let round_trip = self.smoothed.unwrap_or(Duration::from_millis(1));
        let initial = INITIAL / round_trip.as_secs_f64().max(1e-4);
        let rate = match self.phase {
            // What was measured so far may be the little that there was to send.
            Phase::Startup => self.peak().max(initial),
            _ => self.peak(),
        };
        (rate * gain).max(FRAME)
    }

    /// What the path was found to deliver lately, in bytes a second.
    pub fn found(&self) -> f64 {
        self.peak()
    }

    /// The shortest round trip lately.
    pub fn min_round_trip(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// The smoothed round trip; a guess before the first.
    pub fn round_trip(&self) -> Duration {
        self.smoothed.unwrap_or(Duration::from_millis(100))
    }

    /// How much the round trip varies.
    pub fn variation(&self) -> Duration {
        self.variation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn start_up_finds_the_rate_of_the_path_and_ends() {
        let mut path = Path::new(1e6, 40 * MS, 40_000.0);
        path.run(200);
        assert!(
            (path.rate.found() / 1e6 - 1.0).abs() < 0.1,
            "{:?}",
            path.rate
        );
        assert_ne!(path.rate.phase, Phase::Startup);
        assert!(path.rate.pace() < 1.3e6);
        let window = path.rate.window();
        assert!(window > 40_000.0 && window < 100_000.0, "{window}");
    }

    #[test]
    fn start_up_is_not_fooled_by_an_application_with_little_to_send() {
        let mut path = Path::new(1e6, 40 * MS, 40_000.0);
        path.least = 3_000;
        path.run(500);
        assert_eq!(path.rate.phase, Phase::Startup, "{:?}", path.rate);
        path.least = u64::MAX;
        path.run(300);
        assert!(
            (path.rate.found() / 1e6 - 1.0).abs() < 0.1,
            "{:?}",
            path.rate
        );
    }

    #[test]
    fn start_up_ends_on_a_full_path_though_more_was_wished_for() {
        let mut path = Path::new(1e6, 40 * MS, 40_000.0);
        path.least = 70_000;
        path.run(300);
        assert_ne!(path.rate.phase, Phase::Startup, "{:?}", path.rate);
    }

    #[test]
    fn chance_losses_change_nothing() {
        let mut path = Path::new(1e6, 40 * MS, 40_000.0);
        path.run(300);
        let before = path.rate.found();
        path.loss_every = 10;
        path.run(1000);
        assert!(path.rate.found() > before * 0.85, "{:?}", path.rate);
        assert!(path.rate.yielding.ceiling().is_infinite());
    }

    #[test]
    fn the_shortest_round_trip_is_measured_anew_with_little_on_the_way() {
        let mut path = Path::new(1e6, 40 * MS, 40_000.0);
        let mut seen = false;
        for _ in 0..12_000 / 5 {
            path.run(1);
            if matches!(path.rate.phase, Phase::ProbeRtt { .. }) {
                seen = true;
                assert!(path.rate.window() < 30_000.0);
            }
        }
        assert!(seen);
        assert!(
            !matches!(path.rate.phase, Phase::ProbeRtt { .. }),
            "and ends"
        );
    }

    /// A path of a rate and a queue, in steps of five milliseconds.
    struct Path {
        now: Instant,
        rate: Rate,
        bytes_a_second: f64,
        round_trip: Duration,
        queue: f64,
        /// When what is on the way arrives, and what it is.
        on_the_way: VecDeque<(Instant, Stamp, Instant, bool)>,
        free_at: Instant,
        /// What the application lets be on the way.
        least: u64,
        loss_every: u64,
        count: u64,
        credit: f64,
    }

    impl Path {
        fn new(bytes_a_second: f64, round_trip: Duration, queue: f64) -> Self {
            let now = Instant::now();
            Self {
                now,
                rate: Rate::new(now, Some(round_trip), 7),
                bytes_a_second,
                round_trip,
                queue,
                on_the_way: VecDeque::new(),
                free_at: now,
                least: u64::MAX,
                loss_every: u64::MAX,
                count: 0,
                credit: 0.0,
            }
        }

        fn run(&mut self, steps: usize) {
            for _ in 0..steps {
                self.now += 5 * MS;
                let mut outcome = Outcome::default();
                while self.on_the_way.front().is_some_and(|one| one.0 <= self.now) {
                    let Some((at, stamp, sent, lost)) = self.on_the_way.pop_front() else {
                        break;
                    };
                    if lost {
                        outcome.lost += 1000;
                    } else {
                        outcome.delivered += 1000;
                        outcome.newest = Some(stamp);
                        outcome.round_trip = Some(at - sent);
                    }
                }
                outcome.in_flight = self.in_flight();
                if outcome.delivered + outcome.lost > 0 {
                    self.rate.handle_ack(self.now, &outcome);
                }
                self.credit = (self.credit + self.rate.pace() * 0.005).min(1e5);
                while self.credit >= 1000.0 && (self.in_flight() as f64) < self.rate.window() {
                    if self.in_flight() + 1000 > self.least {
                        self.rate.handle_idle(self.in_flight());
                        break;
                    }
                    self.send();
                }
            }
        }

        fn send(&mut self) {
            self.credit -= 1000.0;
            self.count += 1;
            let stamp = self.rate.handle_sent(self.now, self.in_flight());
            let waiting = self
                .free_at
                .saturating_duration_since(self.now)
                .as_secs_f64();
            let full = waiting * self.bytes_a_second > self.queue;
            let lost = full || self.count.is_multiple_of(self.loss_every);
            if !full {
                let took = Duration::from_secs_f64(1000.0 / self.bytes_a_second);
                self.free_at = self.free_at.max(self.now) + took;
            }
            let at = self.free_at + self.round_trip;
            self.on_the_way.push_back((at, stamp, self.now, lost));
        }

        fn in_flight(&self) -> u64 {
            self.on_the_way.len() as u64 * 1000
        }
    }
}
