//! knothole: a command-line WebRTC peer and NAT diagnostic tool.
//!
//! Four rooms, and data flows one way through them: `argv` → [`cli`] (a typed request) → [`io`]
//! drives a [`proto`] machine → a result value → [`report`] renders it → stdout, exit code.

pub mod cli;
/// The exit codes, one table.
pub mod exit;
pub mod io;
pub mod proto;
pub mod report;

pub use cli::run;
