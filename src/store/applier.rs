//! The one writer of the index: follows the journal, takes dispatchers' writes, and keeps the index good.
//!
//! It runs on a thread of its own, because sled blocks. It sees synced records only; after a crash it goes on from the
//! sequence number in the index. Whatever goes wrong with the index ends the session; the next one opens it again or
//! rebuilds it, while the journal goes on acknowledging.

use std::{
    iter,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    durable::free_bytes,
    journal::{Journal, Record},
    metrics::Metrics,
    store::{
        Phase, Request, Store, Write, Writer,
        apply::Changes,
        codec::Meta,
        index::IndexError,
        open::{self, Opened, Progress},
        rest::Round,
        retention::{Forgetting, HistorySweep},
        session::Session,
        snapshots::Snapshots,
        state_dir::{LastRun, StateDir, sync_folder},
    },
};

/// Dispatchers' requests of one batch.
const REQUESTS: usize = 1024;
/// Nothing is applied while the file system has less than this left: sled does not survive a full disk. It is less
/// than the journal's own reserve, so what was acknowledged still finds room.
const RESERVE_BYTES: u64 = 4 << 20;
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long a session that failed is let lie.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes, and who waits for them.
type Waiting = (Vec<Write>, oneshot::Sender<()>);

/// What the store is to keep, and how.
#[derive(Clone)]
pub struct Options {
    /// sled's cache, bytes.
    pub cache_bytes: u64,
    /// How long events are kept.
    pub history: Duration,
    /// How many events of one account are kept.
    pub history_per_account: NonZeroU32,
    /// Events in the journal that are not applied beyond which the listener slows down.
    pub max_lag: u64,
    /// Journal bytes since the last snapshot that ask for a new one.
    pub journal_max: u64,
    /// Where events are counted.
    pub metrics: Metrics,
    /// The name of an app, for the metrics.
    pub app_name: Arc<dyn Fn(u64) -> String + Send + Sync>,
}

/// The applier's thread.
pub struct Applier {
    thread: thread::JoinHandle<()>,
    stop: CancellationToken,
}

impl Applier {
    /// Starts the thread. The store is unavailable until its phase is [`Phase::Ready`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        dir: Arc<StateDir>,
        last_run: LastRun,
        journal: &Journal,
        options: Options,
    ) -> (Store, Self) {
        let (sender, requests) = mpsc::unbounded_channel();
        let store = Store::new(Writer::Thread(sender));
        let stop = CancellationToken::new();
        let synced = journal.synced();
        // The lag is of what this run takes; how far a replay is, the phase tells.
        store.0.applied.send_replace(journal.base());
        let snapshots = Snapshots::new(&dir, options.journal_max);
        let mut worker = Worker {
            dir,
            last_run,
            options,
            store: store.clone(),
            requests,
            synced,
            stop: stop.clone(),
            runtime: Handle::current(),
            snapshots,
            carried: None,
            forgetting: Forgetting::default(),
            sweep: HistorySweep::default(),
        };
        let thread = thread::Builder::new()
            .name("applier".into())
            .spawn(move || worker.run())
            .expect("the system starts a thread");
        (store, Self { thread, stop })
    }

    /// Writes what is asked for, closes the index and notes that all is well. Events that are not applied yet are in the
    /// journal, and wait there for the next run: there may be too many of them.
    pub async fn stop(self) {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the applier did not end well; the store is checked at the next start");
        }
    }
}

struct Worker {
    dir: Arc<StateDir>,
    last_run: LastRun,
    options: Options,
    store: Store,
    requests: mpsc::UnboundedReceiver<Request>,
    synced: watch::Receiver<u64>,
    stop: CancellationToken,
    runtime: Handle,
    snapshots: Snapshots,
    /// A request that ended a wait.
    carried: Option<Request>,
    forgetting: Forgetting,
    sweep: HistorySweep,
}

impl Worker {
    fn run(&mut self) {
        while let Err(error) = self.guarded_session() {
            self.store.0.index.store(None);
            // It reads the index, which must be let go of.
            self.snapshots.join(&self.dir);
            if self.stop.is_cancelled() {
                return;
            }
            tracing::error!(%error, "the store failed; it is opened anew");
            self.options.metrics.store_ready.set(0);
            self.store
                .0
                .phase
                .send_replace(Phase::Failed { reason: error.0 });
            self.tell_lag();
            let stopped = self.runtime.block_on(async {
                tokio::time::timeout(PAUSE, self.stop.cancelled())
                    .await
                    .is_ok()
            });
            if stopped {
                return;
            }
        }
    }

