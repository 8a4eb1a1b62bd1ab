//! What one connection's sockets see go by: round trips of ICE checks, when the peer was last
//! heard, which path carries data. It also keeps the clock that the `webrtc` crate runs on.
//!
//! ICE checks travel in the clear, so a check's transaction id and its answer's mapped address can
//! be read here. Only an address that answered one of our checks (a 96-bit id that a stranger off
//! the path cannot guess) counts as the peer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::Clock;
use crate::proto::link::flight::Flights;
use crate::proto::link::size::{Action, Admit, Sizer};
use crate::proto::stun::BINDING_REQUEST;
use crate::proto::stun::reflexive::mapped_address;

/// Open checks remembered; ICE sends one per pair and interval.
const MAX_CHECKS: usize = 64;
/// The peer hears from us at least this often (RFC 8445 §11 asks for 15 s): so silence means
/// something.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Between pings while the peer is silent.
const PING_AGAIN: Duration = Duration::from_millis(250);
/// Addresses of the peer remembered (several interfaces, IPv4 and IPv6).
const MAX_PEERS: usize = 16;
/// Checks from unknown addresses that are looked at in [`STRANGE_WINDOW`] while there is a path:
/// each costs an HMAC, and a peer that has moved repeats its own.
const MAX_STRANGE: u32 = 20;
const STRANGE_WINDOW: Duration = Duration::from_millis(100);

/// Shared by all sockets of one connection.
#[derive(Debug)]
pub struct Watch {
    inner: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    clock: Clock,
    sizer: Sizer,
    flights: Flights,
    checks: VecDeque<([u8; 12], Instant)>,
    peers: Vec<SocketAddr>,
    /// The address that the peer sees us at, by its latest answer to a check.
    mapped: Option<SocketAddr>,
    path: Option<Carrier>,
    heard: Option<Instant>,
    sent: Option<Instant>,
    pinged: Option<Instant>,
    datagrams_sent: u64,
    /// Checks from unknown addresses: since when, how many.
    strange: (Option<Instant>, u32),
}

/// The socket and peer address that data last arrived on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub relayed: bool,
}

/// A datagram of ours beside those of the crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// A Binding indication (RFC 8445 §11).
    KeepAlive,
    /// A frame that another knothole answers.
    Ping,
}

/// A copy of what is known.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    pub round_trip: Option<Duration>,
    pub mapped: Option<SocketAddr>,
    pub carrier: Option<Carrier>,
    pub heard: Option<Instant>,
    pub datagrams_sent: u64,
}

impl Seen {
    fn new(patience: Duration, seed: [u8; 32]) -> Self {
        Self {
            clock: Clock::new(Instant::now(), patience),
            sizer: Sizer::new(seed),
            flights: Flights::default(),
            checks: VecDeque::new(),
            peers: vec![],
            mapped: None,
            path: None,
            heard: None,
            sent: None,
            pinged: None,
            datagrams_sent: 0,
            strange: (None, 0),
        }
    }
}

impl Watch {
    /// `patience`: the longest silence that the link must survive. `seed` must be unpredictable.
    pub fn new(patience: Duration, seed: [u8; 32]) -> Self {
        Self {
            inner: Mutex::new(Seen::new(patience, seed)),
        }
    }

    /// Forgets the peer before, for another one on the same sockets.
    pub fn restart(&self, patience: Duration, seed: [u8; 32]) {
        *self.lock() = Seen::new(patience, seed);
    }

    /// The crate's time.
    pub fn virtual_now(&self) -> Instant {
        self.lock().clock.virtual_at(Instant::now())
    }

    /// Wall time until the crate's time is `target`.
    pub fn wall_until(&self, target: Instant) -> Duration {
        self.lock().clock.wall_until(Instant::now(), target)
    }

    /// A datagram (or a batch of them) leaves for `to`.
    pub fn handle_sent(&self, contents: &[u8]) {
        let now = Instant::now();
        let mut seen = self.lock();
        seen.clock.handle_sent(now);
        seen.sent = Some(now);
        seen.datagrams_sent += 1;
        seen.flights.handle_sent(contents);
        if let Some(id) = check_id(contents, [0, 1]) {
            if seen.checks.len() == MAX_CHECKS {
                seen.checks.pop_front();
            }
            seen.checks.push_back((id, now));
        }
    }

    /// What the peer must get beside the crate's datagrams, and when: a ping soon while it is
    /// silent (its answer makes the clock fast again), else a keep-alive now and then.
    pub fn due(&self) -> Option<(Instant, Beside, Carrier)> {
        let seen = self.lock();
        let alive = (seen.sent? + KEEP_ALIVE, Beside::KeepAlive);
        let ping = seen.clock.silent_from().map(|silent| {
            let again = seen.pinged.map_or(silent, |pinged| pinged + PING_AGAIN);
            (silent.max(again), Beside::Ping)
        });
        let (at, what) = ping.into_iter().chain([alive]).min_by_key(|(at, _)| *at)?;
        Some((at, what, seen.path?))
    }

    /// What was [due](Self::due) left. It starts no silence: only one of the two wants an answer,
    /// and only during silence.
    pub fn handle_beside(&self, now: Instant, what: Beside) {
        let mut seen = self.lock();
        match what {
            Beside::KeepAlive => seen.sent = Some(now),
            Beside::Ping => seen.pinged = Some(now),
        }
    }

