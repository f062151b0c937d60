//! Plays Tencent Cloud Chat: signed requests over a kept connection.

use std::time::Duration;

use profilesync::clock;
use reqwest::ClientBuilder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::daemon::{APP, TOKEN};

pub(crate) const CREATED: &str = "OfficialAccount.CallbackAfterCreateOfficialAccount";
pub(crate) const CHANGED: &str = "OfficialAccount.CallbackAfterOfficialAccountInfoChanged";
pub(crate) const DESTROYED: &str = "OfficialAccount.CallbackAfterOfficialAccountDestroyed";

/// A client without proxies or redirects, patient enough for a loaded machine.
pub(crate) fn client() -> ClientBuilder {
    // Installed once per process; whoever comes second finds it there.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
}

/// The body of a profile change; `members` are beside the three every event has.
pub(crate) fn change(account: &str, time: u64, members: &Value) -> Value {
    event(CHANGED, account, time, members)
}

/// The body of any profile event.
pub(crate) fn event(command: &str, account: &str, time: u64, members: &Value) -> Value {
    let mut body =
        json!({ "CallbackCommand": command, "Official_Account": account, "EventTime": time });
    let all = body.as_object_mut().unwrap();
    all.extend(members.as_object().unwrap().clone());
    body
}

/// What the daemon answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) http: u16,
    pub(crate) code: u64,
}

/// "Recorded."
pub(crate) const OK: Reply = Reply { http: 200, code: 0 };

/// One sender; its requests go one after the other over one connection.
pub(crate) struct Sender {
    client: reqwest::Client,
    url: String,
}

impl Sender {
    pub(crate) fn new(url: &str) -> Self {
        let client = client().pool_max_idle_per_host(1).build().unwrap();
        let url = url.to_owned();
        Self { client, url }
    }

    /// Sends an event, well signed; `None` when no answer came.
    pub(crate) async fn try_send(&self, body: &Value) -> Option<Reply> {
        let command = body["CallbackCommand"].as_str().unwrap();
        let (status, answer) = self.post(&query(command), body.to_string()).await?;
        Some(Reply {
            http: status,
            code: answer["ErrorCode"].as_u64()?,
        })
    }

    /// Sends an event and expects it to be recorded.
    pub(crate) async fn send(&self, body: &Value) {
        assert_eq!(self.try_send(body).await, Some(OK), "the answer to {body}");
    }

    /// Posts anything; `None` when no answer in JSON came.
    pub(crate) async fn post(
        &self,
        query: &str,
        body: impl Into<reqwest::Body>,
    ) -> Option<(u16, Value)> {
        let request = self.client.post(format!("{}?{query}", self.url)).body(body);
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.ok()?))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }
}

/// A well-signed query for the test's app.
pub(crate) fn query(command: &str) -> String {
    signed(command, TOKEN, clock::now() / 1000)
}

/// A query with this token's signature of this time.
pub(crate) fn signed(command: &str, token: &str, time: u64) -> String {
    format!(
        "{}&Sign={}&RequestTime={time}",
        unsigned(command),
        sign(token, time)
    )
}

/// A query without a signature.
pub(crate) fn unsigned(command: &str) -> String {
    format!(
        "SdkAppid={APP}&CallbackCommand={command}&contenttype=json&ClientIP=127.0.0.1&OptPlatform=RESTAPI"
    )
}

/// `Sign` as Tencent Cloud Chat computes it.
pub(crate) fn sign(token: &str, time: u64) -> String {
    let digest = Sha256::digest(format!("{token}{time}"));
    data_encoding::HEXLOWER.encode(&digest)
}

#[test]
fn signs_as_tencent_documents() {
    let expected = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";
    assert_eq!(sign("xxxxyyyy", 1_669_872_112), expected);
}
