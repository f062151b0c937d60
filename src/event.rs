//! One webhook about an account's profile, as accepted: parsing and refusing. No I/O, no clock.
//!
//! Shapes: design §3, protocol §4 (pages 1047/60796, /60797, /60798).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::clock::Millis;

/// An account: its app and its id within the app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountId {
    /// `SdkAppid`
    pub app: u64,
    /// `Official_Account`: 1–255 bytes of UTF-8 without control characters.
    pub account: String,
}

/// What a profile event tells about the life of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `…CallbackAfterCreateOfficialAccount`
    Created,
    /// `…CallbackAfterOfficialAccountInfoChanged`
    Changed,
    /// `…CallbackAfterOfficialAccountDestroyed`
    Destroyed,
}

/// Every command that carries a profile event, and its kind.
pub const COMMANDS: [(&str, Kind); 3] = [
    (
        "OfficialAccount.CallbackAfterCreateOfficialAccount",
        Kind::Created,
    ),
    (
        "OfficialAccount.CallbackAfterOfficialAccountInfoChanged",
        Kind::Changed,
    ),
    (
        "OfficialAccount.CallbackAfterOfficialAccountDestroyed",
        Kind::Destroyed,
    ),
];

impl Kind {
    /// The kind of a command, or `None` when the command is not a profile event.
    #[must_use]
    pub fn of_command(command: &str) -> Option<Self> {
        COMMANDS
            .iter()
            .find(|(name, _)| *name == command)
            .map(|&(_, kind)| kind)
    }
}

/// A part of a profile that events set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Field {
    /// `Name`
    Name,
    /// `Introduction`
    Introduction,
    /// `FaceUrl`
    FaceUrl,
    /// `Organization`
    Organization,
    /// `Owner_Account`
    Owner,
    /// `Operator_Account`
    Operator,
    /// Any other top-level member, by its name.
    Extra(String),
}

/// The members that are fields of their own, by their names on the wire.
const FIELDS: [(&str, Field); 6] = [
    ("Name", Field::Name),
    ("Introduction", Field::Introduction),
    ("FaceUrl", Field::FaceUrl),
    ("Organization", Field::Organization),
    ("Owner_Account", Field::Owner),
    ("Operator_Account", Field::Operator),
];

/// When an event happened, and its SHA-256 to break ties: `(EventTime, digest)` orders all events of an account
/// the same way wherever they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// `EventTime`
    pub time: Millis,
    /// SHA-256 over the canonical JSON of the body: members sorted by name, no white space.
    pub digest: [u8; 32],
}

/// One accepted profile event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The account it is about.
    pub id: AccountId,
    /// Which of the three commands it came by.
    pub kind: Kind,
    /// Its place in the account's order of events.
    pub stamp: Stamp,
    /// What it sets. An absent or `null` member says nothing and is not here; a string is held as JSON too.
    pub fields: BTreeMap<Field, Value>,
}

/// Why a body is no event. The text names the member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// The smallest `EventTime` that can be meant in milliseconds (2001-09-09); seconds and slips are below it.
pub const EARLIEST: Millis = 1_000_000_000_000;

/// How deep arrays and objects may be nested in an extra member. Documents nest it deeper, and whoever reads JSON
/// sets a limit: serde_json's is 128.
const MAX_DEPTH: usize = 32;

/// Reads the body of a profile event. `kind` and `command` are of the query's `CallbackCommand`.
///
/// # Errors
/// When the body is not a JSON object, lacks or mistypes a member, or is of another command.
pub fn parse(app: u64, kind: Kind, command: &str, body: &[u8]) -> Result<Event, Malformed> {
    let body = object(body)?;
    check_command(command, &body)?;
    let account = account(&body)?;
    let time = event_time(&body)?;
    let digest = digest(&body);
    Ok(Event {
        id: AccountId { app, account },
        kind,
        stamp: Stamp { time, digest },
        fields: fields(body)?,
    })
}

/// Reads a body as a JSON object.
///
/// # Errors
/// When it is anything else.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, Malformed> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Malformed("the body is JSON but not an object".into())),
        Err(error) => Err(Malformed(format!("the body is not JSON: {error}"))),
    }
}

/// Checks the body's `CallbackCommand` against the query's. Absent or null it says nothing.
///
/// # Errors
/// When the two differ.
pub fn check_command(command: &str, body: &Map<String, Value>) -> Result<(), Malformed> {
    match body.get("CallbackCommand") {
        None | Some(Value::Null) => Ok(()),
        Some(own) if own == command => Ok(()),
        Some(_) => Err(Malformed(
            "CallbackCommand in the body differs from the query's".into(),
        )),
    }
}

fn account(body: &Map<String, Value>) -> Result<String, Malformed> {
    let Some(Value::String(account)) = body.get("Official_Account") else {
        return Err(Malformed("Official_Account must be a string".into()));
    };
    if account.is_empty() || account.len() > 255 || account.chars().any(char::is_control) {
        return Err(Malformed(
            "Official_Account must be 1–255 bytes without control characters".into(),
        ));
    }
    Ok(account.clone())
}

fn event_time(body: &Map<String, Value>) -> Result<Millis, Malformed> {
    let time = match body.get("EventTime") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok()
        }
        _ => None,
    };
    time.filter(|&time| time >= EARLIEST).ok_or_else(|| {
        Malformed(format!(
            "EventTime must be milliseconds since 1970, at least {EARLIEST}"
        ))
    })
}

