//! The `knothole` program. Everything is in the library.

use std::process::ExitCode;

/// The peer connection allocates per packet; this allocator moves a quarter more.
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    knothole::run(std::env::args_os())
}
