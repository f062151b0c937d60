//! The `profilesync` program. Everything is in the library; `cli.rs` is where to begin.

use std::process::ExitCode;

/// sled copies nodes of small allocations at every write, on its own thread and several of ours: with the C library's
/// allocator that was a quarter of the applier's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    profilesync::cli::main()
}
