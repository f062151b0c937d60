//! The redis output against a real redis-server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
mod hashes;
mod notices;
mod server;
mod settings;
mod tls;
mod world;

use std::time::Duration;

use profilesync_target::{
    Answer, Delivery, Document, OpenContext, Opened, Outcome, Settings, SettingsError, Status,
    Target,
};
use server::{PASSWORD, Server};

/// Opens a target named `cache` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = OpenContext {
        name: "cache".into(),
        version: "1.2.3",
        timeout: Duration::from_secs(10),
        base: ".".into(),
    };
    (profilesync_redis::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

/// Opens a target at this server, with these settings beside.
fn open_at(server: &Server, settings: &str) -> Box<dyn Target> {
    open(&format!(
        "url = '{}'\npassword = '{PASSWORD}'\n{settings}",
        server.url()
    ))
}

/// A server, unless there is no program for it.
async fn start(arguments: &[&str]) -> Option<Server> {
    if !server::is_installed() {
        eprintln!("skipped: there is no redis-server");
        return None;
    }
    Some(Server::start(arguments).await)
}

const KEY: &str = "profilesync:1400000000:@TOA#_test";

fn document(revision: u64) -> Document {
    Document {
        sdk_app_id: 1_400_000_000,
        account: "@TOA#_test".into(),
        revision,
        status: Status::Active,
        name: Some(format!("Name {revision}")),
        introduction: None,
        face_url: Some("http://this.is.newface.url".into()),
        organization: None,
        owner: None,
        operator: Some("leckie".into()),
        event_time: 1_670_574_414_123,
        extra: serde_json::Map::from_iter([("Level".to_owned(), 7.into())]),
    }
}

fn destroyed(revision: u64) -> Document {
    Document {
        status: Status::Destroyed,
        name: None,
        face_url: None,
        operator: None,
        extra: serde_json::Map::new(),
        ..document(revision)
    }
}

async fn deliver(target: &dyn Target, document: Document) -> Outcome {
    match target.deliver(&[Delivery::from(document)]).await {
        Answer::Each(mut outcomes) => outcomes.remove(0),
        Answer::Whole(outcome) => outcome,
    }
}

/// Delivers with success; what the outcome says.
async fn delivered(target: &dyn Target, document: Document) -> String {
    match deliver(target, document).await {
        Outcome::Delivered { answer } => answer,
        other => panic!("{other:?}"),
    }
}
