//! What a dispatcher tells of itself: status and metrics. Counting a long backlog is left to other threads.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{ledger::Ledger, settle::millis};
use crate::{
    clock::{self, Millis},
    event::AccountId,
    metrics::{DeliveryResult, Metrics, TargetLabel},
    status::TargetStatus,
    store::{
        StoreError,
        records::{DeliveryState, Next, TargetId, Trouble},
    },
};

/// Deliveries read in one step of the first count.
const PAGE: usize = 256;
/// Time between two steps, so that a million deliveries are counted beside the work and not before it.
const PAGE_INTERVAL: Duration = Duration::from_millis(10);
/// Least time between two counts of the backlog…
const COUNT_INTERVAL: Duration = Duration::from_millis(250);
/// …which also is so many times as long as a count takes.
const COUNT_SHARE: u32 = 20;
/// Accounts that wait for a retry, looked at for the one that waits longest.
const OLDEST: usize = 64;

/// The status of a target, as others see it.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Mutex<TargetStatus>>);

impl Board {
    pub(super) fn read(&self) -> TargetStatus {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut TargetStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// How many deliveries are parked and how many wait. Exact: counted once page by page, while changes to what was
/// counted already are followed.
#[derive(Debug)]
pub(super) struct Tally {
    parked: u64,
    waiting: u64,
    /// Counted up to here.
    counted: Option<AccountId>,
    /// When the next page is due; `None` when all is counted.
    page_at: Option<Instant>,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            parked: 0,
            waiting: 0,
            counted: None,
            page_at: Some(now),
        }
    }

    pub(super) fn page_at(&self) -> Option<Instant> {
        self.page_at
    }

    /// Counts the next page. Must not be called while a write is under way. Returns the page.
    pub(super) fn page(
        &mut self,
        ledger: &dyn Ledger,
        target: TargetId,
        now: Instant,
    ) -> Result<Vec<(AccountId, DeliveryState)>, StoreError> {
        let page = ledger.deliveries(target, self.counted.as_ref(), PAGE)?;
        for (id, state) in &page {
            self.count(state, 1);
            self.counted = Some(id.clone());
        }
        self.page_at = (page.len() == PAGE).then_some(now + PAGE_INTERVAL);
        Ok(page)
    }

    /// A delivery's state was replaced in the store.
    pub(super) fn replaced(
        &mut self,
        id: &AccountId,
        before: &DeliveryState,
        after: &DeliveryState,
    ) {
        if self.page_at.is_none() || self.counted.as_ref().is_some_and(|counted| id <= counted) {
            self.count(before, -1);
            self.count(after, 1);
        }
    }

    fn count(&mut self, state: &DeliveryState, by: i64) {
        let count = match state.trouble.as_ref().map(|trouble| trouble.next) {
            Some(Next::Parked) => &mut self.parked,
            Some(Next::Retry { .. }) => &mut self.waiting,
            None => return,
        };
        *count = count.saturating_add_signed(by);
    }

    pub(super) fn parked(&self) -> u64 {
        self.parked
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }
}

/// How many changes are behind the live feed's cursor, counted on another thread when they may be many.
pub(super) struct Backlog {
    shared: Arc<Counted>,
    /// What was counted last: from where, and the newest change then.
    of: (u64, u64),
    next: Instant,
}

