//! PURE protocol machines: no sockets, files, clocks, threads, environment, entropy or printing.
//!
//! # The drain rule
//! A machine is built with what it needs (`now` and a seed where time and chance matter), is
//! changed only by `handle_*` and by commands, and is then drained: call `poll_*` until nothing
//! comes. Tests run an hour of it in milliseconds.

pub mod address;
pub mod app;
#[doc(hidden)]
pub mod fuzz;
pub mod link;
pub mod nat;
pub mod sdp;
pub mod stun;
pub mod token;
