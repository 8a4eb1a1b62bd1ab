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

use super::clock::{Clock, Pace};
use super::consent::Consent;
use super::layer::Layer;
use crate::proto::link::flight::Flights;
use crate::proto::link::repair;
use crate::proto::link::size::{self, Action, Admit, Sizer};
use crate::proto::stun::{self, reflexive::mapped_address};

/// Open checks remembered; ICE sends one per pair and interval.
const MAX_CHECKS: usize = 64;
/// The peer hears from us at least this often (RFC 8445 §11 asks for 15 s): so silence means
/// something.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Between pings while another knothole is silent.
const PING_AGAIN: Duration = Duration::from_millis(250);
/// Between checks of ours while a plain peer is silent: it has no reason to expect more of them.
const CHECK_AGAIN: Duration = Duration::from_secs(1);
/// DTLS application data (RFC 6347 §4.1).
const APPLICATION_DATA: u8 = 23;
/// Records that set SCTP up (RFC 9260 §5.1), half of them from each side: what follows these is data,
/// whose timers may be slow.
const SET_UP: u64 = 2;
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
    layer: Layer,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum Far {
    /// Another knothole, which understands the frames of our layer.
    Knothole,
    /// Any other WebRTC peer, and how to ask whether it is there.
    Plain(Consent),
}

/// What came of a datagram.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// To be sent back at once.
    pub again: Vec<Vec<u8>>,
    /// It was an answer to a check of ours, and is nothing to the crate.
    pub taken: bool,
}

#[derive(Debug)]
struct Seen {
    far: Far,
    clock: Clock,
    sizer: Sizer,
    flights: Flights,
    checks: VecDeque<Check>,
    peers: Vec<SocketAddr>,
    /// The address that the peer sees us at, by its latest answer to a check.
    mapped: Option<SocketAddr>,
    path: Option<Carrier>,
    heard: Option<Instant>,
    sent: Option<Instant>,
    pinged: Option<Instant>,
    datagrams_sent: u64,
    records_sent: u64,
    refused: Option<Refused>,
    /// Checks from unknown addresses: since when, how many.
    strange: (Option<Instant>, u32),
}

/// Whose certificate was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The peer says so; but whoever can write its address on a datagram can say it. This
    /// explains a failure, and is none.
    Ours,
    Theirs,
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Check {
    id: [u8; 12],
    sent: Instant,
    /// The crate does not know it.
    ours: bool,
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
    /// A frame that another knothole answers, or a check that any peer answers.
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
    /// Datagrams that began with DTLS application data.
    pub records_sent: u64,
}

impl Seen {
    fn new(patience: Duration, seed: [u8; 32], far: Far) -> Self {
        Self {
            far,
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
            records_sent: 0,
            refused: None,
            strange: (None, 0),
        }
    }

    /// The peer's: what must be sent again because of it.
    fn handle_record(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        if is_refusal(datagram) {
            self.refused.get_or_insert(Refused::Ours);
        }
        self.flights.handle_received(datagram).to_vec()
    }

    fn remember(&mut self, id: [u8; 12], sent: Instant, ours: bool) {
        if self.checks.len() == MAX_CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back(Check { id, sent, ours });
    }
}

impl Watch {
    /// `patience`: the longest silence that the link must survive. `seed` must be unpredictable.
    pub fn new(patience: Duration, seed: [u8; 32]) -> Self {
        Self {
            inner: Mutex::new(Seen::new(patience, seed, Far::Knothole)),
            layer: Layer::default(),
        }
    }

    /// Forgets the peer before, for another one on the same sockets.
    pub fn restart(&self, patience: Duration, seed: [u8; 32], far: Far) {
        *self.lock() = Seen::new(patience, seed, far);
        self.layer.stop();
    }

    /// What repairs loss on the way to the peer.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// The crate's time.
    pub fn virtual_now(&self) -> Instant {
        self.lock().clock.virtual_at(Instant::now())
    }

    /// Wall time until the crate's time is `target`.
    pub fn wall_until(&self, target: Instant) -> Duration {
        self.lock().clock.wall_until(Instant::now(), target)
    }

    /// A datagram of the crate (or a batch of them) leaves, bare or in frames.
    pub fn handle_sent(&self, contents: &[u8], framed: bool) {
        let record = contents.first() == Some(&APPLICATION_DATA);
        let repaired = record && framed && self.layer.is_repairing();
        let now = Instant::now();
        let mut seen = self.lock();
        let again = seen.flights.is_again(contents);
        if record || again.is_some() {
            let pace = match again {
                Some(true) => Pace::Again,
                _ if repaired && seen.records_sent >= SET_UP => Pace::Repaired,
                _ => Pace::Usual,
            };
            seen.clock.handle_pace(now, pace);
        }
        seen.clock.handle_sent(now);
        seen.sent = Some(now);
        seen.datagrams_sent += 1;
        seen.records_sent += u64::from(record);
        if is_refusal(contents) {
            seen.refused.get_or_insert(Refused::Theirs);
        }
        // What travels in frames is repaired there.
        if !framed {
            seen.flights.handle_sent(contents);
        }
        if let Some(id) = check_id(contents, [0, 1]) {
            seen.remember(id, now, false);
        }
    }

