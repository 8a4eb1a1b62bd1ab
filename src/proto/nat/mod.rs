//! What a NAT does to packets (RFC 4787, RFC 5780): pure machines that probe, and judgement.

pub mod discover;
pub mod gateway;
pub mod lifetime;
mod verdict;
mod words;

pub use discover::{Discovery, Machine, Output, SocketId, Target};
pub use lifetime::{Lifetime, Span};
pub use verdict::{Evidence, Ports, Report, Seen};
pub use words::{Classic, Filtering, Mapping, Udp, outlook};
