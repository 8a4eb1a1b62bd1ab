//! The neighbours on a simulated road: TCP flows that always have data, with selective
//! acknowledgements, and the two laws that most of the internet sends by.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::internet::Dice;
use crate::road::Traveller;

/// Of a segment, in bytes.
const SEGMENT: usize = 1448;

/// How a flow decides what may be on the way; in segments.
pub trait Law {
    fn window(&self) -> f64;
    /// Segments a second, where it paces.
    fn pace(&self) -> f64 {
        f64::INFINITY
    }
    /// One segment was acknowledged.
    fn acked(&mut self, now: Instant, ack: &Acked);
    fn timed_out(&mut self, now: Instant);
}

/// What one acknowledgement says.
pub struct Acked {
    pub round_trip: f64,
    /// Segments delivered in all, and when this one was sent.
    pub delivered: u64,
    pub delivered_when_sent: u64,
    /// Segments a second, where the sample is a good one.
    pub rate: f64,
    pub open: usize,
    /// Segments that are seen to be lost, and whether none was in the window of data before.
    pub lost: usize,
    pub first: bool,
    /// A window of data with losses has not passed yet.
    pub recovering: bool,
}

struct Sent {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
}

/// One TCP flow.
pub struct Tcp<L> {
    law: L,
    next: u64,
    open: BTreeMap<u64, Sent>,
    highest: u64,
    /// From here on a loss is a new event.
    recover: u64,
    acked: u64,
    delivered_at: Instant,
    first_sent: Instant,
    free_at: Instant,
    smoothed: f64,
    received: u64,
    answers: Vec<u64>,
}

impl<L: Law> Tcp<L> {
    pub fn new(now: Instant, law: L) -> Self {
        Self {
            law,
            next: 0,
            open: BTreeMap::new(),
            highest: 0,
            recover: 0,
            acked: 0,
            delivered_at: now,
            first_sent: now,
            free_at: now,
            smoothed: 0.1,
            received: 0,
            answers: vec![],
        }
    }

    fn acknowledged(&mut self, now: Instant, number: u64) {
        let Some(sent) = self.open.remove(&number) else {
            return;
        };
        let round_trip = (now - sent.at).as_secs_f64();
        self.smoothed = self.smoothed * 0.875 + round_trip * 0.125;
        self.acked += 1;
        self.delivered_at = now;
        let sending = sent.at - sent.first_sent;
        let arriving = now - sent.delivered_at;
        self.first_sent = self.first_sent.max(sent.at);
        self.highest = self.highest.max(number);
        // Three segments that came after it say that it is lost (RFC 6675).
        let mut lost = 0;
        let mut first = false;
        while let Some(oldest) = self.open.first_entry()
            && *oldest.key() + 3 < self.highest
        {
            first |= *oldest.key() >= self.recover;
            oldest.remove();
            lost += 1;
        }
        if first {
            self.recover = self.next;
        }
        self.law.acked(
            now,
            &Acked {
                round_trip,
                delivered: self.acked,
                delivered_when_sent: sent.delivered,
                rate: (self.acked - sent.delivered) as f64
                    / sending.max(arriving).as_secs_f64().max(1e-6),
                open: self.open.len(),
                lost,
                first,
                recovering: self.highest < self.recover,
            },
        );
    }
}

impl<L: Law> Traveller for Tcp<L> {
    fn arrive(&mut self, now: Instant, way: usize, packet: &[u8], _: bool) {
        let number = u64::from_be_bytes(packet[..8].try_into().unwrap());
        if way == 0 {
            self.received += SEGMENT as u64;
            self.answers.push(number);
        } else {
            self.acknowledged(now, number);
        }
    }

    fn leave(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)> {
        let mut all = vec![];
        while (self.open.len() as f64) < self.law.window() && self.free_at <= now {
            let mut packet = vec![0; SEGMENT + 24];
            packet[..8].copy_from_slice(&self.next.to_be_bytes());
            if self.open.is_empty() {
                (self.first_sent, self.delivered_at) = (now, now);
            }
            self.open.insert(
                self.next,
                Sent {
                    at: now,
                    delivered: self.acked,
                    delivered_at: self.delivered_at,
                    first_sent: self.first_sent,
                },
            );
            self.next += 1;
            // Linux makes up for a timer that was late by half of what leaves next, here a tick.
            let earliest = now.checked_sub(Duration::from_millis(1)).unwrap_or(now);
            let gap = Duration::from_secs_f64(1.0 / self.law.pace());
            self.free_at = self.free_at.max(earliest) + gap;
            all.push((0, packet));
        }
        for number in self.answers.drain(..) {
            all.push((1, number.to_be_bytes().to_vec()));
        }
        all
    }

