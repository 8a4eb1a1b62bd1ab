//! The frames of the repair layer, as bytes. `docs/link.md` has the table.

/// A datagram of DTLS on its way.
const DATA: u8 = 0x53;
/// What has arrived.
const ACK: u8 = 0x54;
/// How much of what travels without the layer is lost.
const LOSS: u8 = 0x55;
/// Of this layout. A frame of another version is not ours to read.
pub const VERSION: u8 = 1;
/// Before the datagram in a frame.
pub const HEADER: usize = 16;
/// Runs of received and of missing transmissions in one acknowledgement: each hole is told again
/// in every later one until so many newer ones push it out.
pub const MAX_RUNS: usize = 128;

/// Half as many bits as a MAC for secrets would have: a forger off the path needs 2⁴⁷ datagrams,
/// and what it wins is one datagram lost.
const TAG: usize = 6;
pub(super) const BODY: usize = 2 + TAG;
const ACK_FIXED: usize = BODY + 28;
/// The longest acknowledgement.
pub const MAX_ACK: usize = ACK_FIXED + 2 * MAX_RUNS;

/// Keys of one connection, one for each direction, so that a frame sent back is no frame.
#[derive(Clone)]
pub struct Keys {
    ours: [u8; 32],
    theirs: [u8; 32],
}

/// Which of the two made the offer: it decides whose key is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Offerer,
    Answerer,
}

impl Keys {
    /// From the ICE passwords of both sides, which nobody off the path has seen.
    #[must_use]
    pub fn new(role: Role, ours: &str, theirs: &str) -> Self {
        let (offerer, answerer) = match role {
            Role::Offerer => (ours, theirs),
            Role::Answerer => (theirs, ours),
        };
        // The lengths keep two pairs of passwords apart that only differ in where they are cut.
        let mut material = vec![];
        for password in [offerer, answerer] {
            material.extend((password.len() as u64).to_be_bytes());
            material.extend(password.as_bytes());
        }
        let [from_offerer, from_answerer] = [
            blake3::derive_key("knothole 2026 link repair, offerer to answerer", &material),
            blake3::derive_key("knothole 2026 link repair, answerer to offerer", &material),
        ];
        let (ours, theirs) = match role {
            Role::Offerer => (from_offerer, from_answerer),
            Role::Answerer => (from_answerer, from_offerer),
        };
        Self { ours, theirs }
    }
}

/// Leaves out the keys.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// What an authentic frame says. Numbers are the low 32 bits of longer ones: see [`expand`].
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Data {
        /// Counts transmissions: a repair has a number of its own.
        tx: u32,
        /// The place of the datagram in the order of the sender.
        seq: u32,
        datagram: &'a [u8],
    },
    Ack(Ack),
    Loss {
        /// Records that were missing, of this many.
        missing: u32,
        of: u32,
    },
}

/// What has arrived, as far as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ack {
    /// The newest transmission.
    pub largest: u32,
    /// Since that arrived, in microseconds.
    pub hold: u32,
    /// The next datagram to be handed over: all before it have been, or were given up.
    pub next: u32,
    /// Bytes of all frames that arrived, and how many of them a router marked (RFC 3168).
    pub delivered: u64,
    pub marked: u32,
    /// What its socket holds when nobody reads, in bytes.
    pub room: u32,
    /// How many have arrived, down from the newest; how many before those are missing; and so on.
    pub runs: Vec<u16>,
}

/// Whether a datagram may be a frame of this layer.
#[must_use]
pub fn is_frame(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(&(DATA | ACK | LOSS)))
}

/// Whether a datagram may be a frame with one of DTLS in it.
#[must_use]
pub fn is_data(datagram: &[u8]) -> bool {
    datagram.first() == Some(&DATA)
}

/// The whole number whose low bits these are and which is nearest to `near`.
#[must_use]
pub fn expand(low: u32, near: u64) -> u64 {
    let ahead = low.wrapping_sub(near as u32);
    if ahead < 1 << 31 {
        near.saturating_add(u64::from(ahead))
    } else {
        let behind = u64::from(0u32.wrapping_sub(ahead));
        // Before the first there is nothing: then it is one far ahead.
        near.checked_sub(behind)
            .unwrap_or_else(|| near.saturating_add(u64::from(ahead)))
    }
}

