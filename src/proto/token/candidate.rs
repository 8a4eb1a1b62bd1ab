//! Candidates: the addresses a code carries, and how a list of them is packed.
//!
//! Each candidate is a tag of five bits (kind 2, family 1, same port as the one before 1, more
//! follow 1), an address of 32 or 128 bits, and a port of 16 bits unless it is shared.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::text::{Packer, Unpacker};

/// Bits in front of each address.
const TAG_BITS: usize = 5;
const PORT_BITS: usize = 16;

/// Where a candidate address comes from (RFC 8445, section 5.1.1), plus mapped ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An address of the machine itself.
    Host,
    /// The address a STUN server saw.
    Srflx,
    /// An address at a TURN server.
    Relay,
    /// A port opened on the router, by hand or by `UPnP` or PCP.
    Mapped,
}

impl Kind {
    pub(super) fn code(self) -> u128 {
        match self {
            Self::Host => 0,
            Self::Srflx => 1,
            Self::Relay => 2,
            Self::Mapped => 3,
        }
    }

    /// Reads the low two bits.
    pub(super) fn from_code(code: u128) -> Self {
        match code & 3 {
            0 => Self::Host,
            1 => Self::Srflx,
            2 => Self::Relay,
            _ => Self::Mapped,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Srflx => "srflx",
            Self::Relay => "relay",
            Self::Mapped => "mapped",
        })
    }
}

/// One address under which a peer may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Where the address comes from.
    pub kind: Kind,
    /// Address and port. Codes do not carry an IPv6 zone or flow label.
    pub addr: SocketAddr,
}

impl Candidate {
    /// Makes a candidate.
    #[must_use]
    pub const fn new(kind: Kind, addr: SocketAddr) -> Self {
        Self { kind, addr }
    }

    /// The same candidate as it will look after it travelled: IPv4 addresses written as IPv6 are
    /// IPv4 again, zones and flow labels are gone.
    pub(super) fn normal(self) -> Self {
        let addr = SocketAddr::new(self.addr.ip().to_canonical(), self.addr.port());
        Self { addr, ..self }
    }

    /// Says why nothing can be sent to this address, if so.
    pub fn problem(&self) -> Option<&'static str> {
        if self.addr.port() == 0 {
            return Some("a port is 0");
        }
        match self.addr.ip() {
            ip if ip.is_unspecified() => Some("an address is unspecified"),
            ip if ip.is_multicast() => Some("an address is a multicast address"),
            IpAddr::V4(Ipv4Addr::BROADCAST) => Some("an address is the broadcast address"),
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                Some("an IPv4 address is written as IPv6")
            }
            _ => None,
        }
    }
}

/// Appends a list. Only the first `max` candidates are written.
///
/// An empty list is written as one unusable candidate, because the format has no other way.
pub(super) fn put_list(packer: &mut Packer, candidates: &[Candidate], max: usize) {
    let nobody = [Candidate::new(
        Kind::Host,
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    )];
    let list = if candidates.is_empty() {
        &nobody
    } else {
        candidates
    };
    let count = list.len().min(max);
    let mut last_port = None;
    for (i, candidate) in list.iter().take(count).enumerate() {
        let Candidate { kind, addr } = candidate.normal();
        let shared = last_port == Some(addr.port());
        packer.put(kind.code(), 2);
        packer.put(addr.is_ipv6().into(), 1);
        packer.put(shared.into(), 1);
        packer.put((i + 1 < count).into(), 1);
        match addr.ip() {
            IpAddr::V4(ip) => packer.put(ip.to_bits().into(), 32),
            IpAddr::V6(ip) => packer.put(ip.to_bits(), 128),
        }
        if !shared {
            packer.put(addr.port().into(), PORT_BITS);
        }
        last_port = Some(addr.port());
    }
}

/// Bits that [`put_list`] would use.
pub(super) fn list_bits(candidates: &[Candidate]) -> usize {
    let mut last_port = None;
    let mut bits = 0;
    for Candidate { addr, .. } in candidates.iter().map(|c| c.normal()) {
        bits += TAG_BITS + address_bits(addr.is_ipv6());
        if last_port != Some(addr.port()) {
            bits += PORT_BITS;
        }
        last_port = Some(addr.port());
    }
    bits
}

/// Why the end of a list cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoEnd {
    /// The symbols stop before the last tag; the list cannot end before this bit.
    Short { end: usize },
    /// No list looks like this.
    Malformed,
}

