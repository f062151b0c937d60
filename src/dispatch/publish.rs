//! When a loop shows its status, and what is in it.

use std::time::Duration;

use tokio::time::Instant;

use super::{report, target::Loop};
use crate::{
    clock::Millis,
    status::{BackfillStatus, TargetStatus},
    store::{StoreError, records::Account},
};

/// Least time between two updates while the loop is busy.
const BUSY: Duration = Duration::from_millis(250);
/// Time between two updates while something is due but nothing happens, for the ages to grow; and least time
/// between two looks for the oldest due account.
const IDLE: Duration = Duration::from_secs(1);

/// Accounts looked at that wait for the target to recover. Where they come in batches there may be thousands.
const SAMPLE: usize = 64;

/// Since when something has been due, looked up now and then.
pub(super) struct Lag {
    since: Option<Millis>,
    looked: Option<Instant>,
}

impl Lag {
    pub(super) fn new() -> Self {
        Self {
            since: None,
            looked: None,
        }
    }
}

impl Loop {
    /// Shows the status, unless the loop is busy and was so when that was done a moment ago. Returns when to do it again.
    pub(super) fn publish(&mut self, now: Instant) -> Result<Option<Instant>, StoreError> {
        let busy = !self.calls.is_empty() || self.books.backlog() > 0;
        if busy && self.shown_busy && now < self.published + BUSY {
            return Ok(Some(self.published + BUSY));
        }
        (self.published, self.shown_busy) = (now, busy);
        let mut status = self.status(now);
        status.due = status.due.saturating_sub(self.due_twice()?);
        // An account that is in a backfill and has changed since counts twice.
        if let Some(accounts) = self.meter.accounts() {
            status.due = status.due.min(accounts);
        }
        status.lag_seconds = self.lag(status.due, now)?.map_or(0.0, report::age);
        // A count may still be under way.
        let changing = status.due > 0 || !self.work.live.at_end();
        self.meter.show(&status, self.judge.breaker.is_open());
        self.board.update(|shown| *shown = status);
        Ok(changing.then(|| now + if busy { BUSY } else { IDLE }))
    }

    /// About how many accounts both wait for the target to recover and have changed since.
    fn due_twice(&self) -> Result<u64, StoreError> {
        let waiting = self.judge.waiting();
        let (all, sample) = (waiting.len(), waiting.len().min(SAMPLE));
        let mut changed = 0;
        // What is in hand is not among those that wait until it is written.
        for id in waiting.take(sample).filter(|id| !self.work.hand.holds(id)) {
            let account = self.ledger.account(&id)?;
            let awaits = |account: Account| self.work.live.awaits(account.changed_seq);
            changed += usize::from(account.is_some_and(awaits));
        }
        Ok((changed * all / sample.max(1)) as u64)
    }

    fn status(&mut self, now: Instant) -> TargetStatus {
        let feed = &self.work.live;
        // What was fetched may have moved on in the index meanwhile: where more follows, the index is counted.
        let changes = if feed.at_end() {
            u64::try_from(feed.open()).unwrap_or(u64::MAX)
        } else {
            self.backlog.count(&self.ledger, feed.cursor(), now)
        };
        let backfill = self.state.backfill.as_ref().map(|backfill| BackfillStatus {
            remaining: backfill.total.saturating_sub(backfill.done),
            total: backfill.total,
        });
        let filling = backfill.map_or(0, |backfill| backfill.remaining);
        TargetStatus {
            name: self.target.name.clone(),
            kind: self.target.kind_name.to_owned(),
            state: self.word().to_owned(),
            mode: self.target.options.mode.as_str().to_owned(),
            due: changes + filling + self.tally.waiting(),
            parked: self.tally.parked(),
            inflight: u64::try_from(self.inflight).unwrap_or(u64::MAX),
            delivered: self.delivered,
            lag_seconds: 0.0,
            backfill,
            last_success: self.state.last_success,
            last_error_at: self.state.last_error.as_ref().map(|&(at, _)| at),
            last_error: self.state.last_error.as_ref().map(|(_, text)| text.clone()),
        }
    }

    fn word(&self) -> &'static str {
        if self.state.paused {
            "paused"
        } else if self.state.held.is_some() {
            "held"
        } else if self.judge.breaker.is_open() {
            "open"
        } else if self.tally.waiting() > 0 {
            "failing"
        } else {
            "ok"
        }
    }

    fn lag(&mut self, due: u64, now: Instant) -> Result<Option<Millis>, StoreError> {
        if due == 0 {
            self.lag = Lag::new();
        } else if self.lag.looked.is_none_or(|looked| looked + IDLE <= now) {
            let feed = &self.work.live;
            let behind = feed.open() > 0 || !feed.at_end();
            let cursor = behind.then(|| feed.cursor());
            self.lag.since = report::oldest_due(&*self.ledger, self.state.id, cursor)?;
            self.lag.looked = Some(now);
        }
        Ok(self.lag.since)
    }
}
