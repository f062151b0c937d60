//! `redis`: calls of the kind's own script, many in one round trip, by redis.

#[path = "../../plugins/redis/tests/it/server.rs"]
mod server;

use profilesync_target::Document;
use redis::{Pipeline, Script};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, compare, shares, skip},
    report::Report,
};
use server::{PASSWORD, Server, is_installed};

/// The kind's default.
const BATCH: usize = 100;

const PUT: &str = include_str!("../../plugins/redis/src/put.lua");

/// A server that syncs every write.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    if !is_installed() {
        return skip("redis", report);
    }
    let server = Runtime::new().unwrap().block_on(Server::start(&[]));
    compare("redis", server, settings, report);
}

/// Adds one call of the script.
fn call(pipeline: &mut Pipeline, hash: &str, document: &Document) {
    let app = document.sdk_app_id.to_string();
    let (revision, time) = (
        document.revision.to_string(),
        document.event_time.to_string(),
    );
    let texts = [
        ("sdk_app_id", Some(&*app)),
        ("account", Some(&*document.account)),
        ("revision", Some(&*revision)),
        ("status", Some("active")),
        ("name", document.name.as_deref()),
        ("introduction", document.introduction.as_deref()),
        ("face_url", document.face_url.as_deref()),
        ("organization", document.organization.as_deref()),
        ("owner", document.owner.as_deref()),
        ("operator", document.operator.as_deref()),
        ("event_time", Some(&*time)),
        ("extra", Some("{}")),
    ];
    let set: Vec<_> = texts
        .iter()
        .filter_map(|(name, text)| Some([*name, (*text)?]))
        .flatten()
        .collect();
    let removed: Vec<_> = texts
        .iter()
        .filter(|(_, text)| text.is_none())
        .map(|(name, _)| *name)
        .collect();
    pipeline
        .cmd("EVALSHA")
        .arg(hash)
        .arg(1)
        .arg(format!("profilesync:{app}:{}", document.account))
        .arg(&revision)
        .arg(&["put", "", "", "0", "0"])
        .arg(set.len())
        .arg(set)
        .arg(removed);
}

impl Side for Server {
    fn target(&self) -> String {
        let url = self.url();
        format!("type = \"redis\"\nurl = {url:?}\npassword = {PASSWORD:?}\n")
    }

    async fn clear(&mut self) {
        self.ask::<()>(&["FLUSHALL"]).await;
    }

    async fn write(&self, documents: Vec<Document>) {
        let script = Script::new(PUT);
        self.ask::<String>(&["SCRIPT", "LOAD", PUT]).await;
        let mut tasks = JoinSet::new();
        for share in shares(&documents, BATCH, CONCURRENCY) {
            let mut client = self.connect().await.unwrap();
            client.set_response_timeout(std::time::Duration::from_secs(60));
            let hash = script.get_hash().to_owned();
            tasks.spawn(async move {
                for chunk in share {
                    let mut pipeline = Pipeline::new();
                    for document in &chunk {
                        call(&mut pipeline, &hash, document);
                    }
                    let answers: Vec<Vec<String>> =
                        pipeline.query_async(&mut client).await.unwrap();
                    assert!(
                        answers.iter().all(|answer| answer == &["written"]),
                        "{answers:?}"
                    );
                }
            });
        }
        tasks.join_all().await;
    }
}
