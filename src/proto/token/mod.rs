//! Codes that people copy, paste and read aloud: the invite and the reply code. [`parse`] takes
//! what another WebRTC program made as well, by [`sdp`](super::sdp).
//!
//! One invite is usually all the signalling there is: the joiner's answer travels in the user name
//! of its first STUN check ([`check`]). Where NATs need a knock from both sides, the joiner shows
//! a short reply code with its addresses. `docs/token.md` is the specification.
//!
//! Nothing here opens sockets, reads clocks or draws random numbers, and nothing corrects a typing
//! mistake: mistakes are named ([`TokenError`]) and the person corrects them.

use std::fmt;
use std::str::FromStr;

mod candidate;
pub mod check;
pub mod choose;
mod code;
mod error;
mod fuzz;
mod invite;
pub mod picture;
mod reply;
mod text;

pub use candidate::{Candidate, Kind};
pub use check::{build_ufrag, ice_password, parse_ufrag};
pub use choose::{Chosen, choose, choose_for_reply};
pub use error::TokenError;
#[doc(hidden)]
pub use fuzz::fuzz;
pub use invite::{
    Invite, MAX_CANDIDATES as MAX_INVITE_CANDIDATES, MAX_LIFETIME as MAX_INVITE_LIFETIME,
};
pub use reply::{MAX_CANDIDATES as MAX_REPLY_CANDIDATES, Reply};

pub(super) use text::is_invisible;

use super::sdp::{self, Candidates, Session};
use text::Reading;

/// The longest text that is searched for a code, in bytes. A long chat fits; most files do not.
pub const MAX_TEXT: usize = 256 * 1024;

/// What one side hands to the other: a code of ours, or what another WebRTC program made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// From the issuer to the joiner.
    Invite(Invite),
    /// From the joiner back to the issuer.
    Reply(Reply),
    /// An offer or an answer in SDP.
    Description(Box<Session>),
    /// Candidates that belong to a description which is not here.
    Candidates(Candidates),
}

impl Token {
    /// Writes it as its kind is written.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Invite(invite) => invite.encode(),
            Self::Reply(reply) => reply.encode(),
            Self::Description(session) => match session.kind {
                Some(kind) => session.to_json(kind),
                None => session.text.clone(),
            },
            Self::Candidates(candidates) => candidates.to_string(),
        }
    }
}

/// Finds the code, or the description, in a text.
///
/// # Errors
///
/// Says what is wrong with what looks like one, or that nothing does.
pub fn parse(text: &str) -> Result<Token, TokenError> {
    let described = match described(text) {
        Some(Ok(token)) => return Ok(token),
        other => other.and_then(Result::err),
    };
    let reading = readable(text)?;
    let invite = match invite::search(&reading) {
        Some(Ok(invite)) => return Ok(Token::Invite(invite)),
        other => other.and_then(Result::err),
    };
    let reply = match reply::search(text, &reading) {
        Some(Ok(reply)) => return Ok(Token::Reply(reply)),
        other => other.and_then(Result::err),
    };
    Err(described
        .or(invite)
        .or(reply)
        .unwrap_or(TokenError::NotAToken))
}

/// Reads what another WebRTC program made; `None` when nothing in the text looks like it.
fn described(text: &str) -> Option<Result<Token, TokenError>> {
    use sdp::SdpError::CandidateInstead;
    if !sdp::resembles(text) {
        return None;
    }
    let token = match sdp::read(text) {
        Ok(session) => Ok(Token::Description(Box::new(session))),
        Err(CandidateInstead) => sdp::read_candidates(text).map(Token::Candidates),
        Err(error) => Err(error),
    };
    Some(token.map_err(TokenError::Sdp))
}

