//! The profile of one account, in the shape every target gets.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The newest known profile of one Official Account. Serialises in the field order shown here; an absent
/// string is `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The app the account belongs to.
    pub sdk_app_id: u64,
    /// The account's id within the app, e.g. `@TOA#_test`. Hostile input: any UTF-8 without control characters.
    pub account: String,
    /// Starts at 1 and grows by one with every visible change of the account. A target that compares it can
    /// never be moved back.
    pub revision: u64,
    /// Whether the account exists.
    pub status: Status,
    /// `Name`
    pub name: Option<String>,
    /// `Introduction`
    pub introduction: Option<String>,
    /// `FaceUrl`: text chosen by an app admin; never fetch it.
    pub face_url: Option<String>,
    /// `Organization`
    pub organization: Option<String>,
    /// `Owner_Account`
    pub owner: Option<String>,
    /// `Operator_Account`: who made the newest change.
    pub operator: Option<String>,
    /// The newest `EventTime` known of the account, in milliseconds since 1970.
    pub event_time: u64,
    /// Every other member the sender told of.
    pub extra: Map<String, Value>,
}

/// Whether an account exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does.
    Active,
    /// It was destroyed; all fields are `null` and `extra` is empty.
    Destroyed,
}
