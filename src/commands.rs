//! What each command of the command line does. `cli.rs` says how they are called.

pub mod accounts;
pub mod check;
pub mod history;
pub mod init;
#[cfg(feature = "exec")]
pub mod plugin;
pub mod reload;
pub mod schema;
pub mod send;
pub mod status;
pub mod store;
pub mod targets;

use std::io::{self, Write as _};

use crate::{
    exit::{Exit, Failure},
    table::harmless_json,
};

/// Prints to standard output. A reader that went away (`| head`) is no failure.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    printed(write(text))
}

/// The same; and whether there is still a reader.
///
/// # Errors
/// When standard output cannot be written.
fn print_on(text: &str) -> Result<bool, Failure> {
    let written = write(text);
    let is_read = written.is_ok();
    printed(written).map(|()| is_read)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What came of writing to standard output.
///
/// # Errors
/// When it failed, unless its reader went away.
fn printed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, "standard output cannot be written").because(error))
        }
        _ => Ok(()),
    }
}

/// Prints the JSON of the admin API.
///
/// # Errors
/// When standard output cannot be written.
fn print_json(text: &str) -> Result<(), Failure> {
    print(&format!("{}\n", harmless_json(text)))
}