/// Finds the invite in a text.
///
/// # Errors
///
/// As [`parse`]; [`TokenError::ReplyWhereInviteBelongs`] for what is or resembles a reply code.
pub fn parse_invite(text: &str) -> Result<Invite, TokenError> {
    let reading = readable(text)?;
    match invite::search(&reading) {
        Some(Ok(invite)) => Ok(invite),
        _ if sdp::resembles(text) => Err(TokenError::SdpWhereTokenBelongs),
        Some(Err(error)) => Err(error),
        None if reply::search(text, &reading).is_some() => Err(TokenError::ReplyWhereInviteBelongs),
        None => Err(TokenError::NotAToken),
    }
}

/// Finds the reply code in a text.
///
/// # Errors
///
/// As [`parse`]; [`TokenError::InviteWhereReplyBelongs`] for what is or resembles an invite.
pub fn parse_reply(text: &str) -> Result<Reply, TokenError> {
    let reading = readable(text)?;
    if sdp::resembles(text) {
        return Err(TokenError::SdpWhereTokenBelongs);
    }
    let reply = match reply::search(text, &reading) {
        Some(Ok(reply)) => return Ok(reply),
        other => other.and_then(Result::err),
    };
    Err(match (invite::search(&reading), reply) {
        // A reply whose mistyped beginning happens to read KH is still a reply.
        (Some(Err(_)) | None, Some(typo @ TokenError::Typo { .. })) => typo,
        (Some(_), _) => TokenError::InviteWhereReplyBelongs,
        (None, reply) => reply.unwrap_or(TokenError::NotAToken),
    })
}

fn readable(text: &str) -> Result<Reading, TokenError> {
    if text.len() > MAX_TEXT {
        return Err(TokenError::TooLong);
    }
    let reading = Reading::of(text);
    if reading.values.is_empty() {
        let empty = text.trim().is_empty();
        return Err(if empty {
            TokenError::Empty
        } else {
            TokenError::NotAToken
        });
    }
    Ok(reading)
}

/// What makes a joiner the invited one. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Wraps sixteen bytes that nobody can guess.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// SHA-256 of a certificate in DER. `Display` is the form of SDP, `AA:BB:…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Wraps a digest.
    #[must_use]
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The text is not a SHA-256 fingerprint as SDP writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFingerprint;

impl fmt::Display for BadFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a SHA-256 fingerprint of 32 hexadecimal pairs")
    }
}

