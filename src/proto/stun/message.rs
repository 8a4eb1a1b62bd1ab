//! STUN messages: reading and writing (RFC 8489 §5 and §14), the attributes of behaviour discovery
//! (RFC 5780 §7), and the old names of RFC 3489 §11.2 that servers of its time still speak.
//!
//! Reading borrows the datagram and judges its shape once, whole; the typed readers then only look.
//! Every address that comes out is one that could be sent to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// RFC 8489 §5.
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// The type, the length, the cookie and the transaction id, in bytes.
pub const HEADER: usize = 20;

/// The cookie and the 96-bit transaction id, which RFC 3489 had as one id of 128 bits: so one
/// form serves both.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 16]);

impl TransactionId {
    /// An id of today: the cookie, then twelve bytes that nobody can guess.
    #[must_use]
    pub fn new(random: [u8; 12]) -> Self {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&MAGIC_COOKIE);
        id[4..].copy_from_slice(&random);
        Self(id)
    }

    /// Whether it is one of RFC 3489, without the cookie: whoever made it reads no XOR-ed address.
    #[must_use]
    pub fn is_classic(self) -> bool {
        self.0[..4] != MAGIC_COOKIE
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[4..]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a message is. Only the Binding method exists here (RFC 8489 §18.2: 0x001).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

impl Class {
    /// The message type of the Binding method in this class.
    #[must_use]
    pub const fn binding(self) -> [u8; 2] {
        match self {
            Self::Request => [0x00, 0x01],
            Self::Indication => [0x00, 0x11],
            Self::Success => [0x01, 0x01],
            Self::Error => [0x01, 0x11],
        }
    }
}

/// Attribute types (RFC 8489 §18.3, RFC 5780 §9.1, RFC 3489 §11.2).
pub mod attribute {
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const RESPONSE_ADDRESS: u16 = 0x0002;
    pub const CHANGE_REQUEST: u16 = 0x0003;
    /// RFC 3489's name of RESPONSE-ORIGIN.
    pub const SOURCE_ADDRESS: u16 = 0x0004;
    /// RFC 3489's name of OTHER-ADDRESS.
    pub const CHANGED_ADDRESS: u16 = 0x0005;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PADDING: u16 = 0x0026;
    pub const RESPONSE_PORT: u16 = 0x0027;
    /// From here on, attributes may be skipped by who does not know them.
    pub const FIRST_OPTIONAL: u16 = 0x8000;
    /// XOR-MAPPED-ADDRESS as drafts of RFC 5389 numbered it.
    pub const XOR_MAPPED_ADDRESS_DRAFT: u16 = 0x8020;
    pub const SOFTWARE: u16 = 0x8022;
    pub const ALTERNATE_SERVER: u16 = 0x8023;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const RESPONSE_ORIGIN: u16 = 0x802B;
    pub const OTHER_ADDRESS: u16 = 0x802C;
}

/// A message that was read. Its attributes fill it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub class: Class,
    pub id: TransactionId,
    attributes: &'a [u8],
}

/// Why bytes are not a Binding message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than a header, or the first bits are not STUN's.
    NotStun,
    /// Another method than Binding.
    Method,
    /// The length is not that of what follows, or no multiple of four.
    Length,
    /// An attribute is longer than what is left.
    Attribute,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStun => "not a STUN message",
            Self::Method => "not a Binding message",
            Self::Length => "its length is not what it says",
            Self::Attribute => "an attribute runs past its end",
        })
    }
}

impl std::error::Error for Malformed {}