    fn timeout(&mut self, now: Instant) {
        if self.rto().is_some_and(|at| at <= now) {
            self.open.clear();
            self.recover = self.next;
            self.law.timed_out(now);
        }
    }

    fn next(&self) -> Option<Instant> {
        let paced = (self.open.len() as f64) < self.law.window();
        let paced = paced.then_some(self.free_at);
        [self.rto(), paced].into_iter().flatten().min()
    }

    fn delivered(&self) -> u64 {
        self.received
    }

    fn is_done(&self) -> bool {
        false
    }
}

impl<L> Tcp<L> {
    fn rto(&self) -> Option<Instant> {
        let newest = self.open.last_key_value()?.1.at;
        Some(newest + Duration::from_secs_f64((self.smoothed * 3.0).max(0.2)))
    }
}

/// CUBIC (RFC 9438).
pub struct Cubic {
    window: f64,
    threshold: f64,
    most: f64,
    reduced: Instant,
    smoothed: f64,
}

impl Cubic {
    pub fn flow(now: Instant) -> Tcp<Self> {
        let law = Self {
            window: 10.0,
            threshold: f64::INFINITY,
            most: 0.0,
            reduced: now,
            smoothed: 0.1,
        };
        Tcp::new(now, law)
    }
}

impl Law for Cubic {
    fn window(&self) -> f64 {
        self.window
    }

    fn acked(&mut self, now: Instant, ack: &Acked) {
        self.smoothed = self.smoothed * 0.875 + ack.round_trip * 0.125;
        if ack.first {
            self.most = if self.window < self.most {
                self.window * 0.85
            } else {
                self.window
            };
            self.window = (self.window * 0.7).max(2.0);
            self.threshold = self.window;
            self.reduced = now;
        }
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let k = (self.most * 0.3 / 0.4).cbrt();
        let t = (now - self.reduced).as_secs_f64();
        let cubic = 0.4 * (t + self.smoothed - k).powi(3) + self.most;
        let reno = self.most * 0.7 + 0.53 * t / self.smoothed;
        let target = cubic.max(reno).min(self.window * 1.5);
        self.window += ((target - self.window) / self.window).max(0.0);
    }

    fn timed_out(&mut self, now: Instant) {
        self.threshold = self.window / 2.0;
        self.most = self.window;
        self.window = 1.0;
        self.reduced = now;
    }
}

/// BBR version 1, as Linux has it (`net/ipv4/tcp_bbr.c`), without its guess at policers.
pub struct Bbr {
    mode: Mode,
    /// Segments a second by round, falling.
    rates: VecDeque<(u64, f64)>,
    shortest: f64,
    shortest_at: Instant,
    round: u64,
    round_end: u64,
    full: f64,
    flat: u32,
    window: f64,
    /// What it was before recovery, or before the round trip was probed.
    prior: f64,
    recovering: bool,
    /// In the first round of recovery as much leaves as arrives.
    conserving: bool,
    dice: Dice,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Startup,
    Drain,
    Probe { phase: usize, since: Instant },
    RoundTrip { until: Option<Instant> },
}

const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const HIGH: f64 = 2.885;

impl Bbr {
    pub fn flow(now: Instant, seed: u64) -> Tcp<Self> {
        let law = Self {
            mode: Mode::Startup,
            rates: VecDeque::new(),
            shortest: f64::INFINITY,
            shortest_at: now,
            round: 0,
            round_end: 0,
            full: 0.0,
            flat: 0,
            window: 10.0,
            prior: 0.0,
            recovering: false,
            conserving: false,
            dice: Dice::new(seed),
        };
        Tcp::new(now, law)
    }

    fn rate(&self) -> f64 {
        self.rates.front().map_or(0.0, |(_, rate)| *rate)
    }

    fn path(&self) -> f64 {
        self.rate() * self.shortest
    }

