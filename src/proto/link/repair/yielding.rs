//! What may be on the way after congestion, and whether yielding to it helps anybody.
//!
//! Whoever shares the bottleneck and heeds loss gets what CUBIC (RFC 9438) would leave to it: this
//! side then goes by CUBIC's own curve. But a neighbour that heeds no loss (BBR version 1) takes
//! all that is left to it, and goes on losing. It is told by congestion that is back so soon after
//! this side yielded that nobody else can have.

use std::time::{Duration, Instant};

use super::rate::FRAME;

/// After congestion so much of what was on the way then may be (RFC 9438 §4.6).
const YIELD: f64 = 0.7;
/// How fast that grows again: segments a second cubed, and a round trip (§4.2, §4.3).
const CUBIC: f64 = 0.4;
const RENO: f64 = 3.0 * (1.0 - YIELD) / (1.0 + YIELD);
/// Rounds in which the same congestion is still seen.
const SAME: u64 = 2;
/// Congestion within so many rounds of the last is a neighbour's who has not yielded: BBR probes
/// every eight.
const SOON: u64 = 8;
/// For so many rounds nothing is yielded then.
const IN_VAIN: u64 = 32;

/// What congestion there was lately.
#[derive(Debug, Default)]
pub struct Yielding {
    last: Option<Congestion>,
    in_vain_until: u64,
}

#[derive(Debug)]
struct Congestion {
    at: Instant,
    round: u64,
    /// Bytes on the way then, and that may be now.
    in_flight: f64,
    ceiling: f64,
}

impl Yielding {
    /// A round is over; with `congested` bytes on the way, if there was congestion. Marks say so
    /// before anybody loses: who is `marked` yields in any case.
    pub fn handle_round(&mut self, now: Instant, round: u64, congested: Option<f64>, marked: bool) {
        self.last.take_if(|last| last.ceiling >= last.in_flight);
        if let Some(in_flight) = congested
            && (marked || round >= self.in_vain_until)
        {
            let since = self.last.as_ref().map(|last| round - last.round);
            match since {
                Some(..=SAME) => {}
                Some(..=SOON) if !marked => {
                    self.in_vain_until = round + IN_VAIN;
                    self.last = None;
                }
                _ => {
                    self.last = Some(Congestion {
                        at: now,
                        round,
                        in_flight,
                        ceiling: in_flight * YIELD,
                    });
                }
            }
        }
        if let Some(last) = &mut self.last {
            let passed = now.saturating_duration_since(last.at);
            last.ceiling = curve(last.in_flight, passed, round - last.round);
        }
    }

    /// What may be on the way, in bytes.
    pub fn ceiling(&self) -> f64 {
        self.last
            .as_ref()
            .map_or(f64::INFINITY, |last| last.ceiling)
    }
}

/// Of `before` bytes, what may be on the way again after so much time and so many rounds.
fn curve(before: f64, passed: Duration, rounds: u64) -> f64 {
    let before = before / FRAME;
    let back = (before * (1.0 - YIELD) / CUBIC).cbrt();
    let cubic = CUBIC * (passed.as_secs_f64() - back).powi(3) + before;
    let reno = before * YIELD + RENO * rounds as f64;
    cubic.max(reno) * FRAME
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(50);
    const BEFORE: f64 = 100.0 * FRAME;

    #[test]
    fn the_curve_begins_at_seven_tenths_and_is_back_when_rfc_9438_says() {
        assert!((curve(BEFORE, Duration::ZERO, 0) / BEFORE - 0.7).abs() < 1e-6);
        // The cube root of 100 * 0.3 / 0.4.
        let back = Duration::from_secs_f64(4.217);
        assert!((curve(BEFORE, back, 0) / BEFORE - 1.0).abs() < 1e-3);
        assert!(curve(BEFORE, back / 2, 0) < BEFORE * 0.97);
    }

    #[test]
    fn a_small_window_grows_as_fast_as_reno_would() {
        let small = 10.0 * FRAME;
        let after = curve(small, ROUND * 6, 6);
        assert!(after > small, "{after}");
    }

    #[test]
    fn the_losses_of_one_congestion_are_yielded_to_once() {
        let mut link = Link::default();
        let ceilings: Vec<f64> = (0..3).map(|_| link.round(true)).collect();
        assert!(ceilings[0] < BEFORE * 0.71, "{ceilings:?}");
        assert!(ceilings.is_sorted() && ceilings[2] < BEFORE, "{ceilings:?}");
    }

    #[test]
    fn who_is_answered_by_a_quiet_path_yields_again_and_ends_when_it_is_back() {
        let mut link = Link::default();
        link.round(true);
        for _ in 0..SOON {
            assert!(link.round(false) < BEFORE);
        }
        assert!(link.round(true) < BEFORE * 0.71, "once more");
        let quiet = (0..200).position(|_| link.round(false).is_infinite());
        let quiet = quiet.expect("it ends");
        // 30 segments at Reno's pace, which is the faster one here.
        assert!((55..=58).contains(&quiet), "{quiet} rounds");
    }

    #[test]
    fn against_a_neighbour_that_heeds_nothing_it_yields_no_more_for_a_while() {
        let mut link = Link::default();
        link.round(true);
        for _ in 0..5 {
            link.round(false);
        }
        for round in 0..IN_VAIN {
            assert!(link.round(true).is_infinite(), "in round {round}");
        }
        assert!(link.round(true) < BEFORE * 0.71, "then it tries again");
    }

    #[test]
    fn marks_are_heeded_however_soon_they_are_back() {
        let mut link = Link {
            marked: true,
            ..Link::default()
        };
        for _ in 0..10 * SOON {
            assert!(link.round(true) < BEFORE * 0.8);
        }
    }

    #[derive(Default)]
    struct Link {
        yielding: Yielding,
        now: Option<Instant>,
        round: u64,
        marked: bool,
    }

    impl Link {
        fn round(&mut self, congested: bool) -> f64 {
            let now = self.now.map_or_else(Instant::now, |now| now + ROUND);
            self.now = Some(now);
            self.round += 1;
            let congested = congested.then_some(BEFORE);
            self.yielding
                .handle_round(now, self.round, congested, self.marked);
            self.yielding.ceiling()
        }
    }
}
