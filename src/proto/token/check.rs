//! The joiner's answer inside its first STUN check, and reading it there.
//!
//! The joiner invents the issuer's ICE user name fragment: `KH` (or `KW`, if it is no knothole),
//! its own certificate fingerprint and its own ICE password in base64 characters. Its connectivity checks (RFC 8445, section 7.2.2)
//! then carry its whole answer in USERNAME, authenticated by MESSAGE-INTEGRITY under the password
//! that follows from the invite's secret. Reading is done on the datagram in place; nothing is
//! allocated before the check verified, and nothing is kept.

use std::fmt;

use rtc_stun::crypto::{HmacAlgorithm, default_provider};
use rtc_stun::fingerprint::fingerprint_value;
use rtc_stun::message::MAGIC_COOKIE;

use super::text::{Packer, Unpacker};
use super::{Fingerprint, Secret};
use crate::proto::link::PeerKind;
use crate::proto::stun::message::split;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// Marks user name fragments that carry an answer, by who made them.
const TAGS: [(&str, PeerKind); 2] = [("KH", PeerKind::Knothole), ("KW", PeerKind::Plain)];
/// Base64 characters of 32 bytes, not padded.
const FINGERPRINT_LEN: usize = 43;
/// RFC 8839, section 5.4: `ice-ufrag` has 4 to 256 characters, `ice-pwd` 22 to 256.
const UFRAG_LEN: std::ops::RangeInclusive<usize> = 4..=256;
const SHORTEST_PWD: usize = 22;

/// The longest datagram that is looked at; Ethernet carries no longer one in one piece.
const LONGEST_DATAGRAM: usize = 1500;
const HEADER: usize = 20;

/// The ICE password of the issuer: the secret in unpadded base64, 22 characters, the least that
/// RFC 8839 allows. No cryptography, so that any page can do it.
#[must_use]
pub fn ice_password(secret: &Secret) -> String {
    base64(secret.as_bytes())
}

/// Makes the fragment in which a joiner's fingerprint and password travel.
///
/// `None` when `pwd` is no ICE password or too long to fit 256 characters with the rest.
#[must_use]
pub fn build_ufrag(kind: PeerKind, fingerprint: &Fingerprint, pwd: &str) -> Option<String> {
    let (tag, _) = TAGS.iter().find(|(_, made_by)| *made_by == kind)?;
    let ufrag = format!("{tag}{}{pwd}", base64(fingerprint.as_bytes()));
    parse_ufrag(&ufrag).is_some().then_some(ufrag)
}

/// Reads what [`build_ufrag`] made: who made it, fingerprint and password.
#[must_use]
pub fn parse_ufrag(ufrag: &str) -> Option<(PeerKind, Fingerprint, &str)> {
    let mut tags = TAGS.iter();
    let (kind, rest) = tags.find_map(|(tag, kind)| Some((*kind, ufrag.strip_prefix(tag)?)))?;
    let (digest, pwd) = rest.split_at_checked(FINGERPRINT_LEN)?;
    let fits = ufrag.len() <= *UFRAG_LEN.end() && pwd.len() >= SHORTEST_PWD;
    if !fits || !pwd.bytes().all(is_ice_char) {
        return None;
    }
    Some((kind, Fingerprint::new(unbase64(digest)?), pwd))
}

/// What an authentic first check says about the joiner.
#[derive(Clone, PartialEq, Eq)]
pub struct Joiner {
    /// What the joiner says it is.
    pub kind: PeerKind,
    /// The fragment the joiner invented for us; our agent must use it.
    pub our_ufrag: String,
    /// The joiner's own fragment.
    pub ufrag: String,
    /// The joiner's own password.
    pub pwd: String,
    /// SHA-256 of the joiner's certificate.
    pub fingerprint: Fingerprint,
}

