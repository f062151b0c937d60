//! What the tests of a kind's settings need: a context to open them in, and how wrong ones are told.

use std::time::Duration;

use crate::{OpenContext, Opened, SettingsError};

/// The context of a target of this name, in the folder of the tests.
#[must_use]
pub fn context(name: &str, timeout: Duration) -> OpenContext {
    OpenContext {
        name: name.to_owned(),
        version: "1.2.3",
        timeout,
        base: ".".into(),
    }
}

/// Insists that settings were refused in these words, and that the error points at this part of them, if it is one.
///
/// # Panics
/// When they were taken, or refused otherwise.
#[track_caller]
pub fn refused(opened: Result<Opened, SettingsError>, settings: &str, message: &str, at: &str) {
    let Err(error) = opened else {
        panic!("{settings} was taken");
    };
    assert!(error.message.contains(message), "{settings}: {error}");
    if !at.is_empty() {
        let span = error.span.clone().unwrap_or_default();
        assert_eq!(settings.get(span), Some(at), "{settings}: {error}");
    }
}
