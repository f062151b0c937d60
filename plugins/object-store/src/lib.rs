//! The object-store output: one JSON object per account in S3, Google Cloud Storage, Azure or a local folder.
//!
//! `settings.rs` checks the keys, `backend.rs` makes a store of them, `bucket.rs` keeps the accounts' objects,
//! `client.rs` sends requests once each and notes bad answers, `fault.rs` says what they mean.

mod backend;
mod bucket;
mod client;
mod fault;
mod folder;
mod settings;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, ReadBack, Settings,
    SettingsError, State, Target,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use crate::bucket::{Bucket, MAX_OBJECT};

/// `type = "object-store"`
pub const KIND: Kind = Kind {
    name: "object-store",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// Objects written at the same time, as each takes its own round trips.
const BATCH: usize = 32;

/// Bytes of all objects that are read back at once.
const MAX_HELD: usize = BATCH * MAX_OBJECT;

struct Remote {
    bucket: Bucket,
    /// Of one batch: shorter than the daemon's, so that what was written is known when one object takes too long.
    patience: Duration,
}

struct Local {
    bucket: Arc<Bucket>,
    folder: PathBuf,
    /// Held by the batch that is being written, until it is.
    turn: Arc<Mutex<()>>,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    let target: Box<dyn Target> = match checked.folder {
        Some(folder) => Box::new(Local {
            bucket: Arc::new(checked.bucket),
            folder,
            turn: Arc::default(),
        }),
        None => Box::new(Remote {
            bucket: checked.bucket,
            patience: context.timeout.mul_f32(0.9),
        }),
    };
    Ok(Opened {
        target,
        identity: checked.identity,
    })
}

#[async_trait]
impl Target for Remote {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let end = Instant::now() + self.patience;
        let kept = batch.iter().map(|delivery| async move {
            let kept = timeout_at(end, self.bucket.keep(&delivery.document)).await;
            kept.unwrap_or_else(|_| fault(format!("{} did not answer in time", self.bucket.url)))
        });
        Answer::Each(join_all(kept).await)
    }

    /// Asks for an object that does not exist, which shows that address, credentials and bucket are right.
    async fn probe(&self) -> Result<(), String> {
        self.bucket.probe().await
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.bucket.render(document))
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        Some(&self.bucket)
    }
}

#[async_trait]
impl Target for Local {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            concurrency: Some(1),
            ..Limits::default()
        }
    }

    /// A batch whose delivery is dropped is written to its end, and the next one waits for it: a file that is written
    /// later than a newer one would take its place.
    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Err(reason) = folder::usable(&self.folder).await {
            return Answer::Whole(fault(reason));
        }
        let bucket = Arc::clone(&self.bucket);
        let batch = batch.to_vec();
        let written = tokio::spawn(async move {
            let kept = batch.iter().map(|delivery| bucket.keep(&delivery.document));
            let outcomes = join_all(kept).await;
            drop(turn);
            outcomes
        });
        match written.await {
            Ok(outcomes) => Answer::Each(outcomes),
            Err(_) => Answer::Whole(fault(
                "writing ended in a panic; the log has its text".into(),
            )),
        }
    }

    async fn probe(&self) -> Result<(), String> {
        folder::usable(&self.folder).await
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.bucket.render(document))
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        Some(self)
    }

    /// Waits for what is being written: the next target of the same folder must not be overtaken by it.
    async fn close(&self) {
        drop(self.turn.lock().await);
    }
}

#[async_trait]
impl ReadBack for Bucket {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let mut held = Vec::with_capacity(documents.len());
        let mut total = 0;
        for part in documents.chunks(BATCH) {
            for found in try_join_all(part.iter().map(|document| self.held(document))).await? {
                let (state, size) = found.unzip();
                total += size.unwrap_or(0);
                held.push(state);
            }
            if total > MAX_HELD {
                let url = &self.url;
                return Err(format!(
                    "{url}: the objects have more than 32 MiB together: ask for fewer at once"
                ));
            }
        }
        Ok(held)
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        self.wanted(document)
    }
}

#[async_trait]
impl ReadBack for Local {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        folder::usable(&self.folder).await?;
        ReadBack::held(&*self.bucket, documents).await
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        self.bucket.wanted(document)
    }
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}
