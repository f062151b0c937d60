//! The file output: one JSON file per account, a change log, or a snapshot of all accounts as CSV or JSON.
//!
//! `settings.rs` picks one of three writers: `folder.rs`, `log.rs` or `snapshot.rs` (with `csv.rs` and
//! `array.rs`). All file work goes through `disk.rs`, runs on a blocking thread and one batch at a time: a
//! delivery whose future is dropped is carried to its end, and the next one waits for it.

mod array;
mod csv;
mod disk;
mod folder;
mod log;
mod merge;
mod settings;
mod snapshot;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, Settings,
    SettingsError, Target,
};
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::disk::Trouble;

/// `type = "file"`
pub const KIND: Kind = Kind {
    name: "file",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// One of the formats, at its place on the disk.
trait Writer: Send + Sync {
    /// Writes the batch durably: one outcome text per document, in order. Called once at a time.
    fn write(&self, batch: &[Delivery]) -> Result<Vec<String>, Trouble>;

    /// The path written for a document, and what is put there; `None` when it is removed.
    fn render(&self, document: &Document) -> (String, Option<String>);

    /// The folder and the file, as far as they are fixed.
    fn place(&self) -> (&Path, Option<&Path>);
}

struct File {
    writer: Arc<dyn Writer>,
    /// Held by the batch that is being written, until it is.
    turn: Arc<Mutex<()>>,
    limits: Limits,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    let target = File {
        writer: checked.writer,
        turn: Arc::default(),
        limits: checked.limits,
    };
    Ok(Opened {
        target: Box::new(target),
        identity: checked.identity,
    })
}

#[async_trait]
impl Target for File {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let writer = Arc::clone(&self.writer);
        let batch = batch.to_vec();
        let written = spawn_blocking(move || {
            let written = writer.write(&batch);
            drop(turn);
            written
        });
        match written.await {
            Ok(Ok(answers)) => Answer::Each(
                answers
                    .into_iter()
                    .map(|answer| Outcome::Delivered { answer })
                    .collect(),
            ),
            Ok(Err(trouble)) => Answer::Whole(fault(trouble.to_string())),
            Err(_) => Answer::Whole(fault(
                "writing ended in a panic; the log has its text".into(),
            )),
        }
    }

    /// Asks whether the daemon's user may write where the files go. Creates nothing.
    async fn probe(&self) -> Result<(), String> {
        let writer = Arc::clone(&self.writer);
        spawn_blocking(move || {
            let (folder, file) = writer.place();
            disk::may_write(folder, file).map_err(|trouble| trouble.to_string())
        })
        .await
        .map_err(|_| "the probe ended in a panic".to_owned())?
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(match self.writer.render(document) {
            (path, Some(content)) => format!("write {path}\n\n{content}"),
            (path, None) => format!("remove from {path}\n"),
        })
    }

    /// Waits for what is being written: the next target at the same place must not be overtaken by it.
    async fn close(&self) {
        drop(self.turn.lock().await);
    }
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}
