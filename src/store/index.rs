//! The ordered map of bytes under the store, small enough to be any embedded engine: `sled.rs` in production,
//! [`MemoryIndex`] in tests. It knows nothing of accounts.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::RwLock,
};

/// The engine failed or panicked. It must be closed, and opened or rebuilt anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct IndexError(pub(crate) String);

/// Why an index was not opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The files are not what the engine wrote.
    Damaged(IndexError),
    /// They may be as good as ever: the disk is full, the process has too many files open, the folder cannot be read.
    NotNow(IndexError),
}

impl From<OpenError> for IndexError {
    fn from((OpenError::Damaged(error) | OpenError::NotNow(error)): OpenError) -> Self {
        error
    }
}

/// Puts (`Some`) and removals (`None`) that become visible together.
pub(crate) type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What [`Index::scan`] calls with each key and value.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered map with atomic batches. One thread writes, any thread reads.
pub(crate) trait Index: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// Visits the entries with `from <= key < to` in order, until the visitor breaks.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), IndexError>;

    /// Applies a batch atomically: after a process crash all of it is there, or nothing.
    fn apply(&self, batch: Batch) -> Result<(), IndexError>;

    /// Hands everything to the operating system.
    fn flush(&self) -> Result<(), IndexError>;
}

/// A map in memory.
#[derive(Default)]
pub(crate) struct MemoryIndex(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

fn poisoned<T>(_: T) -> IndexError {
    IndexError("a writer panicked".into())
}

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.0.read().map_err(poisoned)?.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        if from >= to {
            return Ok(());
        }
        let map = self.0.read().map_err(poisoned)?;
        for (key, value) in map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Batch) -> Result<(), IndexError> {
        let mut map = self.0.write().map_err(poisoned)?;
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }
}
