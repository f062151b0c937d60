//! The loop of one target: takes work as it comes due, calls the target, writes down what came of it.
//!
//! All that the loop knows follows from the store, so it can be dropped at any moment and go on from there: what
//! was not written is delivered again. It waits for whatever comes first of a change, a result, a finished
//! write, a command and the next time at which something is due; it never polls.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
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
    guard::Guard,
    judge::Judge,
    ledger::Ledger,
    pace::Pace,
    publish::Lag,
    report::{Backlog, Board, Meter, Tally},
    wall::Wall,
    work::Work,
};
use crate::{
    clock,
    metrics::Metrics,
    seldom::Seldom,
    store::{Phase, StoreError, records::TargetState},
    targets::OpenedTarget,
};

/// Accounts looked at in vain before other tasks get their turn.
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
    pub(super) again_first: bool,
    /// Whether the last call was to be of a part of a refused batch, if there was one.
    pub(super) part_first: bool,
    call_at: Instant,
    pub(super) pace: Pace,
    pub(super) fill_pace: Pace,
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
        mut state: TargetState,
        guard: Option<Guard>,
        metrics: Metrics,
        board: Board,
    ) -> Self {
        let now = Instant::now();
        let options = &target.options;
        let interval = target.target.limits().interval;
        // Where there is no guard any more, nobody would know what to approve.
        state.held = state.held.filter(|_| options.guard.is_some());
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
            part_first: false,
            call_at: now,
            pace: Pace::new(options.rate_limit, interval),
            fill_pace: Pace::new(Some(options.backfill_rate), interval),
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

    pub(super) fn concurrency(&self) -> usize {
        let kind = self
            .target
            .target
            .limits()
            .concurrency
            .unwrap_or(usize::MAX);
        self.target.options.concurrency.get().min(kind).max(1)
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
