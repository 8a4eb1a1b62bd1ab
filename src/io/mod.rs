//! EFFECTS: sockets, files, terminals of the machine, time. Drives the machines of [`crate::proto`].

pub mod files;
pub mod peer;
pub mod transfer;
