//! Finds out how a NAT maps, filters, hairpins and numbers ports (RFC 5780 §4), with evidence.
//!
//! One machine serves one address family. It asks every server at once from one socket; the first
//! that names a usable other address (RFC 5780 §7.4) is asked the rest, from fresh sockets where
//! an earlier packet would have opened the filter. Three rules keep verdicts honest:
//!
//! - **A yes needs the right answer**: the transaction id of this very try, from exactly the
//!   address that was asked to answer. An answer from elsewhere is evidence about the server. What
//!   the filter lets in is asked from a second fresh socket too: the port of one may be that of an
//!   earlier run, whose mapping is still open to the server's other address.
//! - **A no needs silence that loss does not explain**: plain requests run beside, the loss they
//!   show says how many tries are enough ([`SILENCE`]), and where it never is enough the result is
//!   `unknown`. It also needs a server that was seen to answer from there.
//! - **What was not established is unknown**, with the reason.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::verdict::{self, Report};
use crate::proto::stun::message::{Change, attribute};
use crate::proto::stun::{Builder, Class, Message, TransactionId};

/// First requests: 0, 0.25, 0.75, 1.75 and 3.75 s after the start (RFC 8489 §6.2.1 doubles too,
/// from 0.5 s on, for 39.5 s; a person waits five).
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
const FIRST_TRIES: usize = 5;
const FIRST_LAST_WAIT: Duration = Duration::from_secs(1);
/// How long after the first answer a better server may still answer.
const CHOICE: Duration = Duration::from_millis(200);
/// How long after the first answer silent servers are still waited for.
const STRAGGLERS: Duration = Duration::from_millis(1500);
/// Between tries once the round trip is known: at least this, at least one round trip.
const INTERVAL: Duration = Duration::from_millis(50);
/// An answer may take this many round trips before its try counts as lost, and [`SETTLE`].
const SETTLE_ROUND_TRIPS: u32 = 3;
const SETTLE: Duration = Duration::from_millis(150);
/// Silence counts as a no when loss alone would explain it less often than this.
const SILENCE: f64 = 1e-6;
/// Never on fewer tries than these, however good the link looks.
const MIN_TRIES: usize = 5;
/// Tries of one probe, at most.
const MAX_TRIES: usize = 40;
/// However long the round trip is, a test ends after this.
const LONGEST_TEST: Duration = Duration::from_secs(6);
/// The padding of the fragment test: over any Ethernet frame (RFC 5780 §7.6).
const PADDING: usize = 1500;
/// Servers with another address that are tried in turn, when one proves useless.
const MAX_SUITES: usize = 3;

/// A server, one address of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As the user named it.
    pub name: String,
    pub addr: SocketAddr,
}

/// One of our sockets, counted from 0.
pub type SocketId = usize;

/// What the I/O layer has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bind a socket of its own on a port of the system's choice, then call
    /// [`Machine::handle_opened`] or [`Machine::handle_not_opened`].
    Open(SocketId),
    /// Send this datagram.
    Transmit {
        socket: SocketId,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Nothing until a datagram comes or this instant.
    Idle(Instant),
    /// It is over.
    Done,
}

/// A machine that probes through sockets; drain [`Machine::poll_output`] after every call.
pub trait Machine {
    /// A socket is open at this local address: the one that packets to a server would leave from.
    fn handle_opened(&mut self, now: Instant, socket: SocketId, local: SocketAddr);
    /// A socket could not be opened: what needs it stays unknown.
    fn handle_not_opened(&mut self, now: Instant, socket: SocketId);
    /// The system refused to send a datagram of this socket to this address.
    fn handle_send_error(&mut self, now: Instant, socket: SocketId, to: SocketAddr);
    /// A datagram came in. What is not an answer to an open try changes nothing.
    fn handle_datagram(&mut self, now: Instant, socket: SocketId, from: SocketAddr, bytes: &[u8]);
    /// The instant of [`Output::Idle`] has come.
    fn handle_timeout(&mut self, now: Instant);
    /// Hands over the next output.
    fn poll_output(&mut self) -> Output;
}

