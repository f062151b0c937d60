//! The nats output against a real nats-server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod buckets;
mod faults;
mod messages;
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

/// Opens a target named `bus` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = OpenContext {
        name: "bus".into(),
        version: "1.2.3",
        timeout: Duration::from_secs(10),
        base: ".".into(),
    };
    (profilesync_nats::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

/// Opens a target at this server, with these settings beside.
fn open_at(server: &Server, settings: &str) -> Box<dyn Target> {
    open(&format!(
        "url = '{}'\nusername = 'root'\npassword = '{PASSWORD}'\n{settings}",
        server.url()
    ))
}

/// A server, unless there is no program for it.
async fn start(lines: &str, users: &str) -> Option<Server> {
    if !server::is_installed() {
        eprintln!("skipped: there is no nats-server");
        return None;
    }
    Some(Server::start(lines, users).await)
}

/// An account as the token of a subject, by the words of the README.
fn token(account: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let bytes = account.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("={byte:02X}"),
    });
    bytes.collect()
}

const SUBJECT: &str = "profilesync.1400000000.=40TOA=23_test";

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

/// The delivery and the probe fail for the server's sake, and say this.
async fn is_fault(target: &dyn Target, words: &[&str]) {
    let outcome = deliver(target, document(1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    let probe = target.probe().await.unwrap_err();
    for text in [outcome.text(), &probe] {
        for word in words {
            assert!(text.contains(word), "{text}");
        }
    }
}
