//! What the daemon counts, under the names of design §10. Labels are bounded: apps and targets, never accounts.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

/// Seconds from 0.1 ms to 26 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 19))
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    app: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The target a number is of.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TargetLabel {
    /// Its name.
    pub target: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeliveryLabels {
    target: String,
    result: &'static str,
}

type TargetHistogram = Family<TargetLabel, Histogram, fn() -> Histogram>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// Every metric. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    events: Family<EventLabels, Counter>,
    refused: Family<ReasonLabel, Counter>,
    /// From the last check of an event (signature, rate and parsing are done) to its OK. The wait for a store that is
    /// behind counts; how long the request took to arrive does not.
    pub ack_seconds: Histogram,
    /// One append and sync of the journal.
    pub commit_seconds: Histogram,
    /// Events per sync.
    pub commit_batch_size: Histogram,
    /// Events in the journal that the store has not applied.
    pub apply_lag_events: Gauge,
    /// Accounts known.
    pub accounts: Gauge,
    /// Bytes on disk of journal, snapshots and index.
    pub store_bytes: Gauge,
    /// How often the index was rebuilt since the start: it was damaged or not to be trusted and is set aside; or it was
    /// lost or never finished, and there is a snapshot.
    pub store_rebuilds: Counter,
    /// 1 while the store is open and follows the journal, else 0.
    pub store_ready: Gauge,
    /// Records of the journal that were damaged and stepped over.
    pub journal_damaged: Counter,
    /// Whether the last reload of the configuration succeeded.
    pub config_last_reload_successful: Gauge,
    deliveries: Family<DeliveryLabels, Counter>,
    /// One call of a target.
    pub delivery_seconds: TargetHistogram,
    /// Age of the oldest due account.
    pub sync_lag_seconds: Family<TargetLabel, FloatGauge>,
    /// Accounts to deliver, those that wait for a retry included, parked ones not.
    pub due: Family<TargetLabel, Gauge>,
    /// Accounts given up on.
    pub parked: Family<TargetLabel, Gauge>,
    /// Accounts being delivered.
    pub inflight: Family<TargetLabel, Gauge>,
    /// 1 while the breaker is open.
    pub breaker_open: Family<TargetLabel, Gauge>,
    /// Unix time.
    pub last_success_timestamp_seconds: Family<TargetLabel, FloatGauge>,
    /// Accounts the backfill has not reached.
    pub backfill_remaining: Family<TargetLabel, Gauge>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventResult {
    /// It made a revision.
    Recorded,
    /// It is known already.
    Duplicate,
    /// Newer ones had set all it sets.
    Stale,
    /// It set what was so already.
    Unchanged,
    /// Another command.
    Ignored,
    /// It was answered with an error.
    Refused,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The target has it.
    Delivered,
    /// It will be tried again.
    Retry,
    /// The target refused the account's data.
    Rejected,
    /// The target is unwell.
    TargetFault,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! register {
    ($registry:ident: $($name:ident $help:literal),* $(,)?) => {
        $( $registry.register(stringify!($name), $help, $name.clone()); )*
    };
}

impl Metrics {
    /// All at zero.
    #[must_use]
    #[expect(
        clippy::too_many_lines,
        reason = "a list: one line to make and one to register each metric"
    )]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("profilesync");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        registry.register(
            "build",
            "The running version",
            Info::new(vec![("version".to_owned(), version)]),
        );
        let events = Family::default();
        let refused = Family::default();
        let ack_seconds = seconds();
        let commit_seconds = seconds();
        let commit_batch_size = Histogram::new(exponential_buckets(1.0, 2.0, 12));
        let apply_lag_events = Gauge::default();
        let accounts = Gauge::default();
        let store_bytes = Gauge::default();
        let store_rebuilds = Counter::default();
        let store_ready = Gauge::default();
        let journal_damaged = Counter::default();
        let config_last_reload_successful = Gauge::default();
        config_last_reload_successful.set(1);
        let deliveries = Family::default();
        let delivery_seconds = TargetHistogram::new_with_constructor(seconds);
        let sync_lag_seconds = Family::default();
        let due = Family::default();
        let parked = Family::default();
        let inflight = Family::default();
        let breaker_open = Family::default();
        let last_success_timestamp_seconds = Family::default();
        let backfill_remaining = Family::default();
        register!(registry:
            events "Profile events and other commands by what became of them",
            refused "Requests answered with an error, by reason",
            ack_seconds "From an event that was checked and found good to its OK",
            commit_seconds "One append and sync of the journal",
            commit_batch_size "Events per sync of the journal",
            apply_lag_events "Events in the journal that the store has not applied",
            accounts "Accounts known",
            store_bytes "Bytes on disk of the state directory",
            store_rebuilds "Times the index was rebuilt, as it was damaged, not to be trusted, lost or unfinished",
            store_ready "Whether the store is open and follows the journal",
            journal_damaged "Damaged journal records stepped over",
            config_last_reload_successful "Whether the last reload succeeded",
            deliveries "Deliveries by result",
            delivery_seconds "One call of a target",
            sync_lag_seconds "Age of the oldest due account",
            due "Accounts to deliver",
            parked "Accounts given up on",
            inflight "Accounts being delivered",
            breaker_open "Whether the breaker is open",
            last_success_timestamp_seconds "When a delivery last succeeded",
            backfill_remaining "Accounts the backfill has not reached",
        );
        Self {
            registry: Arc::new(registry),
            events,
            refused,
            ack_seconds,
            commit_seconds,
            commit_batch_size,
            apply_lag_events,
            accounts,
            store_bytes,
            store_rebuilds,
            store_ready,
            journal_damaged,
            config_last_reload_successful,
            deliveries,
            delivery_seconds,
            sync_lag_seconds,
            due,
            parked,
            inflight,
            breaker_open,
            last_success_timestamp_seconds,
            backfill_remaining,
        }
    }

    /// Counts an event. `app` is the app's name, `-` where none is known.
    pub fn event(&self, app: &str, result: EventResult) {
        self.events.get_or_create(&event_labels(app, result)).inc();
    }

    /// How many events of an app ended so, since the start.
    #[must_use]
    pub fn event_count(&self, app: &str, result: EventResult) -> u64 {
        self.events.get_or_create(&event_labels(app, result)).get()
    }

    /// Counts a request that was answered with an error.
    pub fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a delivery.
    pub fn delivery(&self, target: &str, result: DeliveryResult) {
        let result = match result {
            DeliveryResult::Delivered => "delivered",
            DeliveryResult::Retry => "retry",
            DeliveryResult::Rejected => "rejected",
            DeliveryResult::TargetFault => "target_fault",
        };
        self.deliveries
            .get_or_create(&DeliveryLabels {
                target: target.to_owned(),
                result,
            })
            .inc();
    }

    /// Shows no more what a target that is gone last said of itself.
    pub fn forget_target(&self, target: &str) {
        let label = TargetLabel {
            target: target.to_owned(),
        };
        for family in [
            &self.due,
            &self.parked,
            &self.inflight,
            &self.breaker_open,
            &self.backfill_remaining,
        ] {
            family.remove(&label);
        }
        self.sync_lag_seconds.remove(&label);
        self.last_success_timestamp_seconds.remove(&label);
    }

    /// The Prometheus text, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        classic(&self.render_open_metrics())
    }

    /// The same as OpenMetrics.
    #[must_use]
    pub fn render_open_metrics(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing into a string does not fail");
        out
    }
}

