//! What a loop does with the results of its calls: judge them, log them, have them written, and go on once they are.

use profilesync_target::Outcome;
use tokio::time::Instant;

use super::{
    books::{Settled, Written},
    call::{Call, Fate},
    due,
    judge::Turn,
    settle::{self, Attempt},
    target::Loop,
};
use crate::{
    clock,
    event::AccountId,
    metrics::DeliveryResult,
    store::{
        StoreError,
        records::{DeliveryState, Next},
    },
};

impl Loop {
    /// A call ended.
    pub(super) fn finish(&mut self, call: Call, fate: Fate) {
        let now = Instant::now();
        self.inflight -= call.attempts.len();
        self.calls_again -= usize::from(call.again);
        self.meter.call(now - call.started);
        let outcomes = match fate {
            Fate::Each(outcomes) => outcomes,
            Fate::Refused => {
                self.judge.breaker.neutral(call.probe, now);
                self.work.split(
                    call.attempts
                        .into_iter()
                        .map(|attempt| attempt.id)
                        .collect(),
                );
                return;
            }
        };
        let turn = self.judge.conclude(&call, &outcomes, now);
        for (attempt, outcome) in call.attempts.into_iter().zip(outcomes) {
            self.outcome(attempt, outcome);
        }
        let target = &self.target.name;
        match turn {
            Turn::None => {}
            Turn::Opened => {
                let text = self.state.last_error.as_ref().map(|(_, text)| text);
                tracing::warn!(target, text, "breaker opened: the target fails as a whole");
            }
            Turn::Closed { outage } => {
                tracing::info!(target, "breaker closed: the target works again");
                // A success so soon may be another account's: then those that fail wait for their time.
                if outage {
                    self.work.force(self.judge.waiting());
                }
            }
        }
    }

    fn outcome(&mut self, attempt: Attempt, outcome: Outcome) {
        let outcome = self.judge.outcome(&attempt.id, outcome);
        let now = clock::now();
        let retry = &self.target.options.retry;
        let after = settle::settle(retry, &attempt, &outcome, now, fastrand::f64());
        let Attempt {
            id,
            revision,
            before,
            ..
        } = attempt;
        let text = settle::excerpt(outcome.text(), settle::REASON);
        let (target, app, account) = (&self.target.name, id.app, &id.account);
        let result = match outcome {
            Outcome::Delivered { .. } => DeliveryResult::Delivered,
            Outcome::Retry { .. } => DeliveryResult::Retry,
            Outcome::Rejected { .. } => DeliveryResult::Rejected,
            Outcome::Denied { .. } | Outcome::Fault { .. } => DeliveryResult::TargetFault,
        };
        self.meter.delivery(result);
        tracing::debug!(target, app, account, revision, ?result, text, "called");
        if result == DeliveryResult::Delivered {
            self.delivered += 1;
            self.state.last_success = Some(now);
        } else {
            self.state.last_error = Some((now, text.clone()));
        }
        if after
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.next == Next::Parked)
        {
            tracing::warn!(target, app, account, revision, text, "parked");
        } else if result != DeliveryResult::Delivered
            && let Some(left_out) = self.seldom.left_out("delivery")
        {
            tracing::warn!(
                target,
                app,
                account,
                revision,
                text,
                left_out,
                "not delivered, to be tried again"
            );
        }
        let cool = matches!(result, DeliveryResult::Delivered | DeliveryResult::Rejected);
        self.settled(id, before, after, cool);
    }

    /// Replaces a delivery's state, as soon as it can be written.
    pub(super) fn settled(
        &mut self,
        id: AccountId,
        before: DeliveryState,
        after: DeliveryState,
        cool: bool,
    ) {
        self.judge.settled(&id, &after);
        self.books.settle(Settled {
            id,
            before,
            after,
            cool,
        });
    }

    /// A write ended, and reads see it.
    pub(super) fn written(&mut self, written: Written) {
        let now = Instant::now();
        for Settled {
            id,
            before,
            after,
            cool,
        } in written.settled
        {
            self.tally.replaced(&id, &before, &after);
            if let Some(trouble) = &after.trouble
                && let Next::Retry { at, .. } = trouble.next
            {
                self.work.retry_at(at);
            }
            if !(cool && self.work.hand.cool(&id, now)) {
                self.work.leave(&id);
            }
        }
        for (reply, text) in written.replies {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(text));
        }
    }

    /// Takes the next step of the count of parked and waiting deliveries.
    pub(super) fn count(&mut self, now: Instant) -> Result<(), StoreError> {
        if self.books.is_writing() || self.tally.page_at().is_none_or(|at| now < at) {
            return Ok(());
        }
        for (id, state) in self.tally.page(&*self.ledger, self.state.id, now)? {
            self.judge.settled(&id, &state);
            let retry = &self.target.options.retry;
            if let Some(Next::Retry { at, .. }) = state.trouble.as_ref().map(|trouble| trouble.next)
                && due::astray(retry, at, self.wall.now())
            {
                self.lift(id, state);
            }
        }
        Ok(())
    }
}
