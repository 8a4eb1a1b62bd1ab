//! EFFECTS: sockets, files, terminals of the machine, time. Drives the machines of [`crate::proto`].

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the effects are: sockets, files, clocks, threads"
)]

pub mod files;
pub mod peer;
pub mod probe;
pub mod serve;
pub mod transfer;
