//! knothole and other implementations of WebRTC: a browser, and a library of its own code.
//!
//! They sit on hosts of the laboratory, on one LAN. [`browser`] is Chromium with the page of this
//! folder, [`page`] what it and knothole do together.
//!
//! Needed beside the laboratory's tools: chromium. These tests compute more than they
//! wait, so they take turns.

mod browser;
mod measure;
mod page;

use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::Lab;

/// Runs a test with a browser in it.
fn run_with_browser<F: FnOnce(&Lab) -> Result<()>>(case: F) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    crate::run_with(needs_browser, case);
}

fn needs_browser() -> Result<(), String> {
    crate::have(&[("chromium", "chromium")])
}
