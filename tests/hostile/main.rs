//! Input that somebody made to do harm, through the public API and against the real program: one
//! module for each kind.

#![allow(
    clippy::disallowed_methods,
    reason = "tests play the stranger: files, sockets and clocks of their own"
)]

mod benches;
mod checks;
#[path = "../cli/env.rs"]
#[allow(dead_code, reason = "shared with tests/cli")]
mod env;
mod floods;
mod names;
mod peers;
mod pipes;
#[path = "../cli/process.rs"]
#[allow(dead_code, reason = "shared with tests/cli")]
mod process;
mod raw;
mod silence;