    /// A panic ends the session like any failure: whoever waits for the store would wait for ever otherwise.
    fn guarded_session(&mut self) -> Result<(), IndexError> {
        catch_unwind(AssertUnwindSafe(|| self.session())).unwrap_or_else(|_| {
            let reason = "the applier panicked; its message is in the log";
            Err(IndexError(reason.into()))
        })
    }

    /// Opens the index and follows the journal until told to stop.
    fn session(&mut self) -> Result<(), IndexError> {
        // What a build left that was cut off may be what fills the disk.
        open::remove_unfinished(&self.dir)?;
        if !self.wait_for_space() {
            return Ok(());
        }
        let told = |progress| {
            self.store.0.phase.send_replace(match progress {
                Progress::Checking => Phase::Opening,
                Progress::Rebuilding { entries } => Phase::Rebuilding { entries },
            });
            match self.stop.is_cancelled() {
                true => Err(IndexError("it is to stop".into())),
                false => Ok(()),
            }
        };
        let Opened {
            index,
            meta,
            rebuilt,
        } = open::open(&self.dir, self.options.cache_bytes, self.last_run, &told)?;
        if self.last_run == LastRun::Rebooted {
            self.dir.trust();
        }
        self.last_run = LastRun::Died;
        if rebuilt {
            self.options.metrics.store_rebuilds.inc();
        }
        let mut session = Session::open(&self.dir, index, meta, &self.options)?;
        self.store.0.index.store(Some(Arc::clone(&session.index)));
        if self.replay(&mut session)? {
            // Which change was the newest is not known, but that none is beyond this.
            self.tell_applied(&session.meta, Some(session.meta.applied));
            self.drop_stale(&session);
            self.store.0.phase.send_replace(Phase::Ready);
            self.options.metrics.store_ready.set(1);
            self.follow(&mut session)?;
        }
        self.close(session)
    }

    /// Catches up with what the journal held when the session began. False when told to stop before that.
    fn replay(&mut self, session: &mut Session) -> Result<bool, IndexError> {
        let end = *self.synced.borrow();
        self.tell_applied(&session.meta, None);
        while self.wait_for_space() && !self.stop.is_cancelled() {
            let records = session.read(end)?;
            if records.is_empty() {
                return Ok(true);
            }
            self.apply(session, &records, Vec::new())?;
            self.store.0.phase.send_replace(Phase::Replaying {
                applied: session.meta.applied,
                end,
            });
        }
        Ok(false)
    }

    /// What was written to an earlier index, or found wrong with it, says nothing of this one. Who waits is told by the
    /// loss of the sender.
    fn drop_stale(&mut self, session: &Session) {
        let carried = self.carried.take();
        for request in carried
            .into_iter()
            .chain(iter::from_fn(|| self.requests.try_recv().ok()))
        {
            if let Request::Backup(path, done) = request {
                session.back_up(path, done);
            }
        }
    }

    /// Until stopped, and then until nothing is left to write.
    fn follow(&mut self, session: &mut Session) -> Result<(), IndexError> {
        let mut last_housekeeping = Instant::now();
        loop {
            let stopping = self.stop.is_cancelled();
            let writes = self.take_requests(session)?;
            let synced = *self.synced.borrow_and_update();
            let records = match stopping {
                true => Vec::new(),
                false => session.read(synced)?,
            };
            let idle = records.is_empty() && writes.is_empty();
            if !idle {
                if !self.wait_for_space() {
                    return Ok(());
                }
                let start = Instant::now();
                self.apply(session, &records, writes)?;
                let newest = *self.synced.borrow();
                let round = Round {
                    took: start.elapsed(),
                    applied: records.len() as u64,
                    arrived: newest.saturating_sub(synced),
                    behind: newest.saturating_sub(session.meta.applied),
                };
                if !stopping {
                    thread::sleep(round.rest(self.options.max_lag));
                }
            }
            if last_housekeeping.elapsed() >= HOUSEKEEPING {
                last_housekeeping = Instant::now();
                self.keep_house(session)?;
            }
            if idle {
                if stopping {
                    return Ok(());
                }
                self.wait();
            }
        }
    }

    fn wait(&mut self) {
        let Self {
            runtime,
            synced,
            requests,
            stop,
            ..
        } = self;
        self.carried = runtime.block_on(async {
            tokio::select! {
                // Nothing comes from a journal that has ended, and that is no reason to look at once.
                Ok(()) = synced.changed() => None,
                request = requests.recv() => request,
                () = stop.cancelled() => None,
                () = tokio::time::sleep(HOUSEKEEPING) => None,
            }
        });
    }