/// Finds the bit after the list that starts at bit `start`, by its tags alone. The end may lie
/// beyond the symbols there are.
pub(super) fn list_end(symbols: &[u8], start: usize, max: usize) -> Result<usize, NoEnd> {
    let mut at = Unpacker::new(symbols, super::text::SYMBOL_BITS, start);
    for i in 0..max {
        let tag_start = at.position();
        let Some(tag) = at.take(TAG_BITS) else {
            let smallest = if i == 0 {
                TAG_BITS + 32 + PORT_BITS
            } else {
                TAG_BITS + 32
            };
            return Err(NoEnd::Short {
                end: tag_start + smallest,
            });
        };
        let Tag {
            v6, shared, more, ..
        } = Tag::from_code(tag);
        if shared && i == 0 {
            return Err(NoEnd::Malformed);
        }
        at.skip(address_bits(v6) + if shared { 0 } else { PORT_BITS });
        if !more {
            return Ok(at.position());
        }
    }
    Err(NoEnd::Malformed)
}

/// Reads a list that [`list_end`] found to be whole.
pub(super) fn take_list(
    unpacker: &mut Unpacker<'_>,
    max: usize,
) -> Result<Vec<Candidate>, &'static str> {
    const CUT: &str = "the list of addresses is cut off";
    let mut list: Vec<Candidate> = Vec::new();
    loop {
        let tag = Tag::from_code(unpacker.take(TAG_BITS).ok_or(CUT)?);
        let address = unpacker.take(address_bits(tag.v6)).ok_or(CUT)?;
        let port = match (tag.shared, list.last()) {
            (false, _) => unpacker.take_u16().ok_or(CUT)?,
            (true, Some(before)) => before.addr.port(),
            (true, None) => return Err("the first address has no port"),
        };
        let ip = match u32::try_from(address) {
            Ok(bits) if !tag.v6 => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(address)),
        };
        let candidate = Candidate::new(tag.kind, SocketAddr::new(ip, port));
        if let Some(problem) = candidate.problem() {
            return Err(problem);
        }
        list.push(candidate);
        if !tag.more {
            return Ok(list);
        }
        if list.len() == max {
            return Err("there are too many addresses");
        }
    }
}

/// Normalises a list that is to be sent and checks that it can be.
pub(super) fn checked(
    candidates: Vec<Candidate>,
    max: usize,
) -> Result<Vec<Candidate>, &'static str> {
    if candidates.is_empty() {
        return Err("there is no address");
    }
    if candidates.len() > max {
        return Err("there are too many addresses");
    }
    let list: Vec<_> = candidates.into_iter().map(Candidate::normal).collect();
    match list.iter().find_map(Candidate::problem) {
        Some(problem) => Err(problem),
        None => Ok(list),
    }
}

struct Tag {
    kind: Kind,
    v6: bool,
    shared: bool,
    more: bool,
}

impl Tag {
    fn from_code(tag: u128) -> Self {
        Self {
            kind: Kind::from_code(tag >> 3),
            v6: tag & 4 != 0,
            shared: tag & 2 != 0,
            more: tag & 1 != 0,
        }
    }
}

fn address_bits(v6: bool) -> usize {
    if v6 { 128 } else { 32 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any candidate that a code may carry.
    pub fn any_candidate() -> impl Strategy<Value = Candidate> {
        let ip = prop_oneof![
            any::<u32>().prop_map(|b| IpAddr::V4(Ipv4Addr::from_bits(b))),
            any::<u128>().prop_map(|b| IpAddr::V6(Ipv6Addr::from_bits(b))),
        ];
        let port = prop_oneof![Just(50_000u16), 1..=u16::MAX];
        (0u128..4, ip, port)
            .prop_map(|(kind, ip, port)| {
                Candidate::new(Kind::from_code(kind), SocketAddr::new(ip, port))
            })
            .prop_filter("usable", |c| c.problem().is_none())
    }

    pub fn candidate(kind: Kind, addr: &str) -> Candidate {
        Candidate::new(kind, addr.parse().unwrap())
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_travels_as_ipv4() {
        let list = checked(vec![candidate(Kind::Host, "[::ffff:192.0.2.1]:9")], 16).unwrap();
        assert_eq!(list, [candidate(Kind::Host, "192.0.2.1:9")]);
    }

    #[test]
    fn addresses_nothing_can_be_sent_to_are_refused() {
        for addr in [
            "192.0.2.1:0",
            "0.0.0.0:9",
            "[::]:9",
            "224.0.0.1:9",
            "[ff02::1]:9",
            "255.255.255.255:9",
        ] {
            assert!(
                checked(vec![candidate(Kind::Host, addr)], 16).is_err(),
                "{addr}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_list_comes_back_and_its_end_is_found(list in prop::collection::vec(any_candidate(), 1..=16)) {
            let mut packer = Packer::new(5);
            put_list(&mut packer, &list, 16);
            let symbols = packer.finish();
            prop_assert_eq!(list_end(&symbols, 0, 16), Ok(list_bits(&list)));
            prop_assert_eq!(list_bits(&list).div_ceil(5), symbols.len());
            let mut unpacker = Unpacker::new(&symbols, 5, 0);
            prop_assert_eq!(take_list(&mut unpacker, 16), Ok(list));
            prop_assert!(unpacker.only_padding_left());
        }
    }
}
