//! The conformance suite, against a redis-server of its own for each check.

use std::collections::HashMap;

use async_trait::async_trait;
use profilesync_target::{
    Document, Target,
    conformance::{self, Peer, World},
};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::server::{PASSWORD, Server, is_installed};

struct Redis {
    server: Mutex<Server>,
    target: Box<dyn Target>,
}

#[async_trait]
impl World for Redis {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let key = format!("profilesync:{sdk_app_id}:{account}");
        let server = self.server.lock().await;
        if server.ask::<String>(&["TYPE", &key]).await != "hash" {
            return None;
        }
        let hash: HashMap<String, String> = server.ask(&["HGETALL", &key]).await;
        document(&hash)
    }

    fn compares_revisions(&self) -> bool {
        true
    }

    async fn refuse(&self, sdk_app_id: u64, account: &str) -> bool {
        let key = format!("profilesync:{sdk_app_id}:{account}");
        let server = self.server.lock().await;
        server.ask::<()>(&["RPUSH", &key, "something else"]).await;
        true
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into()]
    }

    async fn turn(&self, peer: Peer) -> bool {
        let mut server = self.server.lock().await;
        match peer {
            Peer::Well => server.resume().await,
            Peer::Dead => server.process.kill(),
            Peer::Slow => server.process.signal("STOP"),
        }
        true
    }
}

/// The document that a hash shows; `None` for one that tells of a destroyed account.
fn document(hash: &HashMap<String, String>) -> Option<Document> {
    if hash["status"] == "destroyed" {
        assert_eq!(hash.len(), 5, "{hash:?}");
        return None;
    }
    let texts = ["name", "introduction", "face_url", "organization"];
    let mut members: Map<String, Value> = texts
        .into_iter()
        .chain(["owner", "operator"])
        .map(|name| (name.to_owned(), Value::Null))
        .collect();
    members.extend(hash.iter().map(|(name, value)| {
        let value = match name.as_str() {
            "sdk_app_id" | "revision" | "event_time" | "extra" => {
                serde_json::from_str(value).unwrap()
            }
            _ => value.as_str().into(),
        };
        (name.clone(), value)
    }));
    Some(serde_json::from_value(members.into()).unwrap())
}

async fn check(settings: &str) {
    if !is_installed() {
        eprintln!("skipped: there is no redis-server");
        return;
    }
    conformance::check(async || {
        let server = Server::start(&[]).await;
        let target = crate::open(&format!(
            "url = '{}'\npassword = '{PASSWORD}'\n{settings}",
            server.url()
        ));
        Redis {
            server: Mutex::new(server),
            target,
        }
    })
    .await;
}

#[tokio::test]
async fn redis_keeps_its_promises() {
    check("").await;
}

#[tokio::test]
async fn redis_keeps_its_promises_with_notices() {
    check("destroyed = 'delete'\nstream = 'changes'\nchannel = 'changed'").await;
}