/// OpenMetrics as Prometheus text. There the head of a metric has the name that its samples have, and there is no type
/// `info` and no end mark.
fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = line;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or((kind, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            let help = help.splitn(4, ' ').nth(3).unwrap_or_default();
            out += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        } else if line != "# EOF" {
            out += line;
            out.push('\n');
        }
    }
    out
}

fn event_labels(app: &str, result: EventResult) -> EventLabels {
    let result = match result {
        EventResult::Recorded => "recorded",
        EventResult::Duplicate => "duplicate",
        EventResult::Stale => "stale",
        EventResult::Unchanged => "unchanged",
        EventResult::Ignored => "ignored",
        EventResult::Refused => "refused",
    };
    EventLabels {
        app: app.to_owned(),
        result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_prometheus_or_open_metrics() {
        let metrics = Metrics::new();
        metrics.refuse("path");
        metrics.accounts.set(2);
        metrics.ack_seconds.observe(0.001);
        let open = metrics.render_open_metrics();
        let text = metrics.render();
        for (own, others) in [
            (
                "# HELP profilesync_refused_total Requests answered with an error, by reason.\n\
                 # TYPE profilesync_refused_total counter\n\
                 profilesync_refused_total{reason=\"path\"} 1\n",
                "# TYPE profilesync_refused counter\n",
            ),
            (
                "# TYPE profilesync_build_info gauge\nprofilesync_build_info{",
                "# TYPE profilesync_build info\n",
            ),
            (
                "# TYPE profilesync_accounts gauge\nprofilesync_accounts 2\n",
                "# EOF\n",
            ),
        ] {
            assert!(text.contains(own), "{text}");
            assert!(!text.contains(others), "{text}");
            assert!(open.contains(others), "{open}");
        }
        let samples = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(samples(&text), samples(&open));
    }
}
