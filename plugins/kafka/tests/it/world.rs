//! The conformance suite: a topic, read back and folded by key as compaction does.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};

use crate::server::Server;

struct Topic {
    server: Mutex<Server>,
    target: Box<dyn Target>,
    standard: bool,
}

#[async_trait]
impl World for Topic {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let compacted = self.server.lock().unwrap().compacted();
        let mut found: Vec<Document> = compacted
            .into_values()
            .filter_map(|found| found.value)
            .map(|value| match self.standard {
                true => {
                    let envelope: serde_json::Value = serde_json::from_slice(&value).unwrap();
                    serde_json::from_value(envelope["data"].clone()).unwrap()
                }
                false => serde_json::from_slice(&value).unwrap(),
            })
            .filter(|document: &Document| {
                document.sdk_app_id == sdk_app_id && document.account == account
            })
            .collect();
        assert!(found.len() < 2, "{account:?} has two keys");
        found
            .pop()
            .filter(|document| document.status == Status::Active)
    }

    fn compares_revisions(&self) -> bool {
        false
    }

    async fn turn(&self, peer: Peer) -> bool {
        let server = self.server.lock().unwrap();
        match peer {
            Peer::Dead => server.stop(),
            Peer::Slow => server.delay(Duration::from_secs(1)),
            Peer::Well => {
                server.delay(Duration::ZERO);
                server.resume();
            }
        }
        true
    }
}

async fn check(settings: &str) {
    conformance::check(async || {
        let server = Server::start(4);
        Topic {
            target: crate::open(&(server.settings() + settings)),
            server: Mutex::new(server),
            standard: settings.contains("standard"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_keeps_its_promises() {
    check("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_keep_their_promises() {
    check("format = 'standard'\ndestroyed = 'keep'").await;
}
