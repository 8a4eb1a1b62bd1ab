//! SDP (RFC 8866) for data channels (RFC 8841).

mod invent;

pub use invent::{Description, Setup, candidate_line};