    /// Writes that wait; everything else that was asked is done at once.
    fn take_requests(&mut self, session: &Session) -> Result<Vec<Waiting>, IndexError> {
        let mut writes = Vec::new();
        while writes.len() < REQUESTS {
            match self
                .carried
                .take()
                .or_else(|| self.requests.try_recv().ok())
            {
                Some(Request::Write(write, done)) => writes.push((write, done)),
                Some(Request::Backup(path, done)) => session.back_up(path, done),
                Some(Request::Broken(error)) => return Err(error),
                None => break,
            }
        }
        Ok(writes)
    }

    /// One batch.
    fn apply(
        &mut self,
        session: &mut Session,
        records: &[Record],
        writes: Vec<Waiting>,
    ) -> Result<(), IndexError> {
        let index = Arc::clone(&session.index);
        let mut changes = Changes::new(&**index, session.meta.clone());
        for record in records {
            changes.record(record, self.options.history_per_account)?;
        }
        for write in writes.iter().flat_map(|(writes, _)| writes) {
            match write {
                Write::Forget { name } => self.forgetting.begin(name),
                Write::Target { name, .. } => self.forgetting.end(name),
                Write::Delivery { .. } => {}
            }
            changes.write(write)?;
        }
        let changed = session.commit(changes, &self.options)?;
        self.tell_applied(&session.meta, changed);
        for (_, done) in writes {
            // A dispatcher that has ended does not wait.
            done.send(()).ok();
        }
        Ok(())
    }

    fn tell_applied(&self, meta: &Meta, changed: Option<u64>) {
        self.store.0.applied.send_if_modified(|applied| {
            let newer = meta.applied > *applied;
            *applied = meta.applied.max(*applied);
            newer
        });
        self.tell_lag();
        self.options
            .metrics
            .accounts
            .set(i64::try_from(meta.accounts).unwrap_or(i64::MAX));
        if let Some(seq) = changed {
            self.store.0.changed.send_replace(seq);
        }
    }

    fn tell_lag(&self) {
        let lag = self.synced.borrow().saturating_sub(self.store.applied());
        let lag = i64::try_from(lag).unwrap_or(i64::MAX);
        self.options.metrics.apply_lag_events.set(lag);
    }

    fn keep_house(&mut self, session: &mut Session) -> Result<(), IndexError> {
        let index = Arc::clone(&session.index);
        let mut changes = Changes::new(&**index, session.meta.clone());
        self.sweep
            .round(&**index, &mut changes, clock::now(), self.options.history)?;
        if !self.forgetting.is_empty() {
            self.forgetting.round(&**index, &mut changes)?;
        }
        if changes.len() > 0 && self.wait_for_space() {
            session.commit(changes, &self.options)?;
        }
        self.snapshots
            .keep(&self.dir, &session.index, session.meta.applied);
        let bytes = i64::try_from(self.dir.bytes()).unwrap_or(i64::MAX);
        self.options.metrics.store_bytes.set(bytes);
        Ok(())
    }

    /// False when there is none and we are told to stop.
    fn wait_for_space(&self) -> bool {
        let is_full = || free_bytes(self.dir.root()).is_ok_and(|free| free < RESERVE_BYTES);
        if !is_full() {
            return true;
        }
        let path = self.dir.root().display();
        tracing::error!(%path, "the disk is full: events wait in the journal until there is space");
        self.store.0.starved.send_replace(true);
        while is_full() && !self.stop.is_cancelled() {
            thread::sleep(Duration::from_millis(200));
        }
        self.store.0.starved.send_replace(false);
        let has_space = !is_full();
        if has_space {
            tracing::info!("there is space again");
        }
        has_space
    }

    fn close(&mut self, session: Session) -> Result<(), IndexError> {
        self.store.0.index.store(None);
        self.snapshots.join(&self.dir);
        let Session { index, .. } = session;
        index.flush()?;
        // Readers hold the index for the moment of a read only.
        let last = (0..1000).find_map(|_| {
            if Arc::strong_count(&index) == 1 {
                return Some(());
            }
            thread::sleep(Duration::from_millis(5));
            None
        });
        drop(index);
        let synced = sync_folder(&self.dir.index());
        if last.is_none() || synced.is_err() {
            tracing::warn!(
                ?synced,
                "the index is not known to be on disk; it is checked at the next start"
            );
            return Ok(());
        }
        self.dir.end_run();
        Ok(())
    }
}
