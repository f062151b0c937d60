//! The file output in temporary folders.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod folder;
mod log;
mod settings;
mod snapshot;
mod world;

use std::{path::Path, time::Duration};

use profilesync_target::{
    Answer, Delivery, Document, OpenContext, Opened, Outcome, Settings, SettingsError, Target,
    conformance::{context, gone as destroyed, named as document},
};

/// Opens a target named `export` with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = OpenContext {
        base: "/base".into(),
        ..context("export", Duration::from_secs(5))
    };
    (profilesync_file::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(path: &Path, settings: &str) -> Box<dyn Target> {
    try_open(&format!("path = {path:?}\n{settings}"))
        .unwrap()
        .target
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