impl<'a> Message<'a> {
    /// Reads one whole datagram, or one whole message of a stream.
    ///
    /// # Errors
    /// [`Malformed`]. Nothing in it has been looked at then.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, attributes) = bytes
            .split_first_chunk::<HEADER>()
            .ok_or(Malformed::NotStun)?;
        if header[0] & 0xC0 != 0 {
            return Err(Malformed::NotStun);
        }
        let classes = [
            Class::Request,
            Class::Indication,
            Class::Success,
            Class::Error,
        ];
        let class = classes
            .into_iter()
            .find(|class| header[..2] == class.binding())
            .ok_or(Malformed::Method)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length != attributes.len() || !length.is_multiple_of(4) {
            return Err(Malformed::Length);
        }
        let mut rest = attributes;
        while !rest.is_empty() {
            rest = split(rest).ok_or(Malformed::Attribute)?.2;
        }
        let mut id = [0; 16];
        id.copy_from_slice(&header[4..]);
        Ok(Self {
            class,
            id: TransactionId(id),
            attributes,
        })
    }

    /// How long the message is that starts with these bytes, for streams (RFC 8489 §6.2.2):
    /// `None` until the header is there.
    ///
    /// # Errors
    /// The bytes cannot start a STUN message.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        match bytes {
            [first, ..] if first & 0xC0 != 0 => Err(Malformed::NotStun),
            [_, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length.is_multiple_of(4) {
                    Ok(Some(HEADER + length))
                } else {
                    Err(Malformed::Length)
                }
            }
            _ => Ok(None),
        }
    }

    /// Every attribute in order: its type and its value without padding.
    pub fn attributes(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.attributes;
        std::iter::from_fn(move || {
            let (kind, value, after) = split(rest)?;
            rest = after;
            Some((kind, value))
        })
    }

    /// The value of the first attribute of this type: later ones do not count (RFC 8489 §14).
    #[must_use]
    pub fn attribute(self, kind: u16) -> Option<&'a [u8]> {
        self.attributes()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    /// The address in an attribute that holds one in the clear (RFC 8489 §14.1).
    #[must_use]
    pub fn address(self, kind: u16) -> Option<SocketAddr> {
        address(self.attribute(kind)?, [0; 16])
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 §14.2), also under its draft number.
    #[must_use]
    pub fn xor_mapped_address(self) -> Option<SocketAddr> {
        let value = self
            .attribute(attribute::XOR_MAPPED_ADDRESS)
            .or_else(|| self.attribute(attribute::XOR_MAPPED_ADDRESS_DRAFT))?;
        address(value, self.id.0)
    }

    /// Where the server saw the request come from: the XOR-ed address, else the plain one of an
    /// old server.
    #[must_use]
    pub fn mapped_address(self) -> Option<SocketAddr> {
        self.xor_mapped_address()
            .or_else(|| self.address(attribute::MAPPED_ADDRESS))
    }

    /// The server's other address and port: OTHER-ADDRESS (RFC 5780 §7.4) or CHANGED-ADDRESS
    /// (RFC 3489 §11.2.3).
    #[must_use]
    pub fn other_address(self) -> Option<SocketAddr> {
        self.address(attribute::OTHER_ADDRESS)
            .or_else(|| self.address(attribute::CHANGED_ADDRESS))
    }

    /// Where the server says that the answer comes from: RESPONSE-ORIGIN (RFC 5780 §7.3) or
    /// SOURCE-ADDRESS (RFC 3489 §11.2.5).
    #[must_use]
    pub fn response_origin(self) -> Option<SocketAddr> {
        self.address(attribute::RESPONSE_ORIGIN)
            .or_else(|| self.address(attribute::SOURCE_ADDRESS))
    }

    /// The port of RESPONSE-PORT (RFC 5780 §7.5). Some programs write two bytes, some four.
    #[must_use]
    pub fn response_port(self) -> Option<u16> {
        match self.attribute(attribute::RESPONSE_PORT)? {
            [high, low] | [high, low, _, _] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
        .filter(|port| *port != 0)
    }

    /// The number and the words of ERROR-CODE (RFC 8489 §14.8); the words are the peer's.
    #[must_use]
    pub fn error_code(self) -> Option<(u16, &'a str)> {
        let [_, _, class, number, reason @ ..] = self.attribute(attribute::ERROR_CODE)? else {
            return None;
        };
        let code = u16::from(class & 7) * 100 + u16::from(*number);
        Some((code, std::str::from_utf8(reason).unwrap_or_default()))
    }

    /// SOFTWARE (RFC 8489 §14.14); the words are the peer's.
    #[must_use]
    pub fn software(self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.attribute(attribute::SOFTWARE)?).ok()?;
        // Some servers end it like a C string.
        let text = text.trim_end_matches('\0');
        (!text.is_empty()).then_some(text)
    }

    /// Whether FINGERPRINT is right; `None` when there is none (RFC 8489 §14.7).
    #[must_use]
    pub fn fingerprint(self, whole: &[u8]) -> Option<bool> {
        let value = self.attribute(attribute::FINGERPRINT)?;
        let covered = whole.len().checked_sub(8)?;
        Some(value == fingerprint_of(whole.get(..covered)?).to_be_bytes())
    }
}

/// Takes an attribute off the front (RFC 8489 §14): type, value, and what follows the padding. `None`
/// when it is cut short, its padding included.
pub(crate) fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[t0, t1, l0, l1], rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let value = rest.get(..length)?;
    let after = rest.get(length.next_multiple_of(4)..)?;
    Some((u16::from_be_bytes([t0, t1]), value, after))
}

