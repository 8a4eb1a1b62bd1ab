//! How long an idle UDP mapping lives (RFC 5780 §4.6), by search.
//!
//! Many sockets at once, each silent for another time: what takes an hour one after the other
//! takes as long as the longest. Whether a mapping still lives is asked by *another* socket with
//! RESPONSE-PORT, since a question of its own would revive it. A mapping counts as gone only when
//! plain requests at the same moment were answered.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::discover::{Machine, Output, SocketId};
use crate::proto::stun::message::attribute;
use crate::proto::stun::{Builder, Class, Message, TransactionId};

/// The first times that are tried, in seconds: the common lifetimes and what lies between.
const GRID: [u64; 12] = [10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600];
/// Times tried at once between the longest that lived and the shortest that did not.
const BETWEEN: u32 = 6;
/// Questions about one mapping: with a third of them lost, all are lost once in two thousand.
const TRIES: usize = 8;
const INTERVAL: Duration = Duration::from_millis(250);
/// How long the answer to the last question may take.
const SETTLE: Duration = Duration::from_secs(1);
/// What a round takes beside the idle time, at most: a mapping is made, and asked about.
const ROUND: Duration = Duration::from_secs(5);
/// The socket that asks about the others.
const ASKER: SocketId = 0;
/// The longest search bound, and so the most sockets are bounded by the grid.
pub const LONGEST: Duration = Duration::from_hours(2);

/// What is known of the lifetime: a mapping idle for `lived` was there, one idle for `gone` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub lived: Duration,
    /// `None`: no idle time was found that ends a mapping.
    pub gone: Option<Duration>,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server does not answer any more, or never did.
    Silent,
    /// It does not answer to another port (RFC 5780 §7.5).
    NoResponsePort,
    /// Mappings lived longer idle than others that did not: something else ends them.
    Unstable,
}

#[derive(Debug)]
struct Holder {
    socket: SocketId,
    /// How long it stays idle; zero for the one that shows whether the method works.
    idle: Duration,
    /// The outer port, and when the mapping was last used.
    mapped: Option<(u16, Instant)>,
    /// Questions about it: when each was asked.
    asked: Vec<Instant>,
    /// Requests of its own, until one was answered.
    tries: usize,
    next: Instant,
    lives: Option<bool>,
}

/// The machine; see [`Machine`].
#[derive(Debug)]
pub struct Lifetime {
    seed: [u8; 32],
    drawn: u64,
    server: SocketAddr,
    known: Span,
    most: Duration,
    /// The search ends when the two bounds are this near.
    resolution: Duration,
    sockets: usize,
    asker_open: bool,
    holders: Vec<Holder>,
    /// Which holder an id is about, and whether it is its own request.
    ids: HashMap<TransactionId, (usize, Asked)>,
    /// When a plain request of the asker was last answered.
    alive: Option<Instant>,
    proven: bool,
    trouble: Option<Trouble>,
    queue: VecDeque<Output>,
    now: Instant,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The holder asks for itself.
    Own,
    /// The asker, for an answer to the holder's port.
    About,
    /// The asker, for itself: the server and the way to it are there.
    Plain,
}

impl Lifetime {
    /// Searches between `known` and `most`, on one address of a server. `seed` must be
    /// unpredictable.
    #[must_use]
    pub fn new(
        now: Instant,
        seed: [u8; 32],
        server: SocketAddr,
        known: Span,
        most: Duration,
        resolution: Duration,
    ) -> Self {
        let mut machine = Self {
            seed,
            drawn: 0,
            server,
            known,
            most: most.min(LONGEST),
            resolution: resolution.max(Duration::from_secs(1)),
            sockets: 0,
            asker_open: false,
            holders: vec![],
            ids: HashMap::new(),
            alive: None,
            proven: false,
            trouble: None,
            queue: VecDeque::new(),
            now,
            done: false,
        };
        machine.open();
        machine.hold(Duration::ZERO);
        machine
    }

    /// What is known so far; the result once [`Output::Done`] has come.
    #[must_use]
    pub fn known(&self) -> Span {
        self.known
    }

