//! The program as a process: stdout, stderr and exit status together, in an environment that
//! holds nothing from outside.

#![allow(
    clippy::disallowed_methods,
    reason = "tests play the user and the other programs of the machine"
)]

mod bench;
mod endings;
mod env;
mod help;
mod mistakes;
mod network;
mod pastes;
mod pipe;
mod places;
mod process;
mod qr;
mod sdp;
mod serve;
mod servers;
mod settings;
mod suggestions;
mod terminal;
mod text;
mod token;
#[path = "../shared/tools.rs"]
mod tools;
mod transfer;
mod usage;
mod words;
