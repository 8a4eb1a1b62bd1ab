//! ICE candidates as any program writes them (RFC 8839 §5.1, RFC 6544 §4.5).
//!
//! A candidate names an address that packets will be sent to, so it is judged here: only
//! addresses, and names ending in `.local` that hide one on the same network segment
//! (draft-ietf-mmusic-mdns-ice-candidates). Other host names are refused: asking DNS for a name
//! that a stranger chose tells the stranger who asks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::error::SdpError;
use super::find;
use crate::proto::token::{Candidate, Kind};

/// The most candidates that are kept of one side.
pub const MAX_CANDIDATES: usize = 64;

/// RFC 8839 §5.1 has no limit for a line; the longest seen has 200 characters.
const LONGEST: usize = 1024;
/// RFC 8839 §5.1: a foundation has 1 to 32 characters.
const FOUNDATION: std::ops::RangeInclusive<usize> = 1..=32;
/// A label of a name in DNS (RFC 1035 §2.3.4).
const LABEL: std::ops::RangeInclusive<usize> = 1..=63;

/// Where a candidate is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Address and port.
    Ip(SocketAddr),
    /// A name that only multicast DNS on the same network segment knows, in lower case.
    Name {
        /// One label and `.local`.
        name: String,
        /// The port.
        port: u16,
    },
}

/// As an address is written with its port.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// Where a candidate comes from (RFC 8445 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// The address a STUN server saw.
    Srflx,
    /// An address first seen in a check.
    Prflx,
    /// An address at a TURN server.
    Relay,
}

impl CandidateKind {
    /// The word of the SDP.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Srflx => "srflx",
            Self::Prflx => "prflx",
            Self::Relay => "relay",
        }
    }
}

/// Who opens the connection of a TCP candidate (RFC 6544 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpType {
    /// The side that says this; its port means nothing.
    Active,
    /// The other side.
    Passive,
    /// Both at once.
    SimultaneousOpen,
}

/// What carries the packets to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp(TcpType),
}

impl Transport {
    /// The word of the SDP.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp(_) => "tcp",
        }
    }
}

/// One candidate of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCandidate {
    pub host: Host,
    pub kind: CandidateKind,
    pub transport: Transport,
    /// Higher is preferred (RFC 8445 §5.1.2).
    pub priority: u32,
    pub foundation: String,
    /// The address behind it, where it is told and is one.
    pub related: Option<SocketAddr>,
    /// The user name fragment it belongs to, where it is told; candidates that come later say it.
    pub ufrag: Option<String>,
    /// The candidate as it was written, from `candidate:` on, with single spaces.
    pub line: String,
}

/// The candidates in a text that has no description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Those that can be used, at most [`MAX_CANDIDATES`].
    pub usable: Vec<RemoteCandidate>,
    /// Why others cannot, as the end of a sentence about them.
    pub skipped: Vec<&'static str>,
    /// There are no more (RFC 8838 §8.2).
    pub complete: bool,
}

/// One candidate a line.
impl fmt::Display for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for candidate in &self.usable {
            writeln!(f, "a={}", candidate.line)?;
        }
        if self.complete {
            writeln!(f, "a=end-of-candidates")?;
        }
        Ok(())
    }
}

impl Candidates {
    /// Takes one line, from `candidate:` on. Of two with one address the first stays.
    pub(super) fn take(&mut self, line: &str) {
        match parse_line(line) {
            Err(why) => self.skipped.push(why),
            Ok(new) => {
                let same =
                    |c: &RemoteCandidate| (&c.host, c.transport) == (&new.host, new.transport);
                if self.usable.iter().any(same) {
                    // The same again: nothing is lost, nothing need be said.
                } else if self.usable.len() == MAX_CANDIDATES {
                    self.skipped.push("is one too many");
                } else {
                    self.usable.push(new);
                }
            }
        }
    }
}

