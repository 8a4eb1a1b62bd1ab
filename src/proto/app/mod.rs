//! What two knotholes say to each other once a data channel is open.
//!
//! Everything here is pure: no sockets, files, clocks or entropy. The exact wire format, for someone
//! who writes another peer, is `docs/protocol.md`. The channel itself (ICE, DTLS, SCTP, liveness and
//! every timeout) is left to the I/O layer, and so are the judgement of file names and the
//! sanitising of the peer's strings: they are *bounded* here, never cleaned.
//!
//! # The drain rule
//!
//! A machine is changed only by its `handle_*` methods (something happened) and its commands (plain
//! verbs: `accept`, `decline`, `cancel`). **After each of those calls, and once after construction,
//! call `poll_output` until it returns `Idle`**, and do what each output says in the order given.
//! Control messages and file bytes travel on one ordered channel, so the order of outputs is the
//! order of transmission. Nothing happens inside `poll_output` but the handing over of outputs.
//!
//! Exactly one `Finished` event is ever given; it is the last event. Afterwards every call is
//! harmless, and [`closing`](Sender::closing) says who closes the channel.

pub mod bench;
pub mod hello;
pub mod message;
pub mod opening;
pub mod outcome;
pub mod pipe;
pub mod transfer;
pub mod words;

mod fuzz;
#[doc(hidden)]
pub use fuzz::{fuzz, fuzz_bench, fuzz_pipe};

pub use bench::Bench;
pub use hello::{Local, Mismatch, Only, Peer, Role, VersionRange};
pub use message::{CancelReason, DeclineReason, Digest, Fault, Offer, OfferKind};
pub use opening::Opening;
pub use outcome::{Closing, FileRef, Outcome, OutcomeKind, Problem, Remedy, Side};
pub use pipe::Pipe;
pub use transfer::{Receiver, Sender};
pub use words::{Words, words};
