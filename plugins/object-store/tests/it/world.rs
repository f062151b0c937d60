//! The conformance suite, for the clouds and a local folder.

use std::{fs, path::PathBuf};

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::{
    emulator::{Cloud, Emulator},
    server::Server,
};

struct Bucket {
    server: Mutex<Server>,
    target: Box<dyn Target>,
    compares: bool,
    secrets: Vec<String>,
}

/// The account's document among these objects. Two of them are one too many.
fn find(objects: Vec<Vec<u8>>, sdk_app_id: u64, account: &str) -> Option<Document> {
    let mut found: Vec<Document> = objects
        .iter()
        .map(|content| serde_json::from_slice(content).unwrap())
        .filter(|document: &Document| {
            document.sdk_app_id == sdk_app_id && document.account == account
        })
        .collect();
    assert!(found.len() < 2, "{account:?} is there twice");
    found
        .pop()
        .filter(|document| document.status == Status::Active)
}

#[async_trait]
impl World for Bucket {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let objects = self.server.lock().await.objects().await;
        let contents = objects.into_iter().map(|(_, content)| content);
        find(contents.collect(), sdk_app_id, account)
    }

    fn compares_revisions(&self) -> bool {
        self.compares
    }

    fn secrets(&self) -> Vec<String> {
        self.secrets.clone()
    }

    async fn refuse(&self, sdk_app_id: u64, account: &str) -> bool {
        let server = self.server.lock().await;
        server.refuse(&format!("/{sdk_app_id}/{account}.json"));
        true
    }

    async fn turn(&self, peer: Peer) -> bool {
        let mut server = self.server.lock().await;
        match peer {
            Peer::Dead => server.close().await,
            Peer::Slow => server.emulator.signal("STOP"),
            Peer::Well => {
                server.emulator.signal("CONT");
                server.close().await;
                server.open().await;
            }
        }
        true
    }
}

async fn check(cloud: Cloud, settings: &str, compares: bool) {
    let Some(emulator) = Emulator::start(cloud).await else {
        return;
    };
    conformance::check(async || {
        let server = Server::new(&emulator).await;
        Bucket {
            target: crate::open(&(server.settings() + settings)),
            server: Mutex::new(server),
            compares,
            secrets: emulator.secrets(),
        }
    })
    .await;
}

#[tokio::test]
async fn s3_keeps_its_promises() {
    check(Cloud::Amazon, "", true).await;
}

#[tokio::test]
async fn s3_without_conditions_keeps_the_rest() {
    check(Cloud::Amazon, "conditional = false", false).await;
}

#[tokio::test]
async fn s3_that_keeps_the_destroyed_keeps_its_promises() {
    check(Cloud::Amazon, "destroyed = 'keep'", true).await;
}

#[tokio::test]
async fn azure_keeps_its_promises() {
    check(Cloud::Azure, "", true).await;
}

#[tokio::test]
async fn azure_without_conditions_keeps_the_rest() {
    check(Cloud::Azure, "conditional = false", false).await;
}

#[tokio::test]
async fn azure_that_keeps_the_destroyed_keeps_its_promises() {
    check(Cloud::Azure, "destroyed = 'keep'", true).await;
}

#[tokio::test]
async fn google_keeps_its_promises() {
    check(Cloud::Google, "", true).await;
}

#[tokio::test]
async fn google_without_conditions_keeps_the_rest() {
    check(Cloud::Google, "conditional = false", false).await;
}

#[tokio::test]
async fn google_that_keeps_the_destroyed_keeps_its_promises() {
    check(Cloud::Google, "destroyed = 'keep'", true).await;
}

struct Folder {
    root: TempDir,
    /// Beneath the folder that goes away when the peer is dead.
    path: PathBuf,
    target: Box<dyn Target>,
}

#[async_trait]
impl World for Folder {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let apps = fs::read_dir(&self.path).unwrap();
        let files = apps.flat_map(|app| fs::read_dir(app.unwrap().path()).unwrap());
        let contents = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        find(contents.collect(), sdk_app_id, account)
    }

    fn compares_revisions(&self) -> bool {
        true
    }

    async fn turn(&self, peer: Peer) -> bool {
        let aside = self.root.path().join("aside");
        match peer {
            Peer::Slow => return false,
            Peer::Dead => fs::rename(&self.path, &aside).unwrap(),
            Peer::Well => fs::rename(&aside, &self.path).unwrap(),
        }
        true
    }
}

#[tokio::test]
async fn a_folder_keeps_its_promises() {
    conformance::check(async || {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("bucket");
        fs::create_dir(&path).unwrap();
        let target = crate::open(&format!("url = 'file://{}'", path.display()));
        Folder { root, path, target }
    })
    .await;
}
