//! Learns a socket's server-reflexive address and keeps its NAT mapping alive.
//!
//! One machine serves one socket. It asks every server with Binding requests (RFC 8489 §6.2.1,
//! retransmitted with doubling intervals), then keeps asking the first one that answered, so that
//! the mapping behind an advertised candidate outlives a person's pause (RFC 4787 §4.3 allows a
//! NAT to forget a UDP mapping after two minutes, and 30 s is common). A mapping that changes is
//! an event, never a silent overwrite. Sockets and time belong to the caller; see
//! [`crate::proto`] for the drain rule.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{BINDING_REQUEST, Class, Message, TransactionId, bare_message};

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// First retransmission interval. RFC 8489 §6.2.1 suggests 500 ms; the invite should be on the
/// screen sooner than that after one lost datagram, and one more small datagram harms nobody.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(250);
/// Requests sent before a server counts as silent (7.75 s after the first).
const MAX_REQUESTS: u32 = 6;
/// Pause between refreshes: two of them fit into the shortest common mapping lifetime of 30 s.
const REFRESH: Duration = Duration::from_secs(12);
/// A server that fell silent is asked again this much later.
const REVIVE: Duration = Duration::from_mins(1);
/// Header only: type, length 0, cookie, transaction id.
pub type Request = [u8; 20];

/// What the machine found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first answer of this server.
    Mapped {
        server: SocketAddr,
        mapped: SocketAddr,
        rtt: Duration,
    },
    /// The server that keeps the mapping alive now sees another address.
    Moved {
        server: SocketAddr,
        from: SocketAddr,
        to: SocketAddr,
    },
    /// The server did not answer [`MAX_REQUESTS`] requests, or refused.
    Failed { server: SocketAddr, reason: Failure },
}

/// Why a server is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Silent,
    Refused,
    Unsendable,
}

#[derive(Debug)]
struct Server {
    addr: SocketAddr,
    id: [u8; 12],
    mapped: Option<SocketAddr>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// `requests` were sent, the latest at `sent`; the next is due at `due`.
    Asking {
        requests: u32,
        sent: Instant,
        due: Instant,
    },
    /// Answered; asked again at `due` (only while it is the keeper).
    Resting {
        due: Instant,
    },
    Failed {
        due: Instant,
    },
}

/// The machine. Build with `now` and a seed, feed `handle_*`, drain `poll_transmit` and
/// `poll_event`, call `handle_timeout` when `poll_timeout` is due.
#[derive(Debug)]
pub struct Reflexive {
    seed: [u8; 32],
    drawn: u64,
    servers: Vec<Server>,
    transmits: VecDeque<(SocketAddr, Request)>,
    events: VecDeque<Event>,
}

impl Reflexive {
    /// Asks all of `servers` at once. `seed` must be unpredictable: transaction ids come from it.
    #[must_use]
    pub fn new(now: Instant, seed: [u8; 32], servers: &[SocketAddr]) -> Self {
        let mut machine = Self {
            seed,
            drawn: 0,
            servers: vec![],
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        for &addr in servers {
            machine.add_server(now, addr);
        }
        machine
    }

    /// Starts to ask one more server (its name resolved late).
    pub fn add_server(&mut self, now: Instant, addr: SocketAddr) {
        if self.is_server(addr) {
            return;
        }
        let state = State::Asking {
            requests: 0,
            sent: now,
            due: now,
        };
        self.servers.push(Server {
            addr,
            id: [0; 12],
            mapped: None,
            state,
        });
        self.handle_timeout(now);
    }

    /// Whether a datagram from `addr` is for this machine.
    #[must_use]
    pub fn is_server(&self, addr: SocketAddr) -> bool {
        self.servers.iter().any(|server| server.addr == addr)
    }

    /// The address that the first answering server saw.
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.keeper().and_then(|index| self.servers[index].mapped)
    }

    /// Every different address that servers saw: more than one means an endpoint-dependent
    /// mapping (RFC 4787 §4.1).
    #[must_use]
    pub fn all_mapped(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.servers.iter().filter_map(|s| s.mapped).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether a first answer can still come.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        self.mapped().is_none()
            && self
                .servers
                .iter()
                .any(|s| matches!(s.state, State::Asking { .. }))
    }

