//! How a check says what it saw: whose account it is, what was expected, and what there was.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::World;
use crate::{Document, Outcome};

/// Differences that are told; the others are counted.
const MOST: usize = 5;

/// Characters of a value that are shown.
const LONG: usize = 200;

/// The account of a document, as the outside knows it.
pub(super) fn who(world: &dyn World, document: &Document) -> String {
    let app = world.app(document.sdk_app_id);
    format!(
        "account {:?} of app {app}, revision {}",
        document.account, document.revision
    )
}

/// What was expected, and what there was.
pub(super) fn instead(expected: &str, got: &str) -> String {
    format!("\n  expected: {expected}\n  got:      {got}")
}

/// What an outcome says.
pub(super) fn said(outcome: &Outcome) -> String {
    let variant = match outcome {
        Outcome::Delivered { .. } => "delivered",
        Outcome::Retry { .. } => "retry",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Denied { .. } => "denied",
        Outcome::Fault { .. } => "fault",
    };
    match outcome.text() {
        "" => variant.to_owned(),
        text => format!("{variant}: {text}"),
    }
}

/// The members of a document.
pub(super) fn members(document: &Document) -> Map<String, Value> {
    match serde_json::to_value(document) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// In what way that which is held is not what was wanted, member by member.
pub(super) fn difference(
    held: Option<&Map<String, Value>>,
    wanted: Option<&Map<String, Value>>,
) -> String {
    let (held, wanted) = match (held, wanted) {
        (Some(held), Some(wanted)) => (held, wanted),
        (held, wanted) => {
            let whole = |it: Option<&Map<String, Value>>| match it {
                None => "nothing".to_owned(),
                Some(members) => short(&Value::Object(members.clone()).to_string()),
            };
            return instead(&whole(wanted), &whole(held));
        }
    };
    let mut names: Vec<_> = wanted.keys().chain(held.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| held.get(*name) != wanted.get(*name));
    let mut text = String::new();
    for name in names.iter().take(MOST) {
        let value = |members: &Map<String, Value>| match members.get(*name) {
            None => "no such member".to_owned(),
            Some(value) => short(&value.to_string()),
        };
        let both = instead(&value(wanted), &value(held)).replace("\n  ", "\n    ");
        write!(text, "\n  `{name}`{both}").expect("a String takes everything");
    }
    if MOST < names.len() {
        let others = names.len() - MOST;
        write!(text, "\n  and {others} more").expect("a String takes everything");
    }
    text
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::difference;

    fn check(held: Value, wanted: Value, text: &str) {
        let members = |value: Value| -> Option<Map<String, Value>> { value.as_object().cloned() };
        let (held, wanted) = (members(held), members(wanted));
        assert_eq!(difference(held.as_ref(), wanted.as_ref()), text);
    }

    #[test]
    fn only_what_differs_is_told() {
        check(
            json!({ "revision": 3, "name": "A\nB", "owner": null }),
            json!({ "revision": 3, "name": "a\nb", "title": "x" }),
            "\n  `name`\n    expected: \"a\\nb\"\n    got:      \"A\\nB\"\
             \n  `owner`\n    expected: no such member\n    got:      null\
             \n  `title`\n    expected: \"x\"\n    got:      no such member",
        );
        check(
            json!(null),
            json!({ "revision": 3 }),
            "\n  expected: {\"revision\":3}\n  got:      nothing",
        );
        check(
            json!({ "name": "x".repeat(300) }),
            json!(null),
            &format!(
                "\n  expected: nothing\n  got:      {{\"name\":\"{}…",
                "x".repeat(191)
            ),
        );
    }

    #[test]
    fn of_many_differences_the_first_are_told() {
        let held: Map<_, _> = ('a'..='h')
            .map(|name| (name.to_string(), json!(1)))
            .collect();
        let text = difference(Some(&held), Some(&Map::new()));
        assert!(text.contains("`e`") && !text.contains("`f`"), "{text}");
        assert!(text.ends_with("\n  and 3 more"), "{text}");
    }
}
