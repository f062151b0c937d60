//! The conformance suite, for every format.

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// Reads all documents that a path holds, as its users do.
type Read = fn(&Path) -> Vec<Document>;

struct Disk {
    root: TempDir,
    /// Beneath the folder that goes away when the peer is dead.
    path: PathBuf,
    read: Read,
    target: Box<dyn Target>,
    compares: bool,
}

#[async_trait]
impl World for Disk {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        if !self.path.exists() {
            return None;
        }
        let mut found: Vec<_> = (self.read)(&self.path)
            .into_iter()
            .filter(|document| document.sdk_app_id == sdk_app_id && document.account == account)
            .collect();
        assert!(
            !self.compares || found.len() < 2,
            "{account:?} is there twice"
        );
        found
            .pop()
            .filter(|document| document.status == Status::Active)
    }

    fn compares_revisions(&self) -> bool {
        self.compares
    }

    async fn turn(&self, peer: Peer) -> bool {
        let (folder, aside) = (
            self.root.path().join("exports"),
            self.root.path().join("aside"),
        );
        match peer {
            Peer::Slow => return false,
            Peer::Dead => {
                // A file where the folder was: nothing can be written, not even by root.
                if folder.exists() {
                    fs::rename(&folder, &aside).unwrap();
                }
                fs::write(&folder, "").unwrap();
            }
            Peer::Well => {
                fs::remove_file(&folder).unwrap();
                if aside.exists() {
                    fs::rename(&aside, &folder).unwrap();
                }
            }
        }
        true
    }
}

async fn check(format: &str, name: &str, compares: bool, read: Read) {
    conformance::check(async || {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("exports").join(name);
        let target = crate::open(&path, &format!("format = '{format}'"));
        Disk {
            root,
            path,
            read,
            target,
            compares,
        }
    })
    .await;
}

#[tokio::test]
async fn the_folder_keeps_its_promises() {
    check("json", "accounts", true, |path| {
        let files = crate::names(path).into_iter().flat_map(|app| {
            let folder = path.join(app);
            crate::names(&folder)
                .into_iter()
                .map(move |name| folder.join(name))
        });
        files
            .map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap())
            .collect()
    })
    .await;
}

#[tokio::test]
async fn the_log_keeps_its_promises() {
    check("jsonl", "changes.jsonl", false, |path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    })
    .await;
}

#[tokio::test]
async fn the_array_keeps_its_promises() {
    check("json-array", "accounts.json", true, |path| {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn the_csv_keeps_its_promises() {
    check("csv", "accounts.csv", true, |path| {
        let mut reader = csv::Reader::from_path(path).unwrap();
        let columns = reader.headers().unwrap().clone();
        let documents = reader.records().map(|record| {
            let record = record.unwrap();
            let members = columns.iter().zip(record.iter()).map(|(column, cell)| {
                let cell = cell.strip_prefix('\'').unwrap_or(cell);
                let value = match column {
                    "sdk_app_id" | "revision" | "event_time" => cell.parse::<u64>().unwrap().into(),
                    "extra" => serde_json::from_str(cell).unwrap(),
                    _ if cell.is_empty() => Value::Null,
                    _ => cell.into(),
                };
                (column.to_owned(), value)
            });
            let members: Map<String, Value> = members.collect();
            serde_json::from_value(members.into()).unwrap()
        });
        documents.collect()
    })
    .await;
}