    /// Whether the method was shown to work, and so what [`Self::remaining`] says means something.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.proven
    }

    /// Why the search ended without its result.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// How long the search may still take, at most: this round, and the rounds that its worst
    /// result would make necessary.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let left = |holder: &Holder| match holder.mapped {
            Some((_, at)) => (at + holder.idle).saturating_duration_since(self.now),
            None => holder.idle,
        };
        let mut open: Vec<(Duration, Duration)> = self
            .holders
            .iter()
            .filter(|holder| holder.lives.is_none())
            .map(|holder| (holder.idle, left(holder)))
            .collect();
        open.sort_unstable();
        // All of them live on: then the round is the rest, or what is known to be gone is neared.
        let round = open
            .last()
            .map_or(Duration::ZERO, |(_, left)| *left + ROUND);
        let mut lived = self.known.lived;
        let mut worst = round;
        for (idle, left) in open {
            worst = worst.max(left + ROUND + self.rounds(lived, idle));
            lived = lived.max(idle);
        }
        match self.known.gone {
            Some(gone) => worst.max(round + self.rounds(lived, gone)),
            None => worst,
        }
    }

    /// How long it takes to near two bounds to the resolution.
    fn rounds(&self, lived: Duration, gone: Duration) -> Duration {
        let mut width = gone.saturating_sub(lived);
        let mut all = Duration::ZERO;
        while width > self.resolution && all < LONGEST * 4 {
            width = (width / (BETWEEN + 1)).max(self.resolution);
            all += gone + ROUND;
        }
        all
    }

    fn hold(&mut self, idle: Duration) {
        let socket = self.open();
        self.holders.push(Holder {
            socket,
            idle,
            mapped: None,
            asked: vec![],
            tries: 0,
            next: self.now,
            lives: None,
        });
    }

    fn open(&mut self) -> SocketId {
        let id = self.sockets;
        self.sockets += 1;
        self.queue.push_back(Output::Open(id));
        id
    }

    fn end(&mut self, trouble: Option<Trouble>) {
        self.trouble = trouble;
        self.done = true;
        self.queue.clear();
    }

    fn advance(&mut self, now: Instant) {
        self.now = now;
        if self.done || !self.asker_open {
            return;
        }
        for index in 0..self.holders.len() {
            self.work(now, index);
            if self.done {
                return;
            }
        }
        self.learn();
        if !self.done && self.holders.iter().all(|holder| holder.lives.is_some()) {
            self.next_round();
        }
    }

    /// Does what one holder has due.
    fn work(&mut self, now: Instant, index: usize) {
        let holder = &self.holders[index];
        if holder.lives.is_some() || now < holder.next {
            return;
        }
        let Some((port, used)) = holder.mapped else {
            if holder.tries == TRIES {
                return self.end(Some(Trouble::Silent));
            }
            let socket = holder.socket;
            let id = self.id(index, Asked::Own);
            let request = Builder::new(Class::Request, id).finish();
            let holder = &mut self.holders[index];
            holder.tries += 1;
            holder.next = now + INTERVAL;
            self.send(socket, request);
            return;
        };
        if now < used + holder.idle {
            self.holders[index].next = used + holder.idle;
            return;
        }
        if holder.asked.len() < TRIES {
            let id = self.id(index, Asked::About);
            let about = Builder::new(Class::Request, id)
                .attribute(
                    attribute::RESPONSE_PORT,
                    &[&port.to_be_bytes()[..], &[0, 0]].concat(),
                )
                .finish();
            let id = self.id(index, Asked::Plain);
            let plain = Builder::new(Class::Request, id).finish();
            let holder = &mut self.holders[index];
            holder.asked.push(now);
            holder.next = now + INTERVAL;
            if holder.asked.len() == TRIES {
                holder.next = now + SETTLE;
            }
            self.send(ASKER, about);
            self.send(ASKER, plain);
            return;
        }
        let first = holder.asked.first().copied();
        let heard = self
            .alive
            .zip(first)
            .is_some_and(|(heard, first)| heard >= first);
        if !heard {
            return self.end(Some(Trouble::Silent));
        }
        if holder.idle.is_zero() {
            return self.end(Some(Trouble::NoResponsePort));
        }
        self.holders[index].lives = Some(false);
    }

    /// Takes in what the holders show.
    fn learn(&mut self) {
        for holder in &self.holders {
            match holder.lives {
                Some(true) if holder.idle.is_zero() => self.proven = true,
                Some(true) => self.known.lived = self.known.lived.max(holder.idle),
                Some(false) => {
                    let gone = self
                        .known
                        .gone
                        .map_or(holder.idle, |gone| gone.min(holder.idle));
                    self.known.gone = Some(gone);
                }
                None => {}
            }
        }
        if self.known.gone.is_some_and(|gone| gone <= self.known.lived) {
            return self.end(Some(Trouble::Unstable));
        }
        // Idle for longer than one that is gone: nothing is to be learnt from it.
        if let Some(gone) = self.known.gone {
            for holder in &mut self.holders {
                if holder.lives.is_none() && holder.idle > gone {
                    holder.lives = Some(false);
                }
            }
        }
    }

    fn next_round(&mut self) {
        if !self.proven {
            return self.end(Some(Trouble::NoResponsePort));
        }
        let Span { lived, gone } = self.known;
        let times: Vec<Duration> = match gone {
            None => {
                let grid = GRID.into_iter().map(Duration::from_secs);
                let longer = (1..=4).map(|n| Duration::from_mins(10) * 2u32.pow(n));
                let mut times: Vec<Duration> = grid
                    .chain(longer)
                    .filter(|time| *time > lived && *time < self.most)
                    .collect();
                if self.most > lived {
                    times.push(self.most);
                }
                times
            }
            Some(gone) if gone.saturating_sub(lived) > self.resolution => {
                let width = gone.saturating_sub(lived);
                let step = (width / (BETWEEN + 1)).max(self.resolution);
                (1..=BETWEEN)
                    .map(|n| lived + step * n)
                    .filter(|time| *time < gone)
                    .collect()
            }
            Some(_) => vec![],
        };
        if times.is_empty() {
            return self.end(None);
        }
        self.holders.clear();
        self.ids.clear();
        for time in times {
            self.hold(time);
        }
    }

    fn id(&mut self, holder: usize, asked: Asked) -> TransactionId {
        self.drawn += 1;
        let hash = blake3::keyed_hash(&self.seed, &self.drawn.to_be_bytes());
        let mut random = [0; 12];
        random.copy_from_slice(&hash.as_bytes()[..12]);
        let id = TransactionId::new(random);
        self.ids.insert(id, (holder, asked));
        id
    }

    fn send(&mut self, socket: SocketId, bytes: Vec<u8>) {
        self.queue.push_back(Output::Transmit {
            socket,
            to: self.server,
            bytes,
        });
    }
}

