//! The peer link: everything between "here is a token" and "messages go both ways".
//!
//! Owns the `webrtc` crate; nothing else in knothole names it. An [`Issuer`] makes an invite and
//! waits, a [`Joiner`] takes one and connects; an [`Offerer`] and [`answer`] do so with whole
//! descriptions, for any WebRTC program. All end in a [`Link`].

mod clock;
mod connection;
mod consent;
mod describe;
mod endpoint;
mod interfaces;
mod issuer;
mod joiner;
mod layer;
mod link;
mod names;
mod relay;
mod runtime;
mod socket;
mod watch;

pub use describe::{Finding, Offerer, Pairing, Unfit, answer, judge_offer};
pub use endpoint::{Endpoint, Network, Notice, Server, TurnServer, resolve};
pub use interfaces::local_addresses;
pub use issuer::{Issuer, Waiting, unix_now};
pub use joiner::Joiner;
pub use link::{Link, LinkError, Message, Path, PathKind};
pub use socket::Granted;