    fn gain(&self) -> f64 {
        match self.mode {
            Mode::Startup => HIGH,
            Mode::Drain => 1.0 / HIGH,
            Mode::Probe { phase, .. } => CYCLE[phase],
            Mode::RoundTrip { .. } => 1.0,
        }
    }

    fn prior_window(&self, now: f64) -> f64 {
        let kept = self.recovering || matches!(self.mode, Mode::RoundTrip { .. });
        now.max(if kept { self.prior } else { 0.0 })
    }

    fn probe(&mut self, now: Instant) {
        // Any phase but the second.
        let phase = [0, 2, 3, 4, 5, 6, 7][self.dice.below(7) as usize];
        self.mode = Mode::Probe { phase, since: now };
    }

    fn advance(&mut self, now: Instant, open: f64, lost: bool) {
        match self.mode {
            Mode::Startup if self.flat >= 3 => self.mode = Mode::Drain,
            Mode::Drain if open <= self.path() => self.probe(now),
            Mode::Probe { phase, since } => {
                let passed = (now - since).as_secs_f64() > self.shortest;
                let on = match phase {
                    0 => passed && (lost || open >= self.path() * CYCLE[0]),
                    1 => passed || open <= self.path(),
                    _ => passed,
                };
                if on {
                    let phase = (phase + 1) % CYCLE.len();
                    self.mode = Mode::Probe { phase, since: now };
                }
            }
            Mode::RoundTrip { until: None } if open <= 4.0 => {
                let until = Some(now + Duration::from_millis(200));
                self.mode = Mode::RoundTrip { until };
            }
            Mode::RoundTrip { until: Some(until) } if now >= until => {
                self.shortest_at = now;
                self.window = self.window.max(self.prior);
                self.mode = Mode::Startup;
                if self.flat >= 3 {
                    self.probe(now);
                }
            }
            _ => {}
        }
    }
}

impl Law for Bbr {
    fn window(&self) -> f64 {
        self.window
    }

    fn pace(&self) -> f64 {
        if self.rates.is_empty() {
            return 10.0 * HIGH / 0.001;
        }
        self.rate() * self.gain() * 0.99
    }

    fn acked(&mut self, now: Instant, ack: &Acked) {
        let began = ack.delivered_when_sent >= self.round_end;
        if began {
            self.round_end = ack.delivered;
            self.round += 1;
            self.conserving = false;
        }
        if ack.rate.is_finite()
            && (ack.delivered - ack.delivered_when_sent) as f64 / ack.rate
                >= self.shortest.min(10.0)
            || self.rates.is_empty()
        {
            while self
                .rates
                .back()
                .is_some_and(|(_, lower)| *lower <= ack.rate)
            {
                self.rates.pop_back();
            }
            self.rates.push_back((self.round, ack.rate));
        }
        while self.rates.len() > 1 && self.rates[0].0 + 10 < self.round {
            self.rates.pop_front();
        }
        if began && self.mode == Mode::Startup {
            if self.rate() >= self.full * 1.25 {
                self.full = self.rate();
                self.flat = 0;
            } else {
                self.flat += 1;
            }
        }
        let old = now - self.shortest_at > Duration::from_secs(10);
        if ack.round_trip <= self.shortest || old {
            (self.shortest, self.shortest_at) = (ack.round_trip, now);
        }
        if old && !matches!(self.mode, Mode::RoundTrip { .. }) {
            self.prior = self.prior_window(self.window);
            self.mode = Mode::RoundTrip { until: None };
        }
        self.advance(now, ack.open as f64, ack.lost > 0);

        let gain = match self.mode {
            Mode::Startup | Mode::Drain => HIGH,
            _ => 2.0,
        };
        let target = self.path() * gain + 6.0;
        self.window = (self.window - ack.lost as f64).max(1.0);
        if ack.recovering && !self.recovering {
            self.prior = self.prior_window(self.window + ack.lost as f64);
            self.conserving = true;
            self.round_end = ack.delivered;
            self.window = ack.open as f64 + 1.0;
        } else if self.recovering && !ack.recovering {
            self.conserving = false;
            self.window = self.window.max(self.prior);
        }
        self.recovering = ack.recovering;
        if self.conserving {
            self.window = self.window.max(ack.open as f64 + 1.0);
        } else if self.flat >= 3 {
            self.window = (self.window + 1.0).min(target);
        } else if self.window < target {
            self.window += 1.0;
        }
        self.window = self.window.max(4.0);
        if matches!(self.mode, Mode::RoundTrip { .. }) {
            self.window = 4.0;
        }
    }