    /// Feeds a datagram from one of the servers; anything that is not the answer to an open
    /// request changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(index) = self.servers.iter().position(|s| s.addr == from) else {
            return;
        };
        let State::Asking { sent, .. } = self.servers[index].state else {
            return;
        };
        let Ok(answer) = Message::read(datagram) else {
            return;
        };
        if answer.id != TransactionId::new(self.servers[index].id) {
            return;
        }
        let mapped = match answer.class {
            Class::Success => answer.mapped_address(),
            Class::Error => None,
            Class::Request | Class::Indication => return,
        };
        let Some(mapped) = mapped else {
            return self.fail(now, index, Failure::Refused);
        };
        let was_keeper = self.keeper() == Some(index);
        let server = &mut self.servers[index];
        server.state = State::Resting { due: now + REFRESH };
        match server.mapped.replace(mapped) {
            None => self.events.push_back(Event::Mapped {
                server: from,
                mapped,
                rtt: now.saturating_duration_since(sent),
            }),
            Some(before) if before != mapped && was_keeper => {
                self.events.push_back(Event::Moved {
                    server: from,
                    from: before,
                    to: mapped,
                });
            }
            Some(_) => {}
        }
    }

    /// The datagram to `server` could not be sent at all (no route, no such family).
    pub fn handle_send_error(&mut self, now: Instant, server: SocketAddr) {
        if let Some(index) = self.servers.iter().position(|s| s.addr == server) {
            self.fail(now, index, Failure::Unsendable);
        }
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let keeper = self.keeper();
        for index in 0..self.servers.len() {
            match self.servers[index].state {
                State::Asking { requests, due, .. } if due <= now => {
                    if requests >= MAX_REQUESTS {
                        self.fail(now, index, Failure::Silent);
                    } else {
                        self.ask(now, index, requests);
                    }
                }
                State::Resting { due } if due <= now && keeper == Some(index) => {
                    self.ask(now, index, 0);
                }
                State::Failed { due } if due <= now && keeper.is_none() => self.ask(now, index, 0),
                _ => {}
            }
        }
    }

    /// The instant at which `handle_timeout` has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let keeper = self.keeper();
        self.servers
            .iter()
            .enumerate()
            .filter_map(|(index, server)| match server.state {
                State::Asking { due, .. } => Some(due),
                State::Resting { due } => (keeper == Some(index)).then_some(due),
                State::Failed { due } => keeper.is_none().then_some(due),
            })
            .min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Request)> {
        self.transmits.pop_front()
    }

    /// The next finding.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The first server, in the order given, that has answered and still does.
    fn keeper(&self) -> Option<usize> {
        self.servers
            .iter()
            .position(|s| s.mapped.is_some() && !matches!(s.state, State::Failed { .. }))
    }

    fn ask(&mut self, now: Instant, index: usize, requests: u32) {
        if requests == 0 {
            // One id for a request and its retransmissions (RFC 8489 §6.2.1).
            self.drawn += 1;
            let hash = blake3::keyed_hash(&self.seed, &self.drawn.to_be_bytes());
            self.servers[index]
                .id
                .copy_from_slice(&hash.as_bytes()[..12]);
        }
        let server = &mut self.servers[index];
        let wait = FIRST_RETRANSMISSION * 2u32.pow(requests.min(5));
        server.state = State::Asking {
            requests: requests + 1,
            sent: now,
            due: now + wait,
        };
        let request = bare_message(BINDING_REQUEST, &server.id);
        self.transmits.push_back((server.addr, request));
    }

    fn fail(&mut self, now: Instant, index: usize, reason: Failure) {
        let server = &mut self.servers[index];
        let first_time = !matches!(server.state, State::Failed { .. });
        server.state = State::Failed { due: now + REVIVE };
        if first_time {
            self.events.push_back(Event::Failed {
                server: server.addr,
                reason,
            });
        }
    }
}

