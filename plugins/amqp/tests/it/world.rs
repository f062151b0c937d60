//! The conformance suite: a queue that takes everything, folded to the last message of every account.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use tokio::sync::Mutex;

use crate::server::Server;

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
        for (key, body) in self.server.lock().await.drain(&self.name).await {
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
            Peer::Dead => server.process.end().await,
            Peer::Slow => server.process.signal("STOP"),
            Peer::Well => {
                if server.process.is_running() {
                    server.process.signal("CONT");
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
            server.declare(&name).await;
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
