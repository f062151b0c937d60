//! What an attribute can hold, and as which text.

use profilesync_target::Document;
use profilesync_template::Source;
use serde_json::Value;

/// The members of a document that an attribute can hold, beside `extra.NAME`.
pub(crate) const MEMBERS: [&str; 12] = [
    "account",
    "event_time",
    "extra",
    "face_url",
    "introduction",
    "name",
    "operator",
    "organization",
    "owner",
    "revision",
    "sdk_app_id",
    "status",
];

/// The first text that one of the sources has. A directory has no empty texts. A NUL is no text in a directory either,
/// and left out.
///
/// # Errors
/// Why a template has no value for this document.
pub(crate) fn first(sources: &[Source], document: &Document) -> Result<Option<String>, String> {
    for source in sources {
        let text = match source.value(document)? {
            Value::Null => continue,
            Value::String(text) => text.replace('\0', ""),
            other => other.to_string(),
        };
        if !text.is_empty() {
            return Ok(Some(text));
        }
    }
    Ok(None)
}
