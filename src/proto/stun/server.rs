//! A STUN server (RFC 8489 §6.3) that tells about NAT behaviour (RFC 5780 §6), old clients
//! (RFC 3489) included. Pure: it is given a request and where it came in, and gives the answer and
//! where it goes out.
//!
//! It is of no use to an amplifier. An answer has at most [`MAX_ANSWER`] bytes, or, if padded, no
//! more than its request; it goes to the address that asked (RESPONSE-PORT changes the port only),
//! RFC 3489's RESPONSE-ADDRESS is refused, and each source has its rate.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::limit::{Connections, Limiter};
use super::message::{Change, attribute};
use super::{Builder, Class, Message};

/// The longest answer to a request without padding, in bytes: about what RFC 5780 needs over IPv6.
pub const MAX_ANSWER: usize = 119;
/// The longest request that is looked at, in bytes: a padded one in fragments (RFC 5780 §4.6).
pub const MAX_REQUEST: usize = 4096;
/// Connections of one source, at most: many clients may share an address, and each is done with
/// its connection within a round trip.
pub const MAX_CONNECTIONS_PER_SOURCE: usize = 16;
/// Types listed in UNKNOWN-ATTRIBUTES, at most.
const MAX_UNKNOWN: usize = 8;
const SOFTWARE: &[u8] = b"knothole";

/// The addresses of one family that a server answers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub primary: SocketAddr,
    /// Another IP and another port (RFC 5780 §6): with it, there are four sockets.
    pub other: Option<SocketAddr>,
}

impl Places {
    /// Every socket that these addresses need.
    #[must_use]
    pub fn sockets(self) -> Vec<SocketAddr> {
        let Some(other) = self.other else {
            return vec![self.primary];
        };
        let (a, b) = (self.primary, other);
        vec![
            a,
            SocketAddr::new(a.ip(), b.port()),
            SocketAddr::new(b.ip(), a.port()),
            b,
        ]
    }

    /// The address that differs from `here` as far as `change` asks; `None` where there is none.
    fn changed(self, here: SocketAddr, change: Change) -> Option<SocketAddr> {
        let other = self.opposite(here)?;
        Some(SocketAddr::new(
            if change.ip { other.ip() } else { here.ip() },
            if change.port {
                other.port()
            } else {
                here.port()
            },
        ))
    }

