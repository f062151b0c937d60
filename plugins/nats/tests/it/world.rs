//! The conformance suite, against a nats-server of its own for each check.

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    server::{PASSWORD, Server, is_installed},
    token,
};

struct Nats {
    server: Mutex<Server>,
    target: Box<dyn Target>,
    stream: &'static str,
    /// What begins the subjects of accounts.
    prefix: &'static str,
    compares: bool,
}

#[async_trait]
impl World for Nats {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let subject = format!("{}.{sdk_app_id}.{}", self.prefix, token(account));
        let server = self.server.lock().await;
        let (payload, headers) = server.last(self.stream, &subject).await?;
        if headers.contains("KV-Operation: PURGE") {
            assert!(payload.is_empty());
            return None;
        }
        let document: Document = serde_json::from_slice(&payload).unwrap();
        Some(document).filter(|document| document.status == Status::Active)
    }

    fn compares_revisions(&self) -> bool {
        self.compares
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

async fn start() -> Option<()> {
    if !is_installed() {
        eprintln!("skipped: there is no nats-server");
        return None;
    }
    Some(())
}

#[tokio::test]
async fn messages_keep_their_promises() {
    if start().await.is_none() {
        return;
    }
    conformance::check(async || {
        let server = Server::start("", "").await;
        server
            .add_stream("PROFILES", &["profilesync.>"], &json!({}))
            .await;
        Nats {
            target: crate::open_at(&server, "stream = 'PROFILES'"),
            server: Mutex::new(server),
            stream: "PROFILES",
            prefix: "profilesync",
            compares: false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_bucket_keeps_its_promises() {
    if start().await.is_none() {
        return;
    }
    conformance::check(async || {
        let server = Server::start("", "").await;
        server.add_bucket("accounts").await;
        Nats {
            target: crate::open_at(&server, "bucket = 'accounts'"),
            server: Mutex::new(server),
            stream: "KV_accounts",
            prefix: "$KV.accounts",
            compares: true,
        }
    })
    .await;
}