    /// A datagram (or a batch of one sender's) came in. Returns what must be sent back at once.
    #[must_use]
    pub fn handle_received(
        &self,
        local: SocketAddr,
        to: Option<IpAddr>,
        from: SocketAddr,
        relayed: bool,
        contents: &[u8],
    ) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let mut seen = self.lock();
        if let Some(id) = check_id(contents, [1, 1])
            && let Some(index) = seen.checks.iter().position(|(open, _)| *open == id)
            && let Some((_, sent)) = seen.checks.remove(index)
        {
            seen.clock
                .handle_round_trip(now, now.saturating_duration_since(sent));
            seen.mapped = mapped_address(contents);
            if !seen.peers.contains(&from) && seen.peers.len() < MAX_PEERS {
                seen.peers.push(from);
            }
        }
        if !seen.peers.contains(&from) {
            return vec![];
        }
        seen.clock.handle_heard(now);
        seen.heard = Some(now);
        // DTLS records start with 20 to 63 (RFC 7983): they travel on the selected pair.
        if matches!(contents.first(), Some(20..=63)) {
            let local = SocketAddr::new(to.unwrap_or(local.ip()), local.port());
            seen.path = Some(Carrier {
                local,
                remote: from,
                relayed,
            });
        }
        seen.flights.handle_received(contents).to_vec()
    }

    /// Whether a datagram from an address that is not known to be the peer's is not worth the
    /// crate's time, once there is a path: all but a few checks, by which the peer shows itself
    /// when it has moved.
    pub fn is_junk(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let now = Instant::now();
        let mut seen = self.lock();
        if seen.path.is_none() || seen.peers.contains(&from) {
            return false;
        }
        if check_id(datagram, BINDING_REQUEST).is_none() {
            return true;
        }
        let (since, count) = seen.strange;
        seen.strange = if since.is_none_or(|since| now >= since + STRANGE_WINDOW) {
            (Some(now), 1)
        } else {
            (since, count.saturating_add(1))
        };
        seen.strange.1 > MAX_STRANGE
    }

    /// How a datagram of more than [`size::SAFE`](crate::proto::link::size::SAFE) bytes travels.
    pub fn admit(&self, to: SocketAddr) -> Admit {
        let now = Instant::now();
        let mut seen = self.lock();
        let silent = seen.clock.silent_from().is_some_and(|at| at <= now);
        seen.sizer.admit(now, to, silent)
    }

    /// The two halves of a datagram for a path that may not carry it whole.
    pub fn cut(&self, datagram: &[u8]) -> [Vec<u8>; 2] {
        self.lock().sizer.cut(datagram)
    }

    /// Takes a frame of our own layer; a stranger's does nothing.
    pub fn handle_frame(&self, from: SocketAddr, frame: &[u8]) -> Action {
        let mut seen = self.lock();
        if seen.peers.contains(&from) {
            seen.sizer.handle_frame(from, frame)
        } else {
            Action::Nothing
        }
    }

    /// A copy of what is known now.
    pub fn snapshot(&self) -> Snapshot {
        let seen = self.lock();
        Snapshot {
            round_trip: seen.clock.round_trip(),
            mapped: seen.mapped,
            carrier: seen.path,
            heard: seen.heard,
            datagrams_sent: seen.datagrams_sent,
        }
    }

    /// No code that holds this lock can panic half-way through a change worth distrusting.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transaction id, if `datagram` is one STUN message of type `kind` (RFC 8489 §5).
fn check_id(datagram: &[u8], kind: [u8; 2]) -> Option<[u8; 12]> {
    if datagram.first().is_none_or(|first| *first > 1) || datagram.get(..2)? != kind {
        return None;
    }
    datagram.get(8..20)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_answered_a_check_is_heard() {
        let watch = Watch::new(Duration::from_mins(1), [7; 32]);
        let (local, peer) = (addr("10.0.0.1:1"), addr("10.0.0.2:2"));
        let dtls = [23, 254, 253, 0];
        assert!(!watch.is_junk(peer, &dtls), "no path yet");
        let _ = watch.handle_received(local, None, peer, false, &dtls);
        assert_eq!(watch.snapshot().heard, None);
        let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        check.extend([5; 12]);
        watch.handle_sent(&check);
        let mut forged = check.clone();
        forged[0] = 1;
        forged[9] = 6;
        let _ = watch.handle_received(local, None, peer, false, &forged);
        assert_eq!(watch.snapshot().heard, None, "an answer to nothing");
        check[0] = 1;
        let _ = watch.handle_received(local, None, peer, false, &check);
        assert!(watch.snapshot().heard.is_some());
        assert!(watch.snapshot().round_trip.is_some());
        let _ = watch.handle_received(local, None, peer, false, &dtls);
        assert_eq!(
            watch.snapshot().carrier,
            Some(Carrier {
                local,
                remote: peer,
                relayed: false
            })
        );
        assert!(watch.is_junk(addr("10.0.0.3:3"), &dtls));
        assert!(
            watch.is_junk(addr("10.0.0.3:3"), &check),
            "an answer to nothing"
        );
        check[0] = 0;
        let strange: Vec<bool> = (0..100)
            .map(|_| watch.is_junk(addr("10.0.0.3:3"), &check))
            .collect();
        assert!(!strange[0], "it may be the peer");
        assert!(!watch.is_junk(peer, &dtls));
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }
}