    /// The address with both another IP and another port than `here`: OTHER-ADDRESS.
    fn opposite(self, here: SocketAddr) -> Option<SocketAddr> {
        let other = self.other?;
        let ip = if here.ip() == self.primary.ip() {
            other.ip()
        } else {
            self.primary.ip()
        };
        let port = if here.port() == self.primary.port() {
            other.port()
        } else {
            self.primary.port()
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// A stream: the answer goes back on it, so nothing about it can be changed.
    Stream,
}

/// An answer and its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The socket that it leaves from.
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What a server has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Everything that came in.
    pub received: u64,
    /// Requests answered with an address.
    pub answered: u64,
    /// Of these, sent from another address or port than was asked.
    pub changed: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Dropped: the source asks too often.
    pub limited: u64,
    /// Dropped: not a Binding request.
    pub ignored: u64,
    /// Connections closed at once: the source has too many.
    pub crowded: u64,
}

/// The machine: it has no timers, and each request has at most one answer, which it returns.
#[derive(Debug)]
pub struct Server {
    places: Vec<Places>,
    limiter: Limiter,
    connections: Connections,
    counters: Counters,
}

impl Server {
    /// Serves these addresses, at most one [`Places`] a family.
    #[must_use]
    pub fn new(places: Vec<Places>, limiter: Limiter) -> Self {
        Self {
            places,
            limiter,
            connections: Connections::new(MAX_CONNECTIONS_PER_SOURCE),
            counters: Counters::default(),
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether a new connection may stay. If so, it counts until [`Server::handle_disconnected`].
    pub fn handle_connected(&mut self, from: IpAddr) -> bool {
        let admitted = self.connections.admit(from);
        self.counters.crowded += u64::from(!admitted);
        admitted
    }

    /// A connection that stayed has ended.
    pub fn handle_disconnected(&mut self, from: IpAddr) {
        self.connections.close(from);
    }

    /// Takes what came in at the socket `at`.
    pub fn handle_request(
        &mut self,
        now: Instant,
        transport: Transport,
        at: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Answer> {
        self.counters.received += 1;
        let request = (bytes.len() <= MAX_REQUEST)
            .then(|| Message::read(bytes).ok())
            .flatten()
            .filter(|message| message.class == Class::Request);
        let Some(request) = request else {
            self.counters.ignored += 1;
            return None;
        };
        // Port 0 cannot be sent to; a source that is a port of ours would start an endless talk.
        if from.port() == 0 || self.is_ours(from) {
            self.counters.ignored += 1;
            return None;
        }
        if !self.limiter.admit(now, from.ip()) {
            self.counters.limited += 1;
            return None;
        }
        match self.judge(transport, at, from, request, bytes.len()) {
            Ok(answer) => {
                self.counters.answered += 1;
                self.counters.changed += u64::from(answer.from != at);
                Some(answer)
            }
            Err(bytes) => {
                self.counters.refused += 1;
                Some(Answer {
                    from: at,
                    to: from,
                    bytes,
                })
            }
        }
    }

    fn is_ours(&self, addr: SocketAddr) -> bool {
        self.places
            .iter()
            .any(|places| places.sockets().contains(&addr))
    }

    fn judge(
        &self,
        transport: Transport,
        at: SocketAddr,
        from: SocketAddr,
        request: Message<'_>,
        size: usize,
    ) -> Result<Answer, Vec<u8>> {
        let places = self
            .places
            .iter()
            .copied()
            .find(|places| transport == Transport::Udp && places.sockets().contains(&at))
            .filter(|places| places.other.is_some());
        let unknown = unknown(request, places.is_some());
        if !unknown.is_empty() {
            let list: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
            return Err(Builder::new(Class::Error, request.id)
                .error_code(420, "Unknown Attribute")
                .attribute(attribute::UNKNOWN_ATTRIBUTES, &list)
                .finish());
        }
        let bad = |reason| {
            Builder::new(Class::Error, request.id)
                .error_code(400, reason)
                .finish()
        };
        let padded = request.attribute(attribute::PADDING).is_some();
        let port = request.attribute(attribute::RESPONSE_PORT);
        if padded && port.is_some() {
            // RFC 5780 §6.1: together they would send large answers to whoever is behind the port.
            return Err(bad("PADDING with RESPONSE-PORT"));
        }
        let to = match port {
            None => from,
            Some(_) => {
                let port = request
                    .response_port()
                    .ok_or_else(|| bad("RESPONSE-PORT"))?;
                SocketAddr::new(from.ip(), port)
            }
        };
        if self.is_ours(to) {
            return Err(bad("RESPONSE-PORT"));
        }
        let change = match request.attribute(attribute::CHANGE_REQUEST) {
            None => None,
            Some(value) => Some(Change::read(value).ok_or_else(|| bad("CHANGE-REQUEST"))?),
        };
        let origin = match (places, change) {
            (Some(places), Some(change)) => places.changed(at, change).unwrap_or(at),
            _ => at,
        };
        let other = places.and_then(|places| places.opposite(at));
        Ok(Answer {
            from: origin,
            to,
            bytes: success(request, from, origin, other, padded.then_some(size)),
        })
    }
}

/// Writes the answer with everything that fits into its bound, the most useful first.
fn success(
    request: Message<'_>,
    from: SocketAddr,
    origin: SocketAddr,
    other: Option<SocketAddr>,
    padded: Option<usize>,
) -> Vec<u8> {
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let answer = Builder::new(Class::Success, request.id);
    if request.id.is_classic() {
        let answer = answer
            .address(attribute::MAPPED_ADDRESS, from)
            .address(attribute::SOURCE_ADDRESS, origin);
        return match other {
            Some(other) => answer.address(attribute::CHANGED_ADDRESS, other),
            None => answer,
        }
        .finish();
    }
    let mut answer = answer
        .xor_mapped_address(from)
        .address(attribute::RESPONSE_ORIGIN, origin);
    if let Some(other) = other {
        answer = answer.address(attribute::OTHER_ADDRESS, other);
    }
    // In the clear as well, so that a client can see whether something on the way rewrites
    // addresses in packets. Over IPv6 it does not fit, and nothing does that there.
    if from.is_ipv4() {
        answer = answer.address(attribute::MAPPED_ADDRESS, from);
    }
    answer = answer.attribute(attribute::SOFTWARE, SOFTWARE);
    if let Some(most) = padded {
        const FINGERPRINT: usize = 8;
        const ATTRIBUTE: usize = 4;
        let room = most.saturating_sub(answer.clone().finish().len() + FINGERPRINT + ATTRIBUTE);
        answer = answer.attribute(attribute::PADDING, &vec![0; room / 4 * 4]);
    }
    answer.finish_with_fingerprint()
}

/// The types that may not be skipped and are not understood (RFC 8489 §6.3.1). Where there is no
/// other address, CHANGE-REQUEST is one of them (RFC 5780 §6.1): an answer would be a lie. But one
/// that asks for no change, as some old clients add to each request, is granted anywhere.
fn unknown(request: Message<'_>, discovery: bool) -> Vec<u16> {
    const NONE: Change = Change {
        ip: false,
        port: false,
    };
    let change = request.attribute(attribute::CHANGE_REQUEST);
    let unchanged = change.and_then(Change::read) == Some(NONE);
    let known = |kind| match kind {
        attribute::CHANGE_REQUEST => discovery || unchanged,
        // Credentials are not asked for, so they mean nothing (RFC 8489 §9).
        attribute::USERNAME
        | attribute::MESSAGE_INTEGRITY
        | attribute::REALM
        | attribute::NONCE
        | attribute::PADDING
        | attribute::RESPONSE_PORT
        | attribute::FIRST_OPTIONAL.. => true,
        _ => false,
    };
    request
        .attributes()
        .map(|(kind, _)| kind)
        .filter(|kind| !known(*kind))
        .take(MAX_UNKNOWN)
        .collect()
}

/// Feeds arbitrary requests to a server.
///
/// # Panics
/// When an answer breaks a bound. That is what a fuzzer looks for.
#[doc(hidden)]
pub fn fuzz(now: Instant, data: &[u8]) {
    let at: SocketAddr = SocketAddr::from(([198, 51, 100, 1], 3478));
    let other = SocketAddr::from(([198, 51, 100, 2], 3479));
    let from = SocketAddr::from(([192, 0, 2, 1], 5000));
    let places = Places {
        primary: at,
        other: (data.first().is_some_and(|b| b & 1 == 0)).then_some(other),
    };
    let mut server = Server::new(vec![places], Limiter::new(10, 10, [7; 32]));
    for transport in [Transport::Udp, Transport::Stream] {
        let Some(answer) = server.handle_request(now, transport, at, from, data) else {
            continue;
        };
        assert_eq!(answer.to.ip(), from.ip());
        assert!(answer.bytes.len() <= MAX_ANSWER.max(data.len()));
        assert!(places.sockets().contains(&answer.from));
        let request = Message::read(data).expect("what is answered can be read");
        let read = Message::read(&answer.bytes).expect("an answer can be read");
        assert_eq!(read.id, request.id);
        assert!(matches!(read.class, Class::Success | Class::Error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::stun::TransactionId;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn four() -> Places {
        Places {
            primary: addr("198.51.100.1:3478"),
            other: Some(addr("198.51.100.2:3479")),
        }
    }

    fn ask(places: Places, at: &str, request: &[u8]) -> Option<Answer> {
        let mut server = Server::new(vec![places], Limiter::new(10, 10, [7; 32]));
        server.handle_request(
            Instant::now(),
            Transport::Udp,
            addr(at),
            addr("192.0.2.1:5000"),
            request,
        )
    }

    /// The code of an answer that is an error.
    fn refusal(answer: &Answer) -> u16 {
        Message::read(&answer.bytes)
            .unwrap()
            .error_code()
            .unwrap()
            .0
    }

    fn request() -> Builder {
        Builder::new(Class::Request, TransactionId::new([1; 12]))
    }

    #[test]
    fn a_plain_request_learns_its_address_and_the_other_one() {
        let answer = ask(four(), "198.51.100.1:3478", &request().finish()).unwrap();
        assert_eq!(answer.from, addr("198.51.100.1:3478"));
        assert_eq!(answer.to, addr("192.0.2.1:5000"));
        let read = Message::read(&answer.bytes).unwrap();
        assert_eq!(read.mapped_address(), Some(addr("192.0.2.1:5000")));
        assert_eq!(
            read.address(attribute::MAPPED_ADDRESS),
            Some(addr("192.0.2.1:5000"))
        );
        assert_eq!(read.other_address(), Some(addr("198.51.100.2:3479")));
        assert_eq!(read.response_origin(), Some(addr("198.51.100.1:3478")));
        assert_eq!(read.fingerprint(&answer.bytes), Some(true));
        assert!(answer.bytes.len() <= MAX_ANSWER);
    }

    #[test]
    fn a_change_request_is_answered_from_where_it_asks_at_each_of_the_four_sockets() {
        for at in four().sockets() {
            for (ip, port) in [(false, false), (false, true), (true, false), (true, true)] {
                let asked = request().change_request(Change { ip, port }).finish();
                let answer = ask(four(), &at.to_string(), &asked).unwrap();
                assert_eq!(answer.from.ip() != at.ip(), ip, "{at}");
                assert_eq!(answer.from.port() != at.port(), port, "{at}");
                let read = Message::read(&answer.bytes).unwrap();
                assert_eq!(read.response_origin(), Some(answer.from));
                let other = read.other_address().unwrap();
                assert!(other.ip() != at.ip() && other.port() != at.port());
            }
        }
    }

    #[test]
    fn with_one_address_a_change_request_is_refused_and_no_other_is_named() {
        let places = Places {
            other: None,
            ..four()
        };
        let plain = ask(places, "198.51.100.1:3478", &request().finish()).unwrap();
        assert_eq!(Message::read(&plain.bytes).unwrap().other_address(), None);
        let change = |ip, port| {
            let asked = request().change_request(Change { ip, port }).finish();
            ask(places, "198.51.100.1:3478", &asked).unwrap()
        };
        let none = change(false, false);
        let none = Message::read(&none.bytes).unwrap();
        assert_eq!(none.mapped_address(), Some(addr("192.0.2.1:5000")));
        assert_eq!(refusal(&change(false, true)), 420);
        assert_eq!(refusal(&change(true, false)), 420);
        let answer = change(true, true);
        let read = Message::read(&answer.bytes).unwrap();
        assert_eq!(read.error_code(), Some((420, "Unknown Attribute")));
        assert_eq!(
            read.attribute(attribute::UNKNOWN_ATTRIBUTES),
            Some(&[0, 3][..])
        );
    }

    #[test]
    fn a_response_port_changes_the_port_and_never_the_address() {
        let asked = request()
            .attribute(attribute::RESPONSE_PORT, &[0x10, 0, 0, 0])
            .finish();
        let answer = ask(four(), "198.51.100.1:3478", &asked).unwrap();
        assert_eq!(answer.to, addr("192.0.2.1:4096"));
        let read = Message::read(&answer.bytes).unwrap();
        assert_eq!(read.mapped_address(), Some(addr("192.0.2.1:5000")));
        for value in [&[0, 0][..], &[1]] {
            let asked = request()
                .attribute(attribute::RESPONSE_PORT, value)
                .finish();
            let answer = ask(four(), "198.51.100.1:3478", &asked).unwrap();
            assert_eq!(refusal(&answer), 400);
        }
        let old = request()
            .attribute(attribute::RESPONSE_ADDRESS, &[0, 1, 0, 5, 9, 9, 9, 9])
            .finish();
        let answer = ask(four(), "198.51.100.1:3478", &old).unwrap();
        assert_eq!(answer.to, addr("192.0.2.1:5000"));
        assert_eq!(refusal(&answer), 420);
    }

    #[test]
    fn padding_comes_back_and_never_more_than_was_sent() {
        for size in [0, 4, 100, 1500, 3000] {
            let asked = request()
                .attribute(attribute::PADDING, &vec![0; size])
                .finish();
            let answer = ask(four(), "198.51.100.1:3478", &asked).unwrap();
            assert!(answer.bytes.len() <= MAX_ANSWER.max(asked.len()));
            let padding = Message::read(&answer.bytes)
                .unwrap()
                .attribute(attribute::PADDING);
            if size >= 100 {
                assert!(answer.bytes.len() + 4 > asked.len(), "{size}");
            }
            assert!(padding.is_some());
        }
        let both = request()
            .attribute(attribute::PADDING, &[0; 1500])
            .attribute(attribute::RESPONSE_PORT, &[0x10, 0])
            .finish();
        let answer = ask(four(), "198.51.100.1:3478", &both).unwrap();
        assert_eq!(refusal(&answer), 400);
    }

    #[test]
    fn an_old_client_is_answered_in_its_own_words() {
        let asked = Builder::new(Class::Request, TransactionId([9; 16]))
            .change_request(Change {
                ip: true,
                port: false,
            })
            .finish();
        let answer = ask(four(), "198.51.100.1:3478", &asked).unwrap();
        assert_eq!(answer.from, addr("198.51.100.2:3478"));
        let kinds: Vec<u16> = Message::read(&answer.bytes)
            .unwrap()
            .attributes()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(kinds, [1, 4, 5]);
    }

    #[test]
    fn over_ipv6_an_answer_keeps_to_its_bound() {
        let places = Places {
            primary: addr("[2001:db8::1]:3478"),
            other: Some(addr("[2001:db8::2]:3479")),
        };
        let mut server = Server::new(vec![places], Limiter::new(10, 10, [7; 32]));
        let answer = server
            .handle_request(
                Instant::now(),
                Transport::Udp,
                places.primary,
                addr("[2001:db8:1::9]:5000"),
                &request().finish(),
            )
            .unwrap();
        assert!(answer.bytes.len() <= MAX_ANSWER, "{}", answer.bytes.len());
        let read = Message::read(&answer.bytes).unwrap();
        assert_eq!(read.mapped_address(), Some(addr("[2001:db8:1::9]:5000")));
        assert_eq!(read.other_address(), places.other);
    }

    #[test]
    fn on_a_stream_nothing_can_be_changed() {
        let mut server = Server::new(vec![four()], Limiter::new(10, 10, [7; 32]));
        let mut ask = |request: Vec<u8>| {
            let (at, from) = (addr("198.51.100.1:3478"), addr("192.0.2.1:5000"));
            let answer =
                server.handle_request(Instant::now(), Transport::Stream, at, from, &request);
            answer.unwrap().bytes
        };
        let plain = ask(request().finish());
        assert_eq!(Message::read(&plain).unwrap().other_address(), None);
        let change = Change {
            ip: true,
            port: true,
        };
        let changed = ask(request().change_request(change).finish());
        assert_eq!(
            Message::read(&changed).unwrap().error_code().unwrap().0,
            420
        );
    }

    #[test]
    fn answers_junk_and_its_own_sockets_are_not_answered() {
        let mut server = Server::new(vec![four()], Limiter::new(10, 10, [7; 32]));
        let now = Instant::now();
        let at = addr("198.51.100.1:3478");
        let success = Builder::new(Class::Success, TransactionId::new([1; 12])).finish();
        let mut from = |from: &str, bytes: &[u8]| {
            server.handle_request(now, Transport::Udp, at, addr(from), bytes)
        };
        assert_eq!(from("192.0.2.1:5000", &success), None);
        assert_eq!(from("192.0.2.1:5000", b"hello"), None);
        assert_eq!(from("192.0.2.1:0", &request().finish()), None);
        assert_eq!(from("198.51.100.2:3479", &request().finish()), None);
        let counters = server.counters();
        assert_eq!((counters.received, counters.ignored), (4, 4));
    }

    #[test]
    fn who_asks_too_often_waits_and_others_do_not() {
        let mut server = Server::new(vec![four()], Limiter::new(10, 10, [7; 32]));
        let (now, at) = (Instant::now(), addr("198.51.100.1:3478"));
        let mut from = |from: &str| {
            let request = request().finish();
            server
                .handle_request(now, Transport::Udp, at, addr(from), &request)
                .is_some()
        };
        assert_eq!((0..50).filter(|_| from("192.0.2.1:5000")).count(), 10);
        assert!(from("192.0.2.2:5000"));
        assert_eq!(server.counters().limited, 40);
    }

    proptest! {
        #[test]
        fn no_request_makes_the_server_break_a_bound(
            attributes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)), 0..10),
            random: Vec<u8>,
        ) {
            fuzz(Instant::now(), &random);
            let mut builder = request();
            for (kind, value) in attributes {
                let kind = if kind & 1 == 0 { [3, 0x26, 0x27, 2, 6, 0x8022, 0x8028, 3][usize::from(kind >> 8) % 8] } else { kind };
                builder = builder.attribute(kind, &value);
            }
            fuzz(Instant::now(), &builder.finish());
        }
    }
}
