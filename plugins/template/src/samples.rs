//! The documents that a template must render for before it is trusted with real ones.

use profilesync_target::{Document, Status};
use serde_json::Map;

/// A document to try a template on.
pub struct Sample {
    /// What it is, for messages: `an active account`.
    pub what: &'static str,
    /// The document.
    pub document: Document,
}

/// An active account with everything known, a destroyed one, and one of which nothing but its name is known.
#[must_use]
pub fn samples() -> [Sample; 3] {
    let known = |text: &str| Some(text.to_owned());
    let active = Document {
        sdk_app_id: 1_400_000_000,
        account: "@TOA#_sample".into(),
        revision: 7,
        status: Status::Active,
        name: known("Name"),
        introduction: known("Introduction"),
        face_url: known("https://example.com/face.png"),
        organization: known("Organization"),
        owner: known("owner"),
        operator: known("operator"),
        event_time: 1_670_574_414_123,
        extra: Map::new(),
    };
    let unknown = Document {
        revision: 1,
        name: None,
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: None,
        ..active.clone()
    };
    let destroyed = Document {
        revision: 8,
        status: Status::Destroyed,
        ..unknown.clone()
    };
    [
        Sample {
            what: "an active account",
            document: active,
        },
        Sample {
            what: "a destroyed account",
            document: destroyed,
        },
        Sample {
            what: "an account whose texts are all null",
            document: unknown,
        },
    ]
}

/// Pairs of accounts that are the same text when nothing but one certain digit, or nothing, stands between the app's id
/// and the account.
pub(crate) fn twins() -> impl Iterator<Item = [Document; 2]> {
    let [Sample { document, .. }, ..] = samples();
    let between = ["", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    between.into_iter().flat_map(move |between| {
        let twin = |sdk_app_id: String, account: String| Document {
            sdk_app_id: sdk_app_id.parse().unwrap_or_default(),
            account,
            ..document.clone()
        };
        [
            // 1·23 and 12·3
            [
                twin("1".into(), format!("2{between}3")),
                twin(format!("1{between}2"), "3".into()),
            ],
            // 3·21 and 32·1
            [
                twin(format!("2{between}1"), "3".into()),
                twin("1".into(), format!("3{between}2")),
            ],
        ]
    })
}
