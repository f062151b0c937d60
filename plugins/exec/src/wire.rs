//! The messages of `PROTOCOL.md`: requests as bytes, answers as values. Pure.

use std::fmt::Write as _;

use profilesync_target::{Document, Mask, State, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::text::quote;

/// The version of the protocol.
const PROTOCOL: u64 = 1;

/// Most documents in one request.
const MAX_BATCH: usize = 1000;

/// Members of a document that a plugin keeps unless it says otherwise: all that do not name the account.
const FIELDS: [&str; 9] = [
    "revision",
    "name",
    "introduction",
    "face_url",
    "organization",
    "owner",
    "operator",
    "event_time",
    "extra",
];

/// How requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// One member per line.
    Lines,
}

/// What a plugin says about itself. The default stands for one that said nothing yet.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Hello {
    protocol: u64,
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default = "one")]
    pub(crate) batch: usize,
    #[serde(default)]
    pub(crate) revisions: bool,
    #[serde(default)]
    pub(crate) read_back: bool,
    fields: Option<Vec<String>>,
}

fn one() -> usize {
    1
}

#[derive(Serialize)]
struct Greeting<'a> {
    protocol: u64,
    version: &'a str,
    target: &'a str,
    timeout_ms: u64,
}

/// The first line to a plugin.
pub(crate) fn greeting(version: &str, target: &str, timeout_ms: u128) -> String {
    // A struct, for the members of a `Value` would be sorted.
    let greeting = Greeting {
        protocol: PROTOCOL,
        version,
        target,
        timeout_ms: u64::try_from(timeout_ms).unwrap_or(u64::MAX),
    };
    let greeting = serde_json::to_string(&greeting).expect("texts and numbers are JSON");
    format!("{{\"hello\":{greeting}}}\n")
}

impl Hello {
    /// Reads a plugin's first line.
    pub(crate) fn parse(line: &str, mask: &Mask) -> Result<Self, String> {
        let hello: Self = serde_json::from_str(line).map_err(|error| {
            let line = quote(mask, line);
            format!("its first line is no hello ({error}): {line}; messages go to standard error")
        })?;
        if hello.protocol != PROTOCOL {
            return Err(format!(
                "it speaks version {} of the protocol, and this profilesync version {PROTOCOL}",
                hello.protocol
            ));
        }
        if !(1..=MAX_BATCH).contains(&hello.batch) {
            return Err(format!(
                "its hello has a `batch` of {}; 1 to {MAX_BATCH} are possible",
                hello.batch
            ));
        }
        if hello.format == Format::Lines && hello.batch != 1 {
            return Err(
                "its hello has a `batch` beside the format `lines`, which takes one".into(),
            );
        }
        if let Some(unknown) = hello.fields().find(|field| !FIELDS.contains(field)) {
            return Err(format!(
                "its hello names the field {unknown:?}; there are {FIELDS:?}"
            ));
        }
        Ok(hello)
    }

    fn fields(&self) -> impl Iterator<Item = &str> {
        let named = self.fields.iter().flatten().map(String::as_str);
        let all = FIELDS.into_iter().filter(|_| self.fields.is_none());
        named.chain(all)
    }

    /// What the plugin would show of a document that it holds; `None` of a destroyed one.
    pub(crate) fn wanted(&self, document: &Document) -> Option<State> {
        match serde_json::to_value(document) {
            Ok(Value::Object(members)) if document.status == Status::Active => self.shown(members),
            _ => None,
        }
    }

    /// The members that count of what a plugin holds.
    pub(crate) fn shown(&self, mut held: State) -> Option<State> {
        if held
            .get("status")
            .is_some_and(|status| status == "destroyed")
        {
            return None;
        }
        let member = |field: &str| {
            let empty = if field == "extra" {
                json!({})
            } else {
                Value::Null
            };
            let value = held.remove(field).filter(|value| !value.is_null());
            (field.to_owned(), value.unwrap_or(empty))
        };
        Some(self.fields().map(member).collect())
    }
}

/// Which kind of request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// Hold these documents.
    Deliver(&'a [&'a Document]),
    /// What is held of the accounts of these documents?
    Read(&'a [&'a Document]),
    /// Are you well?
    Probe,
}

