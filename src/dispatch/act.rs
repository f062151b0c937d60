//! What operators may ask of a target, and how its loop does it.

use tokio::time::Instant;

use super::{ActError, Reply, due::Cause, hand::Claims, settle, target::Loop};
use crate::{
    clock,
    event::AccountId,
    store::{
        StoreError,
        records::{DeliveryState, Next},
    },
};

/// Deliveries read in one step of a sweep.
const PAGE: usize = 1024;

/// An order to a loop.
#[derive(Debug)]
pub(super) enum Order {
    Pause,
    Resume,
    /// Try these accounts now.
    Retry(Vec<AccountId>),
    /// Try all now that are parked, and all that wait unless it is to be the parked alone.
    RetryAll {
        only_parked: bool,
    },
    /// Deliver every account anew; about so many.
    Backfill {
        total: u64,
    },
    Approve,
}

/// A walk over all deliveries that makes parked or waiting ones due.
pub(super) struct Sweep {
    after: Option<AccountId>,
    only_parked: bool,
    /// Told when it is over: whoever asked is to know if it is not.
    replies: Vec<(Reply, String)>,
}

impl Loop {
    /// Follows an order. It is answered once what was done is written. What was decided about the target is synced by
    /// then; accounts that were made due are in the index alone, whose newest writes a crash may take back.
    pub(super) fn act(&mut self, order: Order, reply: Reply) -> Result<(), StoreError> {
        let name = &self.target.name;
        let done = match order {
            Order::Pause => {
                self.state.paused = true;
                format!("{name} is paused")
            }
            Order::Resume => {
                self.state.paused = false;
                self.promise("goes on")
            }
            Order::Backfill { total } => {
                self.state.epoch += 1;
                self.state.backfill = Some(self.work.backfill(total));
                tracing::info!(target = name, accounts = total, "backfill began");
                let total = accounts(total, "account");
                format!("{name} gets every live account anew ({total} known)")
            }
            Order::Approve => {
                if self.state.held.take().is_none() {
                    let error = format!("{name} is not held: there is nothing to approve");
                    let _ = reply.send(Err(ActError::Refused(error)));
                    return Ok(());
                }
                let newest = *self.ledger.changed().borrow();
                if let Some(guard) = &mut self.guard {
                    guard.approve(newest);
                }
                tracing::info!(target = name, "approved");
                self.promise("goes on with all that is due")
            }
            Order::RetryAll { only_parked } => {
                let parked = accounts(self.tally.parked(), "parked account");
                let text = if only_parked {
                    self.tries(&parked)
                } else {
                    let waiting = self.tally.waiting();
                    self.tries(&format!("{waiting} waiting and {parked}"))
                };
                // One that is under way is not cut short: what it has not reached is met again.
                let sweep = self.sweep.get_or_insert_with(|| Sweep {
                    after: None,
                    only_parked,
                    replies: Vec::new(),
                });
                sweep.after = None;
                sweep.only_parked &= only_parked;
                sweep.replies.push((reply, text));
                self.judge.breaker.probe_now(Instant::now());
                return Ok(());
            }
            Order::Retry(ids) => match self.retry(&ids)? {
                Ok(text) => text,
                Err(error) => {
                    let _ = reply.send(Err(error));
                    return Ok(());
                }
            },
        };
        self.books.reply(reply, done);
        // Who asked will look.
        self.shown_busy = false;
        Ok(())
    }

    fn retry(&mut self, ids: &[AccountId]) -> Result<Result<String, ActError>, StoreError> {
        let mut count = 0;
        for id in ids {
            let state = self.ledger.delivery(self.state.id, id)?.unwrap_or_default();
            if state.trouble.is_some() {
                count += 1;
                self.lift(id.clone(), state);
                // As soon as that is written, before others whose time has come.
                self.work.force([id.clone()]);
            }
        }
        if count == 0 {
            let name = &self.target.name;
            let text =
                format!("nothing to retry: the account neither waits nor is parked at {name}");
            return Ok(Err(ActError::Refused(text)));
        }
        let text = self.tries(&accounts(count, "account"));
        self.judge.breaker.probe_now(Instant::now());
        Ok(Ok(text))
    }

    /// What an operator is told who asks for retries.
    fn tries(&self, which: &str) -> String {
        if self.judge.breaker.is_open() && self.obstacle().is_none() {
            let name = &self.target.name;
            format!(
                "{name} fails as a whole: it gets one delivery now, and all that is due when that succeeds"
            )
        } else {
            self.promise(&format!("tries {which}"))
        }
    }

    /// That the target does so, and what it waits for before.
    fn promise(&self, what: &str) -> String {
        let name = &self.target.name;
        match self.obstacle() {
            None => format!("{name} {what} now"),
            Some((state, way)) => format!("{name} is {state}: it {what} once it is {way}"),
        }
    }

    /// The state in which the target gets nothing, and what an operator can do about it.
    fn obstacle(&self) -> Option<(&'static str, &'static str)> {
        match (self.state.paused, self.state.held.is_some()) {
            (false, false) => None,
            (true, false) => Some(("paused", "resumed")),
            (false, true) => Some(("held", "approved")),
            (true, true) => Some(("paused and held", "resumed and approved")),
        }
    }

    /// Takes the next step of a sweep.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        if self.books.is_writing() {
            return Ok(());
        }
        let Some(mut sweep) = self.sweep.take() else {
            return Ok(());
        };
        let page = self
            .ledger
            .deliveries(self.state.id, sweep.after.as_ref(), PAGE)?;
        let last = page.len() < PAGE;
        for (id, before) in page {
            sweep.after = Some(id.clone());
            let meant = match before.trouble.as_ref().map(|trouble| trouble.next) {
                Some(Next::Parked) => true,
                Some(Next::Retry { .. }) => !sweep.only_parked,
                None => false,
            };
            if meant {
                self.lift(id, before);
            }
        }
        if last {
            for (reply, text) in sweep.replies {
                self.books.reply(reply, text);
            }
        } else {
            self.sweep = Some(sweep);
        }
        Ok(())
    }

    /// Makes a delivery due that is parked or waits; one in hand is looked at again instead.
    pub(super) fn lift(&mut self, id: AccountId, before: DeliveryState) {
        let taken = self.work.hand.take(&id, Cause::Forced, Claims::default());
        if taken.is_ok() {
            let after = settle::lifted(&before, clock::now());
            self.settled(id, before, after, false);
        }
    }
}

fn accounts(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}