/// Reads one candidate: `candidate:…`, `a=candidate:…`, or the JSON of an `RTCIceCandidateInit`.
/// `None` says that there are no more: an empty text or candidate, or `end-of-candidates`.
///
/// # Errors
///
/// Says why it cannot be used, or that it is none.
pub fn read_candidate(text: &str) -> Result<Option<RemoteCandidate>, SdpError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    match lines_of(text)?.as_slice() {
        [Line::End] => Ok(None),
        [Line::Candidate(line)] => parse_line(line).map(Some).map_err(SdpError::Candidate),
        _ => Err(SdpError::Candidate("is not alone: give them one by one")),
    }
}

/// Reads all candidates of a text without a description, a line or a JSON object each.
///
/// # Errors
///
/// There is none, or none of them can be used.
pub fn read_candidates(text: &str) -> Result<Candidates, SdpError> {
    let mut candidates = Candidates::default();
    for line in lines_of(text)? {
        match line {
            Line::End => candidates.complete = true,
            Line::Candidate(line) => candidates.take(&line),
        }
    }
    match candidates.skipped.first() {
        Some(why) if candidates.usable.is_empty() => Err(SdpError::Candidate(why)),
        _ => Ok(candidates),
    }
}

/// Adds the candidates that a text has beside a description in JSON: programs hand both over at
/// once, and what arrives together is one text.
pub(super) fn take_beside(text: &str, candidates: &mut Candidates) {
    let plain = find::undecorated(text);
    let mut found: Vec<Line> = plain.lines().filter_map(in_line).collect();
    for value in find::json_values(&plain) {
        in_json(&value, &mut found);
    }
    for line in found {
        match line {
            Line::End => candidates.complete = true,
            Line::Candidate(line) => candidates.take(&line),
        }
    }
}

enum Line {
    Candidate(String),
    End,
}

/// Finds the lines about candidates in a text; at least one.
fn lines_of(text: &str) -> Result<Vec<Line>, SdpError> {
    if text.len() > find::MAX_TEXT {
        return Err(SdpError::TooLong);
    }
    if find::holds_description(text) {
        return Err(SdpError::DescriptionInstead);
    }
    let plain = find::undecorated(text);
    let mut found = vec![];
    for value in find::json_values(&plain) {
        in_json(&value, &mut found);
    }
    if found.is_empty() {
        found.extend(plain.lines().filter_map(in_line));
    }
    if found.is_empty() {
        return Err(match find::what_else(text) {
            SdpError::CandidateInstead => SdpError::Candidate("is not written as candidates are"),
            other => other,
        });
    }
    Ok(found)
}

fn in_line(line: &str) -> Option<Line> {
    let line = line.trim().trim_matches(['"', '\'', '`']).trim();
    let line = line.strip_prefix("a=").unwrap_or(line);
    if line == "end-of-candidates" {
        return Some(Line::End);
    }
    is_candidate(line).then(|| Line::Candidate(line.to_owned()))
}

/// Looks for `"candidate"` at any depth: programs wrap it as they like.
fn in_json(value: &Value, found: &mut Vec<Line>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| in_json(value, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "candidate" && text.trim().is_empty() => {
                        found.push(Line::End);
                    }
                    Value::String(text) if name == "candidate" => found.extend(in_line(text)),
                    // What `onicecandidate` says at the end.
                    Value::Null if name == "candidate" => found.push(Line::End),
                    _ => in_json(value, found),
                }
            }
        }
        _ => {}
    }
}

/// `candidate:` at the beginning; a literal of ABNF, so in either case (RFC 5234 §2.3).
pub(super) fn is_candidate(line: &str) -> bool {
    line.get(..PREFIX.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(PREFIX))
}

const PREFIX: &str = "candidate:";

