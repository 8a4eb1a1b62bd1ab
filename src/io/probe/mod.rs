//! Asking servers about the network: the machines of [`crate::proto::nat`] on real sockets.

mod drive;

pub use drive::{Local, run};
