//! Brings every target to the newest revision of every account: one loop per target, none waits for another.
//!
//! A loop ([`target`]) takes its work from the store - changes beyond its cursor, retries whose time has come, a
//! backfill ([`work`]) - gathers those that the target is to be told of ([`gather`], [`due`]), calls it ([`call`]),
//! judges whom a failure is to be blamed on ([`judge`]) and writes down what came of it ([`results`], [`settle`],
//! [`books`]). What the store holds is all there is to know: a loop that is lost goes on from there.

mod act;
mod backoff;
mod books;
mod breaker;
mod call;
mod due;
mod enroll;
mod feed;
mod gather;
mod guard;
mod hand;
mod judge;
mod ledger;
mod pace;
mod publish;
mod report;
mod results;
mod settle;
#[cfg(test)]
mod sim;
mod target;
mod wall;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    event::AccountId,
    metrics::Metrics,
    status::TargetStatus,
    store::{Phase, Store, StoreError},
    targets::OpenedTarget,
};
use act::Order;
use enroll::Register;
use guard::Guard;
use ledger::Ledger;
use report::Board;
use target::{End, Loop};

/// How often removed targets are looked for.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);
/// How long a loop waits after the store failed it.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// Orders that may wait for a loop.
const ORDERS: usize = 16;

/// What an operator can ask of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start no delivery until resumed.
    Pause,
    /// Go on.
    Resume,
    /// Make accounts due now that are parked or wait for a retry: one account, all that are parked, or else all
    /// of both.
    Retry {
        /// `sdk_app_id` of the account; `None` takes any app that has it.
        app: Option<u64>,
        /// The account's id.
        account: Option<String>,
        /// All that are parked.
        all_parked: bool,
    },
    /// Deliver every account anew.
    Backfill,
    /// Let a held target go on with all that is due now.
    Approve,
}

/// Why an action was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// There is no such target.
    #[error("no target is called {0:?}; `profilesync targets` lists them")]
    UnknownTarget(String),
    /// There is no such account.
    #[error("no account is called {0:?}; `profilesync accounts` finds them")]
    UnknownAccount(String),
    /// It makes no sense now.
    #[error("{0}")]
    Refused(String),
    /// It cannot be done now.
    #[error("the target cannot be told now: {0}")]
    Unavailable(String),
}

/// What is configured, by name: targets, and `None` for those that are disabled.
pub type Targets = BTreeMap<String, Option<Arc<OpenedTarget>>>;

type Reply = oneshot::Sender<Result<String, ActError>>;
type Command = (Order, Reply);

/// The loops of all targets.
pub struct Dispatchers {
    shared: Shared,
    present: Arc<Mutex<Present>>,
    changed: Arc<Notify>,
    stop: CancellationToken,
    pruner: JoinHandle<()>,
}

/// The targets there are.
#[derive(Default)]
struct Present {
    running: BTreeMap<String, Running>,
    /// These get nothing and keep their state.
    disabled: BTreeSet<String>,
}

/// What all loops share.
#[derive(Clone)]
struct Shared {
    ledger: Arc<dyn Ledger>,
    register: Register,
    metrics: Metrics,
}

/// The loop of one target, from outside.
struct Running {
    /// `None` for one that was removed or disabled and is coming to its end.
    opened: Option<Arc<OpenedTarget>>,
    commands: mpsc::Sender<Command>,
    board: Board,
    stop: CancellationToken,
    task: JoinHandle<Option<Guard>>,
}

/// The task that ran a target before.
struct Predecessor {
    /// Leaves the guard of its last loop.
    task: AbortOnDropHandle<Option<Guard>>,
    /// Whether that guard has counted what is to be counted now.
    alike: bool,
}

impl Dispatchers {
    /// Starts a loop for every target. They wait for the store by themselves.
    #[must_use]
    pub fn start(store: Store, targets: Targets, metrics: Metrics) -> Self {
        Self::over(Arc::new(store), targets, metrics)
    }

    fn over(ledger: Arc<dyn Ledger>, targets: Targets, metrics: Metrics) -> Self {
        let shared = Shared {
            register: Register::new(Arc::clone(&ledger)),
            ledger,
            metrics,
        };
        let present = Arc::default();
        let changed = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let pruner = prune(
            shared.clone(),
            Arc::clone(&present),
            Arc::clone(&changed),
            stop.clone(),
        );
        let dispatchers = Self {
            shared,
            present,
            changed,
            pruner: tokio::spawn(pruner),
            stop,
        };
        dispatchers.reload(targets);
        dispatchers
    }

