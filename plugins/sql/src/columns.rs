//! What a column holds: a member of the document, and what is read back of it.

use profilesync_target::{Document, Status};
use serde_json::Value;

/// A column, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) member: Member,
}

/// A member of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    SdkAppId,
    Account,
    Revision,
    Status,
    Name,
    Introduction,
    FaceUrl,
    Organization,
    Owner,
    Operator,
    EventTime,
    /// All further members, as JSON.
    Extra,
    /// One of the further members.
    OneOfExtra(String),
}

/// Every member with a name of its own, in the order of the document.
pub(crate) const MEMBERS: [(&str, Member); 12] = [
    ("sdk_app_id", Member::SdkAppId),
    ("account", Member::Account),
    ("revision", Member::Revision),
    ("status", Member::Status),
    ("name", Member::Name),
    ("introduction", Member::Introduction),
    ("face_url", Member::FaceUrl),
    ("organization", Member::Organization),
    ("owner", Member::Owner),
    ("operator", Member::Operator),
    ("event_time", Member::EventTime),
    ("extra", Member::Extra),
];

/// One column for each member, under its own name.
pub(crate) fn default() -> Vec<Column> {
    let column = |(name, member): (&str, Member)| Column {
        name: name.to_owned(),
        member,
    };
    MEMBERS.map(column).into()
}

impl Member {
    /// The member of this name; `extra.NAME` is any other.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        if let Some(extra) = name.strip_prefix("extra.") {
            return (!extra.is_empty()).then(|| Self::OneOfExtra(extra.to_owned()));
        }
        let known = MEMBERS.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, member)| member)
    }

    /// What a document says of it.
    pub(crate) fn value(&self, document: &Document) -> Value {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        match self {
            Self::SdkAppId => document.sdk_app_id.into(),
            Self::Account => document.account.as_str().into(),
            Self::Revision => document.revision.into(),
            Self::Status => match document.status {
                Status::Active => "active".into(),
                Status::Destroyed => "destroyed".into(),
            },
            Self::Name => text(&document.name),
            Self::Introduction => text(&document.introduction),
            Self::FaceUrl => text(&document.face_url),
            Self::Organization => text(&document.organization),
            Self::Owner => text(&document.owner),
            Self::Operator => text(&document.operator),
            Self::EventTime => document.event_time.into(),
            Self::Extra => document.extra.clone().into(),
            Self::OneOfExtra(name) => document.extra.get(name).cloned().unwrap_or_default(),
        }
    }

    /// What a column's text says of it. A column may hold a number as a text, or a text as JSON: where it means the
    /// same as `wanted`, it is taken for that.
    pub(crate) fn read(&self, text: Option<String>, wanted: &Value) -> Value {
        let Some(text) = text else {
            return Value::Null;
        };
        let parsed = || serde_json::from_str::<Value>(&text).ok();
        match self {
            Self::SdkAppId | Self::Revision | Self::EventTime => {
                text.parse::<u64>().map_or(Value::from(text), Value::from)
            }
            Self::Extra => parsed().unwrap_or_else(|| text.into()),
            Self::OneOfExtra(_) => match wanted {
                Value::Bool(wanted) if is_bool(&text, *wanted) => (*wanted).into(),
                Value::Number(number)
                    if parsed().is_some_and(|v| v.as_f64() == number.as_f64()) =>
                {
                    wanted.clone()
                }
                Value::Array(_) | Value::Object(_) => parsed().unwrap_or_else(|| text.into()),
                _ => text.into(),
            },
            _ => text.into(),
        }
    }
}

fn is_bool(text: &str, value: bool) -> bool {
    let names = if value {
        ["true", "t", "1"]
    } else {
        ["false", "f", "0"]
    };
    names.contains(&text)
}

/// The same value with U+FFFD for every NUL, which PostgreSQL and SQLite cannot hold in a text.
pub(crate) fn without_nul(value: Value) -> Value {
    let clean = |text: String| text.replace('\0', "\u{fffd}");
    match value {
        Value::String(text) if text.contains('\0') => clean(text).into(),
        Value::Array(values) => values.into_iter().map(without_nul).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (clean(name), without_nul(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MEMBERS, Member, without_nul};

    #[test]
    fn members_are_found_by_name() {
        for (name, member) in MEMBERS {
            assert_eq!(Member::of_name(name), Some(member));
        }
        let level = Member::OneOfExtra("Level".into());
        assert_eq!(Member::of_name("extra.Level"), Some(level));
        for none in ["", "Name", "extra.", "level"] {
            assert_eq!(Member::of_name(none), None, "{none}");
        }
    }

    #[track_caller]
    fn check(member: &str, text: &str, wanted: &Value, expected: &Value) {
        let member = Member::of_name(member).unwrap();
        assert_eq!(member.read(Some(text.into()), wanted), *expected);
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        check("revision", "7", &json!(7), &json!(7));
        check("revision", "seven", &json!(7), &json!("seven"));
        check("name", "7", &json!("7"), &json!("7"));
        check("extra", r#"{ "a": 1 }"#, &json!({"a": 1}), &json!({"a": 1}));
        check("extra.a", "1.0", &json!(1), &json!(1));
        check("extra.a", "2", &json!(1), &json!("2"));
        check("extra.a", "t", &json!(true), &json!(true));
        check("extra.a", "0", &json!(true), &json!("0"));
        check("extra.a", "[1, 2]", &json!([1, 2]), &json!([1, 2]));
        check("extra.a", "1", &json!("1"), &json!("1"));
    }

    #[test]
    fn nul_is_replaced_everywhere() {
        let value = json!({ "a\0": ["\0", { "b": "c\0d" }, 1, null] });
        let expected = json!({ "a\u{fffd}": ["\u{fffd}", { "b": "c\u{fffd}d" }, 1, null] });
        assert_eq!(without_nul(value), expected);
    }
}