impl Machine for Lifetime {
    fn handle_opened(&mut self, now: Instant, socket: SocketId, _: SocketAddr) {
        if socket == ASKER {
            self.asker_open = true;
        } else if let Some(holder) = self.holders.iter_mut().find(|one| one.socket == socket) {
            holder.next = now;
        }
        self.advance(now);
    }

    fn handle_not_opened(&mut self, now: Instant, _: SocketId) {
        self.now = now;
        self.end(Some(Trouble::Silent));
    }

    fn handle_send_error(&mut self, now: Instant, _: SocketId, _: SocketAddr) {
        // A network that is away for a moment: the next try may pass.
        self.advance(now);
    }

    fn handle_datagram(&mut self, now: Instant, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        if from == self.server
            && let Ok(answer) = Message::read(bytes)
            && let Some((index, asked)) = self.ids.get(&answer.id).copied()
            && let Some(holder) = self.holders.get_mut(index)
        {
            match (asked, answer.class) {
                (Asked::Own, Class::Success) if socket == holder.socket => {
                    if holder.mapped.is_none()
                        && let Some(mapped) = answer.mapped_address()
                    {
                        holder.mapped = Some((mapped.port(), now));
                        holder.next = now;
                    }
                }
                (Asked::About, Class::Success) if socket == holder.socket => {
                    holder.lives = Some(true);
                }
                (Asked::About, Class::Error) if socket == ASKER => {
                    return self.end(Some(Trouble::NoResponsePort));
                }
                (Asked::Plain, Class::Success) if socket == ASKER => self.alive = Some(now),
                _ => {}
            }
        }
        self.advance(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    fn poll_output(&mut self) -> Output {
        if let Some(output) = self.queue.pop_front() {
            return output;
        }
        if self.done {
            return Output::Done;
        }
        let open = self.holders.iter().filter(|holder| holder.lives.is_none());
        let due = open.map(|holder| holder.next).min();
        Output::Idle(due.unwrap_or(self.now + INTERVAL))
    }
}
