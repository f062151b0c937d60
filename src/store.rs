//! The merged state of every account and every delivery, as domain reads and writes.
//!
//! Reads go straight to the index. Writes go through one thread, the [`applier`], which also reads the journal;
//! everything it takes in one round is one atomic batch. Nothing outside `store` sees a key.

mod applier;
mod apply;
mod codec;
mod decisions;
mod index;
mod keys;
pub mod offline;
mod open;
pub mod records;
mod rest;
mod retention;
mod session;
mod sled;
mod snapshot;
mod snapshots;
pub mod state_dir;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use arc_swap::ArcSwapOption;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{clock::Millis, event::AccountId};
use codec::Stored;
use index::{Index, IndexError};
use records::{Account, DeliveryState, HistoryEntry, TargetId, TargetState};

pub use applier::{Applier, Options};

/// Reads, and the way to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    /// `None` while it is being opened or rebuilt.
    index: ArcSwapOption<Box<dyn Index>>,
    phase: watch::Sender<Phase>,
    changed: watch::Sender<u64>,
    /// Records read from the journal or applied, for the lag.
    applied: watch::Sender<u64>,
    /// Whether the applier waits for space on the disk.
    starved: watch::Sender<bool>,
    writer: Writer,
}

enum Writer {
    /// The applier's thread.
    Thread(mpsc::UnboundedSender<Request>),
    /// In memory: the caller's thread.
    Inline(Mutex<codec::Meta>),
}

/// What the applier is asked to do beside following the journal.
enum Request {
    Write(Vec<Write>, oneshot::Sender<()>),
    Backup(PathBuf, oneshot::Sender<Result<(), String>>),
    /// A read found the index broken.
    Broken(IndexError),
}

/// How far the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Phase {
    /// The index is being opened and checked.
    Opening,
    /// The index is built anew from a snapshot.
    Rebuilding {
        /// Entries so far.
        entries: u64,
    },
    /// The journal is being caught up with.
    Replaying {
        /// Sequence number applied.
        applied: u64,
        /// Sequence number to reach.
        end: u64,
    },
    /// Reads and writes are served.
    Ready,
    /// It cannot be opened now, and is tried again every second.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The store cannot answer now: it is being opened or rebuilt, or its disk fails. It comes back by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is unavailable: {0}")]
pub struct StoreError(pub String);

/// An entry of the change index: exactly one per account, moved to the end whenever a revision is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Journal sequence number of the event that made the account's newest revision.
    pub seq: u64,
    /// The account.
    pub id: AccountId,
}

/// One thing to write. All writes of one call of [`Store::write`] become durable together.
#[derive(Clone, Debug)]
pub enum Write {
    /// Replaces what is known of one delivery.
    Delivery {
        /// The target.
        target: TargetId,
        /// The account.
        id: AccountId,
        /// The new state.
        state: DeliveryState,
    },
    /// Replaces a target's state.
    Target {
        /// The target's name.
        name: String,
        /// The new state.
        state: TargetState,
    },
    /// Forgets a target and all of its deliveries, in the background. A later [`Write::Target`] of the name ends it.
    Forget {
        /// The target's name.
        name: String,
    },
}

impl Store {
    fn new(writer: Writer) -> Self {
        Self(Arc::new(Shared {
            index: ArcSwapOption::empty(),
            phase: watch::Sender::new(Phase::Opening),
            changed: watch::Sender::new(0),
            applied: watch::Sender::new(0),
            starved: watch::Sender::new(false),
            writer,
        }))
    }

    /// A store in memory, without a journal: writes are applied by whoever calls.
    #[must_use]
    pub fn in_memory() -> Self {
        let store = Self::new(Writer::Inline(Mutex::default()));
        store
            .0
            .index
            .store(Some(Arc::new(Box::new(index::MemoryIndex::default()))));
        store.0.phase.send_replace(Phase::Ready);
        store
    }

    /// Applies records to a store in memory, as if they were read from its journal.
    ///
    /// # Panics
    /// When the store is not one of [`Store::in_memory`].
    pub fn feed(&self, records: &[crate::journal::Record]) {
        self.apply_inline(|changes| {
            records
                .iter()
                .try_for_each(|record| changes.record(record, std::num::NonZeroU32::MAX))
        });
    }

