//! A store in memory that takes its time, loses writes and becomes unavailable.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use crate::{
    clock::{self, Millis},
    dispatch::ledger::Ledger,
    event::AccountId,
    store::{
        Change, Phase, Store, StoreError, Write,
        records::{Account, DeliveryState, TargetId, TargetState},
    },
};

/// Writes that can be taken back.
const UNDO: usize = 30;

pub(super) struct Flaky {
    store: Store,
    phase: watch::Sender<Phase>,
    /// The longest a write takes.
    latency: Mutex<Duration>,
    inner: Arc<Mutex<Inner>>,
    panics: AtomicBool,
    /// How much later it is after an account was read, milliseconds.
    reading_ms: AtomicI64,
}

#[derive(Default)]
struct Inner {
    /// Grows when everything outstanding is lost.
    generation: u64,
    /// What takes back the last writes, the newest last.
    undo: VecDeque<Vec<Write>>,
    pub(super) writes: u64,
}

impl Flaky {
    pub(super) fn new() -> Self {
        Self {
            store: Store::in_memory(),
            phase: watch::Sender::new(Phase::Ready),
            latency: Mutex::default(),
            inner: Arc::default(),
            panics: AtomicBool::new(false),
            reading_ms: AtomicI64::new(0),
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    /// The next read of an account panics.
    pub(super) fn panic(&self) {
        self.panics.store(true, Ordering::Relaxed);
    }

    /// From now on it takes so long to read an account.
    pub(super) fn set_reading(&self, ms: i64) {
        self.reading_ms.store(ms, Ordering::Relaxed);
    }

    /// How many times something was written.
    pub(super) fn writes(&self) -> u64 {
        self.inner.lock().unwrap().writes
    }

    /// Loses the writes that are not finished, and the last `finished` ones that are: a crash of the machine.
    pub(super) fn lose(&self, finished: usize) {
        let mut inner = self.inner.lock().unwrap();
        inner.generation += 1;
        for _ in 0..finished {
            let Some(undo) = inner.undo.pop_back() else {
                break;
            };
            drop(self.store.write(undo));
        }
    }

    /// Refuses reads and writes until it is opened again.
    pub(super) fn close(&self) {
        self.phase.send_replace(Phase::Rebuilding { entries: 0 });
    }

    pub(super) fn open(&self) {
        self.phase.send_replace(Phase::Ready);
    }

    fn read<T>(&self, read: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if *self.phase.borrow() == Phase::Ready {
            read(&self.store)
        } else {
            Err(StoreError("it is being rebuilt".into()))
        }
    }

    fn undo(store: &Store, writes: &[Write]) -> Vec<Write> {
        let undo = |write: &Write| match write {
            Write::Delivery { target, id, .. } => {
                let state = store.delivery(*target, id).unwrap().unwrap_or_default();
                Write::Delivery {
                    target: *target,
                    id: id.clone(),
                    state,
                }
            }
            Write::Target { name, .. } | Write::Forget { name } => {
                let name = name.clone();
                match store.targets().unwrap().remove(&name) {
                    Some(state) => Write::Target { name, state },
                    None => Write::Forget { name },
                }
            }
        };
        writes.iter().map(undo).collect()
    }
}

impl Ledger for Flaky {
    fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.store.changed()
    }

    fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        let panics = self.panics.swap(false, Ordering::Relaxed);
        assert!(!panics, "as asked for by the test");
        clock::set(self.reading_ms.load(Ordering::Relaxed));
        self.read(|store| store.account(id))
    }

    fn changes(&self, after: u64, until: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.read(|store| store.changes(after, until, limit))
    }

    fn count_changes(&self, after: u64, until: u64) -> Result<u64, StoreError> {
        self.read(|store| store.count_changes(after, until))
    }

    fn delivery(
        &self,
        target: TargetId,
        id: &AccountId,
    ) -> Result<Option<DeliveryState>, StoreError> {
        self.read(|store| store.delivery(target, id))
    }

    fn retries(
        &self,
        target: TargetId,
        limit: usize,
    ) -> Result<Vec<(Millis, AccountId)>, StoreError> {
        self.read(|store| store.retries(target, limit))
    }

    fn deliveries(
        &self,
        target: TargetId,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<(AccountId, DeliveryState)>, StoreError> {
        self.read(|store| store.deliveries(target, after, limit))
    }

    fn targets(&self) -> Result<BTreeMap<String, TargetState>, StoreError> {
        self.read(Store::targets)
    }

    fn write(&self, writes: Vec<Write>) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        if *self.phase.borrow() != Phase::Ready {
            return written;
        }
        let (store, inner) = (self.store.clone(), Arc::clone(&self.inner));
        let generation = inner.lock().unwrap().generation;
        let longest = self.latency.lock().unwrap().as_micros();
        let takes = fastrand::u64(0..=u64::try_from(longest).unwrap());
        tokio::spawn(async move {
            if takes > 0 {
                tokio::time::sleep(Duration::from_micros(takes)).await;
            }
            let mut inner = inner.lock().unwrap();
            if inner.generation != generation {
                return;
            }
            let undo = Self::undo(&store, &writes);
            // A target must not be lost altogether: it would be new again, and a new target is not told of
            // accounts that are gone.
            if undo
                .iter()
                .any(|write| matches!(write, Write::Forget { .. }))
            {
                inner.undo.clear();
            } else {
                inner.undo.push_back(undo);
            }
            if inner.undo.len() > UNDO {
                inner.undo.pop_front();
            }
            inner.writes += 1;
            drop(store.write(writes));
            // The loop that asked may be gone.
            let _ = done.send(());
        });
        written
    }

    fn find(&self, name: &str) -> Result<Vec<AccountId>, StoreError> {
        self.read(|store| Ledger::find(store, name))
    }
}