#[derive(Serialize)]
struct Numbered<'a> {
    id: u64,
    document: &'a Document,
}

#[derive(Serialize)]
struct Account<'a> {
    id: u64,
    sdk_app_id: u64,
    account: &'a str,
}

impl Ask<'_> {
    /// How many answers are awaited.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Deliver(documents) | Self::Read(documents) => documents.len(),
            Self::Probe => 1,
        }
    }

    /// The request; its ids begin with `first`.
    pub(crate) fn write(&self, format: Format, first: u64) -> String {
        match format {
            Format::Json => format!("{}\n", self.json(first)),
            Format::Lines => self.lines(first),
        }
    }

    /// Written from structs, not from `Value`s, whose members would be sorted.
    fn json(&self, first: u64) -> String {
        let text = match self {
            Self::Deliver(documents) => {
                let numbered = (first..)
                    .zip(*documents)
                    .map(|(id, document)| Numbered { id, document });
                serde_json::to_string(&numbered.collect::<Vec<_>>()).map(|list| ("deliver", list))
            }
            Self::Read(documents) => {
                let accounts = (first..).zip(*documents).map(|(id, document)| Account {
                    id,
                    sdk_app_id: document.sdk_app_id,
                    account: &document.account,
                });
                serde_json::to_string(&accounts.collect::<Vec<_>>()).map(|list| ("read", list))
            }
            Self::Probe => Ok(("probe", json!({ "id": first }).to_string())),
        };
        let (name, value) = text.expect("documents are JSON");
        format!("{{\"{name}\":{value}}}")
    }

    fn lines(&self, first: u64) -> String {
        let mut text = String::new();
        match self {
            Self::Deliver(documents) => {
                for (id, document) in (first..).zip(*documents) {
                    line(&mut text, "deliver", &id.to_string());
                    members(&mut text, document);
                }
            }
            Self::Read(documents) => {
                for (id, document) in (first..).zip(*documents) {
                    line(&mut text, "read", &id.to_string());
                    line(&mut text, "sdk_app_id", &document.sdk_app_id.to_string());
                    line(&mut text, "account", &escape(&document.account));
                    text.push('\n');
                }
            }
            Self::Probe => {
                line(&mut text, "probe", &first.to_string());
                text.push('\n');
            }
        }
        text
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name} {value}").expect("writing into a string does not fail");
}

fn members(text: &mut String, document: &Document) {
    let json = serde_json::to_string(document).expect("documents are JSON");
    line(text, "sdk_app_id", &document.sdk_app_id.to_string());
    line(text, "account", &escape(&document.account));
    line(text, "revision", &document.revision.to_string());
    let status = match document.status {
        Status::Active => "active",
        Status::Destroyed => "destroyed",
    };
    line(text, "status", status);
    for (name, value) in [
        ("name", &document.name),
        ("introduction", &document.introduction),
        ("face_url", &document.face_url),
        ("organization", &document.organization),
        ("owner", &document.owner),
        ("operator", &document.operator),
    ] {
        if let Some(value) = value {
            line(text, name, &escape(value));
        }
    }
    line(text, "event_time", &document.event_time.to_string());
    line(text, "document", &json);
    text.push('\n');
}

/// What `printf %b` undoes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\0' => escaped.push_str("\\0000"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// One answer of a plugin.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Reply {
    /// Which request it answers.
    pub(crate) id: u64,
    /// What became of it; absent when something is held.
    pub(crate) outcome: Option<Word>,
    /// Told of what went well.
    pub(crate) answer: Option<String>,
    /// Told of what did not.
    pub(crate) reason: Option<String>,
    /// Not before then.
    pub(crate) after_ms: Option<u64>,
    /// What is held, in answer to `read`: `Some(None)` is nothing.
    #[serde(default, deserialize_with = "present")]
    pub(crate) held: Option<Option<State>>,
}

/// The outcomes of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    Delivered,
    Retry,
    Rejected,
    Denied,
    Fault,
    Ok,
}

