//! What a document becomes at the server: a key, the fields of its hash, and the notice of its change.

use profilesync_target::{Document, State, Status};
use redis::{Cmd, Script, cmd};
use serde_json::{Value, json};

/// The fields of a hash, in the order of the document. An absent text is an absent field.
pub(crate) const FIELDS: [&str; 12] = [
    "sdk_app_id",
    "account",
    "revision",
    "status",
    "name",
    "introduction",
    "face_url",
    "organization",
    "owner",
    "operator",
    "event_time",
    "extra",
];

/// The names of things at the server, and what is to be done to them.
pub(crate) struct Layout {
    /// Begins every key of an account.
    pub(crate) prefix: String,
    /// Whether the hash of a destroyed account goes, and its revision with it.
    pub(crate) delete: bool,
    /// Where notices are added.
    pub(crate) stream: Option<Stream>,
    /// Where notices are published.
    pub(crate) channel: Option<String>,
}

/// A stream of notices.
pub(crate) struct Stream {
    pub(crate) key: String,
    /// About how many of its entries stay.
    pub(crate) maxlen: u64,
}

/// A document in the server's terms.
pub(crate) struct Entry<'a> {
    layout: &'a Layout,
    key: String,
    revision: String,
    /// `None` when the hash goes.
    fields: Option<Vec<(&'static str, Option<String>)>>,
    notice: Vec<(&'static str, Value)>,
}

impl Layout {
    pub(crate) fn key(&self, document: &Document) -> String {
        // The app's id is a number, so no two pairs of app and account read the same.
        format!(
            "{}{}:{}",
            self.prefix, document.sdk_app_id, document.account
        )
    }

    /// A key that no account has, for an account is never empty.
    pub(crate) fn unused_key(&self) -> String {
        format!("{}0:", self.prefix)
    }

    pub(crate) fn entry(&self, document: &Document) -> Entry<'_> {
        let destroyed = document.status == Status::Destroyed;
        let key = self.key(document);
        Entry {
            layout: self,
            revision: document.revision.to_string(),
            fields: (!(destroyed && self.delete)).then(|| fields(document)),
            notice: vec![
                ("sdk_app_id", document.sdk_app_id.into()),
                ("account", document.account.as_str().into()),
                ("revision", document.revision.into()),
                ("status", status(document).into()),
                ("key", key.as_str().into()),
            ],
            key,
        }
    }
}

impl Entry<'_> {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The call of the script: by its text, which makes the server remember it, or by its hash.
    pub(crate) fn call(&self, script: &Script, text: Option<&str>) -> Cmd {
        let mut call = match text {
            Some(text) => cmd("EVAL").arg(text).take(),
            None => cmd("EVALSHA").arg(script.get_hash()).take(),
        };
        let Layout {
            stream, channel, ..
        } = self.layout;
        match stream {
            Some(stream) => call.arg(2).arg(&self.key).arg(&stream.key),
            None => call.arg(1).arg(&self.key),
        };
        let action = if self.fields.is_some() {
            "put"
        } else {
            "delete"
        };
        call.arg(&self.revision).arg(action);
        let message = channel.as_ref().map(|_| self.message());
        call.arg(channel.as_deref().unwrap_or_default())
            .arg(message.unwrap_or_default());
        let entry = match stream {
            Some(stream) => {
                call.arg(stream.maxlen);
                self.texts()
            }
            None => {
                call.arg(0);
                Vec::new()
            }
        };
        let set = self.set();
        call.arg(entry.len())
            .arg(set.len())
            .arg(entry)
            .arg(set)
            .arg(self.removed());
        call
    }

    /// The commands that the script runs, as one would type them.
    pub(crate) fn render(&self) -> String {
        let key = quoted(&self.key);
        let mut lines = vec![format!(
            "# in one step, unless {key} has a later revision, or all this already:"
        )];
        if let Some(Stream { key, maxlen }) = &self.layout.stream {
            let texts = joined(&self.texts());
            lines.push(format!("XADD {} MAXLEN ~ {maxlen} * {texts}", quoted(key)));
        }
        if let Some(channel) = &self.layout.channel {
            let message = quoted(&self.message());
            lines.push(format!("PUBLISH {} {message}", quoted(channel)));
        }
        if self.fields.is_none() {
            lines.push(format!("DEL {key}"));
        } else {
            lines.push(format!("HSET {key} {}", joined(&self.set())));
            let removed = self.removed();
            if !removed.is_empty() {
                lines.push(format!("HDEL {key} {}", joined(&removed)));
            }
        }
        lines.join("\n") + "\n"
    }

    /// Names and values of the fields to set.
    fn set(&self) -> Vec<&str> {
        let fields = self.fields.iter().flatten();
        fields
            .filter_map(|(name, value)| Some([*name, value.as_deref()?]))
            .flatten()
            .collect()
    }

    fn removed(&self) -> Vec<&str> {
        let fields = self.fields.iter().flatten();
        fields
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| *name)
            .collect()
    }

    /// The notice as names and values.
    fn texts(&self) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.notice
            .iter()
            .flat_map(|(name, value)| [(*name).to_owned(), text(value)])
            .collect()
    }

    /// The notice as JSON, in the order of the document.
    fn message(&self) -> String {
        let members = self
            .notice
            .iter()
            .map(|(name, value)| format!("{}:{value}", json!(name)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

/// What a hash holds once the document is delivered; `None` for a destroyed account, whether its hash goes or tells
/// of its end.
pub(crate) fn wanted(document: &Document) -> Option<State> {
    if document.status == Status::Destroyed {
        return None;
    }
    let present = fields(document).into_iter();
    let present = present.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Some(present.collect())
}

fn fields(document: &Document) -> Vec<(&'static str, Option<String>)> {
    let active = document.status == Status::Active;
    let extra = active.then(|| Value::from(document.extra.clone()).to_string());
    let values = [
        Some(document.sdk_app_id.to_string()),
        Some(document.account.clone()),
        Some(document.revision.to_string()),
        Some(status(document).to_owned()),
        document.name.clone(),
        document.introduction.clone(),
        document.face_url.clone(),
        document.organization.clone(),
        document.owner.clone(),
        document.operator.clone(),
        Some(document.event_time.to_string()),
        extra,
    ];
    FIELDS.into_iter().zip(values).collect()
}

/// The value of `status` that tells of a destroyed account.
pub(crate) const DESTROYED: &str = "destroyed";

fn status(document: &Document) -> &'static str {
    match document.status {
        Status::Active => "active",
        Status::Destroyed => DESTROYED,
    }
}

fn joined(texts: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    quoted.join(" ")
}

/// A text as redis-cli takes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_text_is_quoted_as_redis_cli_takes_it() {
        assert_eq!(quoted("plain"), r#""plain""#);
        assert_eq!(quoted("\"a\\b\"\r\n\t\0é"), r#""\"a\\b\"\r\n\t\x00é""#);
    }
}