impl Keys {
    /// Appends a frame with `datagram`.
    pub fn write_data(&self, into: &mut Vec<u8>, tx: u64, seq: u64, datagram: &[u8]) {
        let mut head = [0; HEADER];
        head[0] = DATA;
        head[1] = VERSION;
        head[BODY..BODY + 4].copy_from_slice(&(tx as u32).to_be_bytes());
        head[BODY + 4..].copy_from_slice(&(seq as u32).to_be_bytes());
        let tag = tag(&self.ours, &head[..2], &head[BODY..], datagram.len());
        head[2..BODY].copy_from_slice(&tag);
        into.extend_from_slice(&head);
        into.extend_from_slice(datagram);
    }

    /// Makes the frame of an acknowledgement.
    #[must_use]
    pub fn write_ack(&self, ack: &Ack) -> Vec<u8> {
        let mut frame = Vec::with_capacity(ACK_FIXED + 2 * ack.runs.len());
        frame.extend([ACK, VERSION]);
        frame.extend([0; TAG]);
        for number in [ack.largest, ack.hold, ack.next] {
            frame.extend(number.to_be_bytes());
        }
        frame.extend(ack.delivered.to_be_bytes());
        frame.extend(ack.marked.to_be_bytes());
        frame.extend(ack.room.to_be_bytes());
        for run in ack.runs.iter().take(MAX_RUNS) {
            frame.extend(run.to_be_bytes());
        }
        self.seal(frame)
    }

    /// Makes the frame that tells of loss.
    #[must_use]
    pub fn write_loss(&self, missing: u32, of: u32) -> Vec<u8> {
        let mut frame = vec![LOSS, VERSION];
        frame.extend([0; TAG]);
        frame.extend(missing.to_be_bytes());
        frame.extend(of.to_be_bytes());
        self.seal(frame)
    }

    /// Puts the tag into a frame that is complete otherwise.
    pub(super) fn seal(&self, mut frame: Vec<u8>) -> Vec<u8> {
        let (signed, rest) = match frame[0] {
            DATA => frame[BODY..].split_at(frame[BODY..].len().min(HEADER - BODY)),
            _ => (&frame[BODY..], &[][..]),
        };
        let tag = tag(&self.ours, &frame[..2], signed, rest.len());
        frame[2..BODY].copy_from_slice(&tag);
        frame
    }

    /// Reads a frame that the other side made; `None` for everything else.
    #[must_use]
    pub fn read<'a>(&self, frame: &'a [u8]) -> Option<Frame<'a>> {
        let (head, body) = frame.split_at_checked(BODY)?;
        if head[1] != VERSION {
            return None;
        }
        let authentic = |signed: &[u8], rest: usize| {
            // Not constant in time: a forger off the path sees no times.
            tag(&self.theirs, &head[..2], signed, rest) == head[2..]
        };
        match head[0] {
            DATA => {
                let (numbers, datagram) = body.split_at_checked(HEADER - BODY)?;
                (!datagram.is_empty() && authentic(numbers, datagram.len())).then_some(())?;
                Some(Frame::Data {
                    tx: word(numbers, 0)?,
                    seq: word(numbers, 4)?,
                    datagram,
                })
            }
            ACK => {
                let (_, runs) = body.split_at_checked(ACK_FIXED - BODY)?;
                let fits = runs.len() % 2 == 0 && runs.len() <= 2 * MAX_RUNS;
                (fits && authentic(body, 0)).then_some(())?;
                let runs = runs.chunks_exact(2);
                Some(Frame::Ack(Ack {
                    largest: word(body, 0)?,
                    hold: word(body, 4)?,
                    next: word(body, 8)?,
                    delivered: u64::from(word(body, 12)?) << 32 | u64::from(word(body, 16)?),
                    marked: word(body, 20)?,
                    room: word(body, 24)?,
                    runs: runs
                        .map(|run| u16::from_be_bytes([run[0], run[1]]))
                        .collect(),
                }))
            }
            LOSS if body.len() == 8 && authentic(body, 0) => Some(Frame::Loss {
                missing: word(body, 0)?,
                of: word(body, 4)?,
            }),
            _ => None,
        }
    }
}

