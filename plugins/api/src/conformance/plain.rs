//! Plain deliveries, for what a kind's own tests try beyond the checks.

use serde_json::Map;

use crate::{Answer, Delivery, Document, Outcome, Status, Target};

/// A plain profile of app 1400000000's account `@TOA#_test`.
#[must_use]
pub fn document(revision: u64) -> Document {
    Document {
        sdk_app_id: 1_400_000_000,
        account: "@TOA#_test".into(),
        revision,
        status: Status::Active,
        name: Some(format!("Name {revision}")),
        introduction: None,
        face_url: Some("http://this.is.newface.url".into()),
        organization: None,
        owner: None,
        operator: Some("leckie".into()),
        event_time: 1_670_574_414_123,
        extra: Map::from_iter([("Level".to_owned(), 7.into())]),
    }
}

/// The same account once it is destroyed.
#[must_use]
pub fn destroyed(revision: u64) -> Document {
    Document {
        status: Status::Destroyed,
        name: None,
        face_url: None,
        operator: None,
        extra: Map::new(),
        ..document(revision)
    }
}

/// A profile of app 1 of which nothing but a name is known, `revision 3`.
#[must_use]
pub fn named(account: &str, revision: u64) -> Document {
    Document {
        status: Status::Active,
        name: Some(format!("revision {revision}")),
        ..gone(account, revision)
    }
}

/// The same account once it is destroyed.
#[must_use]
pub fn gone(account: &str, revision: u64) -> Document {
    Document {
        sdk_app_id: 1,
        account: account.to_owned(),
        ..destroyed(revision)
    }
}

/// Delivers a document alone.
pub async fn deliver(target: &dyn Target, document: Document) -> Outcome {
    deliver_all(target, &[document.into()]).await.remove(0)
}

/// Delivers a batch; the outcome of each.
pub async fn deliver_all(target: &dyn Target, batch: &[Delivery]) -> Vec<Outcome> {
    match target.deliver(batch).await {
        Answer::Each(outcomes) => outcomes,
        Answer::Whole(outcome) => vec![outcome; batch.len()],
    }
}

/// Delivers a document alone; what the outcome says.
///
/// # Panics
/// When it is not delivered.
pub async fn delivered(target: &dyn Target, document: Document) -> String {
    match deliver(target, document).await {
        Outcome::Delivered { answer } => answer,
        other => panic!("{other:?}"),
    }
}