/// What one probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Test {
    /// The mapping socket asks a server.
    First(usize),
    /// The mapping socket asks another address or port of the server.
    Mapping(Change),
    /// A fresh socket asks the server, beside its test.
    Control,
    /// A fresh socket asks for an answer from elsewhere.
    Filtering(Change),
    /// Another fresh socket does, after that one was let in.
    Again(Change),
    /// The mapping socket, which has sent there, asks for an answer from elsewhere: shows that the
    /// server can do it.
    Capable(Change),
    /// A request to one of our own outer addresses, from another socket of ours, which gets one too.
    Hairpin,
    /// The same from a socket that nothing was sent to.
    HairpinStranger,
    /// A request and an answer in fragments.
    Fragments,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(Answer),
    /// A right answer from a wrong address.
    Elsewhere(SocketAddr),
    /// The server says no.
    Refused(u16),
    /// Nothing, and loss does not explain it.
    Silent,
    /// Nothing, and too much is lost to tell.
    Lossy,
    /// The system could not send it.
    Unsendable,
}

/// What an answer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) from: SocketAddr,
    pub(super) mapped: Option<SocketAddr>,
    /// The plain address beside an XOR-ed one.
    pub(super) plain: Option<SocketAddr>,
    pub(super) other: Option<SocketAddr>,
    pub(super) rtt: Duration,
    pub(super) software: Option<String>,
}

#[derive(Debug)]
pub(super) struct Probe {
    pub(super) test: Test,
    /// Which suite it belongs to; first requests belong to none.
    pub(super) suite: Option<usize>,
    pub(super) socket: SocketId,
    pub(super) to: SocketAddr,
    /// Where the answer must come from.
    pub(super) from: SocketAddr,
    ask: Ask,
    pub(super) tries: Vec<Try>,
    /// When to try again; `None` once it is settled.
    next: Option<Instant>,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug)]
pub(super) struct Try {
    at: Instant,
    pub(super) answered: bool,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Plain,
    Change(Change),
    Padded,
}

/// A server that names another address, and the tests that it is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suite {
    /// Which target.
    pub(super) target: usize,
    pub(super) primary: SocketAddr,
    pub(super) other: SocketAddr,
    /// The fresh sockets for hairpinning.
    hairpin: SocketId,
    stranger: SocketId,
    capable_started: bool,
    hairpin_started: bool,
}

/// What a fresh socket is opened for.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    suite: usize,
    test: Test,
}

impl Suite {
    pub(super) fn changed(self, change: Change) -> SocketAddr {
        let pick = |change, other, here| if change { other } else { here };
        SocketAddr::new(
            pick(change.ip, self.other.ip(), self.primary.ip()),
            if change.port {
                self.other.port()
            } else {
                self.primary.port()
            },
        )
    }
}

pub(super) const BOTH: Change = Change {
    ip: true,
    port: true,
};
pub(super) const IP: Change = Change {
    ip: true,
    port: false,
};
pub(super) const PORT: Change = Change {
    ip: false,
    port: true,
};
/// The socket that all servers see.
pub(super) const MAIN: SocketId = 0;

/// The machine: build it, drain [`Discovery::poll_output`] after every call.
#[derive(Debug)]
pub struct Discovery {
    seed: [u8; 32],
    drawn: u64,
    /// The time of the latest call.
    now: Instant,
    pub(super) targets: Vec<Target>,
    /// The local address of each socket, once it is open.
    pub(super) sockets: Vec<Option<SocketAddr>>,
    /// Sockets that the system refused.
    refused: BTreeSet<SocketId>,
    pub(super) probes: Vec<Probe>,
    /// Which try of which probe an id belongs to.
    ids: HashMap<TransactionId, (usize, usize)>,
    pub(super) suites: Vec<Suite>,
    fresh: HashMap<SocketId, Fresh>,
    first_answer: Option<Instant>,
    /// Only the address is wanted.
    survey: bool,
    queue: VecDeque<Output>,
    done: bool,
}