    /// Applies a new set of targets. One whose `Arc` is the same as before goes on undisturbed; any other gets a
    /// new loop, which begins when the calls of the old one have ended.
    pub fn reload(&self, targets: Targets) {
        let mut present = self.present();
        let Present { running, disabled } = &mut *present;
        for (name, old) in running.iter_mut() {
            if !matches!(targets.get(name), Some(Some(_))) {
                old.stop.cancel();
                old.opened = None;
            }
        }
        disabled.clear();
        for (name, opened) in targets {
            let Some(opened) = opened else {
                disabled.insert(name);
                continue;
            };
            let old = running.get(&name).and_then(|old| old.opened.as_ref());
            if old.is_none_or(|old| !Arc::ptr_eq(old, &opened)) {
                let old = running.remove(&name);
                running.insert(name, self.launch(opened, old));
            }
        }
        self.changed.notify_one();
    }

    fn launch(&self, opened: Arc<OpenedTarget>, old: Option<Running>) -> Running {
        let (commands, receiver) = mpsc::channel(ORDERS);
        let board = Board::default();
        // As it was, until the loop has looked: it waits for the calls of the old one.
        let before = old.as_ref().map(|old| old.board.read());
        board.update(|status| {
            *status = before.unwrap_or_default();
            status.name.clone_from(&opened.name);
            status.kind = opened.kind_name.to_owned();
            status.mode = opened.options.mode.as_str().to_owned();
            status.state = "waiting".into();
        });
        let stop = self.stop.child_token();
        let predecessor = old.map(|old| {
            old.stop.cancel();
            Predecessor {
                task: AbortOnDropHandle::new(old.task),
                alike: old.opened.is_some_and(|old| {
                    old.identity == opened.identity && old.options.guard == opened.options.guard
                }),
            }
        });
        let task = run(
            self.shared.clone(),
            Arc::clone(&opened),
            predecessor,
            stop.clone(),
            receiver,
            board.clone(),
        );
        Running {
            opened: Some(opened),
            commands,
            board,
            stop,
            task: tokio::spawn(task),
        }
    }

