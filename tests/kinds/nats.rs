//! `nats` in the whole daemon: a bucket, which is read back key by key, and a stream.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/nats/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use server::{PASSWORD, Server, is_installed};

struct Outside {
    server: Server,
    settings: &'static str,
    stream: &'static str,
}

impl outside::Outside for Outside {
    fn target(&self) -> String {
        let (url, settings) = (self.server.url(), self.settings);
        format!(
            "type = \"nats\"\nurl = {url:?}\nusername = \"root\"\npassword = {PASSWORD:?}\n{settings}\n"
        )
    }

    async fn stop(&mut self) {
        self.server.process.kill();
    }

    async fn start(&mut self) {
        self.server.resume().await;
    }

    /// The last message of every subject.
    async fn held(&mut self) -> Held {
        let info = format!("$JS.API.STREAM.INFO.{}", self.stream);
        let client = self.server.connect().await.unwrap();
        let answer = client.request(info, "".into()).await.unwrap();
        let info: Value = serde_json::from_slice(&answer.payload).unwrap();
        let last = info["state"]["last_seq"].as_u64().unwrap();
        let get = format!("$JS.API.STREAM.MSG.GET.{}", self.stream);
        let messages = stream::iter(1..=last).map(|sequence| {
            let (client, get) = (client.clone(), get.clone());
            let question = json!({ "seq": sequence }).to_string();
            async move { client.request(get, question.into()).await.unwrap() }
        });
        let messages: Vec<_> = messages.buffered(100).collect().await;
        let mut subjects = BTreeMap::new();
        for message in messages {
            let answer: Value = serde_json::from_slice(&message.payload).unwrap();
            // A message that a later one of its subject has replaced is not there.
            if let Some(subject) = answer["message"]["subject"].as_str() {
                let data = answer["message"]["data"].as_str().unwrap_or_default();
                subjects.insert(subject.to_owned(), server::base64(data));
            }
        }
        let documents = subjects
            .into_values()
            .filter_map(|data| serde_json::from_slice::<Value>(&data).ok())
            .filter(|document| document["status"] == "active");
        documents
            .map(|document| {
                let app = document["sdk_app_id"].as_u64().unwrap();
                let id = document["account"].as_str().unwrap().to_owned();
                let name = document["name"].as_str().map(str::to_owned);
                ((app, id), (document["revision"].as_u64().unwrap(), name))
            })
            .collect()
    }
}

async fn start() -> Option<Server> {
    if !is_installed() {
        eprintln!("skipped: there is no nats-server");
        return None;
    }
    Some(Server::start("", "").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_goes_away_in_the_middle_of_a_backfill_loses_nothing() {
    let Some(server) = start().await else {
        return;
    };
    server.add_bucket("accounts").await;
    survives_a_restart(Outside {
        server,
        settings: "bucket = \"accounts\"",
        stream: "KV_accounts",
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_away_in_the_middle_of_a_backfill_loses_nothing() {
    let Some(server) = start().await else {
        return;
    };
    server
        .add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    survives_a_restart(Outside {
        server,
        settings: "",
        stream: "PROFILES",
    })
    .await;
}
