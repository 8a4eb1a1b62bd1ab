//! Writes our own description, for any WebRTC program to read.
//!
//! The crate's own text is not used: its candidates are stand-ins (see `io::peer`).

use std::fmt;

use super::invent::{Setup, candidate_line};
use crate::proto::token::{Candidate, Fingerprint, Kind};

/// An offer of a data channel; or the answer to one, after
/// [`whole_answer`](super::Session::whole_answer). `Display` writes the SDP.
#[derive(Debug, Clone)]
pub struct Own<'a> {
    /// `o=` (RFC 8866 §5.2): random, so that it says nothing about the machine.
    pub id: u32,
    pub ufrag: &'a str,
    pub password: &'a str,
    pub fingerprint: &'a Fingerprint,
    pub setup: Setup,
    /// What we take, in bytes (RFC 8841 §6).
    pub max_message_size: u32,
    /// All there are: none comes later.
    pub candidates: &'a [Candidate],
    /// The name of the section: in an answer, that of the offer.
    pub mid: &'a str,
    /// Says that knothole made it, which an answer only tells another knothole.
    pub knothole: bool,
}

impl fmt::Display for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 8445 §5.1.4: the default is the one that most likely works for everybody.
        let rank = |candidate: &&Candidate| match candidate.kind {
            Kind::Relay => 2,
            Kind::Srflx | Kind::Mapped => 1,
            Kind::Host => 0,
        };
        let default = self.candidates.iter().rev().max_by_key(rank);
        let (port, family, ip) = default.map_or((9, 4, "0.0.0.0".to_owned()), |candidate| {
            let addr = candidate.addr;
            let family = if addr.is_ipv4() { 4 } else { 6 };
            (addr.port(), family, addr.ip().to_string())
        });
        let (id, mid) = (self.id, self.mid);
        write!(f, "v=0\r\no=- {id} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")?;
        write!(f, "a=group:BUNDLE {mid}\r\n")?;
        if self.knothole {
            f.write_str("a=x-knothole:1\r\n")?;
        }
        write!(
            f,
            "m=application {port} UDP/DTLS/SCTP webrtc-datachannel\r\n"
        )?;
        write!(f, "c=IN IP{family} {ip}\r\n")?;
        for (index, candidate) in self.candidates.iter().enumerate() {
            write!(f, "a={}\r\n", candidate_line(*candidate, index))?;
        }
        f.write_str("a=end-of-candidates\r\n")?;
        write!(
            f,
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
            self.ufrag, self.password
        )?;
        // Candidates of the other side may come later (RFC 8838 §4.1).
        f.write_str("a=ice-options:trickle\r\n")?;
        write!(f, "a=fingerprint:sha-256 {}\r\n", self.fingerprint)?;
        write!(f, "a=setup:{}\r\na=mid:{mid}\r\n", self.setup)?;
        write!(
            f,
            "a=sctp-port:5000\r\na=max-message-size:{}\r\n",
            self.max_message_size
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SdpType, Session, read};
    use super::*;

    const PASSWORD: &str = "abcdefghijklmnopqrstuv";

    fn own<'a>(candidates: &'a [Candidate], fingerprint: &'a Fingerprint) -> Own<'a> {
        Own {
            id: 7,
            ufrag: "wxyz",
            password: PASSWORD,
            fingerprint,
            setup: Setup::ActPass,
            max_message_size: 65_536,
            candidates,
            mid: "0",
            knothole: true,
        }
    }

    fn candidates() -> Vec<Candidate> {
        let of = |kind, addr: &str| Candidate::new(kind, addr.parse().unwrap());
        vec![
            of(Kind::Host, "192.0.2.1:5"),
            of(Kind::Host, "[2001:db8::1]:6"),
            of(Kind::Srflx, "203.0.113.1:7"),
            of(Kind::Relay, "198.51.100.1:8"),
        ]
    }

    #[test]
    fn an_offer_reads_back_and_says_that_knothole_made_it() {
        let (all, fingerprint) = (candidates(), Fingerprint::new([9; 32]));
        let text = own(&all, &fingerprint).to_string();
        let read = read(&text).unwrap();
        assert_eq!(read.text, text, "nothing is left out");
        assert_eq!(
            (read.ufrag.as_str(), read.password.as_str()),
            ("wxyz", PASSWORD)
        );
        assert_eq!(
            (read.setup, read.max_message_size),
            (Setup::ActPass, 65_536)
        );
        assert_eq!(read.fingerprint, fingerprint);
        assert!(read.knothole && read.complete && read.trickle && !read.lite);
        assert_eq!(read.probable_kind(), SdpType::Offer);
        assert_eq!((read.candidates.len(), read.skipped.len()), (4, 0));
        assert!(
            text.contains("m=application 8 UDP"),
            "the relay is the default: {text}"
        );
        assert!(text.contains("c=IN IP4 198.51.100.1\r\n"), "{text}");
    }

    #[test]
    fn an_offer_without_addresses_is_well_formed_too() {
        let text = own(&[], &Fingerprint::new([9; 32])).to_string();
        assert!(
            text.contains(
                "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n"
            )
        );
        assert!(read(&text).is_ok());
    }

    #[test]
    fn an_answer_to_anybody_takes_the_data_channel_at_its_place_and_refuses_the_rest() {
        for offer in [
            include_str!("../../../tests/sdp/chromium-offer-av.sdp"),
            include_str!("../../../tests/sdp/chromium-offer-maxbundle.sdp"),
            include_str!("../../../tests/sdp/chromium-offer.json"),
            include_str!("../../../tests/sdp/firefox-offer.json"),
            include_str!("../../../tests/sdp/safari-offer.sdp"),
            include_str!("../../../tests/sdp/aiortc-offer.json"),
        ] {
            let offer = read(offer).unwrap();
            let (all, fingerprint) = (candidates(), Fingerprint::new([9; 32]));
            let ours = Own {
                mid: &offer.mid,
                setup: Setup::Active,
                knothole: false,
                ..own(&all, &fingerprint)
            };
            let answer = read(&offer.whole_answer(&ours.to_string())).unwrap();
            assert!(!answer.knothole && !answer.text.contains("knothole"));
            let names = |session: &Session| -> Vec<_> {
                let all = session.sections.iter();
                all.map(|s| (s.media.clone(), s.mid.clone())).collect()
            };
            assert_eq!(names(&answer), names(&offer));
            assert_eq!((answer.data, &answer.mid), (offer.data, &offer.mid));
            assert_eq!(answer.probable_kind(), SdpType::Answer);
            assert_eq!(answer.candidates.len(), 4);
            let group = format!("a=group:BUNDLE {}\r\n", offer.mid);
            assert!(
                answer.text.contains(&group),
                "only what is accepted is bundled"
            );
        }
    }
}
