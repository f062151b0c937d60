//! The message of a document: topic and payload, and the same as text.

use profilesync_target::{Document, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::topic::Topic;

/// The shape of the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// The document itself.
    #[default]
    Profile,
    /// `{"type": "profile.updated", "timestamp": …, "data": <document>}`
    Standard,
}

/// What the messages of a target share.
pub(crate) struct Form {
    pub(crate) topic: Topic,
    pub(crate) format: Format,
}

/// One message.
pub(crate) struct Message {
    pub(crate) topic: String,
    /// Empty for a destroyed account: the server then holds nothing for the topic.
    pub(crate) payload: Vec<u8>,
}

impl Form {
    /// # Errors
    /// Why this document has no message.
    pub(crate) fn fill(&self, document: &Document) -> Result<Message, String> {
        let payload = match document.status {
            Status::Active => payload(self.format, document),
            Status::Destroyed => Vec::new(),
        };
        Ok(Message {
            topic: self.topic.fill(document)?,
            payload,
        })
    }
}

impl Message {
    /// The message as text.
    pub(crate) fn render(&self) -> String {
        let payload = match self.payload.is_empty() {
            true => "(an empty payload, which clears the topic)".into(),
            false => String::from_utf8_lossy(&self.payload),
        };
        format!("topic: {}\nretained, QoS 1\n\n{payload}\n", self.topic)
    }
}

fn payload(format: Format, document: &Document) -> Vec<u8> {
    match format {
        Format::Profile => serde_json::to_vec(document),
        Format::Standard => serde_json::to_vec(&document.standard()),
    }
    .expect("a document is JSON")
}

#[cfg(test)]
pub(crate) mod tests {
    use profilesync_target::{Document, Status};
    use serde_json::json;

    use super::{Form, Format};
    use crate::topic::Topic;

    pub(crate) fn document(account: &str) -> Document {
        Document {
            sdk_app_id: 1,
            account: account.into(),
            revision: 7,
            status: Status::Active,
            name: Some("Name".into()),
            introduction: None,
            face_url: None,
            organization: None,
            owner: None,
            operator: None,
            event_time: 1_670_574_414_123,
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_message_is_the_document_or_empty() {
        let topic = || Topic::compile(&toml::Spanned::new(0..0, "{{ account }}".into())).unwrap();
        let form = |format| Form {
            topic: topic(),
            format,
        };
        let message = form(Format::Standard).fill(&document("a")).unwrap();
        let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(payload["timestamp"], json!("2022-12-09T08:26:54.123Z"));
        assert_eq!(payload["data"]["revision"], json!(7));
        let destroyed = Document {
            status: Status::Destroyed,
            ..document("a")
        };
        let message = form(Format::Profile).fill(&destroyed).unwrap();
        assert!(message.payload.is_empty());
        assert!(message.render().contains("clears the topic"));
    }
}