    /// What the peer must get beside the crate's datagrams, and when: a ping soon while it is
    /// silent (its answer makes the clock fast again), else a keep-alive now and then.
    pub fn due(&self) -> Option<(Instant, Beside, Carrier)> {
        let seen = self.lock();
        let alive = (seen.sent? + KEEP_ALIVE, Beside::KeepAlive);
        let wait = match seen.far {
            Far::Knothole => PING_AGAIN,
            Far::Plain(_) => CHECK_AGAIN,
        };
        let ping = seen.clock.silent_from().map(|silent| {
            let again = seen.pinged.map_or(silent, |pinged| pinged + wait);
            (silent.max(again), Beside::Ping)
        });
        let (at, what) = ping.into_iter().chain([alive]).min_by_key(|(at, _)| *at)?;
        Some((at, what, seen.path?))
    }

    /// The datagram for what was [due](Self::due), with a transaction id that nobody can guess.
    /// It starts no silence: only one of the two wants an answer, and only during silence.
    ///
    /// # Errors
    /// When the crypto provider fails.
    pub fn beside(&self, now: Instant, what: Beside, id: [u8; 12]) -> anyhow::Result<Vec<u8>> {
        let mut seen = self.lock();
        match what {
            Beside::KeepAlive => {
                seen.sent = Some(now);
                Ok(stun::bare_message(stun::BINDING_INDICATION, &id).to_vec())
            }
            Beside::Ping => {
                seen.pinged = Some(now);
                if let Far::Plain(consent) = &seen.far {
                    let check = consent.check(id)?;
                    seen.remember(id, now, true);
                    Ok(check)
                } else {
                    Ok(size::ping(&id).to_vec())
                }
            }
        }
    }

    /// A datagram (or a batch of one sender's) came in.
    #[must_use]
    pub fn handle_received(
        &self,
        local: SocketAddr,
        to: Option<IpAddr>,
        from: SocketAddr,
        relayed: bool,
        contents: &[u8],
    ) -> Received {
        let now = Instant::now();
        let mut seen = self.lock();
        let mut received = Received::default();
        if let Some(id) = check_id(contents, [1, 1])
            && let Some(index) = seen.checks.iter().position(|open| open.id == id)
            && let Some(check) = seen.checks.remove(index)
        {
            received.taken = check.ours;
            let sample = now.saturating_duration_since(check.sent);
            seen.clock.handle_round_trip(now, sample);
            if seen.path.is_none_or(|path| path.remote == from) {
                self.layer.handle_round_trip(sample);
            }
            seen.mapped = mapped_address(contents);
            if !seen.peers.contains(&from) && seen.peers.len() < MAX_PEERS {
                seen.peers.push(from);
            }
        }
        if !seen.peers.contains(&from) {
            return received;
        }
        seen.clock.handle_heard(now);
        seen.heard = Some(now);
        // DTLS records travel on the selected pair, bare or in frames.
        if is_dtls(contents) || repair::frame::is_data(contents) {
            let local = SocketAddr::new(to.unwrap_or(local.ip()), local.port());
            seen.path = Some(Carrier {
                local,
                remote: from,
                relayed,
            });
        }
        received.again = seen.handle_record(contents);
        received
    }

    /// A datagram of DTLS came out of frames: what must be sent again because of it.
    #[must_use]
    pub fn handle_unframed(&self, datagram: &[u8]) -> Vec<Vec<u8>> {
        // All but the handshake, and what ends it, is nothing to anybody here.
        if datagram.first() == Some(&APPLICATION_DATA) {
            return vec![];
        }
        self.lock().handle_record(datagram)
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
        if check_id(datagram, stun::BINDING_REQUEST).is_none() {
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
        if matches!(seen.far, Far::Plain(_)) {
            return Admit::Whole;
        }
        let silent = seen.clock.silent_from().is_some_and(|at| at <= now);
        seen.sizer.admit(now, to, silent)
    }

    /// The two halves of a datagram for a path that may not carry it whole.
    pub fn cut(&self, datagram: &[u8]) -> [Vec<u8>; 2] {
        self.lock().sizer.cut(datagram)
    }

    /// Large datagrams to `to` are lost again and again.
    pub fn doubt_size(&self, to: SocketAddr) {
        self.lock().sizer.doubt(to);
    }

    /// Whether `from` is known to be the peer's address.
    pub fn is_peer(&self, from: SocketAddr) -> bool {
        self.lock().peers.contains(&from)
    }

    /// Takes a frame of our own layer; a stranger's does nothing.
    pub fn handle_frame(&self, from: SocketAddr, frame: &[u8]) -> Action {
        let mut seen = self.lock();
        if matches!(seen.far, Far::Knothole) && seen.peers.contains(&from) {
            seen.sizer.handle_frame(from, frame)
        } else {
            Action::Nothing
        }
    }

    /// Whose certificate was refused, if one was.
    pub fn refused(&self) -> Option<Refused> {
        self.lock().refused
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
            records_sent: seen.records_sent,
        }
    }

