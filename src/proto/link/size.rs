//! Lets large datagrams through where the path carries them, and cuts them in two where not.
//!
//! The crate's SCTP wants one packet size before there is a path. It is told the size that fits
//! the usual 1500-byte path, and this machine makes that safe: until a padded probe has been
//! acknowledged by the other side (RFC 8899 §4.1 without the search), a large datagram travels as
//! two pieces. Silence takes the confirmation back. Frames start with a byte that RFC 7983 leaves
//! free, so they cannot be taken for STUN, DTLS or TURN:
//!
//! ```text
//! piece  0x50 | id (2 bytes) | which (0 or 1) | half of a datagram
//! probe  0x51 | nonce (8 bytes) | zeros, up to LARGE bytes in all; a ping has none
//! seen   0x52 | the probe's nonce
//! ```
//!
//! None of this is authenticated: pieces hold DTLS records, which are; a confirmation needs the
//! nonce, which only the path sees.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::repair::frame::HEADER;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The largest datagram that is ever sent: 1500 less IPv6 and UDP headers.
pub const LARGE: usize = 1452;
/// A datagram up to this size passes any path worth having (RFC 8831 §5: 1200 is safe).
pub const SAFE: usize = 1200;
/// SCTP packets of this size make frames of the repair layer of [`LARGE`] bytes at most (its
/// header, and 37 bytes of DTLS: record header, explicit nonce and tag).
pub const SCTP_MTU: u32 = (LARGE - HEADER - 37) as u32;
/// The same for a peer that does not understand pieces: records of [`SAFE`] bytes at most.
pub const PLAIN_SCTP_MTU: u32 = 1160;

const PIECE: u8 = 0x50;
const PROBE: u8 = 0x51;
const SEEN: u8 = 0x52;
const PIECE_HEADER: usize = 4;
/// Between probes of one path that are not answered.
const PROBE_AGAIN: Duration = Duration::from_millis(200);
/// Probes in a row; then the path counts as small for [`REST`].
const MAX_PROBES: u32 = 10;
const REST: Duration = Duration::from_mins(1);
/// Halves that wait for their other half.
const MAX_PARTIAL: usize = 64;
/// Paths of one connection that are confirmed at a time.
const MAX_CONFIRMED: usize = 4;

/// How a large datagram may travel.
#[derive(Debug, PartialEq, Eq)]
pub enum Admit {
    Whole,
    /// As the two halves of [`Sizer::cut`]; and this probe, if one is due.
    Pieces {
        probe: Option<Vec<u8>>,
    },
}

/// What to do with a frame that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Reply([u8; 9]),
    /// A datagram is whole again.
    Deliver(Vec<u8>),
    Nothing,
}

/// One for each connection, for all of its paths.
#[derive(Debug)]
pub struct Sizer {
    seed: [u8; 32],
    drawn: u64,
    confirmed: VecDeque<SocketAddr>,
    probe: Option<Probe>,
    next_id: u16,
    partial: VecDeque<Partial>,
}

#[derive(Debug)]
struct Probe {
    to: SocketAddr,
    nonce: [u8; 8],
    sent: Instant,
    count: u32,
}

#[derive(Debug)]
struct Partial {
    from: SocketAddr,
    id: [u8; 2],
    which: u8,
    half: Vec<u8>,
}

