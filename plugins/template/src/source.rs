//! Where the value of an attribute comes from: a member of the document, a template, or the first of several that has a
//! value. For outputs that map profiles to attributes.

use std::{fmt, ops::Range};

use profilesync_target::{Document, SettingsError, Status};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::Value;
use toml::Spanned;

use crate::{Escape, Template, is_template};

/// What an attribute is made of, as written: `"name"`, or `["name", "account"]`.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany {
    /// One source.
    One(String),
    /// Several, of which the first that has a value is taken.
    Many(#[schemars(with = "Vec<String>")] Vec<Spanned<String>>),
}

impl OneOrMany {
    /// The sources, each with its position; `span` is that of all.
    #[must_use]
    pub fn list(&self, span: Range<usize>) -> Vec<Spanned<String>> {
        match self {
            Self::One(text) => vec![Spanned::new(span, text.clone())],
            Self::Many(list) => list.clone(),
        }
    }
}

/// One source.
pub enum Source {
    /// A member of the document by this name, or what the output makes of its members.
    Member(&'static str),
    /// A member of `extra`.
    Extra(String),
    /// A text over the document.
    Template(Box<Template>),
}

impl Source {
    /// Reads the source `text` of the attribute `key`; `members` are the names that the output knows.
    ///
    /// # Errors
    /// When it is neither of these, nor of `extra`, nor a template; points at it.
    pub fn parse(
        key: &str,
        text: &Spanned<String>,
        members: &[&'static str],
    ) -> Result<Self, SettingsError> {
        if is_template(text.get_ref()) {
            let template = Template::compile(key, text, Escape::None)?;
            return Ok(Self::Template(Box::new(template)));
        }
        Self::member(text.get_ref(), members).ok_or_else(|| {
            let message = format!("{:?} is no member of a document", text.get_ref());
            SettingsError::at(text.span(), message).help(format!(
                "there are {}, extra.NAME, and templates such as \"{{{{ name or account }}}}\"",
                members.join(", ")
            ))
        })
    }

    /// The source that is no template.
    #[must_use]
    pub fn member(text: &str, members: &[&'static str]) -> Option<Self> {
        if let Some(name) = text.strip_prefix("extra.") {
            return Some(Self::Extra(name.to_owned()));
        }
        let member = members.iter().find(|member| **member == text)?;
        Some(Self::Member(member))
    }

    /// The value: a text, a number or a flag, objects and lists as JSON in a text; null when it is absent, or no member
    /// of a document.
    ///
    /// # Errors
    /// Why a template has no value for this document.
    pub fn value(&self, document: &Document) -> Result<Value, String> {
        Ok(match self {
            Self::Member(name) => member(document, name),
            Self::Extra(name) => match document.extra.get(name) {
                Some(nested @ (Value::Array(_) | Value::Object(_))) => nested.to_string().into(),
                Some(plain) => plain.clone(),
                None => Value::Null,
            },
            Self::Template(template) => template.render(document)?.into(),
        })
    }
}

fn member(document: &Document, member: &str) -> Value {
    match member {
        "account" => Value::from(document.account.as_str()),
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
        "sdk_app_id" => Value::from(document.sdk_app_id),
        "status" => Value::from(match document.status {
            Status::Active => "active",
            Status::Destroyed => "destroyed",
        }),
        _ => Value::Null,
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sources)
    }
}

struct Sources;

impl<'de> Visitor<'de> for Sources {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of the document such as \"name\", or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
    }
}
