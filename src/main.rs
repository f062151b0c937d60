//! The `profilesync` program. Everything is in the library; `cli.rs` is where to begin.

use std::process::ExitCode;

fn main() -> ExitCode {
    profilesync::cli::main()
}