    fn apply_inline(&self, fill: impl FnOnce(&mut apply::Changes<'_>) -> Result<(), IndexError>) {
        let mut meta = self.inline_meta();
        let index = self
            .0
            .index
            .load_full()
            .expect("a store in memory is always open");
        let mut changes = apply::Changes::new(&**index, meta.clone());
        fill(&mut changes).expect("a map in memory does not fail");
        let changed = changes.changed;
        let (batch, after) = changes.finish();
        index.apply(batch).expect("a map in memory does not fail");
        *meta = after;
        drop(meta);
        if let Some(seq) = changed {
            self.0.changed.send_replace(seq);
        }
    }

    fn inline_meta(&self) -> MutexGuard<'_, codec::Meta> {
        let Writer::Inline(meta) = &self.0.writer else {
            panic!("this store is not in memory")
        };
        meta.lock().expect("nothing panics while it holds this")
    }

    /// How far the store is; dispatch starts at [`Phase::Ready`].
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// A sequence number up to which every change is applied, that of the newest one or higher; a wake-up for
    /// dispatchers.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The sequence number of the newest record that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        *self.0.applied.borrow()
    }

    /// One account.
    ///
    /// # Errors
    /// While the store is unavailable; so for all reads.
    pub fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.read(|index| {
            index
                .get(&keys::account(id))?
                .as_deref()
                .map(Account::decode)
                .transpose()
        })
    }

    /// Accounts in the order of app and name, from after `after`, whose name contains `query`.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn accounts(
        &self,
        after: Option<&AccountId>,
        query: &str,
        limit: usize,
    ) -> Result<Vec<(AccountId, Account)>, StoreError> {
        let (first, end) = keys::Table::Account.range();
        let from = after.map_or(first, |id| keys::after(keys::account(id)));
        self.collect(&from, &end, limit, |key, value| {
            let Some(id) = keys::read_account_key(key) else {
                return Err(undecodable());
            };
            if !id.account.contains(query) {
                return Ok(None);
            }
            Ok(Some((id, Account::decode(value)?)))
        })
    }

    /// An account's events, newest `EventTime` first.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn history(&self, id: &AccountId, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        let prefix = keys::history_of(id);
        self.read(|index| {
            let mut newest = VecDeque::new();
            index.scan(&prefix, &keys::after(prefix.clone()), &mut |key, value| {
                newest.push_front((key.to_vec(), value.to_vec()));
                newest.truncate(limit);
                ControlFlow::Continue(())
            })?;
            let entry = |(key, value): (Vec<u8>, Vec<u8>)| {
                let (_, stamp) = keys::read_history(&key).ok_or_else(undecodable)?;
                codec::decode_history(stamp, &value)
            };
            newest.into_iter().map(entry).collect()
        })
    }

    /// Changes with `after < seq <= until`, oldest first.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn changes(&self, after: u64, until: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let (from, to) = change_range(after, until);
        self.collect(&from, &to, limit, |key, value| {
            let seq = keys::read_change(key).ok_or_else(undecodable)?;
            let (id, _) = keys::read_account(value).ok_or_else(undecodable)?;
            Ok(Some(Change { seq, id }))
        })
    }

    /// How many changes have `after < seq <= until`.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn count_changes(&self, after: u64, until: u64) -> Result<u64, StoreError> {
        let (from, to) = change_range(after, until);
        self.read(|index| {
            let mut count = 0;
            index.scan(&from, &to, &mut |_, _| {
                count += 1;
                ControlFlow::Continue(())
            })?;
            Ok(count)
        })
    }

    /// What is known of one delivery.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn delivery(
        &self,
        target: TargetId,
        id: &AccountId,
    ) -> Result<Option<DeliveryState>, StoreError> {
        self.read(|index| {
            index
                .get(&keys::delivery(target, id))?
                .as_deref()
                .map(DeliveryState::decode)
                .transpose()
        })
    }

    /// The target's accounts that wait for a retry, the soonest first.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn retries(
        &self,
        target: TargetId,
        limit: usize,
    ) -> Result<Vec<(Millis, AccountId)>, StoreError> {
        let prefix = keys::retries_of(target);
        self.collect(&prefix, &keys::after(prefix.clone()), limit, |key, _| {
            keys::read_retry(key).map(Some).ok_or_else(undecodable)
        })
    }

    /// Deliveries of a target in the order of accounts, from after `after`.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn deliveries(
        &self,
        target: TargetId,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, DeliveryState)>, StoreError> {
        let prefix = keys::deliveries_of(target);
        let from = after.map_or_else(
            || prefix.clone(),
            |id| keys::after(keys::delivery(target, id)),
        );
        self.collect(&from, &keys::after(prefix.clone()), limit, |key, value| {
            let (_, id) = keys::read_delivery(key).ok_or_else(undecodable)?;
            Ok(Some((id, DeliveryState::decode(value)?)))
        })
    }

    /// Every target ever seen and not forgotten, by name.
    ///
    /// # Errors
    /// While the store is unavailable.
    pub fn targets(&self) -> Result<BTreeMap<String, TargetState>, StoreError> {
        let (from, to) = keys::Table::Target.range();
        let targets = self.collect(&from, &to, usize::MAX, |key, value| {
            let name = String::from_utf8_lossy(&key[1..]).into_owned();
            Ok(Some((name, TargetState::decode(value)?)))
        })?;
        Ok(targets.into_iter().collect())
    }

    /// Hands writes to the applier. The receiver resolves once reads see them; it fails when the store had to be
    /// given up meanwhile, and the writes may be lost.
    #[must_use]
    pub fn write(&self, writes: Vec<Write>) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        match &self.0.writer {
            // When the applier is gone, `done` is dropped, and the receiver says so.
            Writer::Thread(applier) => drop(applier.send(Request::Write(writes, done))),
            Writer::Inline(_) => {
                self.apply_inline(|changes| {
                    writes.iter().try_for_each(|write| match write {
                        Write::Forget { name } => changes.target(name, None),
                        write => changes.write(write),
                    })
                });
                done.send(()).ok();
            }
        }
        written
    }

    /// Writes a snapshot of the whole state to a new file.
    ///
    /// # Errors
    /// When the file cannot be written, or the store is unavailable.
    pub async fn backup(&self, path: PathBuf) -> Result<(), String> {
        let Writer::Thread(applier) = &self.0.writer else {
            return Err("the store is in memory".into());
        };
        match &*self.0.phase.borrow() {
            Phase::Ready => {}
            Phase::Failed { reason } => return Err(format!("the store failed: {reason}")),
            _ => return Err("the store is being opened; try again when it is ready".into()),
        }
        let (done, written) = oneshot::channel();
        let gone = || "the store is stopping".to_owned();
        applier
            .send(Request::Backup(path, done))
            .map_err(|_| gone())?;
        tokio::select! {
            written = written => written.map_err(|_| gone())?,
            () = self.starved() => Err("the disk of the state is full".into()),
        }
    }

    /// Resolves when nothing is written because the disk is full.
    pub async fn starved(&self) {
        let mut starved = self.0.starved.subscribe();
        if starved.wait_for(|starved| *starved).await.is_err() {
            std::future::pending().await
        }
    }

    /// Resolves while the applier moves; for the watchdog. One that opens, rebuilds or waits for space does.
    pub async fn answers(&self) -> bool {
        if *self.0.phase.borrow() != Phase::Ready {
            return true;
        }
        tokio::select! {
            () = self.starved() => true,
            written = self.write(Vec::new()) => written.is_ok(),
        }
    }

    /// Up to `limit` entries of a range that `read` makes something of.
    fn collect<T>(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        read: impl Fn(&[u8], &[u8]) -> Result<Option<T>, IndexError>,
    ) -> Result<Vec<T>, StoreError> {
        self.read(|index| {
            let mut found = Vec::new();
            let mut failed = None;
            index.scan(from, to, &mut |key, value| {
                if found.len() >= limit {
                    return ControlFlow::Break(());
                }
                match read(key, value) {
                    Ok(item) => found.extend(item),
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })?;
            failed.map_or(Ok(found), Err)
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&dyn Index) -> Result<T, IndexError>,
    ) -> Result<T, StoreError> {
        let Some(index) = self.0.index.load_full() else {
            return Err(StoreError("it is being opened".into()));
        };
        read(&**index).map_err(|error| {
            if let Writer::Thread(applier) = &self.0.writer {
                // The applier closes the index and gets a good one; when it is gone, the daemon is stopping.
                drop(applier.send(Request::Broken(error.clone())));
            }
            StoreError(error.0)
        })
    }
}

fn change_range(after: u64, until: u64) -> (Vec<u8>, Vec<u8>) {
    let end = until
        .checked_add(1)
        .map_or_else(|| keys::Table::Change.range().1, keys::change);
    (keys::change(after.saturating_add(1)), end)
}

fn undecodable() -> IndexError {
    IndexError("a key does not decode".into())
}