/// Reads `candidate:foundation component transport priority address port typ kind …`.
fn parse_line(line: &str) -> Result<RemoteCandidate, &'static str> {
    const SHORT: &str = "is not complete";
    if line.len() > LONGEST {
        return Err("is longer than candidates are");
    }
    if !line.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err("has characters that candidates never have");
    }
    let mut words = line
        .get(PREFIX.len()..)
        .unwrap_or_default()
        .split(' ')
        .filter(|word| !word.is_empty());
    let line = PREFIX.to_owned() + &words.clone().collect::<Vec<_>>().join(" ");
    let mut word = || words.next().ok_or(SHORT);
    let foundation = word()?;
    let component = word()?;
    let protocol = word()?;
    let priority = word()?;
    let address = word()?;
    let port = word()?;
    if !word()?.eq_ignore_ascii_case("typ") {
        return Err("is not written as candidates are");
    }
    let kind = kind_of(word()?)?;
    let extensions: Vec<&str> = words.collect();
    let extension = |name: &str| {
        let pair = extensions.chunks_exact(2).find(|pair| pair[0] == name);
        pair.map(|pair| pair[1])
    };

    if !FOUNDATION.contains(&foundation.len()) || !foundation.bytes().all(is_ice_char) {
        return Err("has a foundation that ICE does not allow");
    }
    match component.parse::<u16>() {
        Ok(1) => {}
        Ok(2..=256) => return Err("is for a second component, which a data channel has not"),
        _ => return Err("has a component that ICE does not allow"),
    }
    let transport = transport_of(protocol, extension("tcptype"))?;
    let priority = priority
        .parse::<u32>()
        .ok()
        .filter(|priority| (1..=u32::MAX >> 1).contains(priority))
        .ok_or("has a priority that ICE does not allow")?;
    let port = port
        .parse::<u16>()
        .map_err(|_| "has a port that is no port")?;
    // RFC 6544 §4.5: who connects has no port; 9 is written, by some 0.
    if port == 0 && transport != Transport::Tcp(TcpType::Active) {
        return Err("has port 0");
    }
    let related = extension("raddr").and_then(|ip| ip.parse::<IpAddr>().ok());
    let related = related.zip(extension("rport").and_then(|port| port.parse::<u16>().ok()));
    let ufrag = extension("ufrag").filter(|ufrag| is_ufrag(ufrag));
    Ok(RemoteCandidate {
        host: host_of(address, port)?,
        kind,
        transport,
        priority,
        foundation: foundation.to_owned(),
        related: related
            .map(SocketAddr::from)
            .filter(|related| !related.ip().is_unspecified()),
        ufrag: ufrag.map(str::to_owned),
        line,
    })
}

fn kind_of(word: &str) -> Result<CandidateKind, &'static str> {
    use CandidateKind::{Host, Prflx, Relay, Srflx};
    [Host, Srflx, Prflx, Relay]
        .into_iter()
        .find(|kind| word.eq_ignore_ascii_case(kind.word()))
        .ok_or("is of a kind that ICE does not have")
}

fn transport_of(word: &str, tcp_type: Option<&str>) -> Result<Transport, &'static str> {
    if word.eq_ignore_ascii_case("udp") {
        return Ok(Transport::Udp);
    }
    if !word.eq_ignore_ascii_case("tcp") {
        return Err("is neither for UDP nor for TCP");
    }
    match tcp_type {
        Some("active") => Ok(Transport::Tcp(TcpType::Active)),
        Some("passive") => Ok(Transport::Tcp(TcpType::Passive)),
        Some("so") => Ok(Transport::Tcp(TcpType::SimultaneousOpen)),
        _ => Err("is for TCP and does not say who connects"),
    }
}

fn host_of(address: &str, port: u16) -> Result<Host, &'static str> {
    if address.contains('%') {
        return Err("has an IPv6 zone, which means nothing on another machine");
    }
    if let Ok(ip) = address.parse::<IpAddr>() {
        let addr = SocketAddr::new(ip, port);
        // The port was judged before; the rest is as for addresses in an invite.
        let judged = SocketAddr::new(ip, port.max(1));
        return match Candidate::new(Kind::Host, judged).problem() {
            Some(_) => Err("has an address that nothing can be sent to"),
            None => Ok(Host::Ip(addr)),
        };
    }
    let name = address.to_ascii_lowercase();
    match name.strip_suffix(".local") {
        Some(label)
            if LABEL.contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
        {
            Ok(Host::Name { name, port })
        }
        Some(_) => Err("has a .local name that is none"),
        None => Err("names a host instead of an address; only .local names are looked up"),
    }
}

/// `ice-char` (RFC 8839 §5.1).
pub(super) fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// RFC 8839 §5.4: 4 to 256 characters.
pub(super) fn is_ufrag(ufrag: &str) -> bool {
    (4..=256).contains(&ufrag.len()) && ufrag.bytes().all(is_ice_char)
}