impl Discovery {
    /// Starts to ask these servers, all of one address family. `seed` must be unpredictable:
    /// transaction ids come from it.
    #[must_use]
    pub fn new(now: Instant, seed: [u8; 32], targets: Vec<Target>) -> Self {
        let mut machine = Self {
            seed,
            drawn: 0,
            now,
            done: targets.is_empty(),
            targets,
            sockets: vec![],
            refused: BTreeSet::new(),
            probes: vec![],
            ids: HashMap::new(),
            suites: vec![],
            fresh: HashMap::new(),
            first_answer: None,
            survey: false,
            queue: VecDeque::new(),
        };
        machine.open();
        machine
    }

    /// Only asks each server for the address, from one socket.
    #[must_use]
    pub fn survey(now: Instant, seed: [u8; 32], targets: Vec<Target>) -> Self {
        Self {
            survey: true,
            ..Self::new(now, seed, targets)
        }
    }

    /// What was found out so far; whole once [`Output::Done`] has come.
    #[must_use]
    pub fn report(&self) -> Report {
        verdict::report(self)
    }

    /// When a probe has something to do: its next try, or after the last the end of the wait.
    fn due(&self, probe: &Probe) -> Option<Instant> {
        let last = probe.tries.last()?.at;
        let wait = match probe.test {
            Test::First(_) => FIRST_LAST_WAIT,
            _ => self.settle(probe.suite),
        };
        let end = probe.outcome.is_none().then(|| last + wait);
        probe.next.or(end)
    }

    /// How long an answer is waited for before its try counts as lost.
    fn settle(&self, suite: Option<usize>) -> Duration {
        SETTLE.max(self.rtt(suite) * SETTLE_ROUND_TRIPS)
    }

    fn advance(&mut self, now: Instant) {
        self.now = now;
        if self.done {
            return;
        }
        self.judge_silence(now);
        // Before the next server is chosen: a yes that is asked again is not settled.
        self.follow_up(now);
        self.choose(now);
        self.retry(now);
        self.done = self.is_over(now);
        if self.done {
            self.queue.clear();
        }
    }

    /// Settles probes whose silence means something, or never will.
    fn judge_silence(&mut self, now: Instant) {
        for index in 0..self.probes.len() {
            let probe = &self.probes[index];
            if probe.outcome.is_some() {
                continue;
            }
            if let Test::First(_) = probe.test {
                let last = probe.tries.last().map(|one| one.at);
                let over = probe.tries.len() == FIRST_TRIES
                    && last.is_some_and(|at| now >= at + FIRST_LAST_WAIT);
                if over {
                    self.probes[index].settle(Outcome::Silent);
                }
                continue;
            }
            let settle = self.settle(probe.suite);
            let settled = probe.tries.iter().filter(|one| now >= one.at + settle);
            let settled = settled.count();
            let explained = self
                .loss(now, probe.suite)
                .powi(i32::try_from(settled).unwrap_or(0));
            if settled >= MIN_TRIES && explained <= SILENCE {
                self.probes[index].settle(Outcome::Silent);
            } else if settled >= MAX_TRIES
                || probe
                    .tries
                    .first()
                    .is_some_and(|one| now >= one.at + LONGEST_TEST)
            {
                self.probes[index].settle(Outcome::Lossy);
            }
        }
    }