/// The address that a STUN message tells. `None` for anything malformed.
#[must_use]
pub fn mapped_address(message: &[u8]) -> Option<SocketAddr> {
    Message::read(message).ok()?.mapped_address()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::stun::responder;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_answer_gives_the_mapped_address_and_the_round_trip() {
        let (now, mut machine) = machine(1);
        let (to, request) = machine.poll_transmit().expect("asks at once");
        machine.handle_datagram(
            now + Duration::from_millis(30),
            to,
            &answer(&request, addr("203.0.113.7:4000")),
        );
        assert_eq!(
            machine.poll_event(),
            Some(Event::Mapped {
                server: to,
                mapped: addr("203.0.113.7:4000"),
                rtt: Duration::from_millis(30)
            })
        );
        assert_eq!(machine.mapped(), Some(addr("203.0.113.7:4000")));
    }

    #[test]
    fn an_hour_of_waiting_keeps_the_mapping_alive_within_every_30_seconds() {
        let (start, mut machine) = machine(2);
        let mut now = start;
        let mut last = start;
        while now < start + 3600 * SECOND {
            while let Some((to, request)) = machine.poll_transmit() {
                if to == server(0) {
                    assert!(now - last < 30 * SECOND, "silent for {:?}", now - last);
                    last = now;
                    machine.handle_datagram(now, to, &answer(&request, addr("203.0.113.7:4000")));
                }
            }
            now = machine.poll_timeout().expect("never stops").max(now);
            machine.handle_timeout(now);
        }
        assert!(now - last < 30 * SECOND);
    }

    #[test]
    fn a_moved_mapping_is_an_event() {
        let (mut now, mut machine) = machine(1);
        let (to, request) = machine.poll_transmit().unwrap();
        machine.handle_datagram(now, to, &answer(&request, addr("203.0.113.7:4000")));
        machine.poll_event();
        now = machine.poll_timeout().unwrap();
        machine.handle_timeout(now);
        let (to, request) = machine.poll_transmit().unwrap();
        machine.handle_datagram(now, to, &answer(&request, addr("203.0.113.7:5000")));
        let moved = Event::Moved {
            server: to,
            from: addr("203.0.113.7:4000"),
            to: addr("203.0.113.7:5000"),
        };
        assert_eq!(machine.poll_event(), Some(moved));
    }

    #[test]
    fn a_silent_server_fails_and_the_next_one_keeps_the_mapping() {
        let (start, mut machine) = machine(2);
        let mut now = start;
        let mut failed = false;
        for _ in 0..40 {
            while let Some((to, request)) = machine.poll_transmit() {
                if to == server(1) {
                    machine.handle_datagram(now, to, &answer(&request, addr("203.0.113.7:4000")));
                }
            }
            while let Some(event) = machine.poll_event() {
                failed |= event
                    == Event::Failed {
                        server: server(0),
                        reason: Failure::Silent,
                    };
            }
            now = machine.poll_timeout().unwrap();
            machine.handle_timeout(now);
        }
        assert!(failed);
        assert_eq!(machine.mapped(), Some(addr("203.0.113.7:4000")));
    }

    #[test]
    fn answers_from_strangers_old_answers_and_junk_change_nothing() {
        let (now, mut machine) = machine(1);
        let (to, request) = machine.poll_transmit().unwrap();
        let good = answer(&request, addr("203.0.113.7:4000"));
        machine.handle_datagram(now, addr("192.0.2.66:3478"), &good);
        let mut wrong_id = good.clone();
        wrong_id[9] ^= 1;
        machine.handle_datagram(now, to, &wrong_id);
        for cut in 0..good.len() {
            // A cut answer may be refused, but only a whole one gives an address.
            let mut copy = Reflexive::new(now, [7; 32], &[to]);
            let (_, request) = copy.poll_transmit().unwrap();
            copy.handle_datagram(now, to, &answer(&request, addr("203.0.113.7:4000"))[..cut]);
            assert_eq!(copy.mapped(), None);
        }
        assert_eq!(machine.mapped(), None);
        assert_eq!(machine.poll_event(), None);
        machine.handle_datagram(now, to, &good);
        machine.poll_event();
        machine.handle_datagram(now, to, &good);
        assert_eq!(
            machine.poll_event(),
            None,
            "a second copy of an answer is old news"
        );
    }

    #[test]
    fn ipv6_addresses_are_unmasked_with_the_transaction_id() {
        let mut request = [7; 20];
        request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]);
        let mapped = addr("[2001:db8::7]:4000");
        assert_eq!(mapped_address(&answer(&request, mapped)), Some(mapped));
    }

    fn machine(servers: usize) -> (Instant, Reflexive) {
        let now = Instant::now();
        let servers: Vec<SocketAddr> = (0..servers).map(server).collect();
        (now, Reflexive::new(now, [7; 32], &servers))
    }

    fn server(index: usize) -> SocketAddr {
        addr(&format!("198.51.100.{}:3478", index + 1))
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn answer(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
        responder::respond(request, mapped).unwrap()
    }
}
