//! What the store keeps, as values. `store/codec.rs` turns them into bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    event::{Field, Stamp},
    merge::Profile,
};

/// A target's number in the store's keys; given once to each name.
pub type TargetId = u32;

/// One account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// The merged state.
    pub profile: Profile,
    /// How often the visible profile changed.
    pub revision: u64,
    /// Sequence number of the event that made this revision: the account's place in the change index.
    pub changed_seq: u64,
    /// When that event was received.
    pub changed_at: Millis,
    /// Per field the revision that last changed its visible value; a field that was voided is here too.
    pub field_revisions: BTreeMap<Field, u64>,
    /// The revision that last changed the status.
    pub status_revision: u64,
    /// Entries in the account's history. After a rebuild from a snapshot that was taken under load it may be too low.
    pub history: u32,
}

/// One event in an account's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// `EventTime` and digest.
    pub stamp: Stamp,
    /// Its place in the journal.
    pub seq: u64,
    /// When it was received.
    pub received: Millis,
    /// `CallbackCommand`
    pub command: String,
    /// The body as received.
    pub body: Vec<u8>,
}

/// The bits of an epoch that count backfills under the same settings.
const SAME_SETTINGS: u32 = (1 << 10) - 1;

/// Which settings an epoch belongs to. A delivery under other settings says nothing of what the target holds now: it may
/// have gone elsewhere, or nowhere if the mode was shadow.
#[must_use]
pub fn settings_of(epoch: u32) -> u32 {
    epoch & !SAME_SETTINGS
}

/// The first epoch after a change of the settings.
#[must_use]
pub fn after_new_settings(epoch: u32) -> u32 {
    (epoch | SAME_SETTINGS).saturating_add(1)
}

/// What is known of one target. Its dispatcher writes it; before it begins and after it ended, `dispatch::enroll` does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// Its number.
    pub id: TargetId,
    /// SHA-256 (hex) of its settings, secrets excluded.
    pub identity: String,
    /// Grows with every backfill; a delivery of an earlier epoch is not known to be at the target any more. The upper bits
    /// grow with the settings; see [`settings_of`].
    pub epoch: u32,
    /// Every change up to this sequence number has been delivered, or waits for a retry, or is parked.
    pub live: u64,
    /// A backfill that is not finished.
    pub backfill: Option<Backfill>,
    /// Paused by an operator.
    pub paused: bool,
    /// Held by the guard since then, until approved.
    pub held: Option<Millis>,
    /// When it was found missing in the configuration.
    pub removed_at: Option<Millis>,
    /// When a delivery last succeeded.
    pub last_success: Option<Millis>,
    /// When a delivery last failed, and why.
    pub last_error: Option<(Millis, String)>,
}

/// Accounts whose last change is in `(next, end]` are still to be delivered anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Done up to here.
    pub next: u64,
    /// The target's `live` when the backfill began.
    pub end: u64,
    /// How many accounts it was then.
    pub total: u64,
    /// How many of them have been dealt with.
    pub done: u64,
}

/// What is known of one (target, account).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryState {
    /// The target's epoch when it was delivered.
    pub epoch: u32,
    /// The revision the target holds; 0 when it was never delivered.
    pub delivered: u64,
    /// When.
    pub delivered_at: Millis,
    /// What the target answered.
    pub answer: String,
    /// The failure that is not made good yet.
    pub trouble: Option<Trouble>,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it failed first.
    pub since: Millis,
    /// How often it was tried.
    pub attempts: u32,
    /// The revision tried last.
    pub revision: u64,
    /// When it was tried last.
    pub at: Millis,
    /// Why it failed, in a sentence without secrets.
    pub reason: String,
    /// What happens next.
    pub next: Next,
}

/// What happens to a failed delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// It is tried again then. `fault`: the target was to blame, so it may be tried as soon as the target is well.
    Retry {
        /// When.
        at: Millis,
        /// Whether the target was to blame.
        fault: bool,
    },
    /// Nothing, until a newer revision, an operator or a backfill.
    Parked,
}
