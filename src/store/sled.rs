//! sled behind [`Index`]. The only file that names sled.
//!
//! sled 0.34.7 panics on damaged files, at opening and at any later read; leaves a `*.generating` file when killed
//! while it writes its snapshot, and cannot open beside one. So every call is guarded, and whatever goes wrong is an
//! [`IndexError`]: the caller closes the index and opens or rebuilds it. Closed is not yet let go of: the last write of
//! a thread of sled's own may still be under way, and until it ends the folder cannot be opened again. One tree with
//! key prefixes and one `apply_batch` per round is the layout that survived every simulated crash.
#![expect(
    clippy::disallowed_types,
    reason = "this is the one file that names sled"
)]

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::store::index::{Batch, Index, IndexError, OpenError, Visit};

/// Bytes of a log segment: large segments cost less disk at the same load.
const SEGMENT_BYTES: usize = 8 << 20;

/// How often sled hands its buffers to the operating system by itself.
const FLUSH_EVERY_MS: u64 = 100;

/// How long an index that was closed may take to be let go of.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct SledIndex {
    /// Keeps the tree open.
    db: sled::Db,
}

impl SledIndex {
    /// Opens or makes an index in a folder of its own.
    pub(crate) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        wait_until_let_go(folder)?;
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private
            .create(folder)
            .and_then(|()| remove_unfinished_snapshots(folder))
            .map_err(|error| OpenError::NotNow(IndexError(error.to_string())))?;
        let mut passing = false;
        let opened = guard(|| {
            let opened = sled::Config::new()
                .path(folder)
                .cache_capacity(cache_bytes / 8 * 5) // counted as on disk; in memory it is more
                .segment_size(SEGMENT_BYTES)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open();
            passing = matches!(&opened, Err(sled::Error::Io(error)) if passes(error));
            opened
        });
        match opened {
            Ok(db) => Ok(Self { db }),
            Err(error) if passing => Err(OpenError::NotNow(error)),
            Err(error) => Err(OpenError::Damaged(error)),
        }
    }

    /// Puts entries that are not there yet, from any number of threads. After a crash some of them are there.
    pub(crate) fn fill(&self, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), IndexError> {
        guard(|| {
            entries
                .into_iter()
                .try_for_each(|(key, value)| self.db.insert(key, value).map(drop))
        })
    }
}

/// Waits for the lock on sled's file to be free. Nobody but this process can have it: the state directory is held.
fn wait_until_let_go(folder: &Path) -> Result<(), OpenError> {
    let Ok(file) = File::open(folder.join("db")) else {
        return Ok(()); // There is none yet; or sled says why it cannot be opened.
    };
    let begun = Instant::now();
    while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        if begun.elapsed() > PATIENCE {
            let reason = "it is still being read by what used it before";
            return Err(OpenError::NotNow(IndexError(reason.into())));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Whether an error says something of the system, and nothing of the files.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{
        OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let open_files = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(
        error.kind(),
        OutOfMemory | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
    ) || errno.is_some_and(|errno| open_files.contains(&errno))
}

/// sled renames its snapshot into place when it is whole, and fails to open beside one that is not.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "generating")
        {
            tracing::warn!(path = %path.display(), "removing a snapshot that sled did not finish");
            match path.is_dir() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
    }
    Ok(())
}

/// Turns sled's errors and panics into values.
fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError(format!("sled: {error}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(IndexError(format!("sled panicked: {text}")))
        }
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(guard(|| self.db.get(key))?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        if from >= to {
            return Ok(());
        }
        guard(|| {
            for entry in self.db.range(from..to) {
                let (key, value) = entry?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), IndexError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        guard(|| self.db.apply_batch(changes))
    }

    fn flush(&self) -> Result<(), IndexError> {
        guard(|| self.db.flush()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_system_is_no_damage() {
        use rustix::io::Errno;
        for errno in [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
        ] {
            assert!(passes(&errno.into()), "{errno}");
        }
        assert!(!passes(&Errno::IO.into()));
        assert!(!passes(&io::Error::other("corrupt")));
    }
}
