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
    Opened, Settings, SettingsError, Target,
    conformance::{context, deliver, delivered, destroyed, document},
};
use server::{PASSWORD, Server};

/// Opens a target named `cache` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("cache", Duration::from_secs(10));
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