    /// The share of plain requests of this suite that got no answer in time, with two invented
    /// ones of each kind so that a short run does not look perfect.
    fn loss(&self, now: Instant, suite: Option<usize>) -> f64 {
        let settle = self.settle(suite);
        let plain = self.probes.iter().filter(|probe| {
            let ours = match probe.test {
                Test::Control => probe.suite == suite,
                Test::First(target) => suite
                    .and_then(|suite| self.suites.get(suite))
                    .is_some_and(|suite| suite.target == target),
                _ => false,
            };
            ours && probe
                .outcome
                .as_ref()
                .is_some_and(|outcome| matches!(outcome, Outcome::Answered(_)))
        });
        let (mut sent, mut lost) = (4.0, 2.0);
        for one in plain.flat_map(|probe| &probe.tries) {
            if one.answered || now >= one.at + settle {
                sent += 1.0;
                lost += f64::from(u8::from(!one.answered));
            }
        }
        lost / sent
    }

    /// The round trip to the server of a suite: the longest seen, as silence is judged by it.
    fn rtt(&self, suite: Option<usize>) -> Duration {
        let Some(suite) = suite.and_then(|suite| self.suites.get(suite)) else {
            return INTERVAL;
        };
        let first = |probe: &&Probe| probe.test == Test::First(suite.target);
        let answer = self.probes.iter().find(first).and_then(Probe::answer);
        answer.map_or(INTERVAL, |answer| answer.rtt)
    }

    /// Starts the tests of a server that names another address, or of the next one when that one
    /// turned out useless.
    fn choose(&mut self, now: Instant) {
        let Some(first) = self.first_answer else {
            return;
        };
        let usable: Vec<Suite> = (0..self.targets.len())
            .filter(|target| self.suites.iter().all(|suite| suite.target != *target))
            .filter_map(|target| self.usable(target))
            .collect();
        let Some(suite) = usable.into_iter().next() else {
            return;
        };
        let waited = now >= first + CHOICE || !self.is_waiting_for_first();
        let retry = match self.suites.len().checked_sub(1) {
            None => waited,
            Some(last) => {
                self.suites.len() < MAX_SUITES
                    && self.is_settled(last)
                    && verdict::server_is_useless(self, last)
            }
        };
        if !retry {
            return;
        }
        let index = self.suites.len();
        self.suites.push(suite);
        self.open_fresh(index, Test::Filtering(BOTH));
        self.open_fresh(index, Test::Filtering(PORT));
        self.suites[index].hairpin = self.open_fresh(index, Test::Hairpin);
        self.suites[index].stranger = self.open_fresh(index, Test::HairpinStranger);
        for change in [BOTH, IP, PORT] {
            let to = suite.changed(change);
            self.start(
                now,
                Test::Mapping(change),
                Some(index),
                MAIN,
                to,
                to,
                Ask::Plain,
            );
        }
        let (to, from) = (suite.primary, suite.primary);
        self.start(
            now,
            Test::Fragments,
            Some(index),
            MAIN,
            to,
            from,
            Ask::Padded,
        );
    }

    /// The suite that a target can serve, if its answer names an address that differs in IP and
    /// port (RFC 5780 §7.4). Its own IP there means a server with one address.
    fn usable(&self, target: usize) -> Option<Suite> {
        if self.survey {
            return None;
        }
        let first = |probe: &&Probe| probe.test == Test::First(target);
        let other = self.probes.iter().find(first)?.answer()?.other?;
        let primary = self.targets[target].addr;
        let fits = other.is_ipv4() == primary.is_ipv4()
            && other.ip() != primary.ip()
            && other.port() != primary.port();
        fits.then_some(Suite {
            target,
            primary,
            other,
            hairpin: MAIN,
            stranger: MAIN,
            capable_started: false,
            hairpin_started: false,
        })
    }

    fn use_fresh_socket(&mut self, now: Instant, socket: SocketId) {
        let Some(Fresh { suite, test }) = self.fresh.get(&socket).copied() else {
            return;
        };
        let this = self.suites[suite];
        let to = this.primary;
        self.start(now, Test::Control, Some(suite), socket, to, to, Ask::Plain);
        if let Test::Filtering(change) | Test::Again(change) = test {
            let from = this.changed(change);
            let ask = Ask::Change(change);
            self.start(now, test, Some(suite), socket, to, from, ask);
        }
    }

