//! The record of a document: key, headers and value, and the same as text.

use std::fmt::Write as _;

use profilesync_target::{Document, Status};
use profilesync_template::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shape of the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// The document itself.
    #[default]
    Profile,
    /// `{"type": "profile.updated" | "profile.destroyed", "timestamp": …, "data": <document>}`
    Standard,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Destroyed {
    /// A record without a value, a tombstone: a compacted topic forgets the account.
    #[default]
    Delete,
    /// A value whose status is `destroyed`.
    Keep,
}

/// What the records of a target share.
pub(crate) struct Form {
    pub(crate) topic: String,
    pub(crate) key: Template,
    pub(crate) format: Format,
    pub(crate) destroyed: Destroyed,
}

/// What one record holds.
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) headers: [(&'static str, String); 3],
    /// `None` is a tombstone.
    pub(crate) value: Option<String>,
}

impl Form {
    /// # Errors
    /// Why this document has no record.
    pub(crate) fn fill(&self, document: &Document) -> Result<Record, String> {
        let tombstone = document.status == Status::Destroyed && self.destroyed == Destroyed::Delete;
        let value = || {
            let json = match self.format {
                Format::Profile => serde_json::to_string(document),
                Format::Standard => serde_json::to_string(&document.standard()),
            };
            json.expect("a document is JSON")
        };
        Ok(Record {
            key: self.key.render(document)?,
            headers: [
                ("revision", document.revision.to_string()),
                ("type", document.message_type().to_owned()),
                ("content-type", "application/json".to_owned()),
            ],
            value: (!tombstone).then(value),
        })
    }
}

impl Record {
    /// The record as text.
    pub(crate) fn render(&self, topic: &str) -> String {
        let mut text = format!("topic: {topic}\nkey: {}\n", self.key);
        for (name, value) in &self.headers {
            writeln!(text, "header {name}: {value}").expect("a String takes everything");
        }
        text.push('\n');
        text.push_str(self.value.as_deref().unwrap_or("(no value: a tombstone)"));
        text.push('\n');
        text
    }
}
