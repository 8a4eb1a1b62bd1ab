//! The clock that the `webrtc` crate is given: faster than the wall clock, never too fast.
//!
//! The crate's SCTP has a fixed 1 s minimum retransmission timeout (RFC 9260 §16) and reads time
//! only through its runtime. A clock that runs `rate` times faster makes that floor `1/rate`
//! seconds with no change on the wire: a minimum is a local choice. Five rules keep it right:
//!
//! - **Fast once the round trip is known**, and never so fast that the floor comes under
//!   [`FLOOR_IN_ROUND_TRIPS`] round trips: a retransmission that overtakes the answer is waste.
//! - **Slow where loss is repaired below**: there SCTP has nothing to repeat before the repair layer
//!   gives up. One timeout too many in its first round trips, and its window grows by a packet a
//!   round trip for the rest of the transfer.
//! - **Less fast for a handshake that repeats itself**: the crate does so seven times, always after
//!   the same time, and then gives up. On a short path that would be a twelfth of a second.
//! - **A little fast before that**, for checks every 50 ms (RFC 8445 §14.2) instead of 200: ICE
//!   forgets a request after 4 s of *its* clock, so a first round trip may take a second; then,
//!   with no answer, slow, for paths that need longer and people who do.
//! - **Slow while a transmission stays unanswered.** The crate gives a chunk up after
//!   [`T3_BUDGET`] of its own time (1 + 2 + 4 + 8 + 16 + 32 s), without a word. So during silence
//!   the clock slows until the whole patience of the link costs less than that.
//!
//! Everything else whose time is the real world's (TURN refresh, keep-alive, our own deadlines)
//! lives outside this clock.

use std::time::{Duration, Instant};

use crate::proto::link::repair;

/// 1/100 s = 10 ms, the smallest retransmission floor: below it, scheduling noise of a busy
/// machine looks like loss.
const MAX_RATE: f64 = 100.0;
/// The floor stays at or above this many round trips.
const FLOOR_IN_ROUND_TRIPS: f64 = 4.0;
/// Between repetitions of a handshake, from the second on.
const AGAIN_FLOOR: f64 = 0.1;
/// Silence shorter than this is ordinary.
const MIN_SILENCE: Duration = Duration::from_millis(150);
/// Before the round trip is known.
const FIRST_RATE: f64 = 4.0;
/// Silence that counts before the round trip is known.
const UNKNOWN_SILENCE: Duration = Duration::from_secs(3);
/// Crate time that may pass in one silence: the fast part (at most 150 ms at rate 100 = 15 s, or 8
/// round trips = 2 s) and the slow part together stay well under the 63 s after which SCTP gives
/// up retransmitting.
const T3_BUDGET: Duration = Duration::from_secs(45);
const FAST_PART: Duration = Duration::from_secs(15);

/// A piecewise linear map from wall time to the crate's time. Pure: time comes in as arguments.
#[derive(Debug)]
pub struct Clock {
    wall: Instant,
    virt: Instant,
    round_trip: Option<Duration>,
    /// The oldest transmission since anything was last heard.
    unanswered: Option<Instant>,
    pub(super) pace: Pace,
    slow_rate: f64,
}

/// What hurry the crate is in, by what it sent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Usual,
    /// A handshake repeats itself.
    Again,
    /// Loss is repaired below.
    Repaired,
}

impl Clock {
    /// `patience`: the longest silence that the link must survive.
    #[must_use]
    pub fn new(now: Instant, patience: Duration) -> Self {
        let slow_rate = (T3_BUDGET.saturating_sub(FAST_PART).as_secs_f64()
            / patience.as_secs_f64().max(1.0))
        .min(1.0);
        Self {
            wall: now,
            virt: now,
            round_trip: None,
            unanswered: None,
            pace: Pace::Usual,
            slow_rate,
        }
    }

    /// The crate's time at wall time `now`. Never runs backwards.
    #[must_use]
    pub fn virtual_at(&self, now: Instant) -> Instant {
        let from = self.wall;
        let Some(now) = (now > from).then_some(now) else {
            return self.virt;
        };
        let slow_from = self.silent_from();
        let (fast, slow) = match slow_from {
            Some(at) if at <= from => (Duration::ZERO, now - from),
            Some(at) if at < now => (at - from, now - at),
            _ => (now - from, Duration::ZERO),
        };
        self.virt + fast.mul_f64(self.fast_rate()) + slow.mul_f64(self.slow_rate)
    }

