//! The journal: the only thing between a request and its OK. Append-only segments of checksummed records.
//!
//! `writer` appends and syncs on a thread of its own; `reader` reads what is synced. Below them: `segment` is the
//! format, `scan` reads one segment over damage, `file` is the segment being written, `recover` is what a start does,
//! and `faults` makes the disk fail in tests. Nothing here knows what a record means.
//!
//! 1. What `append` resolved with is on the disk, and every reader sees it.
//! 2. Readers see records in the order of their numbers, and the same ones whenever they read; a number is never given
//!    to another entry.
//! 3. What was refused is not seen by any reader of this process. The next start keeps it if it finds it whole in the
//!    newest segment.
//! 4. Opening does not fail because of what is in the folder.

mod faults;
mod file;
mod reader;
mod recover;
mod scan;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use bytes::Bytes;
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

pub use self::reader::Reader;
use self::{
    faults::Faults,
    segment::Segment,
    writer::{Channels, Waiting, Writer},
};
use crate::{clock::Millis, metrics::Metrics};

/// The length at which a segment is closed, where nothing else is asked for.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// Entries that may wait for the writer; then [`Journal::append`] waits.
const WAITING_ENTRIES: usize = 4096;

/// Why nothing is taken after the end.
const STOPPED: &str = "the journal is stopped";

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
pub struct Journal {
    waiting: mpsc::Sender<Waiting>,
    synced: watch::Receiver<u64>,
    health: watch::Receiver<Result<(), String>>,
    stop: CancellationToken,
    stopped: CancellationToken,
    base: u64,
}

/// How to open a journal.
#[derive(Clone)]
pub struct Options {
    /// Its folder; made if missing.
    pub dir: PathBuf,
    /// A segment is closed when it is larger, bytes.
    pub segment_bytes: u64,
    /// Entries are refused while the file system has less than this left, bytes.
    pub reserve_bytes: u64,
    /// The highest number known from elsewhere, such as a snapshot: it and those below are not given out again, even if
    /// the journal's files are lost.
    pub floor: u64,
    /// Numbers to leave out, so that none is given out twice even if the newest segment is lost.
    pub gap: u64,
    /// Where commits are counted.
    pub metrics: Metrics,
}

/// What was found when a journal was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The last number of what is kept, or the floor if that is higher.
    pub last_seq: u64,
    /// What was wrong with the files and what was done about it, in words; logged already.
    pub damage: Vec<String>,
}

impl Journal {
    /// Opens a journal and starts its thread. It is quick: the newest segment alone is looked into. Neither damaged
    /// files nor a full disk make it fail; [`Self::health`] tells whether entries are taken.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(options: Options) -> io::Result<(Self, Opened)> {
        Self::open_with(options, Faults::default())
    }

    fn open_with(options: Options, faults: Faults) -> io::Result<(Self, Opened)> {
        let (waiting, entries) = mpsc::channel(WAITING_ENTRIES);
        let (synced_sender, synced) = watch::channel(options.floor);
        let (health_sender, health) = watch::channel(Ok(()));
        let stop = CancellationToken::new();
        let stopped = CancellationToken::new();
        let channels = Channels {
            waiting: entries,
            synced: synced_sender,
            health: health_sender,
            stop: stop.clone(),
            stopped: stopped.clone(),
        };
        let mut writer = Writer::new(options, channels, faults);
        let damage = writer.start();
        let last_seq = *synced.borrow();
        let base = writer.base().max(last_seq);
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || runtime.block_on(writer.run()))?;
        let journal = Self {
            waiting,
            synced,
            health,
            stop,
            stopped,
            base,
        };
        Ok((journal, Opened { last_seq, damage }))
    }

    /// Appends an entry; resolves with its sequence number once it is synced. While the writer is behind, it waits: the
    /// caller sets the limit. Once handed over, the entry is written even when the caller goes away.
    ///
    /// # Errors
    /// When it could not be written or synced, is not UTF-8 or too long, or the journal is stopped.
    pub async fn append(&self, entry: Entry) -> Result<u64, AppendError> {
        if let Some(reason) = segment::refusal(&entry) {
            return Err(AppendError(reason));
        }
        let stopped = || AppendError(STOPPED.into());
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { entry, answer };
        self.waiting.send(waiting).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The highest synced sequence number.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    /// `Ok` while entries are taken; otherwise why not.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Result<(), String>> {
        self.health.clone()
    }

    /// The number before the first that this run gives out.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Resolves while the writer takes what it is given; for the watchdog.
    pub async fn answers(&self) -> bool {
        self.waiting.reserve().await.is_ok()
    }

    /// Takes no more entries, answers those that wait, and resolves when the thread is done with its files.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

/// Removes the segments whose records all have numbers up to `seq`; never the newest.
///
/// # Errors
/// When the folder cannot be read or a file not removed; those before it are gone.
pub fn remove_before(dir: &Path, seq: u64) -> io::Result<()> {
    let segments = segment::list(dir)?;
    let kept = newer(&segments, seq).len();
    for segment in &segments[..segments.len() - kept] {
        fs::remove_file(&segment.path)?;
    }
    Ok(())
}

/// The size of the segments that may hold records with numbers above `seq`, bytes. What cannot be seen counts nothing.
#[must_use]
pub fn bytes_since(dir: &Path, seq: u64) -> u64 {
    let segments = segment::list(dir).unwrap_or_default();
    newer(&segments, seq)
        .iter()
        .filter_map(|segment| fs::metadata(&segment.path).ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// The number the oldest segment begins with: records from there on can be read.
///
/// # Errors
/// When the folder cannot be read.
pub fn first_seq(dir: &Path) -> io::Result<Option<u64>> {
    Ok(segment::list(dir)?.first().map(|segment| segment.first))
}

/// The segments that may hold records with numbers above `seq`; the newest always may.
fn newer(segments: &[Segment], seq: u64) -> &[Segment] {
    let begun = segments.partition_point(|segment| segment.first <= seq.saturating_add(1));
    &segments[begun.saturating_sub(1)..]
}