impl Sizer {
    /// `seed` must be unpredictable: nonces come from it.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            drawn: 0,
            confirmed: VecDeque::new(),
            probe: None,
            next_id: 0,
            partial: VecDeque::new(),
        }
    }

    /// Decides how a datagram of more than [`SAFE`] bytes travels to `to`. `silent`: nothing has
    /// been heard for suspiciously long, so the path may have changed.
    pub fn admit(&mut self, now: Instant, to: SocketAddr, silent: bool) -> Admit {
        if let Some(index) = self.confirmed.iter().position(|addr| *addr == to) {
            if !silent {
                return Admit::Whole;
            }
            self.confirmed.remove(index);
            self.probe = None;
        }
        let count = match &self.probe {
            Some(probe) if probe.to == to => {
                let wait = if probe.count % MAX_PROBES == 0 {
                    REST
                } else {
                    PROBE_AGAIN
                };
                if now.saturating_duration_since(probe.sent) < wait {
                    return Admit::Pieces { probe: None };
                }
                probe.count
            }
            _ => 0,
        };
        self.drawn += 1;
        let hash = blake3::keyed_hash(&self.seed, &self.drawn.to_be_bytes());
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&hash.as_bytes()[..8]);
        self.probe = Some(Probe {
            to,
            nonce,
            sent: now,
            count: count + 1,
        });
        let mut frame = vec![0; LARGE];
        frame[0] = PROBE;
        frame[1..9].copy_from_slice(&nonce);
        Admit::Pieces { probe: Some(frame) }
    }

    /// Large datagrams to `to` are lost again and again: what was confirmed does not hold.
    pub fn doubt(&mut self, to: SocketAddr) {
        self.confirmed.retain(|confirmed| *confirmed != to);
    }

    /// Cuts a datagram into two frames of at most half its size and four bytes.
    pub fn cut(&mut self, datagram: &[u8]) -> [Vec<u8>; 2] {
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id.to_be_bytes();
        let (first, second) = datagram.split_at(datagram.len() / 2);
        [(0, first), (1, second)].map(|(which, half)| {
            let mut frame = Vec::with_capacity(PIECE_HEADER + half.len());
            frame.extend([PIECE, id[0], id[1], which]);
            frame.extend_from_slice(half);
            frame
        })
    }

    /// Whether a datagram is a frame of this layer.
    #[must_use]
    pub fn is_frame(datagram: &[u8]) -> bool {
        matches!(datagram.first(), Some(&(PIECE | PROBE | SEEN)))
    }

    /// Takes a frame from an address that is known to be the peer's.
    pub fn handle_frame(&mut self, from: SocketAddr, frame: &[u8]) -> Action {
        match frame {
            [PROBE, nonce @ ..] if (8..LARGE).contains(&nonce.len()) => {
                let mut seen = [SEEN; 9];
                seen[1..].copy_from_slice(&nonce[..8]);
                Action::Reply(seen)
            }
            [SEEN, nonce @ ..] => {
                if let Some(probe) = self
                    .probe
                    .take_if(|probe| probe.to == from && probe.nonce == nonce)
                {
                    if self.confirmed.len() == MAX_CONFIRMED {
                        self.confirmed.pop_front();
                    }
                    self.confirmed.push_back(probe.to);
                }
                Action::Nothing
            }
            [PIECE, high, low, which @ (0 | 1), half @ ..] if half.len() <= LARGE => {
                self.join(from, [*high, *low], *which, half)
            }
            _ => Action::Nothing,
        }
    }

    fn join(&mut self, from: SocketAddr, id: [u8; 2], which: u8, half: &[u8]) -> Action {
        let same = |partial: &Partial| partial.from == from && partial.id == id;
        if let Some(index) = self.partial.iter().position(same) {
            if self.partial[index].which == which {
                return Action::Nothing;
            }
            let Some(other) = self.partial.remove(index) else {
                return Action::Nothing;
            };
            let (first, second) = if which == 0 {
                (half, &other.half[..])
            } else {
                (&other.half[..], half)
            };
            return Action::Deliver([first, second].concat());
        }
        if self.partial.len() == MAX_PARTIAL {
            self.partial.pop_front();
        }
        self.partial.push_back(Partial {
            from,
            id,
            which,
            half: half.to_vec(),
        });
        Action::Nothing
    }
}

