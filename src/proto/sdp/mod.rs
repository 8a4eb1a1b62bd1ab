//! SDP (RFC 8866) for data channels (RFC 8841): inventing it, and reading anybody's.
//!
//! [`read`] takes what a person pasted, finds the description in it and says what it means for a
//! data channel; [`read_candidate`] does so for a candidate that came later. `docs/sdp.md` says
//! what is read and what is refused. Descriptions contain an ICE password, so `Debug` output
//! leaves it out.

mod candidate;
mod error;
mod find;
mod fuzz;
mod invent;
mod own;
mod session;

pub use candidate::{
    CandidateKind, Candidates, Host, MAX_CANDIDATES, RemoteCandidate, TcpType, Transport,
    read_candidate, read_candidates,
};
pub use error::SdpError;
pub use find::{Extent, MAX_TEXT, extent, resembles};
#[doc(hidden)]
pub use fuzz::fuzz;
pub use invent::{Description, Setup, candidate_line};
pub use own::Own;
pub use session::{MAX_SDP, SdpType, Section, Session, json, read};
