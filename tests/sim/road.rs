//! A road between two machines under a virtual clock, and who travels on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use knothole::proto::link::repair::frame::{Keys, Role};
use knothole::proto::link::repair::{BARE_ROOM, Repair};

use crate::dice::Dice;
pub use model::{Carried, Counted, Lane, Way, mark};

#[path = "../shared/road.rs"]
mod model;

/// Headers of IPv4 and UDP.
const HEADERS: usize = 28;
/// Timers of the machines that drive the real ones.
const TICK: Duration = Duration::from_millis(1);
/// No simulation has more events than this.
const MOST_EVENTS: u64 = 20_000_000;

/// Who travels: a pair of machines.
pub trait Traveller {
    /// Takes a packet that arrived at the end of `way`.
    fn arrive(&mut self, now: Instant, way: usize, packet: &[u8], marked: bool);
    /// Packets that leave now, with the way that each takes.
    fn leave(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)>;
    fn timeout(&mut self, now: Instant);
    fn next(&self) -> Option<Instant>;
    /// Bytes that were delivered so far.
    fn delivered(&self) -> u64;
    fn is_done(&self) -> bool;
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    number: u64,
    traveller: usize,
    way: usize,
    marked: bool,
    bytes: Vec<u8>,
}

/// The road, its travellers and the time.
pub struct Road<'a> {
    pub now: Instant,
    start: Instant,
    lanes: [Lane; 2],
    travellers: Vec<Box<dyn Traveller + 'a>>,
    on_the_way: BinaryHeap<Reverse<Packet>>,
    dice: Dice,
    number: u64,
}

impl<'a> Road<'a> {
    pub fn new(there: Way, back: Way, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            lanes: [there, back].map(|way| Lane::new(way, now)),
            travellers: vec![],
            on_the_way: BinaryHeap::new(),
            dice: Dice::new(seed),
            number: 0,
        }
    }

    pub fn add(&mut self, traveller: impl Traveller + 'a) {
        self.travellers.push(Box::new(traveller));
    }

    pub fn way(&mut self, index: usize) -> &mut Way {
        &mut self.lanes[index].way
    }

    pub fn seconds(&self) -> f64 {
        (self.now - self.start).as_secs_f64()
    }

    /// How long a packet waits in the queue now.
    pub fn queue(&self) -> Duration {
        self.lanes[0].free_at.saturating_duration_since(self.now)
    }

    pub fn delivered(&self) -> Vec<u64> {
        self.travellers.iter().map(|one| one.delivered()).collect()
    }

    /// Until everybody has arrived, or this much time has passed since the start.
    pub fn run(&mut self, most: Duration) {
        let end = self.start + most;
        loop {
            self.depart();
            let packet = self.on_the_way.peek().map(|packet| packet.0.at);
            let timer = self.travellers.iter().filter_map(|one| one.next()).min();
            // A timer is late by up to a tick, and rings at ticks.
            let timer = timer.map(|at| {
                let ticks = at.saturating_duration_since(self.start).as_micros() / TICK.as_micros();
                self.start + TICK * u32::try_from(ticks + 1).unwrap()
            });
            let Some(next) = [packet, timer].into_iter().flatten().min() else {
                break;
            };
            if next > end || self.travellers.iter().all(|one| one.is_done()) {
                self.now = self.now.max(end.min(next));
                break;
            }
            self.now = self.now.max(next);
            while self
                .on_the_way
                .peek()
                .is_some_and(|one| one.0.at <= self.now)
            {
                let Some(Reverse(packet)) = self.on_the_way.pop() else {
                    break;
                };
                self.travellers[packet.traveller].arrive(
                    self.now,
                    packet.way,
                    &packet.bytes,
                    packet.marked,
                );
            }
            if timer.is_some_and(|at| at <= self.now) {
                for traveller in &mut self.travellers {
                    if traveller.next().is_some_and(|at| at <= self.now) {
                        traveller.timeout(self.now);
                    }
                }
            }
        }
    }

    fn depart(&mut self) {
        // Their clocks tick together here: nobody is always the first to take a place in the queue.
        let count = self.travellers.len();
        let first = if count > 1 {
            self.dice.below(count as u64) as usize
        } else {
            0
        };
        for index in (first..count).chain(0..first) {
            for (way, bytes) in self.travellers[index].leave(self.now) {
                let len = bytes.len() + HEADERS;
                let carried = self.lanes[way].carry(self.now, len, &mut self.dice);
                for at in carried.arrivals.into_iter().flatten() {
                    self.number += 1;
                    assert!(self.number < MOST_EVENTS, "it never ends");
                    self.on_the_way.push(Reverse(Packet {
                        at,
                        number: self.number,
                        traveller: index,
                        way,
                        marked: carried.marked,
                        bytes: bytes.clone(),
                    }));
                }
            }
        }
    }
}

