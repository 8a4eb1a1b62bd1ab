//! EFFECTS: sockets, files, terminals of the machine, time. Drives the machines of [`crate::proto`].

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the effects are: sockets, files, clocks, threads"
)]

use std::io;
use std::time::Duration;

pub mod files;
pub mod peer;
pub mod probe;
pub mod serve;
pub mod transfer;

/// What comes of `work`, or [`io::ErrorKind::TimedOut`] when it takes longer than `bound`.
///
/// # Errors
/// That, or the work's own.
async fn within<T>(bound: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(bound, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Bytes that nobody can guess.
///
/// # Errors
/// The system has no entropy.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| io::Error::other(format!("system entropy: {error}")))?;
    Ok(bytes)
}