    /// The status of every target, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<TargetStatus> {
        let present = self.present();
        let running = present.running.values();
        let running = running.filter(|target| target.opened.is_some());
        running.map(|target| target.board.read()).collect()
    }

    /// Does what an operator asks, and says what was done. By then it is synced; retries are written, which a crash may
    /// take back.
    ///
    /// # Errors
    /// When there is no such target or account, when the action makes no sense, or while the store is not ready.
    pub async fn act(&self, name: &str, action: Action) -> Result<String, ActError> {
        let commands = {
            let present = self.present();
            let target = present
                .running
                .get(name)
                .filter(|target| target.opened.is_some());
            let target = target.ok_or_else(|| ActError::UnknownTarget(name.to_owned()))?;
            target.commands.clone()
        };
        let order = self.order(action).await?;
        let stopping = || ActError::Unavailable("it is being stopped; try again".into());
        let (reply, answer) = oneshot::channel();
        commands
            .send((order, reply))
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Looks up what the loop should not: it may read every account.
    async fn order(&self, action: Action) -> Result<Order, ActError> {
        let unavailable = |error: StoreError| ActError::Unavailable(error.to_string());
        let ledger = Arc::clone(&self.shared.ledger);
        Ok(match action {
            Action::Pause => Order::Pause,
            Action::Resume => Order::Resume,
            Action::Approve => Order::Approve,
            Action::Backfill => {
                let count = enroll::blocking(move || ledger.count_changes(0, u64::MAX));
                Order::Backfill {
                    total: count.await.map_err(unavailable)?,
                }
            }
            Action::Retry {
                account: None,
                all_parked,
                ..
            } => Order::RetryAll {
                only_parked: all_parked,
            },
            Action::Retry {
                app,
                account: Some(account),
                ..
            } => {
                let name = account.clone();
                let found = enroll::blocking(move || match app {
                    Some(app) => {
                        let id = AccountId { app, account };
                        Ok(ledger.account(&id)?.map(|_| id).into_iter().collect())
                    }
                    None => ledger.find(&account),
                });
                let found: Vec<_> = found.await.map_err(unavailable)?;
                if found.is_empty() {
                    return Err(ActError::UnknownAccount(name));
                }
                Order::Retry(found)
            }
        })
    }

    /// Starts no more deliveries, and gives those under way `grace` to finish. Returns the names of the targets
    /// that did not; what they had under way will be delivered again.
    pub async fn stop(&self, grace: Duration) -> Vec<String> {
        self.stop.cancel();
        let deadline = Instant::now() + grace;
        let running = std::mem::take(&mut self.present().running);
        let mut unfinished = Vec::new();
        for (name, mut target) in running {
            if tokio::time::timeout_at(deadline, &mut target.task)
                .await
                .is_err()
            {
                target.task.abort();
                unfinished.push(name);
            }
        }
        self.pruner.abort();
        unfinished
    }

    /// Ends everything as a crash would.
    #[cfg(test)]
    async fn crash(self) {
        let running = std::mem::take(&mut self.present().running);
        self.pruner.abort();
        for target in running.into_values() {
            target.task.abort();
            let _ = target.task.await;
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Dispatchers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs one target until it is told to stop, and lets go of what it holds open.
async fn run(
    shared: Shared,
    target: Arc<OpenedTarget>,
    predecessor: Option<Predecessor>,
    stop: CancellationToken,
    commands: mpsc::Receiver<Command>,
    board: Board,
) -> Option<Guard> {
    let mut guard = None;
    if let Some(Predecessor { task, alike }) = predecessor {
        // Its calls must have ended; how it ended does not matter.
        guard = task.await.ok().flatten().filter(|_| alike);
    }
    run_loops(shared, &target, &mut guard, stop, commands, board).await;
    call::close(&target).await;
    guard
}

/// One loop after the other, should the store fail meanwhile.
async fn run_loops(
    shared: Shared,
    target: &Arc<OpenedTarget>,
    guard: &mut Option<Guard>,
    stop: CancellationToken,
    mut commands: mpsc::Receiver<Command>,
    board: Board,
) {
    let mut phase = shared.ledger.phase();
    while wait_for_store(&stop, &mut commands, &mut phase).await {
        match shared.register.enroll(&target.name, &target.identity).await {
            Ok(state) => {
                let mut one = Loop::new(
                    Arc::clone(target),
                    Arc::clone(&shared.ledger),
                    state,
                    guard.take(),
                    shared.metrics.clone(),
                    board.clone(),
                );
                let end = one.run(&stop, &mut commands, &mut phase).await;
                *guard = one.guard.take();
                if end == End::Stopped {
                    return;
                }
            }
            Err(error) => tracing::warn!(target = target.name, %error, "cannot begin"),
        }
        board.update(|status| status.state = "waiting".into());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STORE_INTERVAL) => {}
        }
    }
}

/// Waits until the store is ready, and refuses orders meanwhile. False when it is time to stop.
async fn wait_for_store(
    stop: &CancellationToken,
    commands: &mut mpsc::Receiver<Command>,
    phase: &mut watch::Receiver<Phase>,
) -> bool {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            Ok(_) = phase.wait_for(|phase| *phase == Phase::Ready) => return true,
            Some((_, reply)) = commands.recv() => {
                let error = "the store is not ready; `profilesync status` tells how far it is";
                let _ = reply.send(Err(ActError::Unavailable(error.into())));
            }
            else => return false,
        }
    }
}

/// Marks and forgets removed targets: after every reload, and every now and then.
async fn prune(
    shared: Shared,
    present: Arc<Mutex<Present>>,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut wait = PRUNE_INTERVAL;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        let mut leaving = false;
        let names = || {
            let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
            let Present { running, disabled } = &mut *present;
            running.retain(|name, one| {
                let stays = one.opened.is_some() || !one.task.is_finished();
                if !stays {
                    shared.metrics.forget_target(name);
                }
                stays
            });
            leaving = running.values().any(|one| one.opened.is_none());
            running.keys().chain(disabled.iter()).cloned().collect()
        };
        // A target that is still coming to its end writes its own state: it is marked next time.
        wait = match shared.register.prune(names).await {
            Ok(()) if !leaving => PRUNE_INTERVAL,
            _ => STORE_INTERVAL,
        };
    }
}
