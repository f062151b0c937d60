//! The loop of one target: takes work as it comes due, calls the target, writes down what came of it.
//!
//! All that the loop knows follows from the store, so it can be dropped at any moment and go on from there: what
//! was not written is delivered again. It waits for whatever comes first of a change, a result, a finished
//! write, a command and the next time at which something is due; it never polls.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use profilesync_target::Outcome;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Command,
    act::Sweep,
    books::{Books, Settled, Written},
    call::{Call, Fate},
    guard::Guard,
    judge::{Judge, Turn},
    ledger::Ledger,
    pace::Pace,
    publish::Lag,
    report::{Backlog, Board, Meter, Tally},
    settle::{self, Attempt},
    work::Work,
};
use crate::{
    clock,
    event::AccountId,
    metrics::{DeliveryResult, Metrics},
    seldom::Seldom,
    store::{
        Phase, StoreError,
        records::{DeliveryState, Next, TargetState},
    },
    targets::OpenedTarget,
};

/// Why a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to stop, and has written everything.
    Stopped,
    /// The store failed it, or it panicked. What it knew may be wrong, and must be read again.
    Lost,
}

/// The loop of one target, and all it knows.
pub(super) struct Loop {
    pub(super) target: Arc<OpenedTarget>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) state: TargetState,
    pub(super) work: Work,
    pub(super) judge: Judge,
    pub(super) guard: Option<Guard>,
    pub(super) books: Books,
    pub(super) sweep: Option<Sweep>,
    pub(super) tally: Tally,
    pub(super) backlog: Backlog,
    pub(super) board: Board,
    pub(super) meter: Meter,
    seldom: Seldom,
    pub(super) published: Instant,
    pub(super) lag: Lag,
    pub(super) delivered: u64,
    /// Accounts in calls.
    pub(super) inflight: usize,
    pub(super) calls: JoinSet<(Call, Fate)>,
    /// Calls of accounts that failed before.
    pub(super) calls_again: usize,
    /// Which lane goes first in the next call.
    pub(super) again_first: bool,
    pub(super) call_at: Instant,
    pub(super) pace: Pace,
    pub(super) fill_pace: Pace,
}

impl Loop {
    /// Goes on from `state`. `board` shows what was delivered by loops before this one.
    pub(super) fn new(
        target: Arc<OpenedTarget>,
        ledger: Arc<dyn Ledger>,
        state: TargetState,
        metrics: Metrics,
        board: Board,
    ) -> Self {
        let now = Instant::now();
        let options = &target.options;
        Self {
            work: Work::new(&state),
            judge: Judge::new(options, state.last_success),
            guard: options.guard.map(Guard::new),
            books: Books::new(),
            sweep: None,
            tally: Tally::new(now),
            backlog: Backlog::new(now),
            delivered: board.read().delivered,
            board,
            meter: Meter::new(metrics, &target.name),
            seldom: Seldom::default(),
            published: now,
            lag: Lag::new(),
            inflight: 0,
            calls: JoinSet::new(),
            calls_again: 0,
            again_first: false,
            call_at: now,
            pace: Pace::new(options.rate_limit),
            fill_pace: Pace::new(Some(options.backfill_rate)),
            target,
            ledger,
            state,
        }
    }

    /// Runs until told to stop, or until the store fails or its phase changes: an index that was rebuilt may lack
    /// what was written last. However it ends, no call is under way afterwards.
    pub(super) async fn run(
        &mut self,
        stop: &CancellationToken,
        commands: &mut mpsc::Receiver<Command>,
        phase: &mut watch::Receiver<Phase>,
    ) -> End {
        let served = AssertUnwindSafe(self.serve(stop, commands, phase)).catch_unwind();
        let end = match served.await {
            Ok(Ok(())) => End::Stopped,
            Ok(Err(error)) => {
                tracing::warn!(target = self.target.name, %error, "the store is lost; waiting for it");
                End::Lost
            }
            // Its message is in the log. Nobody would miss the loop but those who wait for its deliveries.
            Err(_) => {
                tracing::error!(
                    target = self.target.name,
                    "the dispatcher panicked; it begins anew"
                );
                End::Lost
            }
        };
        // The next loop must not call for an account while a call of this one is under way.
        self.calls.shutdown().await;
        end
    }

    async fn serve(
        &mut self,
        stop: &CancellationToken,
        commands: &mut mpsc::Receiver<Command>,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<(), StoreError> {
        let mut changed = self.ledger.changed();
        loop {
            let now = Instant::now();
            let stopping = stop.is_cancelled();
            self.work.tick(now);
            self.count(now)?;
            let mut wake = None;
            if !stopping {
                self.sweep()?;
                wake = self.start_calls(now)?;
            }
            self.flush(now, stopping);
            if stopping && self.calls.is_empty() && self.books.is_clean() {
                return Ok(());
            }
            let wake = earliest([wake, self.next_event(stopping), self.publish(now)?]);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {}
                // Early: what is known of one index must not be written to the next.
                Ok(()) = phase.changed() => return Err(StoreError("it was closed".into())),
                Some(done) = self.calls.join_next() => {
                    self.finish(done);
                    while let Some(done) = self.calls.try_join_next() {
                        self.finish(done);
                    }
                }
                written = self.books.written() => match written {
                    Some(written) => self.written(written),
                    None => return Err(StoreError("a write was lost".into())),
                },
                Some((action, reply)) = commands.recv() => self.act(action, reply)?,
                Ok(()) = changed.changed() => self.work.live.wake(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// When something is due that no event tells of.
    fn next_event(&self, stopping: bool) -> Option<Instant> {
        let now = clock::now();
        let retry = self.work.next_retry().filter(|&at| at > now);
        let retry = retry.map(|at| Instant::now() + Duration::from_millis(at - now));
        let idle = !self.books.is_writing();
        let page = self.tally.page_at().filter(|_| idle);
        let sweeps = idle && !stopping && self.sweep.is_some();
        let sweep = sweeps.then(Instant::now);
        let cooled = self.work.hand.cooled_at();
        earliest([retry, page, sweep, cooled, self.books.save_at()])
    }

    /// A call ended.
    fn finish(&mut self, done: Result<(Call, Fate), tokio::task::JoinError>) {
        let (call, fate) = done.expect("a call catches panics, and a loop at work aborts none");
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
                    self.work.force(self.judge.recovered());
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
        let text = settle::excerpt(outcome.text());
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

    fn flush(&mut self, now: Instant, last: bool) {
        let state = (self.target.name.as_str(), &mut self.state, &mut self.work);
        if self.books.flush(state, &*self.ledger, (now, last)) {
            tracing::info!(target = self.target.name, "backfill done");
        }
    }

    /// A write ended, and reads see it.
    fn written(&mut self, written: Written) {
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

    /// Takes the next step of the first count of parked and waiting deliveries.
    fn count(&mut self, now: Instant) -> Result<(), StoreError> {
        if self.books.is_writing() || self.tally.page_at().is_none_or(|at| now < at) {
            return Ok(());
        }
        for (id, state) in self.tally.page(&*self.ledger, self.state.id, now)? {
            self.judge.settled(&id, &state);
        }
        Ok(())
    }
}

pub(super) fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) if time <= Instant::now() => tokio::task::yield_now().await,
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