/// A frame that is answered and asks nothing: to hear whether the peer is there.
#[must_use]
pub fn ping(entropy: &[u8; 12]) -> [u8; 9] {
    let mut frame = [PROBE; 9];
    frame[1..].copy_from_slice(&entropy[..8]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_datagram_travels_in_pieces_until_a_probe_was_seen() {
        let (now, mut here, mut there) = two();
        let Admit::Pieces { probe: Some(probe) } = here.admit(now, addr(2), false) else {
            panic!("no probe")
        };
        assert_eq!(probe.len(), LARGE);
        assert_eq!(
            here.admit(now, addr(2), false),
            Admit::Pieces { probe: None },
            "one probe at a time"
        );
        let Action::Reply(seen) = there.handle_frame(addr(1), &probe) else {
            panic!("not answered")
        };
        assert_eq!(here.handle_frame(addr(3), &seen), Action::Nothing);
        assert_ne!(
            here.admit(now, addr(2), false),
            Admit::Whole,
            "answered from elsewhere"
        );
        assert_eq!(here.handle_frame(addr(2), &seen), Action::Nothing);
        assert_eq!(here.admit(now, addr(2), false), Admit::Whole);
        assert_ne!(
            here.admit(now, addr(4), false),
            Admit::Whole,
            "another path is another matter"
        );
    }

    #[test]
    fn a_ping_is_answered_and_confirms_nothing() {
        let (now, mut here, mut there) = two();
        here.admit(now, addr(2), false);
        let Action::Reply(seen) = there.handle_frame(addr(1), &ping(&[9; 12])) else {
            panic!("not answered")
        };
        here.handle_frame(addr(2), &seen);
        assert_ne!(here.admit(now, addr(2), false), Admit::Whole);
    }

    #[test]
    fn silence_takes_the_confirmation_back() {
        let (now, mut here, mut there) = two();
        confirm(now, &mut here, &mut there);
        assert!(matches!(
            here.admit(now, addr(2), true),
            Admit::Pieces { probe: Some(_) }
        ));
        assert!(matches!(
            here.admit(now, addr(2), false),
            Admit::Pieces { .. }
        ));
    }

    #[test]
    fn so_does_doubt_of_that_path_alone() {
        let (now, mut here, mut there) = two();
        confirm(now, &mut here, &mut there);
        here.doubt(addr(4));
        assert_eq!(here.admit(now, addr(2), false), Admit::Whole);
        here.doubt(addr(2));
        assert_ne!(here.admit(now, addr(2), false), Admit::Whole);
    }

    #[test]
    fn a_path_that_swallows_probes_is_asked_ten_times_and_then_once_a_minute() {
        let (start, mut here, _) = two();
        let mut probes = 0;
        for ms in 0..120_000 {
            if let Admit::Pieces { probe: Some(_) } =
                here.admit(start + Duration::from_millis(ms), addr(2), false)
            {
                probes += 1;
            }
        }
        assert_eq!(probes, 20);
    }

    #[test]
    fn pieces_come_together_in_any_order_and_only_of_one_datagram() {
        let (_, mut here, mut there) = two();
        let (one, two) = (vec![7; 1451], vec![8; 1301]);
        let [one_a, one_b] = here.cut(&one);
        let [two_a, two_b] = here.cut(&two);
        assert!(
            [&one_a, &one_b, &two_a, &two_b]
                .iter()
                .all(|piece| piece.len() <= SAFE && Sizer::is_frame(piece))
        );
        assert_eq!(there.handle_frame(addr(1), &two_b), Action::Nothing);
        assert_eq!(there.handle_frame(addr(1), &one_a), Action::Nothing);
        assert_eq!(
            there.handle_frame(addr(1), &one_a),
            Action::Nothing,
            "a copy completes nothing"
        );
        assert_eq!(
            there.handle_frame(addr(9), &one_b),
            Action::Nothing,
            "nor does a stranger"
        );
        assert_eq!(there.handle_frame(addr(1), &two_a), Action::Deliver(two));
        assert_eq!(there.handle_frame(addr(1), &one_b), Action::Deliver(one));
    }

    #[test]
    fn halves_without_the_other_are_bounded_and_junk_is_ignored() {
        let (_, mut here, mut there) = two();
        for _ in 0..10_000 {
            let [first, _] = here.cut(&[1; 1400]);
            there.handle_frame(addr(1), &first);
        }
        assert!(there.partial.len() <= MAX_PARTIAL);
        for junk in [
            &[PIECE][..],
            &[PROBE],
            &[SEEN],
            &[PIECE, 0, 0, 2, 1],
            &[PROBE, 1, 2],
            &[SEEN, 1],
            &[],
        ] {
            assert_eq!(there.handle_frame(addr(1), junk), Action::Nothing);
        }
    }

    fn confirm(now: Instant, here: &mut Sizer, there: &mut Sizer) {
        let Admit::Pieces { probe: Some(probe) } = here.admit(now, addr(2), false) else {
            panic!("no probe")
        };
        let Action::Reply(seen) = there.handle_frame(addr(1), &probe) else {
            panic!("not answered")
        };
        here.handle_frame(addr(2), &seen);
        assert_eq!(here.admit(now, addr(2), false), Admit::Whole);
    }

    fn two() -> (Instant, Sizer, Sizer) {
        (Instant::now(), Sizer::new([1; 32]), Sizer::new([2; 32]))
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4000))
    }
}
