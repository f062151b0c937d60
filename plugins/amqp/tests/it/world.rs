//! The conformance suite: a queue that takes everything, folded to the last message of every account.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use lapin::{
    ExchangeKind,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use tokio::sync::Mutex;

use crate::server::Server;

/// Makes a durable topic exchange and a durable queue of the same name that takes all of its messages.
pub(crate) async fn declare(server: &Server, name: &str) {
    let connection = server.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            name.into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), durable, FieldTable::default())
        .await
        .unwrap();
    channel
        .queue_bind(
            name.into(),
            name.into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    connection.close(200, "OK".into()).await.unwrap();
}

/// All that a queue holds, taken out: routing key, revision in the headers, and body.
pub(crate) async fn drain(server: &Server, queue: &str) -> Vec<(String, serde_json::Value)> {
    let connection = server.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let mut found = Vec::new();
    while let Some(message) = channel
        .basic_get(queue.into(), BasicGetOptions { no_ack: true })
        .await
        .unwrap()
    {
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        let body = serde_json::from_slice(&message.data).unwrap();
        found.push((message.routing_key.to_string(), body));
    }
    connection.close(200, "OK".into()).await.unwrap();
    found
}

struct Queue {
    server: Arc<Mutex<Server>>,
    name: String,
    target: Box<dyn Target>,
    /// By routing key, so that accounts whose keys are the same take each other's place.
    last: Mutex<HashMap<String, Document>>,
}

#[async_trait]
impl World for Queue {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let mut last = self.last.lock().await;
        for (key, body) in drain(&*self.server.lock().await, &self.name).await {
            last.insert(key, serde_json::from_value(body["data"].clone()).unwrap());
        }
        last.values()
            .find(|document| document.sdk_app_id == sdk_app_id && document.account == account)
            .filter(|document| document.status == Status::Active)
            .cloned()
    }

    fn compares_revisions(&self) -> bool {
        false
    }

    fn secrets(&self) -> Vec<String> {
        vec!["in-password".into()]
    }

    async fn turn(&self, peer: Peer) -> bool {
        let mut server = self.server.lock().await;
        match peer {
            Peer::Dead => server.stop().await,
            Peer::Slow => server.freeze(),
            Peer::Well => {
                if server.is_running() {
                    server.thaw();
                } else {
                    server.run().await;
                }
            }
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchange_keeps_its_promises() {
    let Some(server) = Server::start("").await else {
        return;
    };
    server.control(&["add_user", "profilesync", "in-password"]);
    server.control(&["set_permissions", "profilesync", "^$", ".*", "^$"]);
    let server = Arc::new(Mutex::new(server));
    let worlds = AtomicUsize::new(0);
    conformance::check(async || {
        let name = format!("profiles{}", worlds.fetch_add(1, Ordering::Relaxed));
        let url = {
            let server = server.lock().await;
            declare(&server, &name).await;
            server.url()
        };
        let target = crate::open(&format!(
            "url = '{url}'\nexchange = '{name}'\nusername = 'profilesync'\npassword = 'in-password'"
        ));
        Queue {
            server: server.clone(),
            name,
            target,
            last: Mutex::default(),
        }
    })
    .await;
}
