//! The journal: the only thing between a request and its OK. Append-only segments of checksummed records.
//!
//! `writer` appends and syncs on a thread of its own; `reader` reads what is synced; `segment` is the format.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{clock::Millis, metrics::Metrics};

/// What is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was received.
    pub received: Millis,
    /// `SdkAppid`; 0 for the daemon's own records.
    pub app: u64,
    /// `CallbackCommand`
    pub command: String,
    /// The raw body.
    pub body: Bytes,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Strictly increasing, with gaps.
    pub seq: u64,
    /// What was appended.
    pub entry: Entry,
}

/// The journal does not take entries now; it takes them again as soon as its disk does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot take the event: {0}")]
pub struct AppendError(pub String);

/// The way to the writer's thread. Cheap to clone.
#[derive(Clone)]
pub struct Journal {}

/// How to open a journal.
#[derive(Clone)]
pub struct Options {
    /// Its folder; made if missing.
    pub dir: PathBuf,
    /// A segment is closed when it is larger, bytes.
    pub segment_bytes: u64,
    /// Entries are refused while the file system has less than this left, bytes.
    pub reserve_bytes: u64,
    /// Where commits are counted.
    pub metrics: Metrics,
}

impl Journal {
    /// Appends an entry; resolves with its sequence number once it is synced. The entry is written even when
    /// the caller goes away.
    ///
    /// # Errors
    /// When it could not be written or synced, or the journal is stopped.
    pub async fn append(&self, entry: Entry) -> Result<u64, AppendError> {
        unimplemented!()
    }

    /// The highest synced sequence number.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    /// `Ok` while entries are taken; otherwise why not.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Result<(), String>> {
        unimplemented!()
    }
}

pub struct Reader {}
impl Reader {
    pub fn open(dir: &std::path::Path, after: u64, metrics: Metrics) -> std::io::Result<Self> {
        unimplemented!()
    }
    pub fn read(&mut self, until: u64, max: usize) -> std::io::Result<Vec<Record>> {
        unimplemented!()
    }
}
pub fn remove_before(dir: &std::path::Path, seq: u64) -> std::io::Result<()> {
    unimplemented!()
}
pub fn bytes_since(dir: &std::path::Path, seq: u64) -> u64 {
    unimplemented!()
}
