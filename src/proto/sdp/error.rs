//! What can be wrong with a pasted description, in words for the person who pasted it.
//!
//! No message repeats text from outside.

use std::fmt;

/// Why a text is not a description that a data channel can be made from.
///
/// `Display` says the cause; [`hint`](Self::hint) says what to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SdpError {
    /// There is no text.
    Empty,
    /// The text or the description in it is too long.
    TooLong,
    /// Nothing in the text looks like a description or a candidate.
    NotADescription,
    /// The text is a web page.
    Html,
    /// The text is a knothole invite.
    InviteInstead,
    /// The text is a knothole reply code.
    ReplyInstead,
    /// The text has candidates, but not the description that goes before them.
    CandidateInstead,
    /// The text is a description, where a candidate belongs.
    DescriptionInstead,
    /// The description begins, and ends where it cannot; says where.
    Cut(&'static str),
    /// An attribute that a data channel needs is not there, such as `a=setup`.
    Missing(&'static str),
    /// A value cannot be; says which and why.
    Bad(&'static str),
    /// The type is `pranswer`.
    Provisional,
    /// The type is `rollback`.
    Rollback,
    /// The type is none that SDP has.
    UnknownType,
    /// There is no data channel in it.
    NoDataChannel,
    /// The data channel is written as it was before RFC 8841.
    OldForm,
    /// The data channel was refused: its port is 0.
    Rejected,
    /// There are fingerprints, but none by SHA-256.
    NoSha256,
    /// A candidate cannot be used; says why, as the end of a sentence about it.
    Candidate(&'static str),
}

impl SdpError {
    /// Says what to try next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "paste the description that the other program made",
            Self::TooLong => "paste the description alone",
            Self::NotADescription => {
                "a description is SDP that begins with v=0, or JSON like {\"type\":\"offer\",\"sdp\":\"v=0...\"}"
            }
            Self::Html => {
                "copy the description that the page shows, not the page; as text or as JSON"
            }
            Self::InviteInstead => {
                "leave out --sdp to use the invite; here belongs what another WebRTC program made"
            }
            Self::ReplyInstead => {
                "enter the reply code on the machine that printed the invite, without --sdp"
            }
            Self::CandidateInstead => {
                "paste the offer or answer first; candidates may follow it one by one"
            }
            Self::DescriptionInstead => {
                "paste a line that begins with candidate: or its JSON; the description has been read"
            }
            Self::Cut(_) | Self::Missing(_) => {
                "copy all of it: terminals cut lines at 4096 characters, so put it into a file and give @FILE"
            }
            Self::Bad(_) => {
                "copy it again; if it is the same, the program that made it may be at fault"
            }
            Self::Candidate(_) => "give another one, with an IP address or a .local name",
            Self::Provisional => "wait for the final answer, of type answer",
            Self::Rollback => "make a new offer on the other side",
            Self::UnknownType => "the type is offer or answer",
            Self::NoDataChannel => {
                "make a data channel before the offer: in a browser, pc.createDataChannel(\"x\")"
            }
            Self::OldForm => {
                "update the program that made it: browsers write the new form since 2019"
            }
            Self::Rejected => "make the data channel before the offer, and accept it on both sides",
            Self::NoSha256 => "let the other program sign with SHA-256, as all browsers do",
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the description is empty"),
            Self::TooLong => f.write_str("the text is too long to be a description"),
            Self::NotADescription => f.write_str("there is no session description (SDP) in this"),
            Self::Html => f.write_str("this is a web page, not a session description"),
            Self::InviteInstead => {
                f.write_str("this is a knothole invite, not a session description")
            }
            Self::ReplyInstead => {
                f.write_str("this is a knothole reply code, not a session description")
            }
            Self::CandidateInstead => {
                f.write_str("these are candidates without their session description")
            }
            Self::DescriptionInstead => {
                f.write_str("this is a session description, not a candidate")
            }
            Self::Cut(place) => write!(f, "the description ends {place}: it was cut"),
            Self::Missing(what) => write!(f, "the description has no {what}"),
            Self::Bad(what) => write!(f, "the description cannot be used: {what}"),
            Self::Provisional => {
                f.write_str("this answer is provisional (pranswer), which cannot be used here")
            }
            Self::Rollback => f.write_str("this takes an offer back (rollback)"),
            Self::UnknownType => f.write_str("the type of the description is not known"),
            Self::NoDataChannel => f.write_str("there is no data channel in the description"),
            Self::OldForm => {
                f.write_str("the data channel is written in the form before RFC 8841 (a=sctpmap)")
            }
            Self::Rejected => {
                f.write_str("the data channel in the description was refused (port 0)")
            }
            Self::NoSha256 => f.write_str("the description has no fingerprint by SHA-256"),
            Self::Candidate(why) => write!(f, "the candidate {why}"),
        }
    }
}

impl std::error::Error for SdpError {}