    /// Opens a socket that has sent nothing yet, for one test.
    fn open_fresh(&mut self, suite: usize, test: Test) -> SocketId {
        let socket = self.open();
        self.fresh.insert(socket, Fresh { suite, test });
        socket
    }

    /// Starts the tests that need the result of another.
    fn follow_up(&mut self, now: Instant) {
        for index in 0..self.suites.len() {
            let suite = self.suites[index];
            let reached = |change| {
                self.find(index, Test::Mapping(change))
                    .is_some_and(|probe| probe.answer().is_some())
            };
            if !suite.capable_started && reached(BOTH) && reached(PORT) {
                self.suites[index].capable_started = true;
                for change in [BOTH, PORT] {
                    let (to, from) = (suite.primary, suite.changed(change));
                    let test = Test::Capable(change);
                    self.start(now, test, Some(index), MAIN, to, from, Ask::Change(change));
                }
            }
            for change in [BOTH, PORT] {
                let again = Test::Again(change);
                let asked = |fresh: &Fresh| fresh.suite == index && fresh.test == again;
                let let_in = self
                    .find(index, Test::Filtering(change))
                    .is_some_and(|probe| probe.answer().is_some());
                if let_in && !self.fresh.values().any(asked) {
                    self.open_fresh(index, again);
                }
            }
            let third = suite.hairpin;
            let main = self.mapped(MAIN, suite.primary);
            let outer = self.mapped(third, suite.primary);
            if !suite.hairpin_started
                && let (Some(main), Some(outer)) = (main, outer)
                && self.sockets.first().copied().flatten() != Some(main)
            {
                self.suites[index].hairpin_started = true;
                // Both ways at once: a filter that needs to be opened is opened by the other.
                let (main_to_third, third_to_main) = ((MAIN, outer), (third, main));
                let stranger = (suite.stranger, main);
                let is_open = self.sockets[suite.stranger].is_some();
                for (test, (socket, to)) in [
                    (Test::Hairpin, third_to_main),
                    (Test::Hairpin, main_to_third),
                    (Test::HairpinStranger, stranger),
                ] {
                    if test == Test::Hairpin || is_open {
                        self.start(now, test, Some(index), socket, to, to, Ask::Plain);
                    }
                }
            }
        }
    }

    fn find(&self, suite: usize, test: Test) -> Option<&Probe> {
        let wanted = |probe: &&Probe| probe.suite == Some(suite) && probe.test == test;
        self.probes.iter().find(wanted)
    }

    /// The outer address of a socket as a server at `to` saw it.
    pub(super) fn mapped(&self, socket: SocketId, to: SocketAddr) -> Option<SocketAddr> {
        let probes = self.probes.iter();
        let mut seen = probes.filter(|probe| probe.socket == socket && probe.to == to);
        seen.find_map(|probe| probe.answer()?.mapped)
    }

    fn is_waiting_for_first(&self) -> bool {
        let first = |probe: &Probe| matches!(probe.test, Test::First(_)) && probe.outcome.is_none();
        self.probes.iter().any(first)
    }

    /// Whether every test of a suite has its result.
    fn is_settled(&self, suite: usize) -> bool {
        let settled =
            |socket: SocketId| self.sockets[socket].is_some() || self.refused.contains(&socket);
        let fresh = self.fresh.iter().filter(|(_, fresh)| fresh.suite == suite);
        fresh.map(|(socket, _)| *socket).all(settled)
            && self
                .probes
                .iter()
                .filter(|probe| probe.suite == Some(suite))
                .all(|probe| probe.outcome.is_some())
    }

