//! The merge rules said a second time, from the text of design §4 and not from `src/merge.rs`: over all events at
//! once, by definition instead of step by step.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::sender::DESTROYED;

/// What a target must hold of an account, but for `revision` and `event_time`: how events are spread over
/// revisions depends on the order they come in.
pub(crate) fn documents(events: &[Value]) -> BTreeMap<String, Value> {
    let accounts: BTreeSet<_> = events.iter().map(account).collect();
    accounts
        .into_iter()
        .map(|id| (id.to_owned(), document(id, events)))
        .collect()
}

/// Documents as a target got them, without what [`documents`] leaves out.
pub(crate) fn comparable(documents: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut documents = documents.clone();
    for document in documents.values_mut() {
        let members = document.as_object_mut().unwrap();
        for member in ["sdk_app_id", "revision", "event_time"] {
            assert!(
                members.remove(member).is_some_and(|value| value.is_u64()),
                "{member} is a number"
            );
        }
    }
    documents
}

fn account(event: &Value) -> &str {
    event["Official_Account"].as_str().unwrap()
}

fn time(event: &Value) -> u64 {
    event["EventTime"].as_u64().unwrap()
}

fn is_destroy(event: &Value) -> bool {
    event["CallbackCommand"] == DESTROYED
}

fn document(id: &str, events: &[Value]) -> Value {
    let own: Vec<_> = events.iter().filter(|event| account(event) == id).collect();
    let newest = |destroy| {
        own.iter()
            .filter(|event| is_destroy(event) == destroy)
            .map(|event| time(event))
            .max()
    };
    let (destroyed_at, alive_at) = (newest(true), newest(false));
    let status = if destroyed_at >= alive_at {
        "destroyed"
    } else {
        "active"
    };

    let valid: Vec<_> = own
        .iter()
        .filter(|event| Some(time(event)) > destroyed_at)
        .collect();
    let winner = |member: &str| {
        let said = valid.iter().filter(|event| !event[member].is_null());
        let last = said.max_by_key(|event| (time(event), digest(event)));
        last.map_or(Value::Null, |event| event[member].clone())
    };
    let known = [
        "CallbackCommand",
        "Official_Account",
        "EventTime",
        "Name",
        "Introduction",
        "FaceUrl",
    ];
    let known = known
        .into_iter()
        .chain(["Organization", "Owner_Account", "Operator_Account"]);
    let known: BTreeSet<_> = known.collect();
    let names = valid
        .iter()
        .flat_map(|event| event.as_object().unwrap().keys());
    let extra: BTreeMap<_, _> = names
        .filter(|name| !known.contains(name.as_str()))
        .map(|name| (name.clone(), winner(name)))
        .filter(|(_, value)| !value.is_null())
        .collect();
    json!({
        "account": id,
        "status": status,
        "name": winner("Name"),
        "introduction": winner("Introduction"),
        "face_url": winner("FaceUrl"),
        "organization": winner("Organization"),
        "owner": winner("Owner_Account"),
        "operator": winner("Operator_Account"),
        "extra": extra,
    })
}

fn digest(event: &Value) -> Vec<u8> {
    Sha256::digest(canonical(event)).to_vec()
}

/// JSON with sorted members and no white space.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let members = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", json!(name), canonical(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}
