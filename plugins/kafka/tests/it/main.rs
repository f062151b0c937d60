//! The kafka output against librdkafka's mock cluster.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod errors;
mod server;
mod settings;
mod world;

use std::time::Duration;

use profilesync_target::{
    Delivery, Document, Opened, Outcome, Settings, SettingsError, Target,
    conformance::{context, deliver_all, gone as destroyed, named as document},
};

/// Opens a target named `topic` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("topic", Duration::from_secs(4));
    (profilesync_kafka::KIND.open)(&context, Settings::from_toml(settings)?)
}

#[track_caller]
fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

async fn deliver(target: &dyn Target, documents: &[Document]) -> Vec<Outcome> {
    let batch: Vec<_> = documents.iter().cloned().map(Delivery::from).collect();
    deliver_all(target, &batch).await
}
