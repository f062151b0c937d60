//! How a target gets its state: a new one, one whose settings changed, one that was removed and one that came
//! back. Whoever does this holds the [`Register`], so that two new targets do not get the same number.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Mutex;

use super::{ledger::Ledger, settle::millis};
use crate::{
    clock::{self, Millis},
    store::{
        StoreError, Write,
        records::{Backfill, TargetState, after_new_settings},
    },
};

/// How long the state of a removed target is kept.
const KEEP: Duration = Duration::from_hours(7 * 24);

/// The targets known to the store.
#[derive(Clone)]
pub(super) struct Register {
    ledger: Arc<dyn Ledger>,
    lock: Arc<Mutex<()>>,
}

impl Register {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        let lock = Arc::default();
        Self { ledger, lock }
    }

    /// The state a target goes on from, as the store has it from now on.
    pub(super) async fn enroll(
        &self,
        name: &str,
        identity: &str,
    ) -> Result<TargetState, StoreError> {
        let _lock = self.lock.lock().await;
        let (ledger, name, identity) = (
            Arc::clone(&self.ledger),
            name.to_owned(),
            identity.to_owned(),
        );
        let (name, before, state) = blocking(move || {
            let mut known = ledger.targets()?;
            let before = known.remove(&name);
            let state = match before.clone() {
                Some(state) => returning(&*ledger, state, &identity)?,
                None => new(&*ledger, &known, &identity)?,
            };
            Ok((name, before, state))
        })
        .await?;
        if before.as_ref() != Some(&state) {
            if state.backfill.is_some()
                && before.as_ref().map(|before| before.epoch) != Some(state.epoch)
            {
                let accounts = state.backfill.as_ref().map(|backfill| backfill.total);
                tracing::info!(
                    target = name,
                    accounts,
                    "backfill began: the target is new, changed or was forgotten"
                );
            }
            self.write(vec![Write::Target {
                name,
                state: state.clone(),
            }])
            .await?;
        }
        Ok(state)
    }

    /// Marks the targets that are neither configured nor still running, and forgets those marked long ago. `present`
    /// is asked once no target can enroll meanwhile: the state of one that came just before would be overwritten.
    pub(super) async fn prune(
        &self,
        present: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let _lock = self.lock.lock().await;
        let present = present();
        let ledger = Arc::clone(&self.ledger);
        let known = blocking(move || ledger.targets()).await?;
        let gone = known
            .into_iter()
            .filter(|(name, _)| !present.contains(name));
        let writes: Vec<_> = gone
            .filter_map(|(name, state)| removed(name, state))
            .collect();
        if writes.is_empty() {
            return Ok(());
        }
        self.write(writes).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let done = self.ledger.write(writes);
        done.await
            .map_err(|_| StoreError("a write was lost".into()))
    }
}

fn new(
    ledger: &dyn Ledger,
    known: &BTreeMap<String, TargetState>,
    identity: &str,
) -> Result<TargetState, StoreError> {
    let live = *ledger.changed().borrow();
    Ok(TargetState {
        id: known.values().map(|state| state.id).max().unwrap_or(0) + 1,
        identity: identity.to_owned(),
        epoch: 1,
        live,
        backfill: backfill(ledger, live)?,
        ..TargetState::default()
    })
}

fn returning(
    ledger: &dyn Ledger,
    mut state: TargetState,
    identity: &str,
) -> Result<TargetState, StoreError> {
    // What was removed so long ago is being forgotten: some of its deliveries may be gone already.
    let forgotten = state.removed_at.take().is_some_and(is_long_ago);
    if forgotten || state.identity != identity {
        identity.clone_into(&mut state.identity);
        state.epoch = after_new_settings(state.epoch);
        // `live` stays: what changed after it and is not delivered yet, a destroy say, must not be skipped.
        state.backfill = backfill(ledger, state.live)?;
    }
    Ok(state)
}

fn backfill(ledger: &dyn Ledger, end: u64) -> Result<Option<Backfill>, StoreError> {
    let total = ledger.count_changes(0, end)?;
    let backfill = Backfill {
        next: 0,
        end,
        total,
        done: 0,
    };
    Ok((total > 0).then_some(backfill))
}

fn is_long_ago(removed_at: Millis) -> bool {
    removed_at + millis(KEEP) <= clock::now()
}

/// What to write about a target that is not configured.
fn removed(name: String, mut state: TargetState) -> Option<Write> {
    match state.removed_at {
        None => {
            tracing::info!(target = name, "removed: its state is kept for a week");
            state.removed_at = Some(clock::now());
            Some(Write::Target { name, state })
        }
        Some(at) if is_long_ago(at) => {
            tracing::info!(target = name, "forgotten: it was removed a week ago");
            Some(Write::Forget { name })
        }
        Some(_) => None,
    }
}

/// Runs what may read much on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(error) => Err(StoreError(format!("a read failed: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_target_that_comes_while_others_enroll_is_not_marked() {
        let register = Register::new(Arc::new(Store::in_memory()));
        for name in ["crm", "old"] {
            register.enroll(name, "first").await.unwrap();
        }
        let present = std::sync::Mutex::new(BTreeSet::new());
        let enrolling = register.lock.lock().await;
        let pruned = register.prune(|| present.lock().unwrap().clone());
        tokio::pin!(pruned);
        assert!(futures_util::poll!(pruned.as_mut()).is_pending());
        present.lock().unwrap().insert("crm".to_owned());
        drop(enrolling);
        pruned.await.unwrap();
        let known = register.ledger.targets().unwrap();
        let marked = |name: &str| known[name].removed_at.is_some();
        assert_eq!(["crm", "old"].map(marked), [false, true]);
    }
}
