//! Asking servers about the network: the machines of [`crate::proto::nat`] on real sockets, and
//! the same question over TCP and TLS.

mod drive;
pub mod gateway;
mod srv;
mod stream;
mod tls;

pub use drive::{Local, run, run_watched, source};
pub use srv::look_up;
pub use stream::{Said, ask_tcp};
pub use tls::{Trust, is_untrusted};
