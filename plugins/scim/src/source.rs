//! Where the value of an attribute comes from: a member of the document, a template, or the first of several that has a
//! value.

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use profilesync_target::{Document, SettingsError, Status};
use profilesync_template::{Escape, Template, is_template};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::Value;
use toml::Spanned;

/// What an attribute can hold, beside `extra.NAME`.
const MEMBERS: [&str; 14] = [
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

/// Everything but small letters, digits, `.`, `_` and `-`: what is left is the same however it is folded.
const ESCAPED: &AsciiSet = &{
    let mut set = NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');
    let mut letter = b'A';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
};

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
    /// A member of the document by this name, or what is made of its members.
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

    /// The value, unless it is absent or empty.
    fn value(&self, document: &Document) -> Result<Option<Value>, String> {
        let value = match self {
            Self::Member(name) => member(document, name),
            Self::Extra(name) => match document.extra.get(name) {
                Some(Value::Array(_) | Value::Object(_)) => {
                    Value::from(document.extra[name].to_string())
                }
                Some(plain) => plain.clone(),
                None => Value::Null,
            },
            Self::Template(template) => Value::from(template.render(document)?),
        };
        Ok(Some(value).filter(|value| !value.is_null() && value != ""))
    }
}

/// The first value that one of the sources has.
///
/// # Errors
/// Why a template has no value for this document.
pub(crate) fn first(sources: &[Source], document: &Document) -> Result<Option<Value>, String> {
    for source in sources {
        if let Some(value) = source.value(document)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn member(document: &Document, member: &str) -> Value {
    match member {
        "account" => Value::from(document.account.as_str()),
        "active" => Value::from(document.status == Status::Active),
        "event_time" => Value::from(document.event_time),
        "extra" if document.extra.is_empty() => Value::Null,
        "extra" => Value::from(Value::Object(document.extra.clone()).to_string()),
        "face_url" => Value::from(document.face_url.clone()),
        "introduction" => Value::from(document.introduction.clone()),
        "name" => Value::from(document.name.clone()),
        "operator" => Value::from(document.operator.clone()),
        "organization" => Value::from(document.organization.clone()),
        "owner" => Value::from(document.owner.clone()),
        "revision" => Value::from(document.revision),
        "safe_id" => Value::from(safe_id(document)),
        "sdk_app_id" => Value::from(document.sdk_app_id),
        "status" => Value::from(match document.status {
            Status::Active => "active",
            Status::Destroyed => "destroyed",
        }),
        _ => Value::Null,
    }
}

/// `APP.ACCOUNT` in small letters, digits and `%.-_`; different for any two accounts, without regard to case.
fn safe_id(document: &Document) -> String {
    let account = utf8_percent_encode(&document.account, ESCAPED).to_string();
    format!("{}.{}", document.sdk_app_id, account.to_ascii_lowercase())
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
