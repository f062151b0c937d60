//! The part of the store that dispatch uses. A trait, because the simulation must lose writes and refuse reads
//! at will, which the real store does not do on demand.

use std::collections::BTreeMap;

use tokio::sync::{oneshot, watch};

use crate::{
    clock::Millis,
    event::AccountId,
    store::{
        Change, Phase, Store, StoreError, Write,
        records::{Account, DeliveryState, TargetId, TargetState},
    },
};

/// Accounts read in one go when all of them must be looked through.
const PAGE: usize = 256;

/// As in [`Store`], which documents each.
pub(super) trait Ledger: Send + Sync + 'static {
    fn phase(&self) -> watch::Receiver<Phase>;
    fn changed(&self) -> watch::Receiver<u64>;
    fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError>;
    fn changes(&self, after: u64, until: u64, limit: usize) -> Result<Vec<Change>, StoreError>;
    fn count_changes(&self, after: u64, until: u64) -> Result<u64, StoreError>;
    fn delivery(
        &self,
        target: TargetId,
        id: &AccountId,
    ) -> Result<Option<DeliveryState>, StoreError>;
    fn retries(
        &self,
        target: TargetId,
        limit: usize,
    ) -> Result<Vec<(Millis, AccountId)>, StoreError>;
    fn deliveries(
        &self,
        target: TargetId,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, DeliveryState)>, StoreError>;
    fn targets(&self) -> Result<BTreeMap<String, TargetState>, StoreError>;
    fn write(&self, writes: Vec<Write>) -> oneshot::Receiver<()>;

    /// The accounts of this name, in any app. May read every account: not for an async thread.
    fn find(&self, name: &str) -> Result<Vec<AccountId>, StoreError>;
}

impl Ledger for Store {
    fn phase(&self) -> watch::Receiver<Phase> {
        self.phase()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed()
    }

    fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.account(id)
    }

    fn changes(&self, after: u64, until: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.changes(after, until, limit)
    }

    fn count_changes(&self, after: u64, until: u64) -> Result<u64, StoreError> {
        self.count_changes(after, until)
    }

    fn delivery(
        &self,
        target: TargetId,
        id: &AccountId,
    ) -> Result<Option<DeliveryState>, StoreError> {
        self.delivery(target, id)
    }

    fn retries(
        &self,
        target: TargetId,
        limit: usize,
    ) -> Result<Vec<(Millis, AccountId)>, StoreError> {
        self.retries(target, limit)
    }

    fn deliveries(
        &self,
        target: TargetId,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, DeliveryState)>, StoreError> {
        self.deliveries(target, after, limit)
    }

    fn targets(&self) -> Result<BTreeMap<String, TargetState>, StoreError> {
        self.targets()
    }

    fn write(&self, writes: Vec<Write>) -> oneshot::Receiver<()> {
        self.write(writes)
    }

    fn find(&self, name: &str) -> Result<Vec<AccountId>, StoreError> {
        let mut found = Vec::new();
        let mut after: Option<AccountId> = None;
        loop {
            let page = self.accounts(after.as_ref(), name, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(found);
            };
            after = Some(last.clone());
            let ids = page.into_iter().map(|(id, _)| id);
            found.extend(ids.filter(|id| id.account == name));
        }
    }
}
