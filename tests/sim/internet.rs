//! A small internet under a virtual clock: one host behind a NAT in the words of RFC 4787, links
//! that delay and lose, and STUN servers, honest ones and others.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use knothole::proto::nat::{
    Discovery, Filtering, Lifetime, Machine, Mapping, Output, Report, SocketId, Span, Target,
};

pub use crate::dice::Dice;
use crate::stun::{Deviant, Kind};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 10));
pub const OUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// How a NAT numbers outer ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRule {
    Preserve,
    Sequential,
    Random,
}

/// What the router does.
#[derive(Clone, Copy, Debug)]
pub struct Nat {
    /// [`Mapping::None`]: a firewall.
    pub mapping: Mapping,
    pub filtering: Filtering,
    pub hairpins: bool,
    pub ports: PortRule,
    pub lifetime: Duration,
}

#[derive(Debug)]
struct Binding {
    inner: SocketAddr,
    /// What of the destination it is for.
    key: (Option<IpAddr>, Option<u16>),
    outer: SocketAddr,
    sent_to: Vec<SocketAddr>,
    used: Instant,
}

#[derive(Debug)]
struct Router {
    nat: Nat,
    bindings: Vec<Binding>,
    next_port: u16,
    dice: Dice,
}

impl Router {
    /// Lets a packet out and says whom it now comes from.
    fn out(&mut self, now: Instant, inner: SocketAddr, to: SocketAddr) -> SocketAddr {
        let lifetime = self.nat.lifetime;
        self.bindings.retain(|one| now < one.used + lifetime);
        let key = match self.nat.mapping {
            Mapping::AddressDependent => (Some(to.ip()), None),
            Mapping::AddressAndPortDependent => (Some(to.ip()), Some(to.port())),
            _ => (None, None),
        };
        let known = self
            .bindings
            .iter()
            .position(|one| one.inner == inner && one.key == key);
        let at = known.unwrap_or_else(|| {
            let outer = self.number(inner);
            self.bindings.push(Binding {
                inner,
                key,
                outer,
                sent_to: vec![],
                used: now,
            });
            self.bindings.len() - 1
        });
        let binding = &mut self.bindings[at];
        binding.used = now;
        if !binding.sent_to.contains(&to) {
            binding.sent_to.push(to);
        }
        binding.outer
    }

    /// Who gets a packet to an outer address, if anybody.
    fn inward(&mut self, now: Instant, outer: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
        let (filtering, lifetime) = (self.nat.filtering, self.nat.lifetime);
        let mut known = self.bindings.iter_mut();
        let binding = known.find(|one| one.outer == outer && now < one.used + lifetime)?;
        let passes = match filtering {
            Filtering::AddressDependent => binding.sent_to.iter().any(|to| to.ip() == from.ip()),
            Filtering::AddressAndPortDependent => binding.sent_to.contains(&from),
            _ => true,
        };
        passes.then_some(binding.inner)
    }

    fn number(&mut self, inner: SocketAddr) -> SocketAddr {
        if self.nat.mapping == Mapping::None {
            return inner;
        }
        let taken = |port| self.bindings.iter().any(|one| one.outer.port() == port);
        let mut port = match self.nat.ports {
            PortRule::Preserve => inner.port(),
            PortRule::Sequential => {
                self.next_port += 1;
                self.next_port
            }
            PortRule::Random => 20_000 + u16::try_from(self.dice.below(30_000)).unwrap(),
        };
        while taken(port) {
            port = port.wrapping_add(1).max(1024);
        }
        SocketAddr::new(OUTER, port)
    }

    /// Whether the packet is for the router's own outer address.
    fn is_own(&self, to: SocketAddr) -> bool {
        match self.nat.mapping {
            Mapping::None => to.ip() == host_ip(self.nat),
            _ => to.ip() == OUTER,
        }
    }
}

fn host_ip(nat: Nat) -> IpAddr {
    if nat.mapping == Mapping::None {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))
    } else {
        HOST
    }
}

/// Everything between the host and the servers.
pub struct Internet {
    pub delay: Duration,
    /// Share of packets lost, each way.
    pub loss: f64,
    pub seed: u64,
    /// This socket gets the port of an earlier one, whose mapping is still open to all servers.
    pub stale: Option<SocketId>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    number: u64,
    place: Place,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// On its way to a server, or to nobody.
    Outside,
    /// At the router's outer side.
    Router,
    /// Past the filter, for the host.
    Inside,
}

/// What a whole run showed, and how long it took by the virtual clock.
pub struct Ran {
    pub report: Report,
    pub took: Duration,
    pub packets: u64,
}

impl Internet {
    /// Runs a discovery behind `nat` against these servers, to its end.
    pub fn discover(&self, nat: Nat, kinds: &[Kind]) -> Ran {
        let targets = (0..kinds.len()).map(|index| Target {
            name: format!("server-{index}"),
            addr: host(index, kinds[index]).places.primary,
        });
        let start = Instant::now();
        let mut machine = Discovery::new(start, [7; 32], targets.collect());
        let (took, packets) = self.run(start, nat, kinds, &mut machine, |_, _| {});
        let report = machine.report();
        Ran {
            report,
            took,
            packets,
        }
    }

