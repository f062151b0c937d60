//! The admin API (design §10): what the daemon tells of itself and what an operator can make it do, as JSON.
//!
//! It reads the store, the health of the parts and the metrics; whatever it changes, it changes through [`Daemon`].
//! No answer contains a secret.

mod access;
mod accounts;
mod problem;
mod routes;
mod socket;
mod terminal;
#[cfg(test)]
mod tests;
pub mod view;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    clock::{self, Millis},
    dispatch::{ActError, Action},
    metrics::{EventResult, Metrics},
    status::TargetStatus,
    store::{Phase, Store},
};
use view::{AppStatus, EventCounts, Progress, Readiness, ReloadReport, Status, StoreStatus};

pub use problem::Problem;
pub use routes::routes;
pub use socket::{BindError, bind_rest, bind_unix};
pub use terminal::status_lines;

/// What the API asks of the running daemon beyond reading.
#[async_trait]
pub trait Daemon: Send + Sync + 'static {
    /// The configured apps; their event counts are filled in by the API.
    fn apps(&self) -> Vec<App>;
    /// Every configured target, in the order of their names.
    fn targets(&self) -> Vec<TargetStatus>;
    /// Does something to a target and says what was done.
    async fn act(&self, target: &str, action: Action) -> Result<String, ActError>;
    /// Reads the configuration again and applies it, or leaves everything as it is and says why.
    async fn reload(&self) -> Result<ReloadReport, String>;
}

/// A configured app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// NAME of `[apps.NAME]`.
    pub name: String,
    /// `sdk_app_id`
    pub sdk_app_id: u64,
    /// Whether it has a token.
    pub signed: bool,
}

/// Everything the API looks at.
pub struct Admin {
    /// Accounts, deliveries and backups.
    pub store: Store,
    /// Whether events can be made durable, or why not.
    pub journal_health: watch::Receiver<Result<(), String>>,
    /// The newest durable sequence number.
    pub journal_synced: watch::Receiver<u64>,
    /// Where webhooks are taken: the addresses, or why there are none.
    pub listener: watch::Receiver<Result<String, String>>,
    /// What was counted.
    pub metrics: Metrics,
    /// The rest.
    pub daemon: Arc<dyn Daemon>,
    /// When the daemon started.
    pub started: Millis,
}

impl Admin {
    /// Whether events can be acknowledged, and what the store is doing meanwhile.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let journal = self.journal_health.borrow().clone();
        let listener = self.listener.borrow().clone();
        let (store, progress, store_error) = words(&self.store.phase().borrow());
        Readiness {
            ready: journal.is_ok() && listener.is_ok(),
            journal: journal.err().unwrap_or_else(|| "ok".into()),
            store: store.into(),
            progress,
            store_error,
            listener: listener.err().unwrap_or_else(|| "ok".into()),
        }
    }

    /// Everything at a glance.
    #[must_use]
    pub fn status(&self) -> Status {
        let now = clock::now();
        let apps = self.daemon.apps().into_iter().map(|app| AppStatus {
            events: self.event_counts(&app.name),
            name: app.name,
            sdk_app_id: app.sdk_app_id,
            signed: app.signed,
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            started: self.started,
            now,
            readiness: self.readiness(),
            listener: self.listener.borrow().clone().ok(),
            accounts: gauge(&self.metrics.accounts),
            apply_lag: gauge(&self.metrics.apply_lag_events),
            rebuilds: self.metrics.store_rebuilds.get(),
            journal_damaged: self.metrics.journal_damaged.get(),
            apps: apps.collect(),
            refused_without_app: self.metrics.event_count("-", EventResult::Refused),
            targets: self.daemon.targets(),
        }
    }

    /// The store and the journal in numbers.
    #[must_use]
    pub fn store_status(&self) -> StoreStatus {
        let (phase, progress, error) = words(&self.store.phase().borrow());
        StoreStatus {
            phase: phase.into(),
            progress,
            error,
            journal_synced: *self.journal_synced.borrow(),
            apply_lag: gauge(&self.metrics.apply_lag_events),
            accounts: gauge(&self.metrics.accounts),
            bytes: gauge(&self.metrics.store_bytes),
            rebuilds: self.metrics.store_rebuilds.get(),
            journal_damaged: self.metrics.journal_damaged.get(),
        }
    }

    fn event_counts(&self, app: &str) -> EventCounts {
        let count = |result| self.metrics.event_count(app, result);
        EventCounts {
            recorded: count(EventResult::Recorded),
            duplicate: count(EventResult::Duplicate),
            stale: count(EventResult::Stale),
            unchanged: count(EventResult::Unchanged),
            ignored: count(EventResult::Ignored),
            refused: count(EventResult::Refused),
        }
    }
}

/// A phase as the API tells it: a word, how far it is, why it failed.
fn words(phase: &Phase) -> (&'static str, Option<Progress>, Option<String>) {
    match phase {
        Phase::Opening => ("opening", None, None),
        &Phase::Rebuilding { entries } => {
            let progress = Progress {
                done: entries,
                end: None,
            };
            ("rebuilding", Some(progress), None)
        }
        &Phase::Replaying { applied, end } => {
            let progress = Progress {
                done: applied,
                end: Some(end),
            };
            ("replaying", Some(progress), None)
        }
        Phase::Ready => ("ready", None, None),
        Phase::Failed { reason } => ("failed", None, Some(reason.clone())),
    }
}

fn gauge(gauge: &prometheus_client::metrics::gauge::Gauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}
