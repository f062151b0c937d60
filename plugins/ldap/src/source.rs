//! Where the value of an attribute comes from: a member of the document, a template, or the first of several that has a
//! value.

use std::ops::Range;

use profilesync_target::{Document, SettingsError, Status};
use profilesync_template::{Escape, Template, is_template};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::Value;
use toml::Spanned;

/// The members of a document that an attribute can hold, beside `extra.NAME`.
const MEMBERS: [&str; 12] = [
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

/// `"name"`, or `["name", "account"]`.
pub(crate) enum Written {
    One(String),
    Many(Vec<Spanned<String>>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Written {
    /// The sources, each with its position; `span` is that of all.
    pub(crate) fn list(&self, span: Range<usize>) -> Vec<Spanned<String>> {
        match self {
            Self::One(text) => vec![Spanned::new(span, text.clone())],
            Self::Many(list) => list.clone(),
        }
    }
}

/// One source.
pub(crate) enum Source {
    /// A member of the document by this name.
    Member(&'static str),
    /// A member of `extra`.
    Extra(String),
    /// A text over the document.
    Template(Box<Template>),
}

impl Source {
    /// Reads the source `text` of the attribute `key`.
    pub(crate) fn parse(key: &str, text: &Spanned<String>) -> Result<Self, SettingsError> {
        if is_template(text.get_ref()) {
            let template = Template::compile(key, text, Escape::None)?;
            return Ok(Self::Template(Box::new(template)));
        }
        Self::member(text.get_ref()).ok_or_else(|| {
            let message = format!("{:?} is no member of a document", text.get_ref());
            SettingsError::at(text.span(), message).help(format!(
                "there are {}, extra.NAME, and templates such as \"{{{{ name or account }}}}\"",
                MEMBERS.join(", ")
            ))
        })
    }

    pub(crate) fn member(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("extra.") {
            return Some(Self::Extra(name.to_owned()));
        }
        let member = MEMBERS.iter().find(|member| **member == text)?;
        Some(Self::Member(member))
    }

    /// The value, unless it is absent or empty: a directory has no empty texts. A NUL is no text in a directory
    /// either, and left out.
    fn value(&self, document: &Document) -> Result<Option<String>, String> {
        let text = match self {
            Self::Member(name) => member(document, name),
            Self::Extra(name) => document.extra.get(name).and_then(text),
            Self::Template(template) => Some(template.render(document)?),
        };
        let text = text.map(|text| text.replace('\0', ""));
        Ok(text.filter(|text| !text.is_empty()))
    }
}

/// The first value that one of the sources has.
///
/// # Errors
/// Why a template has no value for this document.
pub(crate) fn first(sources: &[Source], document: &Document) -> Result<Option<String>, String> {
    for source in sources {
        if let Some(value) = source.value(document)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn member(document: &Document, member: &str) -> Option<String> {
    match member {
        "account" => Some(document.account.clone()),
        "event_time" => Some(document.event_time.to_string()),
        "extra" if document.extra.is_empty() => None,
        "extra" => serde_json::to_string(&document.extra).ok(),
        "face_url" => document.face_url.clone(),
        "introduction" => document.introduction.clone(),
        "name" => document.name.clone(),
        "operator" => document.operator.clone(),
        "organization" => document.organization.clone(),
        "owner" => document.owner.clone(),
        "revision" => Some(document.revision.to_string()),
        "sdk_app_id" => Some(document.sdk_app_id.to_string()),
        "status" => Some(
            match document.status {
                Status::Active => "active",
                Status::Destroyed => "destroyed",
            }
            .to_owned(),
        ),
        _ => None,
    }
}

/// A text as it is, everything else as JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a member of the document such as \"name\", or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Written, E> {
        Ok(Written::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Written, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Written::Many)
    }
}
