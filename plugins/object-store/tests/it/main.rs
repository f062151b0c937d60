//! The object-store output against a moto server (S3), a scripted one, and a local folder.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod folder;
mod s3;
mod server;
mod settings;
mod world;

use std::time::Duration;

use profilesync_target::{
    Document, OpenContext, Opened, Settings, SettingsError, Status, Target,
    conformance::{deliver, delivered},
};

/// Opens a target named `bucket` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = OpenContext {
        name: "bucket".into(),
        version: "1.2.3",
        timeout: Duration::from_secs(5),
        base: ".".into(),
    };
    (profilesync_object_store::KIND.open)(&context, Settings::from_toml(settings)?)
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
