//! The scim output against scim2-server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod gate;
mod oauth2;
mod resources;
mod server;
mod settings;
mod world;

use std::time::Duration;

use profilesync_target::{
    Document, Opened, Settings, SettingsError, Target,
    conformance::{self, context, deliver},
};
use serde_json::Value;
use server::{EXTENSION, TOKEN};

/// Opens a target with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("people", Duration::from_secs(5));
    (profilesync_scim::KIND.open)(&context, Settings::from_toml(settings)?)
}

#[track_caller]
fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

/// The least that a target of this server needs.
fn settings(url: &str) -> String {
    format!("url = '{url}'\nauth = {{ type = 'bearer', token = '{TOKEN}' }}\n")
}

/// The same with an extension that holds all of a document.
fn full_settings(url: &str) -> String {
    with_all(&settings(url))
}

/// Settings with attributes that hold all of a document.
fn with_all(settings: &str) -> String {
    let mut text = settings.to_owned() + "[attributes]\nuserName = 'safe_id'\n";
    for (name, member) in [
        ("account", "account"),
        ("appId", "sdk_app_id"),
        ("revision", "revision"),
        ("name", "name"),
        ("introduction", "introduction"),
        ("faceUrl", "face_url"),
        ("organization", "organization"),
        ("owner", "owner"),
        ("operator", "operator"),
        ("eventTime", "event_time"),
        ("extra", "extra"),
    ] {
        text.push_str(&format!("'{EXTENSION}:{name}' = '{member}'\n"));
    }
    text
}

/// Sends a request past the target.
async fn send(url: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    profilesync_http::install_crypto();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client
        .request(method, format!("{url}{path}"))
        .bearer_auth(TOKEN)
        .header("content-type", "application/scim+json");
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// All resources that a service holds.
async fn resources(url: &str, kind: &str) -> Vec<Value> {
    let (status, list) = send(url, "GET", &format!("/{kind}?count=10000"), None).await;
    assert_eq!(status, 200, "{list}");
    let list = list["Resources"].as_array();
    list.cloned().unwrap_or_default()
}

fn document(account: &str, revision: u64) -> Document {
    Document {
        account: account.to_owned(),
        introduction: Some("Introduction".into()),
        extra: serde_json::Map::new(),
        ..conformance::document(revision)
    }
}

fn destroyed(account: &str, revision: u64) -> Document {
    Document {
        account: account.to_owned(),
        ..conformance::destroyed(revision)
    }
}
