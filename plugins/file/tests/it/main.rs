//! The file output in temporary folders.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod folder;
mod log;
mod settings;
mod snapshot;
mod world;

use std::{path::Path, time::Duration};

use profilesync_target::{
    Answer, Delivery, Document, OpenContext, Opened, Outcome, Settings, SettingsError, Status,
    Target,
};

/// Opens a target named `export` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = OpenContext {
        name: "export".into(),
        version: "1.2.3",
        timeout: Duration::from_secs(5),
        base: "/base".into(),
    };
    (profilesync_file::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(path: &Path, settings: &str) -> Box<dyn Target> {
    try_open(&format!("path = {path:?}\n{settings}"))
        .unwrap()
        .target
}

fn document(account: &str, revision: u64) -> Document {
    Document {
        sdk_app_id: 1,
        account: account.into(),
        revision,
        status: Status::Active,
        name: Some(format!("revision {revision}")),
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: None,
        event_time: 1_670_574_414_123,
        extra: serde_json::Map::new(),
    }
}

fn destroyed(account: &str, revision: u64) -> Document {
    Document {
        status: Status::Destroyed,
        name: None,
        ..document(account, revision)
    }
}

/// Delivers as one batch; the text of the one outcome, or of the first.
async fn deliver(target: &dyn Target, documents: &[Document]) -> Result<String, String> {
    let batch: Vec<_> = documents.iter().cloned().map(Delivery::from).collect();
    match target.deliver(&batch).await {
        Answer::Each(outcomes) => {
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| matches!(outcome, Outcome::Delivered { .. }))
            );
            Ok(outcomes[0].text().to_owned())
        }
        Answer::Whole(Outcome::Fault { reason, .. }) => Err(reason),
        Answer::Whole(other) => panic!("{other:?}"),
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
