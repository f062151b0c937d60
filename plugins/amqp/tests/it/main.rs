//! The amqp output against a RabbitMQ node of its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
mod server;
mod settings;
mod tls;
mod world;

use std::time::Duration;

use profilesync_target::{
    Document, Opened, Outcome, Settings, SettingsError, Target,
    conformance::{context, deliver_all, named},
};

/// Opens a target named `bus` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("bus", Duration::from_secs(10));
    (profilesync_amqp::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

fn document(account: &str) -> Document {
    Document {
        name: Some("NewName".into()),
        operator: Some("leckie".into()),
        ..named(account, 7)
    }
}

/// The outcomes of a batch of these accounts.
async fn deliver(target: &dyn Target, accounts: &[&str]) -> Vec<Outcome> {
    let batch: Vec<_> = accounts
        .iter()
        .map(|account| document(account).into())
        .collect();
    deliver_all(target, &batch).await
}
