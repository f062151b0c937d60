//! The message of a document: routing key, properties and body, and the same as text.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use profilesync_target::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::key::Key;

/// Survives a restart of the server, in a durable queue.
const PERSISTENT: u8 = 2;

/// The shape of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// `{"type": "profile.updated" | "profile.destroyed", "timestamp": …, "data": <document>}`
    #[default]
    Standard,
    /// The document itself.
    Profile,
}

/// What the messages of a target share.
pub(crate) struct Form {
    pub(crate) exchange: String,
    pub(crate) key: Key,
    pub(crate) mandatory: bool,
    pub(crate) format: Format,
}

/// What one message adds.
pub(crate) struct Message {
    pub(crate) key: String,
    /// The same for every attempt to deliver the same revision of an account.
    pub(crate) id: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

impl Form {
    /// # Errors
    /// Why this document has no message.
    pub(crate) fn fill(&self, document: &Document) -> Result<Message, String> {
        let id = message_id(document);
        let mut headers = FieldTable::default();
        headers.insert("sdk_app_id".into(), number(document.sdk_app_id));
        headers.insert(
            "account".into(),
            AMQPValue::LongString(document.account.as_str().into()),
        );
        headers.insert("revision".into(), number(document.revision));
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.as_str().into())
            .with_timestamp(document.event_time / 1000)
            .with_type(document.message_type().into())
            .with_app_id("profilesync".into())
            .with_headers(headers);
        Ok(Message {
            key: self.key.fill(document)?,
            id,
            properties,
            body: body(self.format, document),
        })
    }

    /// The message as text.
    pub(crate) fn render(&self, message: &Message) -> String {
        let mut text = format!(
            "exchange: {}\nrouting key: {}\nmandatory: {}\n",
            self.exchange, message.key, self.mandatory
        );
        let properties = &message.properties;
        for (name, value) in [
            ("type", properties.kind()),
            ("message_id", properties.message_id()),
            ("content_type", properties.content_type()),
            ("app_id", properties.app_id()),
        ] {
            if let Some(value) = value {
                writeln!(text, "{name}: {value}").expect("a String takes everything");
            }
        }
        if let Some(timestamp) = properties.timestamp() {
            writeln!(text, "timestamp: {timestamp}").expect("a String takes everything");
        }
        for (name, value) in properties.headers().iter().flat_map(|table| table.inner()) {
            let value = match value {
                AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
                AMQPValue::LongLongInt(number) => number.to_string(),
                other => format!("{other:?}"),
            };
            writeln!(text, "header {name}: {value}").expect("a String takes everything");
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&message.body));
        text.push('\n');
        text
    }
}

/// AMQP's largest integer type that every client reads is signed.
fn number(number: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX))
}

fn message_id(document: &Document) -> String {
    // An account holds no control characters, so no two triples read the same.
    let Document {
        sdk_app_id,
        account,
        revision,
        ..
    } = document;
    let digest = Sha256::digest(format!("{sdk_app_id}\n{account}\n{revision}"));
    format!("msg_{}", HEXLOWER.encode(&digest[..16]))
}

fn body(format: Format, document: &Document) -> Vec<u8> {
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
    use crate::key::Key;

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
    fn a_message_is_of_its_revision() {
        let form = Form {
            exchange: "profiles".into(),
            key: Key::compile(&toml::Spanned::new(0..0, "{{ account }}".into())).unwrap(),
            mandatory: true,
            format: Format::Standard,
        };
        let message = form.fill(&document("a")).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(body["type"], json!("profile.updated"));
        assert_eq!(body["timestamp"], json!("2022-12-09T08:26:54.123Z"));
        assert_eq!(body["data"]["revision"], json!(7));
        assert_eq!(message.id, form.fill(&document("a")).unwrap().id);
        let later = Document {
            revision: 8,
            ..document("a")
        };
        assert_ne!(message.id, form.fill(&later).unwrap().id);
        let text = form.render(&message);
        assert!(text.contains("header revision: 7\n"), "{text}");
        assert!(text.contains("header account: a\n"), "{text}");
    }
}
