//! The webhook output against a scripted HTTP server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod forms;
mod network;
mod oauth2;
mod recipes;
mod requests;
mod server;
mod settings;
mod tls;
mod world;

use std::time::Duration;

use profilesync_target::{
    Answer, Delivery, Document, Opened, Outcome, Settings, SettingsError, Status, Target,
    conformance::context,
};

/// Opens a target named `crm` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("crm", Duration::from_secs(5));
    (profilesync_webhook::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

fn document() -> Document {
    Document {
        sdk_app_id: 1_400_000_000,
        account: "@TOA#_test_OA_for_penn".into(),
        revision: 7,
        status: Status::Active,
        name: Some("NewName".into()),
        introduction: Some("NewNotification".into()),
        face_url: Some("http://this.is.newface.url".into()),
        organization: Some("NewOrganization".into()),
        owner: None,
        operator: Some("leckie".into()),
        event_time: 1_670_574_414_123,
        extra: serde_json::Map::new(),
    }
}

async fn deliver(target: &dyn Target) -> Outcome {
    match target.deliver(&[Delivery::from(document())]).await {
        Answer::Each(mut outcomes) => outcomes.remove(0),
        Answer::Whole(outcome) => outcome,
    }
}