/// Leaves out the password, and `our_ufrag`, which contains it.
impl fmt::Debug for Joiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joiner")
            .field("kind", &self.kind)
            .field("ufrag", &self.ufrag)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Why a datagram is not a joiner's check, in the order of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored {
    /// No STUN message, or longer than a datagram should be.
    NotStun,
    /// Another STUN message.
    NotABindingRequest,
    /// A STUN header over attributes that do not add up.
    Malformed,
    /// An attribute that may not be skipped is not known (RFC 8489, section 14).
    UnknownAttribute,
    /// No user name, or one that was not made from an invite.
    NotForUs,
    /// FINGERPRINT is wrong.
    BadFingerprint,
    /// No MESSAGE-INTEGRITY, or not by a holder of the invite.
    BadIntegrity,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStun => "not a STUN message",
            Self::NotABindingRequest => "not a Binding request",
            Self::Malformed => "malformed STUN message",
            Self::UnknownAttribute => "unknown mandatory attribute",
            Self::NotForUs => "user name not made from an invite",
            Self::BadFingerprint => "wrong FINGERPRINT",
            Self::BadIntegrity => "wrong MESSAGE-INTEGRITY",
        })
    }
}

impl std::error::Error for Ignored {}

/// Reads a datagram as the first check of somebody who holds the invite with this secret.
///
/// # Errors
///
/// [`Ignored`] for everything else; cheap tests come first, the HMAC last.
pub fn read(datagram: &[u8], secret: &Secret) -> Result<Joiner, Ignored> {
    let attributes = binding_request(datagram)?;
    let found = Found::scan(datagram, attributes)?;

    let username = found
        .username
        .and_then(|u| std::str::from_utf8(u).ok())
        .ok_or(Ignored::NotForUs)?;
    let (our_ufrag, ufrag) = username.split_once(':').ok_or(Ignored::NotForUs)?;
    let (kind, fingerprint, pwd) = parse_ufrag(our_ufrag).ok_or(Ignored::NotForUs)?;
    if !UFRAG_LEN.contains(&ufrag.len()) || !ufrag.bytes().all(is_ice_char) {
        return Err(Ignored::NotForUs);
    }
    found.check_fingerprint(datagram)?;
    found.check_integrity(datagram, secret)?;
    Ok(Joiner {
        kind,
        our_ufrag: our_ufrag.to_owned(),
        ufrag: ufrag.to_owned(),
        pwd: pwd.to_owned(),
        fingerprint,
    })
}

