//! When snapshots are taken, and what they make superfluous.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    durable, journal,
    store::{
        index::Index,
        snapshot::{self, RESERVE_BYTES},
        state_dir::StateDir,
    },
};

const DAY: Duration = Duration::from_hours(24);
/// After a snapshot that failed, the next is tried so much later.
const PATIENCE: Duration = Duration::from_mins(1);
/// Snapshots kept; the journal is kept from the oldest of them on.
const KEPT: usize = 2;

/// Takes snapshots on a thread of their own.
pub(crate) struct Snapshots {
    journal_max: u64,
    /// The newest one: sequence number, bytes.
    newest: (u64, u64),
    /// When the newest was taken, or the daemon started without one.
    since: Instant,
    not_before: Instant,
    /// The last one failed.
    failed: bool,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Snapshots {
    pub(crate) fn new(dir: &StateDir, journal_max: u64) -> Self {
        let found = dir.snapshots().unwrap_or_default();
        let newest = found
            .first()
            .map_or((0, 0), |(applied, path)| (*applied, bytes(path)));
        Self {
            journal_max,
            newest,
            since: Instant::now(),
            not_before: Instant::now(),
            failed: false,
            running: None,
        }
    }

    /// Takes one if one is due: when the journal since the last exceeds `journal_max` and that snapshot's own size, or
    /// when a day went by with changes; and again if the last one failed.
    pub(crate) fn keep(&mut self, dir: &Arc<StateDir>, index: &Arc<Box<dyn Index>>, applied: u64) {
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            self.finish(dir, running);
        }
        let now = Instant::now();
        if self.running.is_some() || now < self.not_before {
            return;
        }
        if !self.failed && !self.is_due(dir, applied, now) {
            return;
        }
        let path = dir.snapshot(applied);
        if let Err(error) = durable::leave(self.newest.1 + RESERVE_BYTES, &path) {
            tracing::error!(%error, "no snapshot is taken; the journal is kept and it is tried again");
            self.not_before = now + PATIENCE;
            return;
        }
        self.failed = false;
        let index = Arc::clone(index);
        self.newest = (applied, 0);
        self.since = now;
        let write = move || snapshot::write(&**index, applied, &path);
        match thread::Builder::new().name("snapshot".into()).spawn(write) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                tracing::error!(%error, "no thread for a snapshot; it is tried again");
                self.fail(dir);
            }
        }
    }

    fn is_due(&self, dir: &StateDir, applied: u64, now: Instant) -> bool {
        let bytes = || journal::bytes_since(&dir.journal(), self.newest.0);
        applied > self.newest.0
            && (self.since + DAY <= now || bytes() > self.journal_max.max(self.newest.1))
    }

    /// The newest snapshot is the one before, and another is to be taken a while later.
    fn fail(&mut self, dir: &StateDir) {
        *self = Self {
            not_before: Instant::now() + PATIENCE,
            failed: true,
            ..Self::new(dir, self.journal_max)
        };
    }

    fn finish(&mut self, dir: &StateDir, running: JoinHandle<io::Result<()>>) {
        let written = running
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("it panicked")));
        if let Err(error) = written {
            tracing::error!(%error, "a snapshot failed; the journal is kept and it is tried again");
            return self.fail(dir);
        }
        let (applied, _) = self.newest;
        let bytes = bytes(&dir.snapshot(applied));
        self.newest.1 = bytes;
        tracing::info!(applied, bytes, "a snapshot is taken");
        if let Err(error) = prune(dir) {
            tracing::error!(%error, "what the snapshot makes superfluous cannot be removed");
        }
    }

    /// Waits for the one that is being taken.
    pub(crate) fn join(&mut self, dir: &StateDir) {
        if let Some(running) = self.running.take() {
            self.finish(dir, running);
        }
    }

    /// Writes a snapshot to a file of the operator's choice.
    pub(crate) fn back_up(
        index: Arc<Box<dyn Index>>,
        applied: u64,
        path: PathBuf,
        done: oneshot::Sender<Result<(), String>>,
    ) {
        let write = move || {
            let written = match fs::exists(&path) {
                Ok(true) => Err(io::Error::other("it exists; name a new file")),
                _ => snapshot::write(&**index, applied, &path),
            };
            // Whoever asked may have gone; the file is there.
            done.send(written.map_err(|error| format!("{}: {error}", path.display())))
                .ok();
        };
        // Without a thread, `done` is dropped, and the asker told.
        drop(thread::Builder::new().name("backup".into()).spawn(write));
    }
}

/// Removes snapshots but the newest, and the journal up to the oldest that stays.
fn prune(dir: &StateDir) -> io::Result<()> {
    let snapshots = dir.snapshots()?;
    for (_, path) in snapshots.iter().skip(KEPT) {
        fs::remove_file(path)?;
    }
    if let Some((applied, _)) = snapshots.get(KEPT - 1) {
        journal::remove_before(&dir.journal(), *applied)?;
        dir.remove_damaged_snapshots()?;
    }
    Ok(())
}

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
