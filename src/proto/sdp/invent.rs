//! Writes the description that the other side would have sent.
//!
//! With an invite no description travels: each side invents the other's from what the token and
//! the first authenticated check carry.

use std::fmt;

use crate::proto::token::{Candidate, Fingerprint, Kind};

/// `a=setup` (RFC 8842 §5.2): who begins the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Either; the answer chooses.
    ActPass,
    /// The side that says this.
    Active,
    /// The other side.
    Passive,
}

/// The word of the SDP.
impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
        })
    }
}

/// The other side's session description, as far as one data channel association needs it.
/// `Display` writes the SDP.
#[derive(Debug, Clone)]
pub struct Description<'a> {
    pub ufrag: &'a str,
    pub password: &'a str,
    pub fingerprint: &'a Fingerprint,
    pub setup: Setup,
    /// `a=max-message-size` (RFC 8841 §6) in bytes.
    pub max_message_size: u32,
    pub candidates: &'a [Candidate],
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n")?;
        f.write_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n")?;
        write!(
            f,
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
            self.ufrag, self.password
        )?;
        write!(f, "a=fingerprint:sha-256 {}\r\n", self.fingerprint)?;
        write!(
            f,
            "a=setup:{}\r\na=mid:0\r\na=sctp-port:5000\r\n",
            self.setup
        )?;
        write!(f, "a=max-message-size:{}\r\n", self.max_message_size)?;
        for (index, candidate) in self.candidates.iter().enumerate() {
            write!(f, "a={}\r\n", candidate_line(*candidate, index))?;
        }
        Ok(())
    }
}

/// `candidate:…` (RFC 8839 §5.1) with a priority by RFC 8445 §5.1.2; earlier ones rank higher.
#[must_use]
pub fn candidate_line(candidate: Candidate, index: usize) -> String {
    let (preference, kind, related) = match candidate.kind {
        Kind::Host | Kind::Mapped => (126, "host", ""),
        Kind::Srflx => (100, "srflx", " raddr 0.0.0.0 rport 0"),
        Kind::Relay => (0, "relay", " raddr 0.0.0.0 rport 0"),
    };
    let local = 65_535_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    let priority = (preference << 24) + (local << 8) + 255;
    let addr = candidate.addr;
    format!(
        "candidate:{} 1 udp {priority} {} {} typ {kind}{related}",
        index + 1,
        addr.ip(),
        addr.port()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_rank_by_type_and_then_by_order() {
        let line = |kind, index| {
            let candidate = Candidate {
                kind,
                addr: "192.0.2.1:9".parse().unwrap(),
            };
            let line = candidate_line(candidate, index);
            line.split(' ').nth(3).unwrap().parse::<u32>().unwrap()
        };
        assert_eq!(
            line(Kind::Host, 0),
            2_130_706_431,
            "the value every ICE agent prints"
        );
        assert!(line(Kind::Host, 0) > line(Kind::Host, 1));
        assert!(line(Kind::Host, 15) > line(Kind::Srflx, 0));
        assert!(line(Kind::Srflx, 15) > line(Kind::Relay, 0));
    }
}
