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
    Opened, Outcome, Settings, SettingsError, Target,
    conformance::{context, deliver, delivered, destroyed, document},
};
use server::{PASSWORD, Server};

/// Opens a target named `bus` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("bus", Duration::from_secs(10));
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
