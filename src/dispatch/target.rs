//! The loop of one target: takes work as it comes due, calls the target, writes down what came of it.
//!
//! All that the loop knows follows from the store, so it can be dropped at any moment and go on from there: what
//! was not written is delivered again. It waits for whatever comes first of a change, a result, a finished
//! write, a command and the next time at which something is due; it never polls.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use profilesync_target::Delivery;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Command,
    act::Sweep,
    books::Books,
    breaker::Gate,
    call::{self, Call, Fate},
    due::{self, Decision},
    guard::Guard,
    judge::Judge,
    ledger::Ledger,
    pace::Pace,
    publish::Lag,
    report::{Backlog, Board, Meter, Tally},
    settle::Attempt,
    wall::Wall,
    work::{Candidate, Source, Work},
};
use crate::{
    clock,
    metrics::Metrics,
    seldom::Seldom,
    store::{
        Phase, StoreError,
        records::{Next, TargetState},
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
    pub(super) wall: Wall,
    pub(super) tally: Tally,
    pub(super) backlog: Backlog,
    pub(super) board: Board,
    pub(super) meter: Meter,
    pub(super) seldom: Seldom,
    pub(super) published: Instant,
    pub(super) shown_busy: bool,
    pub(super) lag: Lag,
    pub(super) delivered: u64,
    /// Accounts in calls.
    pub(super) inflight: usize,
    pub(super) calls: FuturesUnordered<BoxFuture<'static, (Call, Fate)>>,
    /// Calls of accounts that failed before.
    pub(super) calls_again: usize,
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
    /// Goes on from `state`. `guard` is that of the loop before this one, and `board` shows what was delivered by it.
    pub(super) fn new(
        target: Arc<OpenedTarget>,
        ledger: Arc<dyn Ledger>,
        state: TargetState,
        guard: Option<Guard>,
        metrics: Metrics,
        board: Board,
    ) -> Self {
        let now = Instant::now();
        let options = &target.options;
        Self {
            work: Work::new(&state),
            judge: Judge::new(options, state.last_success),
            guard: guard.or_else(|| options.guard.map(Guard::new)),
            books: Books::new(),
            sweep: None,
            wall: Wall::new(clock::now(), now),
            tally: Tally::new(now),
            backlog: Backlog::new(now),
            delivered: board.read().delivered,
            board,
            meter: Meter::new(metrics, &target.name),
            seldom: Seldom::default(),
            published: now,
            shown_busy: false,
            lag: Lag::new(),
            inflight: 0,
            calls: FuturesUnordered::new(),
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
        self.calls.clear();
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
            self.tell_time(now);
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
            let wake = earliest([wake, self.next_event(now, stopping), self.publish(now)?]);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {}
                // Early: what is known of one index must not be written to the next.
                Ok(()) = phase.changed() => return Err(StoreError("it was closed".into())),
                Some((call, fate)) = self.calls.next() => {
                    self.finish(call, fate);
                    while let Some(Some((call, fate))) = self.calls.next().now_or_never() {
                        self.finish(call, fate);
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

    /// Reads the wall clock. Where it was set back, all deliveries are looked through for those that would wait for
    /// a time that is far off now.
    fn tell_time(&mut self, now: Instant) {
        if self.wall.read(clock::now(), now) {
            tracing::info!(target = self.target.name, "the clock was set back");
            self.tally = Tally::new(now);
        }
    }

    /// When something is due that no event tells of.
    fn next_event(&self, now: Instant, stopping: bool) -> Option<Instant> {
        let wall = self.wall.now();
        let retry = self.work.next_retry().filter(|&at| at > wall);
        let retry = retry.map(|at| now + Duration::from_millis(at - wall));
        let idle = !self.books.is_writing();
        let page = self.tally.page_at().filter(|_| idle);
        let sweeps = idle && !stopping && self.sweep.is_some();
        let sweep = sweeps.then_some(now);
        let cooled = self.work.hand.cooled_at();
        earliest([retry, page, sweep, cooled, self.books.write_at()])
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
        self.call_at = now + self.target.target.limits().interval;
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
            .push(call::make(Arc::clone(&self.target), call, documents).boxed());
        Ok(Started::Call)
    }

    fn may_call(&self) -> bool {
        let allowed = !self.state.paused && self.state.held.is_none();
        allowed && self.calls.len() < self.concurrency()
    }

    fn concurrency(&self) -> usize {
        let kind = self
            .target
            .target
            .limits()
            .concurrency
            .unwrap_or(usize::MAX);
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
            let mut rest = Vec::new();
            for candidate in self.work.part(limit).unwrap_or_default() {
                if batch.is_empty() || self.pace.ready(now).is_ok() {
                    batch.extend(self.look(candidate, gate, now)?);
                } else {
                    rest.push(candidate.id);
                }
            }
            self.work.rejoin(rest);
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
        self.target.target.limits().batch.min(options).max(1)
    }

    fn first(&mut self, now: Instant) -> Result<Option<Candidate>, StoreError> {
        let fill = self.work.fill.is_some() && self.fill_pace.ready(now).is_ok();
        self.work.first(&*self.ledger, fill)
    }

    fn again(&mut self, gate: Gate) -> Result<Option<Candidate>, StoreError> {
        let judge = &self.judge;
        let skip = |id: &_| gate == Gate::Others && judge.waits(id);
        let wall = self.wall.now();
        let candidate = self.work.again(&*self.ledger, wall, skip)?;
        if candidate.is_none() && gate == Gate::Probe {
            // Nothing else to probe with: the account that waits longest does not wait for its own time.
            self.work.force(self.judge.longest_waiting().cloned());
            return self.work.again(&*self.ledger, wall, |_| false);
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
            self.wall.now(),
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
                // It may have been counted among those that wait just before it was delivered.
                self.judge.settled(id, &before);
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
