//! The kafka output against librdkafka's mock cluster.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod errors;
mod server;
mod settings;
mod world;

use std::time::Duration;

use profilesync_target::{
    Delivery, Document, OpenContext, Opened, Outcome, Settings, SettingsError, Status, Target,
};

/// Opens a target named `topic` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = OpenContext {
        name: "topic".into(),
        version: "1.2.3",
        timeout: Duration::from_secs(4),
        base: ".".into(),
    };
    (profilesync_kafka::KIND.open)(&context, Settings::from_toml(settings)?)
}

#[track_caller]
fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

fn document(account: &str, revision: u64) -> Document {
    Document {
        sdk_app_id: 1,
        account: account.into(),
        revision,
        status: Status::Active,
        name: Some(format!("revision {revision}")),
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: None,
        event_time: 1_670_574_414_123,
        extra: serde_json::Map::new(),
    }
}

fn destroyed(account: &str, revision: u64) -> Document {
    Document {
        status: Status::Destroyed,
        name: None,
        ..document(account, revision)
    }
}

async fn deliver(target: &dyn Target, documents: &[Document]) -> Vec<Outcome> {
    let batch: Vec<_> = documents.iter().cloned().map(Delivery::from).collect();
    match target.deliver(&batch).await {
        profilesync_target::Answer::Each(outcomes) => outcomes,
        profilesync_target::Answer::Whole(outcome) => vec![outcome; batch.len()],
    }
}