fn fields(body: Map<String, Value>) -> Result<BTreeMap<Field, Value>, Malformed> {
    let mut fields = BTreeMap::new();
    for (name, value) in body {
        if value.is_null()
            || matches!(
                name.as_str(),
                "CallbackCommand" | "Official_Account" | "EventTime"
            )
        {
            continue;
        }
        let field = match FIELDS.iter().find(|(known, _)| *known == name) {
            Some(_) if !value.is_string() => {
                return Err(Malformed(format!("{name} must be a string")));
            }
            Some((_, field)) => field.clone(),
            None if depth(&value) > MAX_DEPTH => {
                return Err(Malformed(format!(
                    "{:?} is nested deeper than {MAX_DEPTH}",
                    name.chars().take(64).collect::<String>()
                )));
            }
            None => Field::Extra(name),
        };
        fields.insert(field, value);
    }
    Ok(fields)
}

/// How many arrays and objects are within each other. The reader of the body has a limit of its own.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// SHA-256 over the canonical JSON of a body. The serialiser's maps are sorted by name, and it prints no space.
fn digest(body: &Map<String, Value>) -> [u8; 32] {
    let canonical = serde_json::to_vec(body).expect("a JSON value serialises");
    Sha256::digest(canonical).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = "OfficialAccount.CallbackAfterOfficialAccountInfoChanged";

    fn parsed(body: &str) -> Result<Event, String> {
        parse(1_400_000_000, Kind::Changed, COMMAND, body.as_bytes()).map_err(|error| error.0)
    }

    fn body(members: &str) -> String {
        let own = format!(
            r#""CallbackCommand":"{COMMAND}","Official_Account":"a","EventTime":1670574414123"#
        );
        if members.is_empty() {
            format!("{{{own}}}")
        } else {
            format!("{{{own},{members}}}")
        }
    }

    #[test]
    fn the_published_sample_with_its_commas_repaired() {
        let event = parsed(include_str!("../tests/fixtures/info-changed.json")).unwrap();
        assert_eq!(event.id.account, "@TOA#_test_OA_for_penn");
        assert_eq!(event.stamp.time, 1_670_574_414_123);
        assert_eq!(event.fields[&Field::Name], "NewName");
        assert_eq!(event.fields[&Field::Operator], "leckie");
        assert_eq!(event.fields.len(), 5);
    }

    #[test]
    fn the_published_sample_as_printed_is_not_json() {
        let error = parsed(include_str!(
            "../tests/fixtures/info-changed-as-published.txt"
        ))
        .unwrap_err();
        assert!(error.starts_with("the body is not JSON"), "{error}");
    }

    #[test]
    fn event_time_may_be_a_digit_string() {
        let event = parsed(include_str!("../tests/fixtures/info-changed-partial.json")).unwrap();
        assert_eq!(event.stamp.time, 1_670_574_414_999);
    }

    #[test]
    fn null_says_nothing_and_other_members_are_kept() {
        let event = parsed(&body(r#""Name":null,"Level":[1,null],"Gone":null"#)).unwrap();
        let fields: Vec<_> = event.fields.into_iter().collect();
        assert_eq!(
            fields,
            [(Field::Extra("Level".into()), serde_json::json!([1, null]))]
        );
    }

    #[test]
    fn a_body_need_not_repeat_the_command() {
        let own = format!(r#""{COMMAND}""#);
        for silent in [
            body("").replace(&own, "null"),
            body("").replace("CallbackCommand", "command"),
        ] {
            assert!(parsed(&silent).is_ok(), "{silent}");
        }
        for other in ["[]", "1", r#""A.B""#] {
            let error = parsed(&body("").replace(&own, other)).unwrap_err();
            assert!(error.contains("CallbackCommand"), "{other}: {error}");
        }
    }

    #[test]
    fn the_digest_depends_on_what_is_said_and_not_on_how() {
        let one = parsed(&body(r#""A":1,"B":"x""#)).unwrap();
        let two = parsed(&body(r#" "B" : "\u0078", "A":1"#)).unwrap();
        let other = parsed(&body(r#""A":1,"B":"y""#)).unwrap();
        assert_eq!(one.stamp, two.stamp);
        assert_ne!(one.stamp, other.stamp);
    }

    #[test]
    fn members_are_nested_as_deep_as_readers_bear() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            parsed(&body(&format!(r#""Deep":{open}{close}"#)))
        };
        assert!(nested(MAX_DEPTH).is_ok());
        let error = nested(MAX_DEPTH + 1).unwrap_err();
        assert!(error.contains("Deep"), "{error}");
        let error = nested(100_000).unwrap_err();
        assert!(error.starts_with("the body is not JSON"), "{error}");
    }

    #[test]
    fn refusals_name_the_member() {
        let with = |account: &str, time: &str| {
            format!(
                r#"{{"CallbackCommand":"{COMMAND}","Official_Account":{account},"EventTime":{time}}}"#
            )
        };
        let long = format!("\"{}\"", "é".repeat(128));
        for (body, member) in [
            ("[]".to_owned(), "not an object"),
            (with("1", "1670574414123"), "Official_Account"),
            (with(r#""""#, "1670574414123"), "Official_Account"),
            (with(r#""a\u0000""#, "1670574414123"), "Official_Account"),
            (with(r#""a\u0085""#, "1670574414123"), "Official_Account"),
            (with(&long, "1670574414123"), "Official_Account"),
            (with(r#""a""#, "1670574414"), "EventTime"),
            (with(r#""a""#, "1670574414123.5"), "EventTime"),
            (with(r#""a""#, "1.670574414123e12"), "EventTime"),
            (with(r#""a""#, r#""+1670574414123""#), "EventTime"),
            (with(r#""a""#, "null"), "EventTime"),
            (body(r#""Name":1"#), "Name"),
            (body(r#""Owner_Account":{}"#), "Owner_Account"),
            (
                body("").replace("InfoChanged", "Destroyed"),
                "CallbackCommand",
            ),
        ] {
            let error = parsed(&body).expect_err(&body);
            assert!(error.contains(member), "{body}: {error}");
        }
    }
}