impl std::error::Error for BadFingerprint {}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    /// Reads `AA:BB:…` in either case, with or without `sha-256` in front.
    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let pairs = match text.trim().split_once(char::is_whitespace) {
            Some((hash, rest)) if hash.eq_ignore_ascii_case("sha-256") => rest.trim_start(),
            Some(_) => return Err(BadFingerprint),
            None => text.trim(),
        };
        let mut digest = [0; 32];
        let mut pairs = pairs.split(':');
        for byte in &mut digest {
            let pair = pairs.next().ok_or(BadFingerprint)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(BadFingerprint);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadFingerprint)?;
        }
        if pairs.next().is_some() {
            Err(BadFingerprint)
        } else {
            Ok(Self(digest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn either_code_is_recognised_and_the_wrong_one_is_named() {
        let invite = invite::tests::TWO_PORTS;
        let reply = Reply::new(vec![candidate::tests::candidate(
            Kind::Srflx,
            "203.0.113.7:61000",
        )])
        .unwrap()
        .encode();
        assert!(matches!(parse(invite), Ok(Token::Invite(_))));
        assert!(matches!(parse(&reply), Ok(Token::Reply(_))));
        assert_eq!(
            parse_invite(&reply),
            Err(TokenError::ReplyWhereInviteBelongs)
        );
        assert_eq!(
            parse_reply(invite),
            Err(TokenError::InviteWhereReplyBelongs)
        );
        assert_eq!(
            parse_reply(&invite.replacen('7', "8", 1)),
            Err(TokenError::InviteWhereReplyBelongs)
        );
        let mistyped = if reply.starts_with('Z') { "Y" } else { "Z" }.to_owned() + &reply[1..];
        assert_eq!(
            parse_invite(&mistyped),
            Err(TokenError::ReplyWhereInviteBelongs)
        );
    }

    #[test]
    fn what_is_no_code_at_all_is_said_plainly() {
        assert_eq!(parse(""), Err(TokenError::Empty));
        assert_eq!(parse(" \n\t"), Err(TokenError::Empty));
        assert_eq!(parse("***"), Err(TokenError::NotAToken));
        assert_eq!(parse("khaki pants"), Err(TokenError::NotAToken));
        assert_eq!(parse(&"KH".repeat(MAX_TEXT)), Err(TokenError::TooLong));
    }

    #[test]
    fn session_descriptions_are_recognised_where_they_do_not_belong() {
        for text in [
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0",
            "\n {\"type\":\"offer\",\"sdp\":\"v=0\"}",
            "candidate:1 1 udp 2130706431 192.0.2.1 9 typ host",
            include_str!("../../../tests/sdp/chromium-offer.json"),
            include_str!("../../../tests/sdp/pion-offer.base64"),
        ] {
            let expected = TokenError::SdpWhereTokenBelongs;
            assert_eq!(parse_invite(text), Err(expected.clone()), "{text}");
            assert_eq!(parse_reply(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn descriptions_and_candidates_are_tokens_too() {
        let offer = include_str!("../../../tests/sdp/chromium-offer.json");
        assert!(matches!(parse(offer), Ok(Token::Description(_))));
        let candidate = include_str!("../../../tests/sdp/chromium-candidate.json");
        assert!(matches!(parse(candidate), Ok(Token::Candidates(_))));
        let cut = parse(&offer[..300]);
        assert!(matches!(cut, Err(TokenError::Sdp(sdp::SdpError::Cut(_)))));
        // Where both are, an invite is found by who looks for one.
        let both = format!("{candidate}\n{}", invite::tests::TWO_PORTS);
        assert!(parse_invite(&both).is_ok());
    }

    #[test]
    fn a_code_is_found_in_a_long_thread() {
        let talk = "Kind regards, see you on Monday at 10, KH.\n> khaki, size 12\n".repeat(2000);
        let text = format!("{talk}\n{}\n{talk}", invite::tests::TWO_PORTS);
        assert!((100_000..MAX_TEXT).contains(&text.len()));
        assert_eq!(parse(&text), parse(invite::tests::TWO_PORTS));
        assert!(matches!(parse(&text), Ok(Token::Invite(_))));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let secret = Secret::new([0xab; 16]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn fingerprints_are_read_as_sdp_writes_them() {
        let fingerprint = Fingerprint::new(std::array::from_fn(|i| u8::try_from(i * 8).unwrap()));
        let text = fingerprint.to_string();
        assert!(text.starts_with("00:08:10:18:"));
        for form in [
            text.clone(),
            text.to_lowercase(),
            format!("sha-256 {text}"),
            format!("SHA-256  {text}\r\n"),
        ] {
            assert_eq!(form.parse(), Ok(fingerprint));
        }
        for wrong in [
            format!("sha-1 {text}"),
            format!("{text}:00"),
            text[3..].to_owned(),
            text.replacen("00", "+0", 1),
        ] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(BadFingerprint));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
            fuzz(text.as_bytes());
        }

        #[test]
        fn no_symbols_make_the_parser_panic(text in "KH[0-9A-Z -]{0,700}", bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            fuzz(text.as_bytes());
            fuzz(&bytes);
        }

        #[test]
        fn codes_are_found_among_other_words(invite in invite::tests::any_invite(), before in "[a-gi-z ,.]{0,40}", after in "[^0-9A-Za-z]\\PC{0,40}") {
            let text = format!("{before} {} {after}", invite.encode());
            prop_assert_eq!(parse_invite(&text), Ok(invite));
        }
    }
}