    fn is_over(&self, now: Instant) -> bool {
        let stragglers = self.first_answer.is_some_and(|at| now >= at + STRAGGLERS);
        if self.probes.is_empty() || (self.is_waiting_for_first() && !stragglers) {
            return false;
        }
        let more = (0..self.targets.len())
            .filter(|target| self.suites.iter().all(|suite| suite.target != *target))
            .any(|target| self.usable(target).is_some());
        match self.suites.len().checked_sub(1) {
            None => !more,
            Some(last) => {
                let again = more
                    && self.suites.len() < MAX_SUITES
                    && verdict::server_is_useless(self, last);
                self.is_settled(last) && !again
            }
        }
    }

    fn retry(&mut self, now: Instant) {
        for index in 0..self.probes.len() {
            if self.probes[index].next.is_some_and(|at| at <= now) {
                self.transmit(now, index);
            }
        }
    }

    fn open(&mut self) -> SocketId {
        let id = self.sockets.len();
        self.sockets.push(None);
        self.queue.push_back(Output::Open(id));
        id
    }

    #[expect(clippy::too_many_arguments, reason = "a probe is these seven things")]
    fn start(
        &mut self,
        now: Instant,
        test: Test,
        suite: Option<usize>,
        socket: SocketId,
        to: SocketAddr,
        from: SocketAddr,
        ask: Ask,
    ) {
        self.probes.push(Probe {
            test,
            suite,
            socket,
            to,
            from,
            ask,
            tries: vec![],
            next: Some(now),
            outcome: None,
        });
        self.transmit(now, self.probes.len() - 1);
    }

    /// Sends one more try, with an id of its own: a late answer to another proves nothing.
    fn transmit(&mut self, now: Instant, index: usize) {
        self.drawn += 1;
        let hash = blake3::keyed_hash(&self.seed, &self.drawn.to_be_bytes());
        let mut random = [0; 12];
        random.copy_from_slice(&hash.as_bytes()[..12]);
        let id = TransactionId::new(random);
        let rtt = self.rtt(self.probes[index].suite);
        let beside = self.is_beside_a_test(index);
        let probe = &mut self.probes[index];
        let request = Builder::new(Class::Request, id);
        let bytes = match probe.ask {
            Ask::Plain => request,
            Ask::Change(change) => request.change_request(change),
            Ask::Padded => request.attribute(attribute::PADDING, &[0; PADDING]),
        }
        .finish();
        self.ids.insert(id, (index, probe.tries.len()));
        probe.tries.push(Try {
            at: now,
            answered: false,
        });
        let (limit, wait) = match probe.test {
            Test::First(_) => {
                let doublings = u32::try_from(probe.tries.len() - 1).unwrap_or(0);
                (FIRST_TRIES, FIRST_INTERVAL * 2u32.pow(doublings.min(4)))
            }
            _ => (MAX_TRIES, INTERVAL.max(rtt)),
        };
        let more = probe.tries.len() < limit && (probe.outcome.is_none() || beside);
        probe.next = more.then(|| now + wait);
        self.queue.push_back(Output::Transmit {
            socket: probe.socket,
            to: probe.to,
            bytes,
        });
    }

    /// Whether the plain requests of this probe go on although it was answered: they show what is
    /// lost while the test of the same socket waits.
    fn is_beside_a_test(&self, index: usize) -> bool {
        let control = &self.probes[index];
        control.test == Test::Control
            && self.probes.iter().any(|probe| {
                probe.socket == control.socket
                    && probe.outcome.is_none()
                    && matches!(
                        probe.test,
                        Test::Filtering(_) | Test::Again(_) | Test::Hairpin | Test::HairpinStranger
                    )
            })
    }
}

