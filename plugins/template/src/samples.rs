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

/// An app and an account to be found again in a text, whatever is done to it: digits that stand for themselves in every
/// encoding, and that nothing else of a sample holds.
pub(crate) const APP: u64 = 3_141_592_653;
pub(crate) const ACCOUNT: &str = "2718281828459";

/// What stands between [`APP`] and [`ACCOUNT`] in a text, wherever they are neighbours.
pub(crate) fn between(text: &str) -> Vec<&str> {
    let parts: Vec<_> = text.split(&APP.to_string()).collect();
    let neighbours = parts.windows(2).flat_map(|around| {
        [
            around[0].rsplit_once(ACCOUNT).map(|(_, after)| after),
            around[1].split_once(ACCOUNT).map(|(before, _)| before),
        ]
    });
    neighbours.flatten().collect()
}
