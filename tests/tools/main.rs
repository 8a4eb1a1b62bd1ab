//! What other programs make of ours: shells of the completion scripts, man of the manual pages,
//! STUN clients of the STUN server. Every test in here goes through `tools::run`: `.ci/run` counts
//! them.
#![cfg(unix)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests play the user and the other programs of the machine"
)]

mod manual;
mod shells;
mod stun;
#[path = "../shared/tools.rs"]
mod tools;

/// Runs a test that needs these programs, each given with the Debian package it is in.
fn with<F: FnOnce()>(programs: &[(&str, &str)], test: F) {
    tools::run(tools::name_of::<F>(), tools::missing(programs), test);
}

#[test]
fn a_program_that_is_not_there_is_named_with_its_package() {
    with(&[], || {
        let missing = tools::missing(&[("sh", "dash"), ("no-such-program", "none")]);
        assert_eq!(missing, Err("no-such-program (package none)".to_owned()));
    });
}