/// RFC 8839 §5.4: 22 to 256 characters.
pub(super) fn is_password(password: &str) -> bool {
    (22..=256).contains(&password.len()) && password.bytes().all(is_ice_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> RemoteCandidate {
        let read = read_candidate(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        read.unwrap_or_else(|| panic!("{text}: the end"))
    }

    const SRFLX: &str = "candidate:842163049 1 udp 1677729535 203.0.113.9 51020 typ srflx \
        raddr 192.168.1.10 rport 5000 generation 0 ufrag XSmV network-cost 999";

    #[test]
    fn a_candidate_is_read_to_the_letter() {
        let expected = RemoteCandidate {
            host: Host::Ip("203.0.113.9:51020".parse().unwrap()),
            kind: CandidateKind::Srflx,
            transport: Transport::Udp,
            priority: 1_677_729_535,
            foundation: "842163049".into(),
            related: Some("192.168.1.10:5000".parse().unwrap()),
            ufrag: Some("XSmV".into()),
            line: SRFLX.into(),
        };
        assert_eq!(one(SRFLX), expected);
    }

    #[test]
    fn every_way_to_write_it_is_the_same() {
        let expected = one(SRFLX);
        for text in [
            format!("a={SRFLX}"),
            format!("  > a={SRFLX}\r\n"),
            format!("```\n{SRFLX}\n```"),
            format!("\"{SRFLX}\""),
            format!(r#"{{"candidate":"{SRFLX}","sdpMid":"0","sdpMLineIndex":0}}"#),
            format!(
                r#"{{"type":"candidate","candidate":{{"sdpMid":"0","candidate":"a={SRFLX}"}}}}"#
            ),
            SRFLX.replace(' ', "   "),
        ] {
            assert_eq!(one(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_end_of_candidates_is_said_in_many_ways() {
        for text in [
            "",
            " \r\n",
            "end-of-candidates",
            "a=end-of-candidates\r\n",
            r#"{"candidate":"","sdpMid":"0"}"#,
            r#"{"candidate":null}"#,
        ] {
            assert_eq!(read_candidate(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn kinds_transports_and_hosts_are_told_apart() {
        let at = |address: &str, rest: &str| {
            one(&format!("candidate:1 1 {rest}").replace("AT", address))
        };
        let host = |address: &str| at(address, "udp 1 AT typ host").host.to_string();
        assert_eq!(host("192.0.2.1 9"), "192.0.2.1:9");
        assert_eq!(host("2001:db8::1 9"), "[2001:db8::1]:9");
        assert_eq!(host("127.0.0.1 9"), "127.0.0.1:9");
        assert_eq!(host("FE80::1 9"), "[fe80::1]:9");
        assert_eq!(host("AbC-1.LOCAL 9"), "abc-1.local:9");
        for word in ["host", "srflx", "prflx", "relay"] {
            let kind = at("192.0.2.1 9", &format!("udp 1 AT typ {word}")).kind;
            assert_eq!(kind.word(), word);
        }
        for (word, kind) in [
            ("active", TcpType::Active),
            ("passive", TcpType::Passive),
            ("so", TcpType::SimultaneousOpen),
        ] {
            let rest = format!("TCP 1 AT typ host tcptype {word}");
            assert_eq!(at("192.0.2.1 9", &rest).transport, Transport::Tcp(kind));
        }
        // Who connects has no port of its own.
        assert_eq!(
            at("192.0.2.1 0", "tcp 1 AT typ host tcptype active")
                .host
                .to_string(),
            "192.0.2.1:0"
        );
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (line, why) in [
            ("1 1 udp 1 192.0.2.1", "is not complete"),
            ("1 1 udp 1 192.0.2.1 9 typ", "is not complete"),
            ("1 1 udp 1 192.0.2.1 9 host typ", "is not written as"),
            ("1 1 udp 1 192.0.2.1 9 typ other", "is of a kind"),
            (
                "1 1 sctp 1 192.0.2.1 9 typ host",
                "is neither for UDP nor for TCP",
            ),
            (
                "1 1 tcp 1 192.0.2.1 9 typ host",
                "is for TCP and does not say",
            ),
            (
                "1 2 udp 1 192.0.2.1 9 typ host",
                "is for a second component",
            ),
            ("1 0 udp 1 192.0.2.1 9 typ host", "has a component"),
            ("1 1 udp 0 192.0.2.1 9 typ host", "has a priority"),
            ("1 1 udp 2147483648 192.0.2.1 9 typ host", "has a priority"),
            ("1 1 udp 1 192.0.2.1 0 typ host", "has port 0"),
            (
                "1 1 udp 1 192.0.2.1 65536 typ host",
                "has a port that is no port",
            ),
            ("1 1 udp 1 fe80::1%eth0 9 typ host", "has an IPv6 zone"),
            (
                "1 1 udp 1 0.0.0.0 9 typ host",
                "has an address that nothing",
            ),
            (
                "1 1 udp 1 239.1.2.3 9 typ host",
                "has an address that nothing",
            ),
            (
                "1 1 udp 1 255.255.255.255 9 typ host",
                "has an address that nothing",
            ),
            (
                "1 1 udp 1 ::ffff:10.0.0.1 9 typ host",
                "has an address that nothing",
            ),
            ("1 1 udp 1 example.com 9 typ host", "names a host instead"),
            ("1 1 udp 1 localhost 9 typ host", "names a host instead"),
            ("1 1 udp 1 127.1 9 typ host", "names a host instead"),
            ("1 1 udp 1 0x7f000001 9 typ host", "names a host instead"),
            (
                "1 1 udp 1 evil.com.local 9 typ host",
                "has a .local name that is none",
            ),
            (
                "1 1 udp 1 .local 9 typ host",
                "has a .local name that is none",
            ),
            ("1 1 udp 1 \u{e9}.local 9 typ host", "has characters"),
            ("1:2 1 udp 1 192.0.2.1 9 typ host", "has a foundation"),
            (
                "123456789012345678901234567890123 1 udp 1 192.0.2.1 9 typ host",
                "has a foundation",
            ),
        ] {
            let said = read_candidate(&format!("candidate:{line}"));
            assert!(
                matches!(said, Err(SdpError::Candidate(said)) if said.starts_with(why)),
                "{line}: {said:?}"
            );
        }
        let long = format!(
            "candidate:1 1 udp 1 192.0.2.1 9 typ host {}",
            "x".repeat(LONGEST)
        );
        let said = read_candidate(&long);
        assert_eq!(
            said,
            Err(SdpError::Candidate("is longer than candidates are"))
        );
    }

    #[test]
    fn a_line_break_inside_json_smuggles_no_second_line_in() {
        let json = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=setup:active"}"#;
        let said = read_candidate(json);
        assert_eq!(
            said,
            Err(SdpError::Candidate(
                "has characters that candidates never have"
            ))
        );
    }

    #[test]
    fn several_candidates_come_together() {
        let text = format!(
            "here:\na={SRFLX}\ncandidate:1 1 udp 1 host.example 9 typ host\na=end-of-candidates\n"
        );
        let candidates = read_candidates(&text).unwrap();
        assert_eq!((candidates.usable.len(), candidates.skipped.len()), (1, 1));
        assert!(candidates.complete);
        assert!(read_candidate(&text).is_err());
        let json =
            format!(r#"[{{"candidate":"{SRFLX}"}},{{"candidate":""}}] {{"candidate":"{SRFLX}"}}"#);
        let again = read_candidates(&json).unwrap();
        assert_eq!((again.usable, again.complete), (candidates.usable, true));
    }

    #[test]
    fn what_is_no_candidate_is_named() {
        let offer = include_str!("../../../tests/sdp/chromium-offer.json");
        assert_eq!(read_candidate(offer), Err(SdpError::DescriptionInstead));
        assert_eq!(read_candidate("hello"), Err(SdpError::NotADescription));
        assert!(matches!(
            read_candidate(r#"{"candidate":5}"#),
            Err(SdpError::Candidate(_))
        ));
    }
}