#[derive(Default)]
struct Counted {
    count: AtomicU64,
    took_ms: AtomicU64,
    running: AtomicBool,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            shared: Arc::default(),
            of: (0, 0),
            next: now,
        }
    }

    /// The count, a few seconds old at worst when it is large.
    pub(super) fn count(&mut self, ledger: &Arc<dyn Ledger>, cursor: u64, now: Instant) -> u64 {
        let newest = *ledger.changed().borrow();
        let idle = !self.shared.running.load(Ordering::Acquire);
        if idle && self.next <= now && self.of != (cursor, newest) {
            self.of = (cursor, newest);
            let took = Duration::from_millis(self.shared.took_ms.load(Ordering::Relaxed));
            self.next = now + COUNT_INTERVAL.max(took * COUNT_SHARE);
            self.shared.running.store(true, Ordering::Release);
            let (ledger, shared) = (Arc::clone(ledger), Arc::clone(&self.shared));
            tokio::task::spawn_blocking(move || {
                let started = Instant::now();
                // An unavailable store is met by the loop as well, which waits for it.
                if let Ok(count) = ledger.count_changes(cursor, u64::MAX) {
                    shared.count.store(count, Ordering::Relaxed);
                }
                let took = millis(started.elapsed());
                shared.took_ms.store(took, Ordering::Relaxed);
                shared.running.store(false, Ordering::Release);
            });
        }
        self.shared.count.load(Ordering::Relaxed)
    }
}

/// When the account that has been due for longest became so. `cursor` is that of the live feed, if anything
/// behind it is unfinished.
pub(super) fn oldest_due(
    ledger: &dyn Ledger,
    target: TargetId,
    cursor: Option<u64>,
) -> Result<Option<Millis>, StoreError> {
    let mut oldest = None;
    let mut note = |at: Millis| oldest = Some(oldest.map_or(at, |known: Millis| known.min(at)));
    if let Some(cursor) = cursor {
        for change in ledger.changes(cursor, u64::MAX, 1)? {
            if let Some(account) = ledger.account(&change.id)? {
                note(account.changed_at);
            }
        }
    }
    for (_, id) in ledger.retries(target, OLDEST)? {
        let delivery = ledger.delivery(target, &id)?;
        if let Some(Trouble { since, .. }) = delivery.and_then(|delivery| delivery.trouble) {
            note(since);
        }
    }
    Ok(oldest)
}

/// The metrics of one target.
pub(super) struct Meter {
    metrics: Metrics,
    label: TargetLabel,
}

impl Meter {
    pub(super) fn new(metrics: Metrics, target: &str) -> Self {
        let label = TargetLabel {
            target: target.to_owned(),
        };
        Self { metrics, label }
    }

    /// How many accounts there are, as far as is known.
    pub(super) fn accounts(&self) -> Option<u64> {
        let accounts = u64::try_from(self.metrics.accounts.get()).ok();
        accounts.filter(|&accounts| accounts > 0)
    }

    /// Counts what became of an account in a call.
    pub(super) fn delivery(&self, result: DeliveryResult) {
        self.metrics.delivery(&self.label.target, result);
    }

    /// Counts a call.
    pub(super) fn call(&self, took: Duration) {
        let seconds = self.metrics.delivery_seconds.get_or_create(&self.label);
        seconds.observe(took.as_secs_f64());
    }

    /// Shows a status.
    pub(super) fn show(&self, status: &TargetStatus, open: bool) {
        let metrics = &self.metrics;
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let remaining = status.backfill.map_or(0, |backfill| backfill.remaining);
        metrics
            .due
            .get_or_create(&self.label)
            .set(gauge(status.due));
        metrics
            .parked
            .get_or_create(&self.label)
            .set(gauge(status.parked));
        metrics
            .inflight
            .get_or_create(&self.label)
            .set(gauge(status.inflight));
        metrics
            .breaker_open
            .get_or_create(&self.label)
            .set(i64::from(open));
        metrics
            .backfill_remaining
            .get_or_create(&self.label)
            .set(gauge(remaining));
        let lag = metrics.sync_lag_seconds.get_or_create(&self.label);
        lag.set(status.lag_seconds);
        if let Some(at) = status.last_success {
            let success = metrics
                .last_success_timestamp_seconds
                .get_or_create(&self.label);
            success.set(Duration::from_millis(at).as_secs_f64());
        }
    }
}

/// How long ago that was, seconds.
pub(super) fn age(at: Millis) -> f64 {
    Duration::from_millis(clock::now().saturating_sub(at)).as_secs_f64()
}
