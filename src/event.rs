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

/// Reads the body of a profile event. `kind` and `command` are of the query's `CallbackCommand`, which the
/// body's must repeat.
///
/// # Errors
/// When the body is not a JSON object, or lacks or mistypes a member.
pub fn parse(app: u64, kind: Kind, command: &str, body: &[u8]) -> Result<Event, Malformed> {
    let body = object(body)?;
    match body.get("CallbackCommand") {
        Some(Value::String(own)) if own == command => {}
        _ => {
            return Err(Malformed(format!(
                "CallbackCommand in the body must be {command:?}, as in the query"
            )));
        }
    }
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
            None => Field::Extra(name),
        };
        fields.insert(field, value);
    }
    Ok(fields)
}

/// SHA-256 over the canonical JSON of a body. The serialiser's maps are sorted by name, and it prints no space.
fn digest(body: &Map<String, Value>) -> [u8; 32] {
    let canonical = serde_json::to_vec(body).expect("a JSON value serialises");
    Sha256::digest(canonical).into()
}
