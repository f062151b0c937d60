//! The conformance suite: what a new subscriber gets.

use std::fs;

use async_trait::async_trait;
use profilesync_target::{
    Document, Target,
    conformance::{self, Peer, World},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::server::Server;

const PASSWORD: &str = "in-password";

/// A file of passwords with one user.
pub(crate) fn users(folder: &TempDir, name: &str) -> String {
    let file = folder.path().join("users");
    fs::write(&file, "").unwrap();
    let status = std::process::Command::new("mosquitto_passwd")
        .arg("-b")
        .args([file.to_str().unwrap(), name, PASSWORD])
        .status()
        .unwrap();
    assert!(status.success());
    file.display().to_string()
}

struct Topics {
    server: Mutex<Server>,
    target: Box<dyn Target>,
    format: &'static str,
    _folder: TempDir,
}

#[async_trait]
impl World for Topics {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let held = self
            .server
            .lock()
            .await
            .retained(Some(("profilesync", PASSWORD)))
            .await;
        let mut documents = held.values().map(|payload| {
            let mut payload: serde_json::Value = serde_json::from_slice(payload).unwrap();
            let document = match self.format {
                "standard" => payload["data"].take(),
                _ => payload,
            };
            serde_json::from_value::<Document>(document).unwrap()
        });
        documents.find(|document| document.sdk_app_id == sdk_app_id && document.account == account)
    }

    fn compares_revisions(&self) -> bool {
        false
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into()]
    }

    async fn turn(&self, peer: Peer) -> bool {
        let mut server = self.server.lock().await;
        match peer {
            Peer::Dead => server.process.end().await,
            Peer::Slow => server.process.signal("STOP"),
            Peer::Well if server.process.is_running() => server.process.signal("CONT"),
            Peer::Well => server.run().await,
        }
        true
    }
}

async fn check(format: &'static str) {
    if Server::start("").await.is_none() {
        return;
    }
    conformance::check(async || {
        let folder = tempfile::tempdir().unwrap();
        let users = users(&folder, "profilesync");
        let server = Server::start(&format!("password_file {users}\nallow_anonymous false"))
            .await
            .unwrap();
        let target = crate::open(&format!(
            "url = '{}'\nusername = 'profilesync'\npassword = '{PASSWORD}'\nformat = '{format}'",
            server.url()
        ));
        Topics {
            server: Mutex::new(server),
            target,
            format,
            _folder: folder,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_keep_their_promises() {
    check("profile").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_keep_their_promises_with_an_envelope() {
    check("standard").await;
}