    /// No code that holds this lock can panic half-way through a change worth distrusting.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// DTLS records start with 20 to 63 (RFC 7983).
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// Whether `datagram` is a DTLS alert in the clear that says `bad_certificate` (RFC 5246 §7.2).
fn is_refusal(datagram: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const BAD_CERTIFICATE: u8 = 42;
    matches!(datagram, [ALERT, _, _, 0, 0, ..]) && datagram.get(14) == Some(&BAD_CERTIFICATE)
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
        watch.handle_sent(&check, false);
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

    #[test]
    fn a_plain_peer_gets_no_frames_and_is_asked_with_checks_whose_answers_stay_here() {
        let watch = Watch::new(Duration::from_mins(1), [7; 32]);
        let (local, peer) = (addr("10.0.0.1:1"), addr("10.0.0.2:2"));
        let consent = Consent {
            username: "theirs:ours".to_owned(),
            password: "secret".to_owned(),
            controlling: true,
        };
        watch.restart(Duration::from_mins(1), [8; 32], Far::Plain(consent));
        assert_eq!(watch.admit(peer), Admit::Whole);
        let ping = watch.beside(Instant::now(), Beside::Ping, [5; 12]).unwrap();
        assert_eq!(check_id(&ping, [0, 1]), Some([5; 12]), "a Binding request");
        let mut answer = vec![1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        answer.extend([5; 12]);
        let first = watch.handle_received(local, None, peer, false, &answer);
        assert!(first.taken && watch.snapshot().heard.is_some());
        let again = watch.handle_received(local, None, peer, false, &answer);
        assert!(!again.taken, "an answer answers once");
        assert_eq!(
            watch.handle_frame(peer, &size::ping(&[1; 12])),
            Action::Nothing
        );
        watch.restart(Duration::from_mins(1), [8; 32], Far::Knothole);
        assert!(Sizer::is_frame(
            &watch.beside(Instant::now(), Beside::Ping, [6; 12]).unwrap()
        ));
        assert_ne!(watch.admit(peer), Admit::Whole);
    }

    #[test]
    fn a_handshake_that_came_in_frames_is_known_when_it_comes_bare() {
        let (watch, local, peer) = heard();
        assert!(watch.handle_unframed(&hello(1)).is_empty());
        let flight = hello(2);
        watch.handle_sent(&flight, false);
        let again = watch.handle_received(local, None, peer, false, &hello(1));
        assert_eq!(again.again, [flight], "it was lost");
        watch.handle_sent(&hello(3), true);
        let again = watch.handle_received(local, None, peer, false, &hello(1));
        assert_eq!(again.again.len(), 1, "what travels in frames is repaired");
        let mut refusal = vec![21, 254, 253];
        refusal.resize(15, 0);
        refusal[14] = 42;
        assert_eq!(watch.refused(), None);
        assert!(watch.handle_unframed(&refusal).is_empty());
        assert_eq!(watch.refused(), Some(Refused::Ours));
    }

    #[test]
    fn a_handshake_that_repeats_itself_is_in_no_hurry_and_the_next_message_is() {
        let (watch, ..) = heard();
        let record = [23, 254, 253, 0, 1];
        for (datagram, pace) in [
            (&hello(1)[..], Pace::Usual),
            (&hello(1), Pace::Again),
            (&[20; 40], Pace::Again),
            (&hello(2), Pace::Usual),
            (&hello(2), Pace::Again),
            (&record, Pace::Usual),
        ] {
            watch.handle_sent(datagram, false);
            assert_eq!(watch.lock().clock.pace, pace, "{datagram:?}");
        }
    }

    /// A handshake message of this kind, in the clear.
    fn hello(kind: u8) -> Vec<u8> {
        let mut record = vec![22, 254, 253];
        record.resize(40, 0);
        record[13] = kind;
        record
    }

    /// A watch that has heard its peer.
    fn heard() -> (Watch, SocketAddr, SocketAddr) {
        let watch = Watch::new(Duration::from_mins(1), [7; 32]);
        let (local, peer) = (addr("10.0.0.1:1"), addr("10.0.0.2:2"));
        let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        check.extend([5; 12]);
        watch.handle_sent(&check, false);
        check[0] = 1;
        let _ = watch.handle_received(local, None, peer, false, &check);
        (watch, local, peer)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }
}
