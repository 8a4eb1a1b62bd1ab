//! Asking servers about the network: the machines of [`crate::proto::nat`] on real sockets.

mod drive;
mod stream;

pub use drive::{Local, run, run_watched};
pub use stream::{Said, ask, ask_tcp};
