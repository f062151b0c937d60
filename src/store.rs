//! The merged state of every account and every delivery, as domain reads and writes.
//!
//! Reads go straight to the index. Writes go through one thread, the applier (`store/applier.rs`), which also
//! reads the journal; everything it takes in one round is one atomic batch. Nothing outside `store` sees a key.

pub mod records;

use std::collections::BTreeMap;

use tokio::sync::{oneshot, watch};

use crate::{clock::Millis, event::AccountId};
use records::{Account, DeliveryState, HistoryEntry, TargetId, TargetState};

/// Reads, and the way to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Store {}

/// The store cannot answer now: it is being opened or rebuilt, or its disk fails. It comes back by itself.
#[derive(Debug, thiserror::Error)]
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
    /// Forgets a target and all of its deliveries.
    Forget {
        /// The target's name.
        name: String,
    },
}

impl Store {
    /// The sequence number of the newest change that was applied; a wake-up for dispatchers.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }
    /// One account.
    pub fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        unimplemented!()
    }
    /// Accounts in the order of their ids, from after `after`, whose id contains `query`.
    pub fn accounts(
        &self,
        after: Option<&AccountId>,
        query: &str,
        limit: usize,
    ) -> Result<Vec<(AccountId, Account)>, StoreError> {
        unimplemented!()
    }
    /// An account's events, newest `EventTime` first.
    pub fn history(&self, id: &AccountId, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        unimplemented!()
    }
    /// Changes with `after < seq <= until`, oldest first.
    pub fn changes(&self, after: u64, until: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        unimplemented!()
    }
    /// How many changes have `after < seq <= until`.
    pub fn count_changes(&self, after: u64, until: u64) -> Result<u64, StoreError> {
        unimplemented!()
    }
    /// What is known of one delivery.
    pub fn delivery(
        &self,
        target: TargetId,
        id: &AccountId,
    ) -> Result<Option<DeliveryState>, StoreError> {
        unimplemented!()
    }
    /// The target's accounts that wait for a retry, the soonest first.
    pub fn retries(
        &self,
        target: TargetId,
        limit: usize,
    ) -> Result<Vec<(Millis, AccountId)>, StoreError> {
        unimplemented!()
    }
    /// Deliveries of a target in the order of account ids, from after `after`.
    pub fn deliveries(
        &self,
        target: TargetId,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, DeliveryState)>, StoreError> {
        unimplemented!()
    }
    /// Every target ever seen and not forgotten, by name.
    pub fn targets(&self) -> Result<BTreeMap<String, TargetState>, StoreError> {
        unimplemented!()
    }
    /// Hands writes to the applier. The receiver resolves once reads see them; it fails when the store had to be
    /// given up meanwhile, and the writes may be lost.
    pub fn write(&self, writes: Vec<Write>) -> oneshot::Receiver<()> {
        unimplemented!()
    }
}
