//! What dispatchers tell of themselves, for `status`, `targets` and the metrics.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// One target as `GET /v1/targets` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Its kind: `webhook`, `file`, …
    pub kind: String,
    /// In one word: `ok`, `failing` (some accounts wait for a retry), `open` (breaker), `paused`, `held`,
    /// `disabled`, `waiting` (the store is not ready).
    pub state: String,
    /// `live` or `shadow`.
    pub mode: String,
    /// Accounts to deliver, those that wait for a retry included.
    pub due: u64,
    /// Accounts given up on.
    pub parked: u64,
    /// Accounts being delivered.
    pub inflight: u64,
    /// Accounts delivered since the start.
    pub delivered: u64,
    /// Age of the oldest due account, seconds.
    pub lag_seconds: f64,
    /// Accounts a running backfill has not reached, and how many it began with.
    pub backfill: Option<BackfillStatus>,
    /// When a delivery last succeeded.
    pub last_success: Option<Millis>,
    /// When a delivery last failed.
    pub last_error_at: Option<Millis>,
    /// Why.
    pub last_error: Option<String>,
}

/// How far a backfill is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillStatus {
    /// Accounts to go.
    pub remaining: u64,
    /// Accounts at its beginning.
    pub total: u64,
}
