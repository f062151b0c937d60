//! `profilesync schema`: the JSON Schema of the configuration, for editors.

use super::print;
use crate::{config::schema::schema, exit::Failure, targets::KINDS};

/// Prints it.
///
/// # Errors
/// When standard output cannot be written.
pub fn run() -> Result<(), Failure> {
    print(&format!("{:#}\n", schema(KINDS)))
}