/// Checks the header (RFC 8489, section 5) and gives the bytes after it.
fn binding_request(datagram: &[u8]) -> Result<&[u8], Ignored> {
    if datagram.len() > LONGEST_DATAGRAM {
        return Err(Ignored::NotStun);
    }
    let (header, attributes) = datagram
        .split_first_chunk::<HEADER>()
        .ok_or(Ignored::NotStun)?;
    let [t0, t1, l0, l1, c0, c1, c2, c3, ..] = *header;
    if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE || t0 & 0xc0 != 0 {
        return Err(Ignored::NotStun);
    }
    if [t0, t1] != BINDING_REQUEST {
        return Err(Ignored::NotABindingRequest);
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if length != attributes.len() || !length.is_multiple_of(4) {
        return Err(Ignored::Malformed);
    }
    Ok(attributes)
}

const BINDING_REQUEST: [u8; 2] = [0, 1];

mod attribute {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    /// From here on, attributes may be skipped.
    pub const FIRST_OPTIONAL: u16 = 0x8000;
}

/// The attributes that matter, with their places in the datagram.
#[derive(Default)]
struct Found<'a> {
    username: Option<&'a [u8]>,
    /// Start of the attribute, and its value.
    integrity: Option<(usize, &'a [u8])>,
    fingerprint: Option<(usize, &'a [u8])>,
}

impl<'a> Found<'a> {
    fn scan(datagram: &'a [u8], attributes: &'a [u8]) -> Result<Self, Ignored> {
        let mut found = Self::default();
        let mut rest = attributes;
        while !rest.is_empty() {
            let start = datagram.len() - rest.len();
            let (kind, value, after) = split(rest).ok_or(Ignored::Malformed)?;
            if found.fingerprint.is_some() {
                // FINGERPRINT is the last attribute (RFC 8489, section 14.7).
                return Err(Ignored::Malformed);
            }
            match kind {
                attribute::FINGERPRINT => found.fingerprint = Some((start, value)),
                // What follows the integrity is not covered by it and means nothing.
                _ if found.integrity.is_some() => {}
                attribute::MESSAGE_INTEGRITY => found.integrity = Some((start, value)),
                // The first of several counts (RFC 8489, section 14).
                attribute::USERNAME => found.username = found.username.or(Some(value)),
                attribute::PRIORITY
                | attribute::USE_CANDIDATE
                | attribute::MESSAGE_INTEGRITY_SHA256
                | attribute::FIRST_OPTIONAL.. => {}
                _ => return Err(Ignored::UnknownAttribute),
            }
            rest = after;
        }
        Ok(found)
    }

    fn check_fingerprint(&self, datagram: &[u8]) -> Result<(), Ignored> {
        let Some((start, value)) = self.fingerprint else {
            return Ok(());
        };
        let covered = datagram.get(..start).ok_or(Ignored::Malformed)?;
        if *value == fingerprint_value(covered).to_be_bytes() {
            Ok(())
        } else {
            Err(Ignored::BadFingerprint)
        }
    }

    /// Compares in constant time (the provider's `verify`).
    fn check_integrity(&self, datagram: &[u8], secret: &Secret) -> Result<(), Ignored> {
        /// The attribute's header and an HMAC-SHA1.
        const INTEGRITY: usize = 24;
        let (start, value) = self.integrity.ok_or(Ignored::BadIntegrity)?;
        let (kind, body) = (datagram.get(..2), datagram.get(4..start));
        let (Some(kind), Some(body)) = (kind, body) else {
            return Err(Ignored::Malformed);
        };
        // The length that counts is the one up to and with the integrity (RFC 8489, section 14.5).
        let length = u16::try_from(start - HEADER + INTEGRITY).map_err(|_| Ignored::Malformed)?;
        let provider = default_provider().map_err(|_| Ignored::BadIntegrity)?;
        provider
            .crypto()
            .new_hmac(HmacAlgorithm::Sha1, ice_password(secret).as_bytes())
            .and_then(|mut mac| mac.verify(&[kind, &length.to_be_bytes(), body], value))
            .map_err(|_| Ignored::BadIntegrity)
    }
}

fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_BITS: usize = 6;

fn base64(bytes: &[u8]) -> String {
    let mut packer = Packer::new(BASE64_BITS);
    packer.put_bytes(bytes);
    packer
        .finish()
        .into_iter()
        .map(|v| char::from(BASE64[usize::from(v & 63)]))
        .collect()
}

/// Reads exactly `N` bytes; bits left over must be zero.
fn unbase64<const N: usize>(text: &str) -> Option<[u8; N]> {
    let value = |b: u8| {
        BASE64
            .iter()
            .position(|&c| c == b)
            .and_then(|v| u8::try_from(v).ok())
    };
    let values: Vec<u8> = text.bytes().map(value).collect::<Option<_>>()?;
    let mut bits = Unpacker::new(&values, BASE64_BITS, 0);
    let bytes = bits.take_bytes()?;
    bits.only_padding_left().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_stun::attributes::{
        ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_REALM, ATTR_USERNAME, AttrType,
    };
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{
        BINDING_REQUEST, BINDING_SUCCESS, Message, MessageType, Setter, TransactionId,
    };

    const PWD: &str = "abcdefghijklmnopqrstuvwx";

    fn secret() -> Secret {
        Secret::new(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint::new(std::array::from_fn(|i| 0xe0 + u8::try_from(i).unwrap()))
    }

    fn ufrag(kind: PeerKind) -> String {
        build_ufrag(kind, &fingerprint(), PWD).unwrap()
    }

    fn username() -> String {
        format!("{}:aB3+", ufrag(PeerKind::Knothole))
    }

    /// A check as an ICE agent sends it, made by another implementation than the one under test.
    fn request(
        typ: MessageType,
        username: &str,
        password: &str,
        extra: Option<AttrType>,
    ) -> Vec<u8> {
        let provider = default_provider().unwrap();
        let mut message = Message::new();
        message.set_type(typ);
        message.transaction_id = TransactionId(*b"0123456789ab");
        message.write_header();
        message.add(ATTR_USERNAME, username.as_bytes());
        message.add(ATTR_PRIORITY, &[1, 2, 3, 4]);
        message.add(ATTR_ICE_CONTROLLING, &[7; 8]);
        if let Some(extra) = extra {
            message.add(extra, b"abc");
        }
        let password = password.to_owned();
        MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())
            .add_to(&mut message)
            .unwrap();
        FINGERPRINT.add_to(&mut message).unwrap();
        message.raw
    }

    fn good() -> Vec<u8> {
        request(BINDING_REQUEST, &username(), &ice_password(&secret()), None)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes
            .iter()
            .flat_map(|b| [b >> 4, b & 15])
            .map(|d| char::from(b"0123456789abcdef"[usize::from(d)]))
            .collect()
    }

    #[test]
    fn the_test_vectors_of_the_document_hold() {
        let document = include_str!("../../../docs/token.md").replace(['\n', ' '], "");
        let password = ice_password(&secret());
        assert_eq!(password, "AAECAwQFBgcICQoLDA0ODw");
        assert!(document.contains(&password));
        for (kind, tag) in [(PeerKind::Knothole, "KH"), (PeerKind::Plain, "KW")] {
            let ufrag = ufrag(kind);
            assert_eq!(
                ufrag,
                format!("{tag}4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8{PWD}")
            );
            assert!(document.contains(&ufrag), "{ufrag}");
        }
        assert!(document.contains(&hex(&good())), "{}", hex(&good()));
    }

    #[test]
    fn a_joiners_check_gives_its_whole_answer() {
        let joiner = read(&good(), &secret()).unwrap();
        assert_eq!(joiner.kind, PeerKind::Knothole);
        assert_eq!(joiner.ufrag, "aB3+");
        assert_eq!(joiner.pwd, PWD);
        assert_eq!(joiner.fingerprint, fingerprint());
        assert_eq!(format!("{}:{}", joiner.our_ufrag, joiner.ufrag), username());
        assert!(!format!("{joiner:?}").contains(PWD));
    }

    #[test]
    fn a_joiner_that_is_no_knothole_says_so() {
        let username = format!("{}:aB3+", ufrag(PeerKind::Plain));
        let check = request(BINDING_REQUEST, &username, &ice_password(&secret()), None);
        let joiner = read(&check, &secret()).unwrap();
        assert_eq!(
            (joiner.kind, joiner.fingerprint),
            (PeerKind::Plain, fingerprint())
        );
    }

    #[test]
    fn a_check_without_fingerprint_attribute_is_accepted() {
        let mut datagram = good();
        datagram.truncate(datagram.len() - 8);
        let length = u16::try_from(datagram.len() - HEADER).unwrap();
        datagram[2..4].copy_from_slice(&length.to_be_bytes());
        assert!(read(&datagram, &secret()).is_ok());
    }

    #[test]
    fn a_check_under_another_password_is_refused() {
        let other = request(
            BINDING_REQUEST,
            &username(),
            &ice_password(&Secret::new([9; 16])),
            None,
        );
        assert_eq!(read(&other, &secret()), Err(Ignored::BadIntegrity));
    }

    #[test]
    fn other_messages_and_other_names_are_told_apart() {
        let password = ice_password(&secret());
        let from = |typ, name: &str, extra| read(&request(typ, name, &password, extra), &secret());
        assert_eq!(
            from(BINDING_SUCCESS, &username(), None),
            Err(Ignored::NotABindingRequest)
        );
        assert_eq!(
            from(BINDING_REQUEST, &username(), Some(ATTR_REALM)),
            Err(Ignored::UnknownAttribute)
        );
        let own = ufrag(PeerKind::Knothole);
        for name in [
            "abcd:efgh",
            &own,
            &format!("{own}:a:b"),
            &format!("{own}:abc"),
            &format!("KJ{}:aB3+", &own[2..]),
            "",
        ] {
            assert_eq!(
                from(BINDING_REQUEST, name, None),
                Err(Ignored::NotForUs),
                "{name}"
            );
        }
        assert_eq!(
            read(b"\x16\xfe\xfd some DTLS record, long enough", &secret()),
            Err(Ignored::NotStun)
        );
        assert_eq!(read(&[0; 1501], &secret()), Err(Ignored::NotStun));
    }

    #[test]
    fn what_follows_the_integrity_is_not_believed() {
        // A USERNAME after MESSAGE-INTEGRITY is not covered by it.
        let provider = default_provider().unwrap();
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.write_header();
        MessageIntegrity::new_short_term_integrity_with_provider(
            ice_password(&secret()),
            provider.crypto(),
        )
        .add_to(&mut message)
        .unwrap();
        message.add(ATTR_USERNAME, username().as_bytes());
        assert_eq!(read(&message.raw, &secret()), Err(Ignored::NotForUs));
    }

    #[test]
    fn passwords_that_do_not_fit_make_no_fragment() {
        for pwd in ["short", "has a space in the middle!", &"x".repeat(212)] {
            assert_eq!(build_ufrag(PeerKind::Plain, &fingerprint(), pwd), None);
        }
        let longest = build_ufrag(PeerKind::Plain, &fingerprint(), &"x".repeat(211)).unwrap();
        assert_eq!(longest.len(), 256);
    }

    #[test]
    fn a_fingerprint_has_one_spelling_only() {
        let mut other = ufrag(PeerKind::Knothole).into_bytes();
        assert_eq!(other[44], b'8');
        other[44] = b'9';
        assert_eq!(parse_ufrag(&String::from_utf8(other).unwrap()), None);
    }

    proptest! {
        #[test]
        fn a_changed_check_never_gives_another_answer(at in any::<prop::sample::Index>(), by in 1u8..=255) {
            let mut datagram = good();
            let right = read(&datagram, &secret()).unwrap();
            let at = at.index(datagram.len());
            datagram[at] ^= by;
            // The type of FINGERPRINT may become another optional one: that changes nothing.
            let unchecked = datagram.len() - 8..datagram.len() - 6;
            prop_assert!(read(&datagram, &secret()).is_ok_and(|j| j == right && unchecked.contains(&at))
                || read(&datagram, &secret()).is_err());
        }

        #[test]
        fn no_datagram_makes_the_reader_panic(tail in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
            let good = good();
            let _ = read(&tail, &secret());
            let mut header = good[..HEADER].to_vec();
            header[2..4].copy_from_slice(&u16::try_from(tail.len()).unwrap().to_be_bytes());
            header.extend(&tail);
            let _ = read(&header, &secret());
            let mut mixed = good[..cut.index(good.len())].to_vec();
            mixed.extend(&tail);
            let _ = read(&mixed, &secret());
        }

        #[test]
        fn every_fingerprint_and_password_come_back(digest in any::<[u8; 32]>(), pwd in "[A-Za-z0-9+/]{22,211}") {
            let fingerprint = Fingerprint::new(digest);
            for kind in [PeerKind::Knothole, PeerKind::Plain] {
                let ufrag = build_ufrag(kind, &fingerprint, &pwd).unwrap();
                prop_assert_eq!(parse_ufrag(&ufrag), Some((kind, fingerprint, pwd.as_str())));
            }
        }
    }
}
