//! EFFECTS: sockets, files, terminals of the machine, time. Drives the machines of [`crate::proto`].

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the effects are: sockets, files, clocks, threads"
)]

pub mod files;
pub mod peer;
pub mod probe;
pub mod serve;
pub mod transfer;

/// Bytes that nobody can guess.
///
/// # Errors
/// The system has no entropy.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| std::io::Error::other(format!("system entropy: {error}")))?;
    Ok(bytes)
}