impl Machine for Discovery {
    fn handle_opened(&mut self, now: Instant, socket: SocketId, local: SocketAddr) {
        let Some(slot) = self.sockets.get_mut(socket).filter(|slot| slot.is_none()) else {
            return;
        };
        *slot = Some(local);
        if socket == MAIN {
            for index in 0..self.targets.len() {
                let to = self.targets[index].addr;
                self.start(now, Test::First(index), None, MAIN, to, to, Ask::Plain);
            }
        } else {
            self.use_fresh_socket(now, socket);
        }
        self.advance(now);
    }

    fn handle_not_opened(&mut self, now: Instant, socket: SocketId) {
        self.refused.insert(socket);
        self.done |= socket == MAIN;
        self.advance(now);
    }

    fn handle_send_error(&mut self, now: Instant, socket: SocketId, to: SocketAddr) {
        for probe in &mut self.probes {
            if probe.socket == socket && probe.to == to && probe.outcome.is_none() {
                probe.settle(Outcome::Unsendable);
            }
        }
        self.advance(now);
    }

    fn handle_datagram(&mut self, now: Instant, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        if let Ok(message) = Message::read(bytes)
            && let Some((probe, which)) = self.ids.get(&message.id).copied()
        {
            let (probe, which) = (&mut self.probes[probe], which);
            let hairpins = matches!(probe.test, Test::Hairpin | Test::HairpinStranger);
            match message.class {
                // A request of ours that came back: at any socket but the one it left from.
                Class::Request if hairpins && socket != probe.socket => {
                    let rtt = now.saturating_duration_since(probe.tries[which].at);
                    probe.settle(Outcome::Answered(Answer {
                        from,
                        mapped: None,
                        plain: None,
                        other: None,
                        rtt,
                        software: None,
                    }));
                }
                Class::Success if !hairpins && socket == probe.socket => {
                    probe.take_answer(now, which, from, message);
                    if probe.suite.is_none() {
                        self.first_answer.get_or_insert(now);
                    }
                }
                Class::Error if !hairpins && socket == probe.socket => {
                    let code = message.error_code().map_or(0, |(code, _)| code);
                    if from == probe.to && probe.outcome.is_none() {
                        probe.settle(Outcome::Refused(code));
                    }
                }
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
        let due = self.probes.iter().filter_map(|probe| self.due(probe)).min();
        let choice = self.first_answer.map(|at| at + CHOICE);
        let bound = self.first_answer.map(|at| at + STRAGGLERS);
        let unchosen = self.suites.is_empty();
        let at = [due, choice.filter(|_| unchosen), bound]
            .into_iter()
            .flatten()
            .filter(|at| *at > self.now)
            .min();
        Output::Idle(at.unwrap_or_else(|| self.now + INTERVAL))
    }
}

impl Probe {
    pub(super) fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Some(Outcome::Answered(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Takes a success that carries the id of one of its tries.
    fn take_answer(&mut self, now: Instant, which: usize, from: SocketAddr, message: Message<'_>) {
        let at = self.tries[which].at;
        if from != self.from {
            // It may still be answered rightly: some servers answer from both.
            if self.outcome.is_none() {
                self.outcome = Some(Outcome::Elsewhere(from));
                self.next = None;
            }
            return;
        }
        self.tries[which].answered = true;
        if let None | Some(Outcome::Elsewhere(_)) = self.outcome {
            self.outcome = Some(Outcome::Answered(Answer {
                from,
                mapped: message.mapped_address(),
                plain: message
                    .xor_mapped_address()
                    .and_then(|_| message.address(attribute::MAPPED_ADDRESS)),
                other: message.other_address(),
                rtt: now.saturating_duration_since(at),
                software: message.software().map(str::to_owned),
            }));
            if self.test != Test::Control {
                self.next = None;
            }
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.next = None;
    }
}

/// The different outer IP addresses of our sockets.
pub(super) fn outer_ips(machine: &Discovery) -> BTreeSet<IpAddr> {
    let answers = machine.probes.iter().filter_map(Probe::answer);
    answers
        .filter_map(|answer| answer.mapped)
        .map(|addr| addr.ip())
        .collect()
}
