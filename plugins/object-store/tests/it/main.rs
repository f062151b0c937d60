//! The object-store output against emulators of the clouds, a scripted server, and a local folder.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod clouds;
mod emulator;
mod folder;
mod google;
mod server;
mod settings;
mod world;

use std::time::Duration;

use profilesync_target::{
    Opened, Settings, SettingsError, Target,
    conformance::{context, deliver, delivered, gone as destroyed, named as document},
};

/// Opens a target named `bucket` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("bucket", Duration::from_secs(5));
    (profilesync_object_store::KIND.open)(&context, Settings::from_toml(settings)?)
}

#[track_caller]
fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}