    /// How long, from `now`, the wall clock needs until the crate's time is `target`, if nothing
    /// is heard meanwhile. Hearing something can only make it shorter.
    #[must_use]
    pub fn wall_until(&self, now: Instant, target: Instant) -> Duration {
        let virt = self.virtual_at(now);
        let Some(left) = target.checked_duration_since(virt) else {
            return Duration::ZERO;
        };
        let left = left.as_secs_f64();
        let fast_wall = match self.silent_from() {
            Some(at) => at.saturating_duration_since(now).as_secs_f64(),
            None => f64::INFINITY,
        };
        let fast_virt = fast_wall * self.fast_rate();
        let seconds = if left <= fast_virt {
            left / self.fast_rate()
        } else {
            fast_wall + (left - fast_virt) / self.slow_rate
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// A datagram left for the peer.
    pub fn handle_sent(&mut self, now: Instant) {
        if self.unanswered.is_none() {
            self.settle(now);
            self.unanswered = Some(now);
        }
    }

    /// A datagram came from the peer.
    pub fn handle_heard(&mut self, now: Instant) {
        if self.unanswered.is_some() {
            self.settle(now);
            self.unanswered = None;
        }
    }

    /// A STUN check was answered after `sample`.
    pub fn handle_round_trip(&mut self, now: Instant, sample: Duration) {
        self.settle(now);
        self.round_trip = Some(match self.round_trip {
            Some(before) => (before * 3 + sample) / 4,
            None => sample,
        });
    }

    /// From now on.
    pub fn handle_pace(&mut self, now: Instant, pace: Pace) {
        if self.pace != pace {
            self.settle(now);
            self.pace = pace;
        }
    }

    /// The estimate of the path's round trip; `None` until the first check was answered.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// From when on a transmission counts as unanswered and the clock runs slow; past or future.
    #[must_use]
    pub fn silent_from(&self) -> Option<Instant> {
        let threshold = match self.round_trip {
            Some(rtt) => MIN_SILENCE.max(rtt * 8),
            None => UNKNOWN_SILENCE,
        };
        self.unanswered.map(|at| at + threshold)
    }

    /// Moves the anchor to `now`, so that a change of rate only counts from here on.
    fn settle(&mut self, now: Instant) {
        if now > self.wall {
            self.virt = self.virtual_at(now);
            self.wall = now;
        }
    }

    fn fast_rate(&self) -> f64 {
        let Some(rtt) = self.round_trip else {
            return FIRST_RATE;
        };
        let floor = FLOOR_IN_ROUND_TRIPS * rtt.as_secs_f64();
        match self.pace {
            Pace::Usual => (1.0 / floor.max(1.0 / MAX_RATE)).max(1.0),
            Pace::Again => (1.0 / floor.max(AGAIN_FLOOR)).max(1.0),
            Pace::Repaired => 1.0 / repair::hold(rtt).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_mins(1);
    /// SCTP stops retransmitting a chunk after 1 + 2 + 4 + 8 + 16 + 32 s (rtc-sctp 0.21.1).
    const GIVES_UP: Duration = Duration::from_secs(63);

    #[test]
    fn checks_leave_every_50_ms_at_first_and_rarely_after_an_hour() {
        let (start, mut clock) = clock();
        clock.handle_sent(start);
        let interval = 200 * MS;
        assert_eq!(clock.wall_until(start, start + interval), 50 * MS);
        let late = start + Duration::from_hours(1);
        let later = clock.wall_until(late, clock.virtual_at(late) + interval);
        assert!(later > 300 * MS && later < 1000 * MS, "{later:?}");
    }

    #[test]
    fn runs_fast_on_a_short_path() {
        let (start, mut clock) = clock();
        clock.handle_round_trip(start, MS / 5);
        assert_eq!(clock.virtual_at(start + 10 * MS), start + 1000 * MS);
    }

    #[test]
    fn the_retransmission_floor_never_comes_under_four_round_trips() {
        for round_trip in [MS, 10 * MS, 50 * MS, 100 * MS, 240 * MS] {
            let (start, mut clock) = clock();
            clock.handle_round_trip(start, round_trip);
            let floor = clock.wall_until(start, start + 1000 * MS);
            assert!(
                floor + MS / 1000 >= round_trip * 4,
                "{floor:?} on a path of {round_trip:?}"
            );
            assert!(floor <= 1000 * MS);
        }
    }

    #[test]
    fn the_floor_is_higher_where_loss_is_repaired_below_and_when_a_handshake_repeats_itself() {
        for (pace, round_trip, floor) in [
            (Pace::Repaired, MS / 5, 1000),
            (Pace::Repaired, 50 * MS, 1000),
            (Pace::Repaired, 200 * MS, 1600),
            (Pace::Repaired, 600 * MS, 3000),
            (Pace::Again, MS / 5, 100),
            (Pace::Again, 50 * MS, 200),
            (Pace::Again, 300 * MS, 1000),
        ] {
            let (start, mut clock) = clock();
            clock.handle_round_trip(start, round_trip);
            let before = clock.virtual_at(start + 10 * MS);
            clock.handle_pace(start + 10 * MS, pace);
            assert_eq!(
                clock.virtual_at(start + 10 * MS),
                before,
                "it does not jump"
            );
            let found = clock.wall_until(start + 10 * MS, before + 1000 * MS);
            let off = found.abs_diff(floor * MS);
            assert!(off < MS, "{found:?} on a path of {round_trip:?}");
            clock.handle_pace(start + 10 * MS, Pace::Usual);
            assert!(clock.wall_until(start + 10 * MS, before + 1000 * MS) <= found);
        }
    }

    #[test]
    fn a_path_longer_than_the_floor_keeps_wall_speed() {
        let (start, mut clock) = clock();
        clock.handle_round_trip(start, 600 * MS);
        assert_eq!(clock.virtual_at(start + 1000 * MS), start + 1000 * MS);
    }

    #[test]
    fn a_silence_as_long_as_the_patience_is_survived_at_any_rate() {
        for round_trip in [MS / 10, MS, 5 * MS, 30 * MS, 100 * MS, 250 * MS, 600 * MS] {
            for patience in [PATIENCE, Duration::from_secs(20), Duration::from_mins(10)] {
                let start = Instant::now();
                let mut clock = Clock::new(start, patience);
                clock.handle_round_trip(start, round_trip);
                clock.handle_sent(start);
                let spent = clock.virtual_at(start + patience) - start;
                assert!(
                    spent < GIVES_UP,
                    "{spent:?} spent at {round_trip:?} in {patience:?}"
                );
            }
        }
    }

    #[test]
    fn idleness_is_not_silence() {
        let (start, mut clock) = clock();
        clock.handle_round_trip(start, MS);
        clock.handle_heard(start);
        assert_eq!(clock.virtual_at(start + 1000 * MS), start + 100_000 * MS);
    }

    #[test]
    fn hearing_the_peer_makes_it_fast_again() {
        let (start, mut clock) = clock();
        clock.handle_round_trip(start, MS);
        clock.handle_sent(start);
        let back = start + Duration::from_secs(20);
        clock.handle_heard(back);
        assert!(
            clock.wall_until(back, clock.virtual_at(back) + Duration::from_secs(32)) < 700 * MS
        );
    }

    #[test]
    fn never_runs_backwards_and_both_directions_agree() {
        let (start, mut clock) = clock();
        let (mut wall, mut before) = (start, start);
        for step in 0u32..2000 {
            wall += MS / 10 * (step % 97);
            match step % 7 {
                0 => clock.handle_sent(wall),
                3 => clock.handle_heard(wall),
                5 => clock.handle_round_trip(wall, MS * (step % 41)),
                _ => {}
            }
            let virt = clock.virtual_at(wall);
            assert!(virt >= before);
            before = virt;
            let target = virt + MS * (step % 5000);
            let arrives = clock.virtual_at(wall + clock.wall_until(wall, target) + MS / 100);
            assert!(arrives >= target);
            assert!(arrives - target < MS);
        }
    }

    #[test]
    fn a_late_reading_of_the_wall_clock_changes_nothing() {
        let (start, mut clock) = clock();
        clock.handle_round_trip(start + 10 * MS, MS);
        let settled = clock.virtual_at(start + 10 * MS);
        assert_eq!(clock.virtual_at(start), settled);
    }

    fn clock() -> (Instant, Clock) {
        let start = Instant::now();
        (start, Clock::new(start, PATIENCE))
    }
}