fn address(value: &[u8], key: [u8; 16]) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], octets) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([p0 ^ key[0], p1 ^ key[1]]);
    let ip: IpAddr = match family {
        1 => {
            let octets: [u8; 4] = octets.try_into().ok()?;
            Ipv4Addr::from(std::array::from_fn(|i| octets[i] ^ key[i])).into()
        }
        2 => {
            let octets: [u8; 16] = octets.try_into().ok()?;
            Ipv6Addr::from(std::array::from_fn(|i| octets[i] ^ key[i])).into()
        }
        _ => return None,
    };
    (port != 0 && !ip.is_unspecified() && !ip.is_multicast()).then_some(SocketAddr::new(ip, port))
}

/// A message being written.
#[derive(Clone, Debug)]
pub struct Builder(Vec<u8>);

impl Builder {
    #[must_use]
    pub fn new(class: Class, id: TransactionId) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(class.binding());
        bytes.extend([0, 0]);
        bytes.extend(id.0);
        Self(bytes)
    }

    /// Adds an attribute; a value over 65,535 bytes is cut, which no caller has.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let value = &value[..usize::from(length)];
        self.0.extend(kind.to_be_bytes());
        self.0.extend(length.to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an address in the clear.
    #[must_use]
    pub fn address(self, kind: u16, addr: SocketAddr) -> Self {
        let value = address_value(addr, [0; 16]);
        self.attribute(kind, &value)
    }

    /// Adds XOR-MAPPED-ADDRESS.
    #[must_use]
    pub fn xor_mapped_address(self, addr: SocketAddr) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&self.0[4..HEADER]);
        let value = address_value(addr, key);
        self.attribute(attribute::XOR_MAPPED_ADDRESS, &value)
    }

    /// Adds CHANGE-REQUEST (RFC 5780 §7.2).
    #[must_use]
    pub fn change_request(self, change: Change) -> Self {
        let flags = u32::from(change.ip) << 2 | u32::from(change.port) << 1;
        self.attribute(attribute::CHANGE_REQUEST, &flags.to_be_bytes())
    }

    /// Adds ERROR-CODE.
    #[must_use]
    pub fn error_code(self, code: u16, reason: &str) -> Self {
        let class = u8::try_from(code / 100).unwrap_or(0) & 7;
        let number = u8::try_from(code % 100).unwrap_or(0);
        let value = [&[0, 0, class, number], reason.as_bytes()].concat();
        self.attribute(attribute::ERROR_CODE, &value)
    }

    /// The whole message.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let length = u16::try_from(self.0.len() - HEADER).unwrap_or(u16::MAX);
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }

    /// The whole message with FINGERPRINT at its end.
    #[must_use]
    pub fn finish_with_fingerprint(self) -> Vec<u8> {
        // The length that the checksum covers is the final one.
        let mut bytes = self.attribute(attribute::FINGERPRINT, &[0; 4]).finish();
        let covered = bytes.len() - 8;
        let value = fingerprint_of(&bytes[..covered]).to_be_bytes();
        bytes[covered + 4..].copy_from_slice(&value);
        bytes
    }
}

/// What CHANGE-REQUEST asks for: an answer from the other address, the other port, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub ip: bool,
    pub port: bool,
}

impl Change {
    /// Reads the value of CHANGE-REQUEST; bits that mean nothing are not looked at.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        let flags = u32::from_be_bytes(value.try_into().ok()?);
        Some(Self {
            ip: flags & 4 != 0,
            port: flags & 2 != 0,
        })
    }
}

fn address_value(addr: SocketAddr, key: [u8; 16]) -> Vec<u8> {
    let (family, octets) = match addr.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = addr.port().to_be_bytes();
    let mut value = vec![0, family, port[0] ^ key[0], port[1] ^ key[1]];
    value.extend(octets.iter().zip(key).map(|(octet, mask)| octet ^ mask));
    value
}

/// CRC-32 (ITU V.42) XOR-ed with "STUN" (RFC 8489 §14.7).
fn fingerprint_of(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    !crc ^ 0x5354_554E
}

