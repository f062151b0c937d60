//! Stand-in until the daemon is merged.

use std::path::Path;

use crate::exit::{Exit, Failure};

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start, or has to give up.
pub async fn run(_config: &Path) -> Result<(), Failure> {
    Err(Failure::new(Exit::Failed, "not merged"))
}
