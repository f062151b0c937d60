//! What a dispatcher has yet to write: results, cursors, and whom to tell once they are written.
//!
//! One write is outstanding at a time, and results wait a moment for others: what gathers meanwhile goes with the next
//! one.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{Reply, ledger::Ledger, target::Loop};
use crate::{
    event::AccountId,
    store::{
        Write,
        records::{DeliveryState, TargetState},
    },
};

/// Results are written no more often. A batch costs the index far more than one more result in it.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);
/// But so many make a batch at once.
const WRITE_COUNT: usize = 512;
/// Cursors that moved without any result (accounts that were skipped) are written no more often.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// A delivery whose state changes.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) id: AccountId,
    pub(super) before: DeliveryState,
    pub(super) after: DeliveryState,
    /// Whether the account rests before its next delivery.
    pub(super) cool: bool,
}

/// See the module.
pub(super) struct Books {
    settled: Vec<Settled>,
    /// Told when the target's state, as it is now, is written.
    replies: Vec<(Reply, String)>,
    /// Whether the target's state must be written soon, or when convenient.
    urgent: bool,
    dirty: bool,
    saved: Instant,
    writing: Option<Writing>,
}

/// A write under way.
struct Writing {
    done: oneshot::Receiver<()>,
    written: Written,
}

/// What a finished write consisted of.
pub(super) struct Written {
    pub(super) settled: Vec<Settled>,
    pub(super) replies: Vec<(Reply, String)>,
}

impl Books {
    pub(super) fn new() -> Self {
        Self {
            settled: Vec::new(),
            replies: Vec::new(),
            urgent: false,
            dirty: false,
            saved: Instant::now(),
            writing: None,
        }
    }

    pub(super) fn settle(&mut self, settled: Settled) {
        self.settled.push(settled);
    }

    /// The target's state was changed and is to be written at once.
    pub(super) fn state_changed(&mut self) {
        self.urgent = true;
    }

    /// Answers an operator once the target's state is written.
    pub(super) fn reply(&mut self, reply: Reply, text: String) {
        self.replies.push((reply, text));
        self.urgent = true;
    }

    /// Results that are not known to be written.
    pub(super) fn backlog(&self) -> usize {
        let writing = self.writing.as_ref();
        self.settled.len() + writing.map_or(0, |writing| writing.written.settled.len())
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether all is written.
    pub(super) fn is_clean(&self) -> bool {
        !self.is_writing() && self.settled.is_empty() && !self.urgent && !self.dirty
    }

    /// When something will be written though nothing else happens.
    pub(super) fn write_at(&self) -> Option<Instant> {
        if self.is_writing() {
            return None;
        }
        self.due_at(false)
    }

    /// When what there is to write has gathered for long enough; `last` if nothing more will.
    fn due_at(&self, last: bool) -> Option<Instant> {
        let after = match self.settled.len() {
            _ if self.urgent => Duration::ZERO,
            0 if !self.dirty => return None,
            _ if last => Duration::ZERO,
            0 => SAVE_INTERVAL,
            1..WRITE_COUNT => WRITE_INTERVAL,
            _ => Duration::ZERO,
        };
        Some(self.saved + after)
    }

    fn is_due(&self, now: Instant, last: bool) -> bool {
        self.due_at(last).is_some_and(|at| at <= now)
    }

    /// Starts a write of all there is.
    fn write(&mut self, name: &str, state: &TargetState, ledger: &dyn Ledger, now: Instant) {
        let target = state.id;
        let deliveries = self.settled.iter().map(|settled| Write::Delivery {
            target,
            id: settled.id.clone(),
            state: settled.after.clone(),
        });
        let state = Write::Target {
            name: name.to_owned(),
            state: state.clone(),
        };
        let done = ledger.write(deliveries.chain([state]).collect());
        let written = Written {
            settled: std::mem::take(&mut self.settled),
            replies: std::mem::take(&mut self.replies),
        };
        self.writing = Some(Writing { done, written });
        self.urgent = false;
        self.dirty = false;
        self.saved = now;
    }

    /// Waits for the write under way; forever when there is none. `None` when it may be lost.
    pub(super) async fn written(&mut self) -> Option<Written> {
        let Some(writing) = &mut self.writing else {
            return std::future::pending().await;
        };
        let done = (&mut writing.done).await;
        let writing = self.writing.take()?;
        done.ok().map(|()| writing.written)
    }
}

impl Loop {
    /// Starts a write if there is reason for one and none is under way.
    pub(super) fn flush(&mut self, now: Instant, last: bool) {
        let Self {
            target,
            ledger,
            state,
            work,
            books,
            ..
        } = self;
        let gathering = !books.settled.is_empty() && !books.is_due(now, last);
        if books.is_writing() || gathering {
            return;
        }
        for settled in &books.settled {
            work.settle(&settled.id);
        }
        let saved = work.save(state);
        if saved.backfilled {
            tracing::info!(target = target.name, "backfill done");
        }
        books.urgent |= saved.backfilled;
        books.dirty |= saved.moved;
        if books.is_due(now, last) {
            books.write(&target.name, state, &**ledger, now);
        }
    }
}
