//! `nats`: messages of a stream, and values of a bucket by compare-and-set, by async-nats.

#[path = "../../plugins/nats/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use async_nats::{Client, HeaderMap, Request};
use futures_util::future::join_all;
use profilesync_target::Document;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, compare, shares, skip},
    report::Report,
};
use server::{PASSWORD, Server, is_installed};

/// The kind's default.
const BATCH: usize = 100;

struct Jet {
    server: Server,
    is_bucket: bool,
}

/// A stream, and a bucket.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    for (what, is_bucket) in [("nats, stream", false), ("nats, bucket", true)] {
        if !is_installed() {
            skip(what, report);
            continue;
        }
        let server = Runtime::new().unwrap().block_on(async {
            let server = Server::start("", "").await;
            server.add_bucket("accounts").await;
            // What was cleared must be stored again: an id is forgotten soon.
            let window = json!({ "duplicate_window": 100_000_000 });
            server
                .add_stream("PROFILES", &["profilesync.>"], &window)
                .await;
            server
        });
        compare(what, Jet { server, is_bucket }, settings, report);
    }
}

impl Jet {
    fn stream(&self) -> &'static str {
        if self.is_bucket {
            "KV_accounts"
        } else {
            "PROFILES"
        }
    }
}

/// The account as a token.
fn token(account: &str) -> String {
    account.replace('@', "=40").replace('#', "=23")
}

async fn publish(client: &Client, document: &Document) {
    let subject = format!(
        "profilesync.{}.{}",
        document.sdk_app_id,
        token(&document.account)
    );
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{subject}.{}", document.revision));
    headers.insert("content-type", "application/json");
    headers.insert("profilesync-revision", document.revision.to_string());
    send(
        client,
        subject,
        headers,
        serde_json::to_vec(document).unwrap(),
    )
    .await;
}

async fn put(client: &Client, document: &Document) {
    let subject = format!(
        "$KV.accounts.{}.{}",
        document.sdk_app_id,
        token(&document.account)
    );
    let question = json!({ "last_by_subj": subject }).to_string();
    let get = "$JS.API.STREAM.MSG.GET.KV_accounts".to_owned();
    let held = client.request(get, question.into()).await.unwrap();
    let held: Value = serde_json::from_slice(&held.payload).unwrap();
    let last = held["message"]["seq"].as_u64().unwrap_or(0);
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
    send(
        client,
        subject,
        headers,
        serde_json::to_vec(document).unwrap(),
    )
    .await;
}

async fn send(client: &Client, subject: String, headers: HeaderMap, payload: Vec<u8>) {
    let request = Request::new().headers(headers).payload(payload.into());
    let answer = client.send_request(subject, request).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer["seq"].is_u64(), "{answer}");
}

impl Side for Jet {
    fn target(&self) -> String {
        let url = self.server.url();
        let bucket = if self.is_bucket {
            "bucket = \"accounts\"\n"
        } else {
            ""
        };
        format!(
            "type = \"nats\"\nurl = {url:?}\nusername = \"root\"\npassword = {PASSWORD:?}\n{bucket}"
        )
    }

    async fn clear(&mut self) {
        let purge = format!("STREAM.PURGE.{}", self.stream());
        self.server.api(&purge, &Value::Null).await.unwrap();
    }

    async fn write(&self, documents: Vec<Document>) {
        let is_bucket = self.is_bucket;
        let mut tasks = JoinSet::new();
        for share in shares(&documents, BATCH, CONCURRENCY) {
            let client = self.server.connect().await.unwrap();
            tasks.spawn(async move {
                for chunk in share {
                    if is_bucket {
                        join_all(chunk.iter().map(|document| put(&client, document))).await;
                    } else {
                        join_all(chunk.iter().map(|document| publish(&client, document))).await;
                    }
                }
            });
        }
        tasks.join_all().await;
    }
}