    /// Searches the lifetime of a mapping with this server, to its end. Returns also what it said
    /// from time to time of how long it may still take.
    pub fn lifetime(
        &self,
        nat: Nat,
        kind: Kind,
        most: Duration,
    ) -> (Lifetime, Duration, Vec<(Duration, Duration)>) {
        let start = Instant::now();
        let server = host(0, kind).places.primary;
        let known = Span {
            lived: Duration::ZERO,
            gone: None,
        };
        let resolution = Duration::from_secs(2);
        let mut machine = Lifetime::new(start, [7; 32], server, known, most, resolution);
        let mut estimates = vec![];
        let (took, _) = self.run(start, nat, &[kind], &mut machine, |now, machine| {
            if machine.is_under_way() {
                estimates.push((now - start, machine.remaining()));
            }
        });
        (machine, took, estimates)
    }

    fn run<M: Machine>(
        &self,
        start: Instant,
        nat: Nat,
        kinds: &[Kind],
        machine: &mut M,
        mut watch: impl FnMut(Instant, &M),
    ) -> (Duration, u64) {
        let mut dice = Dice::new(self.seed);
        let mut hosts: Vec<Deviant> = kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| host(index, *kind))
            .collect();
        let mut router = Router {
            nat,
            bindings: vec![],
            next_port: 40_000,
            dice: Dice::new(self.seed ^ 0xabcd),
        };
        let mut wire: BinaryHeap<Reverse<Packet>> = BinaryHeap::new();
        let mut sockets: HashMap<SocketAddr, SocketId> = HashMap::new();
        let mut locals: Vec<SocketAddr> = vec![];
        let mut number = 0;
        let mut now = start;
        for step in 0.. {
            assert!(step < 200_000, "it never ends");
            let idle = match machine.poll_output() {
                Output::Open(id) => {
                    let local = loop {
                        let port = 50_000 + u16::try_from(dice.below(9_000)).unwrap();
                        let local = SocketAddr::new(host_ip(nat), port);
                        if !locals.contains(&local) {
                            break local;
                        }
                    };
                    if self.stale == Some(id) {
                        for to in hosts.iter().flat_map(|host| host.places.sockets()) {
                            router.out(now, local, to);
                        }
                    }
                    sockets.insert(local, id);
                    locals.push(local);
                    machine.handle_opened(now, id, local);
                    continue;
                }
                Output::Transmit { socket, to, bytes } => {
                    let inner = locals[socket];
                    let from = router.out(now, inner, to);
                    number += 1;
                    let place = if router.is_own(to) {
                        Place::Router
                    } else {
                        Place::Outside
                    };
                    let hairpin = place == Place::Router;
                    // On the LAN nothing is lost; what hairpins never leaves it.
                    if hairpin && !nat.hairpins && nat.mapping != Mapping::None {
                        continue;
                    }
                    if !hairpin && dice.happens(self.loss) {
                        continue;
                    }
                    let delay = if hairpin {
                        Duration::from_micros(100)
                    } else {
                        self.delay
                    };
                    wire.push(Reverse(Packet {
                        at: now + delay,
                        number,
                        place,
                        from,
                        to,
                        bytes,
                    }));
                    continue;
                }
                Output::Done => break,
                Output::Idle(until) => until,
            };
            watch(now, machine);
            match wire.peek() {
                Some(Reverse(packet)) if packet.at <= idle => {
                    let Reverse(packet) = wire.pop().unwrap();
                    now = packet.at.max(now);
                    match packet.place {
                        Place::Outside => {
                            for answer in hosts.iter_mut().filter_map(|host| {
                                host.answer(now, packet.to, packet.from, &packet.bytes)
                            }) {
                                if dice.happens(self.loss) {
                                    continue;
                                }
                                number += 1;
                                wire.push(Reverse(Packet {
                                    at: now + self.delay,
                                    number,
                                    place: Place::Router,
                                    from: answer.from,
                                    to: answer.to,
                                    bytes: answer.bytes,
                                }));
                            }
                        }
                        Place::Router => {
                            if let Some(inner) = router.inward(now, packet.to, packet.from) {
                                wire.push(Reverse(Packet {
                                    at: now,
                                    place: Place::Inside,
                                    to: inner,
                                    ..packet
                                }));
                            }
                        }
                        Place::Inside => {
                            let socket = sockets[&packet.to];
                            machine.handle_datagram(now, socket, packet.from, &packet.bytes);
                        }
                    }
                }
                _ => {
                    now = idle.max(now);
                    machine.handle_timeout(now);
                }
            }
        }
        (now - start, number)
    }
}

fn host(index: usize, kind: Kind) -> Deviant {
    let index = u8::try_from(index).unwrap();
    let primary = SocketAddr::from(([198, 51, 100, 10 + 2 * index], 3478));
    let other = SocketAddr::from(([198, 51, 100, 11 + 2 * index], 3479));
    Deviant::new(kind, primary, other)
}
