//! The loop of one target: takes work as it comes due, calls the target, writes down what came of it.
//!
//! All that the loop knows follows from the store, so it can be dropped at any moment and go on from there: what
//! was not written is delivered again. It waits for whatever comes first of a change, a result, a finished
//! write, a command and the next time at which something is due; it never polls.

use std::{sync::Arc, time::Duration};

use profilesync_target::{Delivery, Outcome};
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
    breaker::Gate,
    call::{self, Call, Fate},
    due::{self, Decision},
    guard::Guard,
    judge::{Judge, Turn},
    ledger::Ledger,
    pace::Pace,
    publish::Lag,
    report::{Backlog, Board, Meter, Tally},
    settle::{self, Attempt},
    work::{Candidate, Source, Work},
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

/// Accounts looked at in one go before other tasks get their turn.
const LOOKS: usize = 256;
/// Results not yet written beyond which no call is started.
const BACKLOG: usize = 4096;

/// Why a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to stop, and has written everything.
    Stopped,
    /// The store failed it. What it knew may be wrong, and must be read again.
    StoreLost,
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
    calls_again: usize,
    /// Which lane goes first in the next call.
    again_first: bool,
    call_at: Instant,
    pace: Pace,
    fill_pace: Pace,
}

/// What came of trying to start calls.
enum Started {
    /// One was started.
    Call,
    /// None can be before that time, unless something else happens.
    Wait(Option<Instant>),
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
    /// what was written last. Either way no call is under way afterwards.
    pub(super) async fn run(
        &mut self,
        stop: &CancellationToken,
        commands: &mut mpsc::Receiver<Command>,
        phase: &mut watch::Receiver<Phase>,
    ) -> End {
        let end = match self.serve(stop, commands, phase).await {
            Ok(()) => End::Stopped,
            Err(error) => {
                tracing::warn!(target = self.target.name, %error, "the store is lost; waiting for it");
                End::StoreLost
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
            let wake = earliest([wake, self.next_event(), self.publish(now)?]);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {}
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
                Ok(()) = phase.changed() => return Err(StoreError("it was closed".into())),
                Ok(()) = changed.changed() => self.work.live.wake(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// When something is due that no event tells of.
    fn next_event(&self) -> Option<Instant> {
        let now = clock::now();
        let retry = self.work.next_retry().filter(|&at| at > now);
        let retry = retry.map(|at| Instant::now() + Duration::from_millis(at - now));
        let idle = !self.books.is_writing();
        let page = self.tally.page_at().filter(|_| idle);
        let sweep = self.sweep.as_ref().filter(|_| idle).map(|_| Instant::now());
        let cooled = self.work.hand.cooled_at();
        earliest([retry, page, sweep, cooled, self.books.save_at()])
    }

    /// Starts as many calls as may be. Returns when to try again though nothing happens.
    fn start_calls(&mut self, now: Instant) -> Result<Option<Instant>, StoreError> {
        let mut looks = LOOKS;
        loop {
            match self.start_call(now, &mut looks)? {
                _ if looks == 0 => return Ok(Some(now)),
                Started::Call => {}
                Started::Wait(until) => return Ok(until),
            }
        }
    }

    fn start_call(&mut self, now: Instant, looks: &mut usize) -> Result<Started, StoreError> {
        if !self.may_call() || self.books.backlog() > BACKLOG {
            return Ok(Started::Wait(None));
        }
        if now < self.call_at {
            return Ok(Started::Wait(Some(self.call_at)));
        }
        let gate = self.judge.breaker.gate(now);
        if gate == Gate::Shut {
            return Ok(Started::Wait(self.judge.breaker.probe_at()));
        }
        if let Err(until) = self.pace.ready(now) {
            return Ok(Started::Wait(Some(until)));
        }
        let (batch, again) = self.collect(gate, now, looks)?;
        if batch.is_empty() {
            let fill = self
                .work
                .fill
                .as_ref()
                .and_then(|_| self.fill_pace.ready(now).err());
            let probe = self.judge.breaker.probe_at().filter(|&at| now < at);
            return Ok(Started::Wait(earliest([fill, probe])));
        }
        let probe = gate == Gate::Probe;
        if probe {
            self.judge.breaker.probe_started();
        }
        let (attempts, documents): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        self.call_at = now + self.target.limits.interval;
        self.inflight += attempts.len();
        self.calls_again += usize::from(again);
        let call = Call {
            number: self.judge.call(),
            attempts,
            probe,
            again,
            started: now,
        };
        self.calls
            .spawn(call::make(Arc::clone(&self.target), call, documents));
        Ok(Started::Call)
    }

    fn may_call(&self) -> bool {
        let allowed = self.target.options.enabled && !self.state.paused;
        allowed && self.state.held.is_none() && self.calls.len() < self.concurrency()
    }

    fn concurrency(&self) -> usize {
        let kind = self.target.limits.concurrency.unwrap_or(usize::MAX);
        self.target.options.concurrency.get().min(kind).max(1)
    }

    /// Gathers the accounts of the next call, and says whether they failed before.
    fn collect(
        &mut self,
        gate: Gate,
        now: Instant,
        looks: &mut usize,
    ) -> Result<(Vec<(Attempt, Delivery)>, bool), StoreError> {
        let limit = if gate == Gate::Open { self.batch() } else { 1 };
        let mut batch = Vec::new();
        if gate != Gate::Others {
            for candidate in self.work.part(limit).unwrap_or_default() {
                if batch.is_empty() || self.pace.ready(now).is_ok() {
                    batch.extend(self.look(candidate, gate, now)?);
                } else {
                    self.work.rejoin(candidate);
                }
            }
            if !batch.is_empty() {
                return Ok((batch, false));
            }
        }
        // Accounts that failed before leave one slot to those that did not, which may be slow but not stuck.
        let may_again = self.calls_again < self.concurrency().saturating_sub(1).max(1);
        let again_first = self.again_first && gate == Gate::Open;
        for again in [again_first, !again_first] {
            while batch.len() < limit && *looks > 0 && self.pace.ready(now).is_ok() {
                *looks -= 1;
                let candidate = match again {
                    false => self.first(now)?,
                    true if may_again => self.again(gate)?,
                    true => None,
                };
                let Some(candidate) = candidate else {
                    break;
                };
                batch.extend(self.look(candidate, gate, now)?);
                if self.state.held.is_some() {
                    break;
                }
            }
            if !batch.is_empty() {
                self.again_first = !again;
                return Ok((batch, again));
            }
        }
        Ok((batch, false))
    }

    fn batch(&self) -> usize {
        let options = self
            .target
            .options
            .batch
            .map_or(usize::MAX, |batch| batch.get());
        self.target.limits.batch.min(options).max(1)
    }

    fn first(&mut self, now: Instant) -> Result<Option<Candidate>, StoreError> {
        let fill = self.work.fill.is_some() && self.fill_pace.ready(now).is_ok();
        self.work.first(&*self.ledger, fill)
    }

    fn again(&mut self, gate: Gate) -> Result<Option<Candidate>, StoreError> {
        let judge = &self.judge;
        let skip = |id: &_| gate == Gate::Others && judge.waits(id);
        let candidate = self.work.again(&*self.ledger, clock::now(), skip)?;
        if candidate.is_none() && gate == Gate::Probe {
            // Nothing else to probe with: the account that waits longest does not wait for its own time.
            self.work.force(self.judge.longest_waiting().cloned());
            return self.work.again(&*self.ledger, clock::now(), |_| false);
        }
        Ok(candidate)
    }

    /// Reads an account as it is now, and makes an attempt of it if it is due.
    fn look(
        &mut self,
        candidate: Candidate,
        gate: Gate,
        now: Instant,
    ) -> Result<Option<(Attempt, Delivery)>, StoreError> {
        let id = &candidate.id;
        let Some(account) = self.ledger.account(id)? else {
            self.work.leave(id);
            return Ok(None);
        };
        let before = self.ledger.delivery(self.state.id, id)?.unwrap_or_default();
        let epoch = self.state.epoch;
        let facts = (id, &account, &before);
        let mut decision = due::decide(
            &self.target.options,
            epoch,
            candidate.cause,
            facts,
            clock::now(),
        );
        let next = before
            .trouble
            .as_ref()
            .map(|trouble| (trouble.next, trouble.revision));
        if let Some((Next::Retry { at, .. }, _)) = next
            && (decision == Decision::Leave || gate == Gate::Others && self.judge.waits(id))
        {
            decision = Decision::Leave;
            self.work.retry_at(at);
        }
        match decision {
            Decision::Deliver => {}
            Decision::Leave => {
                self.work.leave(id);
                return Ok(None);
            }
            Decision::Clear => {
                let mut after = before.clone();
                after.trouble = None;
                self.settled(candidate.id, before, after, false);
                return Ok(None);
            }
        }
        let repeated = next.is_some_and(|(_, revision)| revision == account.revision);
        if !repeated
            && candidate.source != Source::Part
            && let Some(guard) = &mut self.guard
            && !guard.admit(account.changed_seq, now)
        {
            self.work.put_back(candidate);
            self.hold();
            return Ok(None);
        }
        self.pace.take();
        if candidate.source == Source::Backfill {
            self.fill_pace.take();
        }
        let revision = account.revision;
        let document = account.profile.document(id, revision);
        let afresh = matches!(next, Some((Next::Parked, _)));
        let attempt = Attempt {
            id: candidate.id,
            revision,
            epoch,
            before,
            afresh,
        };
        Ok(Some((attempt, Delivery { document })))
    }

    fn hold(&mut self) {
        self.state.held = Some(clock::now());
        self.books.state_changed();
        tracing::warn!(
            target = self.target.name,
            "held: more changes than guard.max_changes; see what is due, then approve"
        );
    }

    /// A call ended.
    fn finish(&mut self, done: Result<(Call, Fate), tokio::task::JoinError>) {
        // Panics are caught inside the call, and a loop does not abort its calls.
        let Ok((call, fate)) = done else {
            return;
        };
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

fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) if time <= Instant::now() => tokio::task::yield_now().await,
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
