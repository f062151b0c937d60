//! The JSON of the admin API, as the daemon writes it and the commands read it. Times are milliseconds since 1970.

use std::path::PathBuf;

use profilesync_target::Document;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    clock::Millis,
    event::AccountId,
    status::TargetStatus,
    store::records::{self, DeliveryState, HistoryEntry, Next},
};

/// `GET /readyz`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether events can be acknowledged: journal and listener are well, whatever the store does.
    pub ready: bool,
    /// `ok`, or why no event can be made durable.
    pub journal: String,
    /// `opening`, `replaying`, `rebuilding`, `ready` or `failed`.
    pub store: String,
    /// How far a replay or rebuild is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why the store failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    /// `ok`, or why no webhook can come in.
    pub listener: String,
}

/// How far the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of a replay: done up to this sequence number. Of a rebuild: entries so far.
    pub done: u64,
    /// The sequence number a replay goes up to.
    pub end: Option<u64>,
}

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// When it started.
    pub started: Millis,
    /// Its clock.
    pub now: Millis,
    /// As `GET /readyz` tells it.
    pub readiness: Readiness,
    /// Where webhooks are taken.
    pub listener: Option<String>,
    /// Accounts known.
    pub accounts: u64,
    /// Events in the journal that the store has not taken in.
    pub apply_lag: u64,
    /// How often the index was built anew since the start: it was damaged, not to be trusted, lost or unfinished.
    pub rebuilds: u64,
    /// Damaged journal records stepped over since the start.
    pub journal_damaged: u64,
    /// The configured apps.
    pub apps: Vec<AppStatus>,
    /// Requests refused before they could be told to be of an app.
    pub refused_without_app: u64,
    /// The configured targets.
    pub targets: Vec<TargetStatus>,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// NAME of `[apps.NAME]`.
    pub name: String,
    /// `sdk_app_id`
    pub sdk_app_id: u64,
    /// Whether its requests must be signed.
    pub signed: bool,
    /// Since the start.
    pub events: EventCounts,
}

/// What became of events, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Made a revision.
    pub recorded: u64,
    /// Were known already.
    pub duplicate: u64,
    /// Were older than what they would set.
    pub stale: u64,
    /// Set what was so already.
    pub unchanged: u64,
    /// Were other commands.
    pub ignored: u64,
    /// Were answered with an error.
    pub refused: u64,
}

/// `GET /v1/targets`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// In the order of their names.
    pub targets: Vec<TargetStatus>,
}

/// The body of `POST /v1/targets/{name}/retry`. Without `account` and `all_parked` it is about all accounts that
/// wait for a retry or are parked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryRequest {
    /// `sdk_app_id` of `account`; without it, every app's account of that name is meant.
    pub app: Option<u64>,
    /// Only this account.
    pub account: Option<String>,
    /// Every parked account.
    pub all_parked: bool,
}

/// The answer to a POST to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// The target.
    pub target: String,
    /// What was done, for people.
    pub done: String,
}

/// `GET /v1/accounts`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accounts {
    /// In the order of app and id.
    pub accounts: Vec<Account>,
    /// `after` for the next page; none on the last one.
    pub next: Option<String>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// What targets get.
    #[serde(flatten)]
    pub document: Document,
    /// When the newest revision was made.
    pub changed_at: Millis,
}

/// `GET /v1/accounts/{sdk_app_id}/{account}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountDetail {
    /// The account.
    #[serde(flatten)]
    pub account: Account,
    /// Events in its history.
    pub history: u32,
    /// What each target that ever dealt with it holds.
    pub targets: Vec<Delivery>,
}

/// One account at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The target's name.
    pub target: String,
    /// The revision it holds; 0 for none.
    pub delivered: u64,
    /// Since when.
    pub delivered_at: Option<Millis>,
    /// What it answered then.
    pub answer: Option<String>,
    /// The failure that is not made good yet.
    pub trouble: Option<Trouble>,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The revision tried last.
    pub revision: u64,
    /// When it failed first.
    pub since: Millis,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried last.
    pub at: Millis,
    /// Why it failed.
    pub reason: String,
    /// When it is tried again; none while it is parked.
    pub next: Option<Millis>,
}

/// `GET /v1/accounts/{sdk_app_id}/{account}/history`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    /// The newest `EventTime` first.
    pub events: Vec<Event>,
}

/// One event in an account's history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// `EventTime`
    pub event_time: Millis,
    /// When it was received.
    pub received: Millis,
    /// Its place in the journal.
    pub seq: u64,
    /// `CallbackCommand`
    pub command: String,
    /// SHA-256 of the canonical body, hex.
    pub digest: String,
    /// The body as received.
    pub body: Box<RawValue>,
}

/// `GET /v1/store`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `opening`, `replaying`, `rebuilding`, `ready` or `failed`.
    pub phase: String,
    /// How far a replay or rebuild is.
    pub progress: Option<Progress>,
    /// Why it failed.
    pub error: Option<String>,
    /// The newest durable sequence number.
    pub journal_synced: u64,
    /// Events in the journal that the store has not taken in.
    pub apply_lag: u64,
    /// Accounts known.
    pub accounts: u64,
    /// On disk: journal, snapshots and index.
    pub bytes: u64,
    /// How often the index was built anew since the start: it was damaged, not to be trusted, lost or unfinished.
    pub rebuilds: u64,
    /// Damaged records of the journal stepped over since the start.
    pub journal_damaged: u64,
}

/// The body of `POST /v1/store/backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// A file of the daemon's machine, absolute, that does not exist yet.
    pub path: PathBuf,
}

/// The answer to `POST /v1/store/backup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// The file, complete and durable.
    pub path: PathBuf,
}

/// The answer to `POST /v1/reload`. Each line is for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What is different now.
    pub applied: Vec<String>,
    /// What differs in the files and waits for a restart.
    pub needs_restart: Vec<String>,
}

impl Account {
    /// An account as the store has it.
    #[must_use]
    pub fn of(id: &AccountId, account: &records::Account) -> Self {
        Self {
            document: account.profile.document(id, account.revision),
            changed_at: account.changed_at,
        }
    }
}

impl Delivery {
    /// A delivery as the store has it.
    #[must_use]
    pub fn of(target: String, state: DeliveryState) -> Self {
        let ever = state.delivered > 0;
        Self {
            target,
            delivered: state.delivered,
            delivered_at: ever.then_some(state.delivered_at),
            answer: ever.then_some(state.answer),
            trouble: state.trouble.map(|trouble| Trouble {
                revision: trouble.revision,
                since: trouble.since,
                attempts: trouble.attempts,
                at: trouble.at,
                reason: trouble.reason,
                next: match trouble.next {
                    Next::Retry { at, .. } => Some(at),
                    Next::Parked => None,
                },
            }),
        }
    }
}

impl From<HistoryEntry> for Event {
    fn from(entry: HistoryEntry) -> Self {
        let body = serde_json::from_slice(&entry.body)
            .or_else(|_| to_raw_value(&String::from_utf8_lossy(&entry.body)))
            .expect("a string serialises");
        Self {
            event_time: entry.stamp.time,
            received: entry.received,
            seq: entry.seq,
            command: entry.command,
            digest: data_encoding::HEXLOWER.encode(&entry.stamp.digest),
            body,
        }
    }
}
