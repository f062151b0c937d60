//! The amqp output against a RabbitMQ node of its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
mod server;
mod settings;
mod tls;
mod world;

use std::time::Duration;

use profilesync_target::{
    Document, OpenContext, Opened, Outcome, Settings, SettingsError, Status, Target,
    conformance::deliver_all,
};

/// Opens a target named `bus` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = OpenContext {
        name: "bus".into(),
        version: "1.2.3",
        timeout: Duration::from_secs(10),
        base: ".".into(),
    };
    (profilesync_amqp::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

fn document(account: &str) -> Document {
    Document {
        sdk_app_id: 1,
        account: account.into(),
        revision: 7,
        status: Status::Active,
        name: Some("NewName".into()),
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: Some("leckie".into()),
        event_time: 1_670_574_414_123,
        extra: serde_json::Map::new(),
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
