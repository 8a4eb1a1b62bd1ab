//! knothole and other implementations of WebRTC, on one LAN of the laboratory.
//!
//! [`browser`] is Chromium with the page of this folder, [`page`] what it and knothole do together.
//! [`aiortc`] is a library with ICE, DTLS and SCTP of its own; `.ci/run` installs it.
//!
//! These tests compute more than they wait, so they take turns.

mod aiortc;
mod browser;
mod measure;
mod page;

use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::Lab;

/// Runs a test with a browser in it.
fn run_with_browser<F: FnOnce(&Lab) -> Result<()>>(case: F) {
    in_turn(|| crate::run_with(needs_browser, case));
}

fn needs_browser() -> Result<(), String> {
    crate::tools::missing(&[("chromium", "chromium")])
}

fn in_turn(work: impl FnOnce()) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    work();
}
