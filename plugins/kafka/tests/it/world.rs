//! The conformance suite: a topic, read back and folded by key as compaction does.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

use crate::server::{Found, Reader, Server, compact};

struct Topic {
    server: Mutex<Server>,
    target: Box<dyn Target>,
    standard: bool,
}

/// The account's document in a compacted topic.
fn find(
    compacted: BTreeMap<String, Found>,
    standard: bool,
    sdk_app_id: u64,
    account: &str,
) -> Option<Document> {
    let mut found: Vec<Document> = compacted
        .into_values()
        .filter_map(|found| found.value)
        .map(|value| match standard {
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

#[async_trait]
impl World for Topic {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let compacted = self.server.lock().unwrap().compacted();
        find(compacted, self.standard, sdk_app_id, account)
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

/// A topic of a broker that runs elsewhere.
struct Elsewhere {
    reader: Mutex<Reader>,
    target: Box<dyn Target>,
}

const PARTITIONS: i32 = 3;

impl Elsewhere {
    async fn new(broker: &str) -> Self {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .create()
            .unwrap();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let topic = format!("profilesync-test-{now}");
        let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        let made = admin.create_topics([&new], &AdminOptions::new()).await;
        made.unwrap().remove(0).unwrap();
        let settings = format!("brokers = ['{broker}']\ntopic = '{topic}'");
        Self {
            reader: Mutex::new(Reader::new(broker, &topic, PARTITIONS)),
            target: crate::open(&settings),
        }
    }
}

#[async_trait]
impl World for Elsewhere {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let compacted = compact(self.reader.lock().unwrap().read());
        find(compacted, false, sdk_app_id, account)
    }

    fn compares_revisions(&self) -> bool {
        false
    }

    async fn turn(&self, _peer: Peer) -> bool {
        false
    }
}

/// `PROFILESYNC_KAFKA=127.0.0.1:9092 cargo test -p profilesync-kafka elsewhere`
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_elsewhere_keeps_its_promises() {
    let Ok(broker) = std::env::var("PROFILESYNC_KAFKA") else {
        eprintln!("skipped: PROFILESYNC_KAFKA names no broker");
        return;
    };
    conformance::check(async || Elsewhere::new(&broker).await).await;
}