    fn timed_out(&mut self, _: Instant) {
        self.prior = self.window;
        self.full = 0.0;
        self.window = 1.0;
    }
}

/// A traveller that sets out later.
pub struct Late<T> {
    pub start: Instant,
    pub traveller: T,
}

impl<T: Traveller> Traveller for Late<T> {
    fn arrive(&mut self, now: Instant, way: usize, packet: &[u8], marked: bool) {
        self.traveller.arrive(now, way, packet, marked);
    }

    fn leave(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)> {
        if now < self.start {
            return vec![];
        }
        self.traveller.leave(now)
    }

    fn timeout(&mut self, now: Instant) {
        if now >= self.start {
            self.traveller.timeout(now);
        }
    }

    fn next(&self) -> Option<Instant> {
        let next = self.traveller.next();
        Some(next.unwrap_or(self.start).max(self.start))
    }

    fn delivered(&self) -> u64 {
        self.traveller.delivered()
    }

    fn is_done(&self) -> bool {
        self.traveller.is_done()
    }
}

/// A traveller whose machines have other things to do: now and then one of them does nothing for a
/// while, and then everything at once.
pub struct Busy<T> {
    traveller: T,
    /// When each end is awake again.
    awake: [Instant; 2],
    arrived: Vec<(usize, Vec<u8>, bool)>,
    waiting: [Vec<Vec<u8>>; 2],
    /// The longest pause; and how often one begins, by event.
    longest: Duration,
    share: f64,
    dice: Dice,
}

impl<T: Traveller> Busy<T> {
    pub fn new(now: Instant, longest: Duration, share: f64, seed: u64, traveller: T) -> Self {
        Self {
            traveller,
            awake: [now; 2],
            arrived: vec![],
            waiting: [vec![], vec![]],
            longest,
            share,
            dice: Dice::new(seed),
        }
    }

    /// Whether an end is at work, after the lot was cast.
    fn works(&mut self, now: Instant, end: usize) -> bool {
        if now >= self.awake[end] && self.dice.happens(self.share) {
            let share = self.dice.below(1024) as f64 / 1024.0;
            self.awake[end] = now + self.longest.mul_f64(share * share);
        }
        now >= self.awake[end]
    }

    fn wake(&mut self, now: Instant) {
        let arrived = std::mem::take(&mut self.arrived);
        for (way, packet, marked) in arrived {
            if now >= self.awake[1 - way] {
                self.traveller.arrive(now, way, &packet, marked);
            } else {
                self.arrived.push((way, packet, marked));
            }
        }
    }
}

impl<T: Traveller> Traveller for Busy<T> {
    fn arrive(&mut self, now: Instant, way: usize, packet: &[u8], marked: bool) {
        self.wake(now);
        if self.works(now, 1 - way) {
            self.traveller.arrive(now, way, packet, marked);
        } else {
            self.arrived.push((way, packet.to_vec(), marked));
        }
    }

    fn leave(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)> {
        self.wake(now);
        for (way, packet) in self.traveller.leave(now) {
            self.waiting[way].push(packet);
        }
        let mut all = vec![];
        for way in 0..2 {
            if now >= self.awake[way] {
                all.extend(self.waiting[way].drain(..).map(|packet| (way, packet)));
            }
        }
        all
    }

    fn timeout(&mut self, now: Instant) {
        self.wake(now);
        self.traveller.timeout(now);
    }

    fn next(&self) -> Option<Instant> {
        let held = self.arrived.iter().map(|(way, ..)| self.awake[1 - way]);
        let waiting = (0..2).filter(|way| !self.waiting[*way].is_empty());
        let waiting = waiting.map(|way| self.awake[way]);
        held.chain(waiting).chain(self.traveller.next()).min()
    }

    fn delivered(&self) -> u64 {
        self.traveller.delivered()
    }

    fn is_done(&self) -> bool {
        self.traveller.is_done()
    }
}
