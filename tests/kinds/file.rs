//! `file` in the whole daemon: a folder of JSON files whose disk goes away.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::outside::{self, Held, survives_a_restart};

struct Outside(TempDir);

impl Outside {
    /// A disk in its place.
    fn new() -> Self {
        let outside = Self(TempDir::new().unwrap());
        fs::create_dir(outside.0.path().join("disk")).unwrap();
        fs::write(outside.0.path().join("nothing"), "").unwrap();
        outside.mount("disk");
        outside
    }

    fn exports(&self) -> PathBuf {
        self.0.path().join("exports")
    }

    /// Puts something where the exports are, in one step: the target makes a folder that is missing for a moment.
    fn mount(&self, what: &str) {
        let link = self.0.path().join("link");
        symlink(what, &link).unwrap();
        fs::rename(link, self.exports()).unwrap();
    }
}

impl outside::Outside for Outside {
    fn target(&self) -> String {
        let path = self.exports().join("accounts");
        format!("type = \"file\"\npath = {path:?}\n")
    }

    /// A file where the folder was: nothing can be written, not even by root.
    async fn stop(&mut self) {
        self.mount("nothing");
    }

    async fn start(&mut self) {
        self.mount("disk");
    }

    async fn held(&mut self) -> Held {
        let apps = paths(&self.exports().join("accounts"));
        let documents = apps
            .iter()
            .flat_map(|app| paths(app))
            .map(|file| serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap());
        documents
            .map(|document| {
                let id = document["account"].as_str().unwrap().to_owned();
                let name = document["name"].as_str().map(str::to_owned);
                let app = document["sdk_app_id"].as_u64().unwrap();
                ((app, id), (document["revision"].as_u64().unwrap(), name))
            })
            .collect()
    }
}

/// What is in a folder and is meant to be seen.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_goes_away_in_the_middle_of_a_backfill_loses_nothing() {
    survives_a_restart(Outside::new()).await;
}