/// Tells a member that is `null` from one that is not there.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<State>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn hello(line: &str) -> Result<Hello, String> {
        Hello::parse(line, &Mask::default())
    }

    fn document(status: Status, name: Option<&str>) -> Document {
        Document {
            sdk_app_id: 1,
            account: "a\\b".into(),
            revision: 7,
            status,
            name: name.map(str::to_owned),
            introduction: None,
            face_url: None,
            organization: None,
            owner: None,
            operator: None,
            event_time: 5,
            extra: Map::new(),
        }
    }

    #[test]
    fn requests_are_written_as_specified() {
        assert_eq!(
            greeting("0.1.0", "crm", 10_000),
            "{\"hello\":{\"protocol\":1,\"version\":\"0.1.0\",\"target\":\"crm\",\"timeout_ms\":10000}}\n"
        );
        let document = document(Status::Active, Some("two\nlines \0"));
        let documents = [&document];
        let json = Ask::Deliver(&documents).write(Format::Json, 17);
        assert_eq!(
            json,
            "{\"deliver\":[{\"id\":17,\"document\":{\"sdk_app_id\":1,\"account\":\"a\\\\b\",\"revision\":7,\
             \"status\":\"active\",\"name\":\"two\\nlines \\u0000\",\"introduction\":null,\"face_url\":null,\
             \"organization\":null,\"owner\":null,\"operator\":null,\"event_time\":5,\"extra\":{}}}]}\n"
        );
        let lines = Ask::Deliver(&documents).write(Format::Lines, 17);
        let (head, json) = lines.split_once("document ").unwrap();
        assert_eq!(
            head,
            "deliver 17\nsdk_app_id 1\naccount a\\\\b\nrevision 7\nstatus active\nname two\\nlines \\0000\nevent_time 5\n"
        );
        assert_eq!(
            json,
            format!("{}\n\n", serde_json::to_string(&document).unwrap())
        );
        assert_eq!(
            Ask::Read(&documents).write(Format::Json, 18),
            "{\"read\":[{\"id\":18,\"sdk_app_id\":1,\"account\":\"a\\\\b\"}]}\n"
        );
        assert_eq!(
            Ask::Read(&documents).write(Format::Lines, 18),
            "read 18\nsdk_app_id 1\naccount a\\\\b\n\n"
        );
        assert_eq!(
            Ask::Probe.write(Format::Json, 19),
            "{\"probe\":{\"id\":19}}\n"
        );
        assert_eq!(Ask::Probe.write(Format::Lines, 19), "probe 19\n\n");
    }

    #[test]
    fn a_wrong_hello_says_what_is_wrong() {
        for (line, word) in [
            ("Starting up", "no hello"),
            ("{}", "protocol"),
            (r#"{"protocol":2}"#, "version 2"),
            (r#"{"protocol":1,"batch":0}"#, "`batch` of 0"),
            (r#"{"protocol":1,"batch":5,"format":"lines"}"#, "lines"),
            (r#"{"protocol":1,"format":"xml"}"#, "xml"),
            (r#"{"protocol":1,"fields":["nmae"]}"#, "nmae"),
        ] {
            let error = hello(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
        let hello = hello(r#"{"protocol":1,"unknown":[]}"#).unwrap();
        assert_eq!((hello.batch, hello.format), (1, Format::Json));
    }

    #[test]
    fn what_is_held_is_compared_by_the_fields_that_are_kept() {
        let hello = hello(r#"{"protocol":1,"fields":["name","owner","extra"]}"#).unwrap();
        let held = json!({ "name": "x", "revision": 9 });
        let Value::Object(held) = held else {
            unreachable!()
        };
        let wanted = hello.wanted(&document(Status::Active, Some("x")));
        assert_eq!(hello.shown(held), wanted);
        assert_eq!(wanted.unwrap().len(), 3);
        assert_eq!(hello.wanted(&document(Status::Destroyed, None)), None);
        let gone = State::from_iter([("status".to_owned(), json!("destroyed"))]);
        assert_eq!(hello.shown(gone), None);
    }

    #[test]
    fn nothing_held_differs_from_nothing_said() {
        let reply: Reply = serde_json::from_str(r#"{"id":1,"held":null}"#).unwrap();
        assert_eq!(reply.held, Some(None));
        let reply: Reply = serde_json::from_str(r#"{"id":1,"outcome":"fault"}"#).unwrap();
        assert_eq!(reply.held, None);
    }
}