/// What a pair of knotholes is to send, and what must come of it.
pub struct Pair<'a> {
    ends: [Repair; 2],
    /// Datagrams left to send; their size; how many bytes may be under way.
    left: u64,
    size: usize,
    window: u64,
    sent: u64,
    received: u64,
    /// Datagrams answered, like SCTP with each second one.
    answered: u64,
    answers_received: u64,
    bytes: u64,
    started: Instant,
    last: Option<Instant>,
    pub report: &'a mut PairReport,
}

/// What was seen of a pair.
#[derive(Debug, Default, Clone)]
pub struct PairReport {
    pub given_up: u64,
    pub repairs: u64,
    pub spurious: u64,
    pub frames: u64,
    /// The longest time between two datagrams handed over while some were under way.
    pub longest_stall: Duration,
    pub done_after: Option<Duration>,
}

impl<'a> Pair<'a> {
    pub fn new(
        now: Instant,
        count: u64,
        size: usize,
        round_trip: Duration,
        seed: u64,
        report: &'a mut PairReport,
    ) -> Self {
        let keys = [
            Keys::new(Role::Offerer, "one", "two"),
            Keys::new(Role::Answerer, "two", "one"),
        ];
        let ends = keys.map(|keys| {
            let mut end = Repair::new(now, keys, seed | 1, BARE_ROOM);
            end.allow();
            end.handle_round_trip(round_trip.max(Duration::from_millis(5)));
            assert!(end.wants(now));
            end
        });
        Self {
            ends,
            left: count,
            size,
            window: 4 << 20,
            sent: 0,
            received: 0,
            answered: 0,
            answers_received: 0,
            bytes: 0,
            started: now,
            last: None,
            report,
        }
    }

    /// A datagram of which everything is known to its reader.
    fn datagram(number: u64, size: usize) -> Vec<u8> {
        let size = size - (number % 7) as usize;
        let mut datagram = vec![number as u8; size];
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        datagram
    }

    fn take(&mut self, now: Instant) {
        while let Some(datagram) = self.ends[1].poll_datagram() {
            let number = u64::from_be_bytes(datagram[..8].try_into().unwrap());
            // The oracle: in order, each once, byte for byte; a hole only where one was given up.
            assert!(number >= self.received, "{number} came again, or late");
            assert_eq!(datagram, Self::datagram(number, self.size));
            self.report.given_up += number - self.received;
            self.received = number + 1;
            self.bytes += datagram.len() as u64;
            let stall = now - self.last.replace(now).unwrap_or(now);
            self.report.longest_stall = self.report.longest_stall.max(stall);
            if self.received.is_multiple_of(2) {
                let answer = Self::datagram(self.answered, 64);
                self.ends[1].send(&answer);
                self.answered += 1;
            }
        }
        while let Some(answer) = self.ends[0].poll_datagram() {
            let number = u64::from_be_bytes(answer[..8].try_into().unwrap());
            assert!(number >= self.answers_received);
            self.answers_received = number + 1;
        }
        if self.left == 0 && self.received == self.sent && self.report.done_after.is_none() {
            self.report.done_after = Some(now - self.started);
        }
        let stats = self.ends[0].stats();
        (self.report.repairs, self.report.spurious) = (stats.repairs, stats.spurious);
        self.report.frames = stats.frames;
    }
}

impl Traveller for Pair<'_> {
    fn arrive(&mut self, now: Instant, way: usize, packet: &[u8], marked: bool) {
        assert!(self.ends[1 - way].handle_frame(now, packet, marked));
        self.take(now);
    }

    fn leave(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)> {
        while self.left > 0 && (self.sent - self.received) * (self.size as u64) < self.window {
            let datagram = Self::datagram(self.sent, self.size);
            self.ends[0].send(&datagram);
            self.sent += 1;
            self.left -= 1;
        }
        let mut all = vec![];
        for (way, end) in self.ends.iter_mut().enumerate() {
            let mut batch = vec![];
            while let Some(size) = end.poll_transmit(now, &mut batch, 16, 60_000) {
                assert!(batch.len() <= 60_000 && batch.len().div_ceil(size) <= 16);
                all.extend(batch.chunks(size).map(|frame| (way, frame.to_vec())));
                batch.clear();
            }
        }
        all
    }

    fn timeout(&mut self, now: Instant) {
        for end in &mut self.ends {
            end.handle_timeout(now);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.ends.iter().filter_map(Repair::poll_timeout).min()
    }

    fn delivered(&self) -> u64 {
        self.bytes
    }

    fn is_done(&self) -> bool {
        self.report.done_after.is_some()
    }
}
