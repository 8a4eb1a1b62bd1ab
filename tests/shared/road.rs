//! One direction of a road between two machines: delay, jitter, loss, bursts of loss, reordering,
//! duplication, a rate, a queue, marks, a largest packet. Pure: time and chance come in.
//!
//! For each packet: its size, then loss, then the queue and the rate, then the delay.

use std::time::{Duration, Instant};

use crate::dice::Dice;

/// One direction. All of it may be changed while packets are on it; what waits already leaves at
/// the rate under which it came.
#[derive(Debug, Clone)]
pub struct Way {
    pub delay: Duration,
    /// Each packet is later by up to this, on its own: half of it on average, and what is close
    /// together changes places.
    pub jitter: Duration,
    pub loss: f64,
    /// How often a burst of loss begins, by packet, and how long it is at most.
    pub bursts: (f64, Duration),
    /// The share of packets that come later by up to the delay once more.
    pub reordered: f64,
    pub duplicated: f64,
    /// Bytes a second.
    pub rate: f64,
    /// Bytes that may wait.
    pub queue: f64,
    /// Beyond this many bytes waiting, packets are marked (RFC 3168).
    pub marks_at: f64,
    /// Of a packet, in bytes with its headers: what is larger vanishes without a word.
    pub largest: usize,
}

impl Way {
    /// A clean way of a rate in Mbit/s, with a queue as large as what a round trip holds.
    pub fn new(round_trip_ms: f64, mbit: f64) -> Self {
        let rate = mbit * 125_000.0;
        Self {
            delay: Duration::from_secs_f64(round_trip_ms / 2000.0),
            jitter: Duration::ZERO,
            loss: 0.0,
            bursts: (0.0, Duration::ZERO),
            reordered: 0.0,
            duplicated: 0.0,
            rate,
            queue: (rate * round_trip_ms / 1000.0).max(15_000.0),
            marks_at: f64::INFINITY,
            largest: usize::MAX,
        }
    }
}

/// A way and what is on it.
pub struct Lane {
    pub way: Way,
    /// When the last packet of the queue has left it.
    pub free_at: Instant,
    bad_until: Instant,
    pub counted: Counted,
}

/// What a lane has done so far, in packets.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub seen: u64,
    /// By chance, in bursts and alone.
    pub lost: u64,
    /// For want of room in the queue.
    pub overflowed: u64,
    pub too_large: u64,
    pub duplicated: u64,
    /// That would be marked, if they can be.
    pub marked: u64,
    /// How long packets waited in the queue, all together.
    pub waited: Duration,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Carried {
    /// When it arrives, if it does, twice if it is duplicated.
    pub arrivals: [Option<Instant>; 2],
    pub marked: bool,
}

impl Lane {
    pub fn new(way: Way, now: Instant) -> Self {
        Self {
            way,
            free_at: now,
            bad_until: now,
            counted: Counted::default(),
        }
    }

    /// Takes a packet of `len` bytes, headers included.
    pub fn carry(&mut self, now: Instant, len: usize, dice: &mut Dice) -> Carried {
        const GONE: Carried = Carried {
            arrivals: [None; 2],
            marked: false,
        };
        let (way, counted) = (&self.way, &mut self.counted);
        counted.seen += 1;
        if len > way.largest {
            counted.too_large += 1;
            return GONE;
        }
        let (begin, longest) = way.bursts;
        if now >= self.bad_until && dice.happens(begin) {
            self.bad_until = now + longest.mul_f64(dice.below(1024) as f64 / 1024.0);
        }
        if now < self.bad_until || dice.happens(way.loss) {
            counted.lost += 1;
            return GONE;
        }
        let len = len as f64;
        let wait = self.free_at.saturating_duration_since(now);
        let waiting = wait.as_secs_f64() * way.rate;
        if waiting + len > way.queue {
            counted.overflowed += 1;
            return GONE;
        }
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(len / way.rate);
        let twice = dice.happens(way.duplicated);
        let mut arrival = || {
            let share = dice.below(1 << 20) as f64 / f64::from(1 << 20);
            let late = if dice.happens(way.reordered) {
                way.delay.mul_f64(share)
            } else {
                way.jitter.mul_f64(share)
            };
            self.free_at + way.delay + late
        };
        let arrivals = [Some(arrival()), twice.then(arrival)];
        let marked = waiting > way.marks_at;
        counted.waited += wait;
        counted.duplicated += u64::from(twice);
        counted.marked += u64::from(marked);
        Carried { arrivals, marked }
    }
}

/// Tells an IP packet's receiver of congestion, if its sender asked to be told (RFC 3168 section 5).
/// Returns whether it is marked now.
pub fn mark(packet: &mut [u8]) -> bool {
    const CE: u8 = 3;
    match packet {
        [first, second, rest @ ..] if *first >> 4 == 4 && rest.len() >= 18 => {
            if *second & CE == 0 {
                return false;
            }
            let word = |second| u32::from_be_bytes([0, 0, *first, second]);
            let (before, after) = (word(*second), word(*second | CE));
            *second |= CE;
            // RFC 1624, equation 3.
            let checksum = u32::from_be_bytes([0, 0, rest[8], rest[9]]);
            let sum = (!checksum & 0xffff) + (!before & 0xffff) + after;
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            rest[8..10].copy_from_slice(&(!sum as u16).to_be_bytes());
            true
        }
        // The traffic class begins in the middle of the first byte.
        [first, second, ..] if *first >> 4 == 6 => {
            let asked = *second & (CE << 4) != 0;
            if asked {
                *second |= CE << 4;
            }
            asked
        }
        _ => false,
    }
}