/// The datagram itself is not signed, but for its length: it is a DTLS record, which is.
fn tag(key: &[u8; 32], kind: &[u8], signed: &[u8], rest: usize) -> [u8; TAG] {
    let mut text = [0; 10 + MAX_ACK];
    let len = 10 + signed.len().min(MAX_ACK);
    text[..2].copy_from_slice(kind);
    text[2..10].copy_from_slice(&(rest as u64).to_be_bytes());
    text[10..len].copy_from_slice(&signed[..len - 10]);
    let hash = blake3::keyed_hash(key, &text[..len]);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&hash.as_bytes()[..TAG]);
    tag
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_start_where_rfc_7983_has_nothing() {
        let (here, _) = two();
        let mut data = vec![];
        here.write_data(&mut data, 1, 2, b"x");
        for frame in [data, here.write_ack(&Ack::default()), here.write_loss(1, 2)] {
            let taken = |first| matches!(first, 0..=3 | 16..=19 | 20..=79 | 128..=191);
            assert!(!taken(frame[0]) && is_frame(&frame));
            assert!(!super::super::super::size::Sizer::is_frame(&frame));
        }
    }

    #[test]
    fn a_frame_is_read_by_the_other_side_alone() {
        let (here, there) = two();
        let mut frame = vec![];
        here.write_data(&mut frame, 7 << 32 | 5, 9, b"datagram");
        assert_eq!(frame.len(), HEADER + 8);
        let read = Frame::Data {
            tx: 5,
            seq: 9,
            datagram: b"datagram",
        };
        assert_eq!(there.read(&frame), Some(read));
        assert_eq!(here.read(&frame), None, "sent back");
        let other = Keys::new(Role::Answerer, "theirs", "other");
        assert_eq!(other.read(&frame), None, "another connection");
    }

    #[test]
    fn passwords_cut_elsewhere_are_other_keys() {
        let one = Keys::new(Role::Offerer, "ab", "c");
        let two = Keys::new(Role::Answerer, "bc", "a");
        assert_eq!(two.read(&one.write_loss(1, 2)), None);
    }

    #[test]
    fn every_bit_of_what_is_signed_counts() {
        let (here, there) = two();
        let mut data = vec![];
        here.write_data(&mut data, 1, 2, b"datagram");
        let ack = Ack {
            runs: vec![1, 2, 3],
            ..Ack::default()
        };
        for (frame, signed) in [
            (data, HEADER),
            (here.write_ack(&ack), ACK_FIXED + 6),
            (here.write_loss(3, 4), 16),
        ] {
            assert!(there.read(&frame).is_some());
            for bit in 0..signed * 8 {
                let mut bad = frame.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(there.read(&bad), None, "bit {bit}");
            }
            for len in 0..frame.len() {
                assert_eq!(there.read(&frame[..len]), None, "cut at {len}");
            }
            assert_eq!(there.read(&[&frame[..], &[0]].concat()), None, "longer");
        }
    }

    #[test]
    fn numbers_are_those_nearest_to_what_is_expected() {
        for near in [0, 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 40) + 12345] {
            for off in [-1000i64, -1, 0, 1, 1000, (1 << 31) - 1] {
                if let Some(number) = u64::checked_add_signed(near, off) {
                    assert_eq!(expand(number as u32, near), number, "{near} {off}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn acknowledgements_come_back(
            numbers in any::<[u32; 5]>(),
            delivered in any::<u64>(),
            runs in prop::collection::vec(any::<u16>(), 0..=MAX_RUNS),
        ) {
            let (here, there) = two();
            let [largest, hold, next, marked, room] = numbers;
            let ack = Ack { largest, hold, next, delivered, marked, room, runs };
            let frame = here.write_ack(&ack);
            prop_assert!(frame.len() <= MAX_ACK);
            prop_assert_eq!(there.read(&frame), Some(Frame::Ack(ack)));
        }
    }

    fn two() -> (Keys, Keys) {
        (
            Keys::new(Role::Offerer, "ours", "theirs"),
            Keys::new(Role::Answerer, "theirs", "ours"),
        )
    }
}