/// Feeds arbitrary bytes to the reader.
///
/// # Panics
/// When a message does not survive being written again, or an attribute lies outside it. That is
/// what a fuzzer looks for.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    if let Ok(Some(length)) = Message::length(data) {
        assert!(length >= HEADER && length.is_multiple_of(4));
    }
    let Ok(message) = Message::read(data) else {
        return;
    };
    let mut copy = Builder::new(message.class, message.id);
    for (kind, value) in message.attributes() {
        copy = copy.attribute(kind, value);
    }
    let copy = copy.finish();
    assert_eq!(copy.len(), data.len());
    let again = Message::read(&copy).expect("what was written can be read");
    assert!(again.attributes().eq(message.attributes()));
    assert_eq!(again.mapped_address(), message.mapped_address());
    assert_eq!(again.other_address(), message.other_address());
    assert_eq!(again.error_code(), message.error_code());
    let addresses = [
        message.mapped_address(),
        message.other_address(),
        message.response_origin(),
    ];
    for addr in addresses.into_iter().flatten() {
        assert!(addr.port() != 0 && !addr.ip().is_unspecified());
    }
    let _ = (message.software(), message.response_port());
    let _ = message.fingerprint(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex
            .chars()
            .filter_map(|c| c.to_digit(16))
            .map(|d| u8::try_from(d).unwrap())
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    /// RFC 5769 §2.1.
    fn sample_request() -> Vec<u8> {
        bytes(
            "00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c
             69656e74 00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676
             59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf",
        )
    }

    /// RFC 5769 §2.2.
    fn sample_ipv4_response() -> Vec<u8> {
        bytes(
            "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
             00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
             80280004 c07d4c96",
        )
    }

    /// RFC 5769 §2.3.
    fn sample_ipv6_response() -> Vec<u8> {
        bytes(
            "01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
             00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1
             1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c",
        )
    }

    #[test]
    fn the_vectors_of_rfc_5769_are_read() {
        let whole = sample_request();
        let request = Message::read(&whole).unwrap();
        assert_eq!(request.class, Class::Request);
        assert_eq!(request.software(), Some("STUN test client"));
        assert_eq!(
            request.attribute(attribute::USERNAME),
            Some(&b"evtj:h6vY"[..])
        );
        assert_eq!(request.fingerprint(&whole), Some(true));

        let whole = sample_ipv4_response();
        let response = Message::read(&whole).unwrap();
        assert_eq!(response.class, Class::Success);
        assert_eq!(response.software(), Some("test vector"));
        let mapped = "192.0.2.1:32853".parse().unwrap();
        assert_eq!(response.xor_mapped_address(), Some(mapped));
        assert_eq!(response.fingerprint(&whole), Some(true));

        let whole = sample_ipv6_response();
        let response = Message::read(&whole).unwrap();
        let mapped = "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
            .parse()
            .unwrap();
        assert_eq!(response.xor_mapped_address(), Some(mapped));
        assert_eq!(response.fingerprint(&whole), Some(true));
    }

    #[test]
    fn a_changed_bit_breaks_the_fingerprint() {
        let mut whole = sample_ipv4_response();
        whole[25] ^= 1;
        let message = Message::read(&whole).unwrap();
        assert_eq!(message.fingerprint(&whole), Some(false));
    }

    #[test]
    fn what_is_written_is_what_the_vectors_say() {
        let id = TransactionId::new(*b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae");
        let mapped = "192.0.2.1:32853".parse().unwrap();
        let written = Builder::new(Class::Success, id)
            .attribute(attribute::SOFTWARE, b"test vector")
            .xor_mapped_address(mapped)
            .finish_with_fingerprint();
        // The vector pads with a space and carries an integrity; the rest is the same.
        assert_eq!(written[20..35], sample_ipv4_response()[20..35]);
        assert_eq!(written[36..48], sample_ipv4_response()[36..48]);
        let read = Message::read(&written).unwrap();
        assert_eq!(read.mapped_address(), Some(mapped));
        assert_eq!(read.fingerprint(&written), Some(true));
    }

    #[test]
    fn every_cut_and_every_wrong_length_is_refused() {
        let whole = sample_ipv4_response();
        for cut in 0..whole.len() {
            assert!(Message::read(&whole[..cut]).is_err(), "{cut}");
        }
        let mut long = whole.clone();
        long.push(0);
        assert_eq!(Message::read(&long), Err(Malformed::Length));
        let mut odd = whole.clone();
        odd[3] -= 1;
        odd.pop();
        assert_eq!(Message::read(&odd), Err(Malformed::Length));
        let mut overrun = whole;
        overrun[23] = 0xFF;
        assert_eq!(Message::read(&overrun), Err(Malformed::Attribute));
    }

    #[test]
    fn of_several_attributes_of_one_type_the_first_counts() {
        let id = TransactionId::new([1; 12]);
        let (first, second) = (
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.2:2".parse().unwrap(),
        );
        let whole = Builder::new(Class::Success, id)
            .xor_mapped_address(first)
            .xor_mapped_address(second)
            .finish();
        assert_eq!(Message::read(&whole).unwrap().mapped_address(), Some(first));
    }

    #[test]
    fn addresses_that_nobody_can_have_are_none() {
        let id = TransactionId::new([1; 12]);
        for addr in [
            "0.0.0.0:5",
            "192.0.2.1:0",
            "[::]:5",
            "224.0.0.1:5",
            "[ff02::1]:5",
        ] {
            let whole = Builder::new(Class::Success, id)
                .xor_mapped_address(addr.parse().unwrap())
                .finish();
            assert_eq!(
                Message::read(&whole).unwrap().mapped_address(),
                None,
                "{addr}"
            );
        }
        for value in [
            &[0, 3, 0, 5, 1, 2, 3, 4][..],
            &[0, 1, 0, 5, 1, 2, 3],
            &[0, 2, 0, 5, 1, 2, 3, 4],
            &[],
        ] {
            let whole = Builder::new(Class::Success, id)
                .attribute(attribute::MAPPED_ADDRESS, value)
                .finish();
            assert_eq!(Message::read(&whole).unwrap().mapped_address(), None);
        }
    }

    #[test]
    fn an_answer_of_the_old_protocol_is_understood() {
        let id = TransactionId([9; 16]);
        assert!(id.is_classic());
        let addr = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let whole = Builder::new(Class::Success, id)
            .address(attribute::MAPPED_ADDRESS, addr("192.0.2.1:5"))
            .address(attribute::SOURCE_ADDRESS, addr("198.51.100.1:3478"))
            .address(attribute::CHANGED_ADDRESS, addr("198.51.100.2:3479"))
            .finish();
        let read = Message::read(&whole).unwrap();
        assert_eq!(read.mapped_address(), Some(addr("192.0.2.1:5")));
        assert_eq!(read.response_origin(), Some(addr("198.51.100.1:3478")));
        assert_eq!(read.other_address(), Some(addr("198.51.100.2:3479")));
    }

    #[test]
    fn a_response_port_may_have_two_bytes_or_four() {
        let id = TransactionId::new([1; 12]);
        for (value, port) in [
            (&[0x12, 0x34][..], Some(0x1234)),
            (&[0x12, 0x34, 0, 0], Some(0x1234)),
            (&[0, 0], None),
            (&[1], None),
        ] {
            let whole = Builder::new(Class::Request, id)
                .attribute(attribute::RESPONSE_PORT, value)
                .finish();
            assert_eq!(Message::read(&whole).unwrap().response_port(), port);
        }
    }

    #[test]
    fn a_change_request_says_what_is_to_change() {
        for (ip, port, last) in [
            (false, false, 0),
            (false, true, 2),
            (true, false, 4),
            (true, true, 6),
        ] {
            let change = Change { ip, port };
            let whole = Builder::new(Class::Request, TransactionId::new([1; 12]))
                .change_request(change)
                .finish();
            let value = Message::read(&whole)
                .unwrap()
                .attribute(attribute::CHANGE_REQUEST);
            assert_eq!(value, Some(&[0, 0, 0, last][..]));
            assert_eq!(value.and_then(Change::read), Some(change));
        }
    }

    #[test]
    fn a_stream_is_cut_where_the_header_says() {
        let whole = sample_ipv4_response();
        assert_eq!(Message::length(&whole[..3]), Ok(None));
        assert_eq!(Message::length(&whole[..4]), Ok(Some(whole.len())));
        assert_eq!(Message::length(b"HTTP"), Err(Malformed::NotStun));
        assert_eq!(Message::length(&[0, 1, 0, 3]), Err(Malformed::Length));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(data: Vec<u8>) {
            fuzz(&data);
        }

        #[test]
        fn no_attributes_make_the_reader_panic(
            attributes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            class in 0usize..4,
        ) {
            let class = [Class::Request, Class::Indication, Class::Success, Class::Error][class];
            let mut builder = Builder::new(class, TransactionId::new([7; 12]));
            for (kind, value) in attributes {
                // Mostly the types that mean something.
                let kind = if kind & 1 == 0 { [1, 3, 5, 9, 0x20, 0x27, 0x802B, 0x802C][usize::from(kind >> 8) % 8] } else { kind };
                builder = builder.attribute(kind, &value);
            }
            fuzz(&builder.clone().finish());
            fuzz(&builder.finish_with_fingerprint());
        }
    }
}
