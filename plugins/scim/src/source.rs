//! What an attribute can hold, and as which value.

use profilesync_target::{Document, Status};
use profilesync_template::{Source, caseless};
use serde_json::Value;

/// What an attribute can hold, beside `extra.NAME`.
pub(crate) const MEMBERS: [&str; 14] = [
    "account",
    "active",
    "event_time",
    "extra",
    "face_url",
    "introduction",
    "name",
    "operator",
    "organization",
    "owner",
    "revision",
    "safe_id",
    "sdk_app_id",
    "status",
];

/// The first value that one of the sources has, and that is not empty.
///
/// # Errors
/// Why a template has no value for this document.
pub(crate) fn first(sources: &[Source], document: &Document) -> Result<Option<Value>, String> {
    for source in sources {
        let value = match source {
            Source::Member("active") => Value::from(document.status == Status::Active),
            Source::Member("safe_id") => Value::from(safe_id(document)),
            source => source.value(document)?,
        };
        if !value.is_null() && value != "" {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// `APP.ACCOUNT` in small letters, digits and `%.-_`; different for any two accounts, without regard to case.
fn safe_id(document: &Document) -> String {
    format!("{}.{}", document.sdk_app_id, caseless(&document.account))
}
