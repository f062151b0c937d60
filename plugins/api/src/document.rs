//! The profile of one account, in the shape every target gets.

use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_millis;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The latest time that is written, in milliseconds since 1970: the end of the year 9999, in whatever time zone.
const LATEST: u64 = 253_402_207_200_999;

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

/// A document within the envelope of Standard Webhooks, which is the format `standard` of every output that has it.
#[derive(Serialize)]
pub struct Standard<'a> {
    r#type: &'static str,
    timestamp: String,
    data: &'a Document,
}

impl Document {
    /// What a message that brings the document is about: `profile.updated` or `profile.destroyed`.
    #[must_use]
    pub fn message_type(&self) -> &'static str {
        match self.status {
            Status::Active => "profile.updated",
            Status::Destroyed => "profile.destroyed",
        }
    }

    /// Serialises as `{"type": …, "timestamp": …, "data": <document>}`, the time being that of the event.
    #[must_use]
    pub fn standard(&self) -> Standard<'_> {
        Standard {
            r#type: self.message_type(),
            timestamp: self.event_time(),
            data: self,
        }
    }

    /// When the event happened, as RFC 3339 in UTC, to the millisecond.
    #[must_use]
    pub fn event_time(&self) -> String {
        let time = UNIX_EPOCH + Duration::from_millis(self.event_time.min(LATEST));
        format_rfc3339_millis(time).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::{Document, Status};

    #[test]
    fn the_envelope_has_type_time_and_document() {
        let mut document = Document {
            sdk_app_id: 1,
            account: "a".into(),
            revision: 7,
            status: Status::Active,
            name: None,
            introduction: None,
            face_url: None,
            organization: None,
            owner: None,
            operator: None,
            event_time: 1_670_574_414_000,
            extra: Map::new(),
        };
        let enveloped = |document: &Document| serde_json::to_value(document.standard()).unwrap();
        let envelope = enveloped(&document);
        assert_eq!(envelope["type"], json!("profile.updated"));
        assert_eq!(envelope["timestamp"], json!("2022-12-09T08:26:54.000Z"));
        assert_eq!(envelope["data"], json!(document));
        document.status = Status::Destroyed;
        document.event_time = u64::MAX;
        let envelope = enveloped(&document);
        assert_eq!(envelope["type"], json!("profile.destroyed"));
        assert_eq!(envelope["timestamp"], json!("9999-12-30T22:00:00.999Z"));
    }
}
