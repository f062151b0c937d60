//! Dispatch against targets that misbehave and a store that fails, in paused time.
//!
//! [`delivery`], [`isolation`], [`recovery`] and [`operators`] show one promise at a time, [`chaos`] throws everything
//! at it and checks that the promises hold.

mod chaos;
mod delivery;
mod isolation;
mod ledger;
mod operators;
mod receiver;
mod recovery;

use std::{num::NonZeroU32, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;

use super::{Action, Dispatchers, Targets};
use crate::{
    clock,
    config::{Breaker, Mode, OnDestroy, Rate, Retry, TargetOptions},
    event::{AccountId, COMMANDS, Kind},
    journal::{Entry, Record},
    metrics::Metrics,
    status::TargetStatus,
    store::records::{DeliveryState, Next},
    targets::OpenedTarget,
};
use ledger::Flaky;
use receiver::Receiver;

const APP: u64 = 1_400_000_000;

/// The defaults of the configuration.
pub(super) fn options() -> TargetOptions {
    TargetOptions {
        enabled: true,
        mode: Mode::Live,
        apps: None,
        accounts: None,
        fields: None,
        on_destroy: OnDestroy::Deliver,
        concurrency: NonZeroUsize::new(4).unwrap(),
        rate_limit: None,
        timeout: Duration::from_secs(10),
        batch: None,
        retry: Retry {
            initial: Duration::from_secs(1),
            max: Duration::from_mins(5),
            max_delay: Duration::from_hours(1),
            give_up_after: Duration::from_hours(24),
        },
        breaker: Breaker {
            failures: NonZeroU32::new(10).unwrap(),
            probe: Duration::from_secs(30),
            probe_max: Duration::from_mins(5),
        },
        backfill_rate: rate(100),
        guard: None,
        identity: serde_json::Value::Null,
    }
}

fn id(name: impl ToString) -> AccountId {
    AccountId {
        app: APP,
        account: name.to_string(),
    }
}

/// A store, one target, and the dispatchers between them.
struct World {
    ledger: Arc<Flaky>,
    receiver: Receiver,
    options: TargetOptions,
    identity: String,
    metrics: Metrics,
    seq: u64,
    time: u64,
    dispatchers: Option<Dispatchers>,
}

impl World {
    fn new(options: TargetOptions) -> Self {
        Self {
            ledger: Arc::new(Flaky::new()),
            receiver: Receiver::default(),
            options,
            identity: "first".into(),
            metrics: Metrics::new(),
            seq: 0,
            time: clock::now(),
            dispatchers: None,
        }
    }

    fn opened(&self) -> Arc<OpenedTarget> {
        Arc::new(OpenedTarget {
            name: "crm".into(),
            kind_name: "sim",
            target: Box::new(self.receiver.clone()),
            options: self.options.clone(),
            identity: self.identity.clone(),
        })
    }

    fn targets(&self) -> Targets {
        Targets::from([("crm".to_owned(), Some(self.opened()))])
    }

    fn start(&mut self) {
        assert!(self.dispatchers.is_none(), "it was not stopped");
        let ledger = Arc::clone(&self.ledger);
        let dispatchers = Dispatchers::over(ledger, self.targets(), self.metrics.clone());
        self.dispatchers = Some(dispatchers);
    }

    fn dispatchers(&self) -> &Dispatchers {
        self.dispatchers.as_ref().expect("it was started")
    }

    fn status(&self) -> TargetStatus {
        self.dispatchers().statuses().remove(0)
    }

    /// An event that changes something.
    fn event(&mut self, account: impl ToString, kind: Kind) {
        self.seq += 1;
        self.time += 1;
        let (command, _) = COMMANDS.iter().find(|(_, of)| *of == kind).unwrap();
        let body = json!({
            "CallbackCommand": command,
            "Official_Account": account.to_string(),
            "EventTime": self.time,
            "Name": format!("name {}", self.seq),
        });
        let entry = Entry {
            received: clock::now(),
            app: APP,
            command: (*command).to_owned(),
            body: Bytes::from(body.to_string()),
        };
        self.ledger.store().feed(&[Record {
            seq: self.seq,
            entry,
        }]);
    }

    fn change(&mut self, account: impl ToString) {
        self.event(account, Kind::Changed);
    }

    fn revision(&self, id: &AccountId) -> u64 {
        self.ledger.store().account(id).unwrap().unwrap().revision
    }

    /// What the store knows of a delivery to the target.
    fn delivery(&self, id: &AccountId) -> DeliveryState {
        let store = self.ledger.store();
        let target = store.targets().unwrap()["crm"].id;
        store.delivery(target, id).unwrap().unwrap_or_default()
    }

    fn due(&self) -> u64 {
        self.status().due
    }

    /// Waits until nothing is due and nothing under way.
    async fn settle(&self, limit: Duration) -> Duration {
        // Until the loop has seen what happened last.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let quiet = || {
            let status = self.status();
            status.due == 0 && status.inflight == 0 && status.state != "waiting"
        };
        until(limit, quiet).await
    }

    async fn act(&self, action: Action) -> String {
        self.dispatchers().act("crm", action).await.unwrap()
    }

    async fn stop(&mut self) {
        let dispatchers = self.dispatchers.take().expect("it was started");
        let unfinished = dispatchers.stop(Duration::from_mins(1)).await;
        assert!(unfinished.is_empty());
    }
}

/// Waits for a state, checking every millisecond and later less often; fails after `limit`. Returns how long it
/// took.
async fn until(limit: Duration, mut state: impl FnMut() -> bool) -> Duration {
    let start = tokio::time::Instant::now();
    while !state() {
        assert!(start.elapsed() < limit, "still not so after {limit:?}");
        tokio::time::sleep((start.elapsed() / 100).max(Duration::from_millis(1))).await;
    }
    start.elapsed()
}

const MINUTE: Duration = Duration::from_mins(1);

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rate(count: u32) -> Rate {
    Rate {
        count: count.try_into().unwrap(),
        per: Duration::from_secs(1),
    }
}

/// A world whose target has caught up with the accounts `0..accounts`.
async fn caught_up(accounts: usize) -> World {
    let mut world = World::new(options());
    world.start();
    for n in 0..accounts {
        world.change(n);
    }
    world.settle(MINUTE).await;
    world
}

fn parked(world: &World, account: &str) -> bool {
    let trouble = world.delivery(&id(account)).trouble;
    trouble.is_some_and(|trouble| trouble.next == Next::Parked)
}
