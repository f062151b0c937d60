//! What the checks are made of: deliveries as the daemon makes them, and looks at the outside.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use super::{
    Verdict, World,
    words::{difference, instead, members, said, who},
};
use crate::{Answer, Delivery, Document, Outcome, Status};

/// Ends a check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(super) use ensure;

/// The verdict of a check that proves nothing without a look at the outside.
pub(super) fn seen(world: &dyn World) -> Result<Verdict, String> {
    Ok(world.unreadable().map_or(Verdict::Passed, Verdict::Skipped))
}

/// The verdict of a check that cannot be made here.
pub(super) fn skipped(reason: &str) -> Result<Verdict, String> {
    Ok(Verdict::Skipped(reason.to_owned()))
}

/// Delivers in batches as the daemon does, and insists on success.
///
/// # Errors
/// What was not delivered, and why.
pub async fn deliver(world: &dyn World, documents: &[&Document]) -> Result<(), String> {
    for chunk in documents.chunks(world.target().limits().batch.max(1)) {
        let batch: Vec<_> = chunk
            .iter()
            .map(|&document| Delivery::from(document.clone()))
            .collect();
        let outcomes = each(world.target().deliver(&batch).await, batch.len())?;
        all_delivered(world, &batch, &outcomes)?;
    }
    Ok(())
}

/// Delivers one by one what a target may refuse for good, but not take for something else; what it took.
pub(super) async fn taken(
    world: &dyn World,
    documents: Vec<Document>,
) -> Result<Vec<Document>, String> {
    let mut taken = Vec::with_capacity(documents.len());
    for document in documents {
        let batch = [Delivery::from(document.clone())];
        let outcomes = each(world.target().deliver(&batch).await, 1)?;
        has_no_secret(world, outcomes[0].text())?;
        match &outcomes[0] {
            Outcome::Delivered { .. } => taken.push(document),
            Outcome::Rejected { .. } | Outcome::Denied { .. } => (),
            other => {
                return Err(format!(
                    "{} was not delivered{}",
                    who(world, &document),
                    instead("delivered or rejected", &said(other))
                ));
            }
        }
    }
    Ok(taken)
}

/// Insists on success, and tells of the first failure and how many there are.
pub(super) fn all_delivered(
    world: &dyn World,
    batch: &[Delivery],
    outcomes: &[Outcome],
) -> Result<(), String> {
    let failed = batch.iter().zip(outcomes);
    let mut failed = failed.filter(|(_, outcome)| !is_delivered(outcome));
    if let Some((Delivery { document }, outcome)) = failed.next() {
        let others = match failed.count() {
            0 => String::new(),
            count => format!("; nor were {count} others of a batch of {}", batch.len()),
        };
        return Err(format!(
            "{} was not delivered{others}{}",
            who(world, document),
            instead("delivered", &said(outcome))
        ));
    }
    outcomes
        .iter()
        .try_for_each(|outcome| has_no_secret(world, outcome.text()))
}

/// Delivers a batch, and the halves of what is refused as a whole, as the daemon does.
pub(super) async fn bisected(
    world: &dyn World,
    batch: Vec<Delivery>,
) -> Result<Vec<Outcome>, String> {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        match world.target().deliver(&part).await {
            Answer::Whole(Outcome::Rejected { .. } | Outcome::Denied { .. }) if part.len() > 1 => {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
            answer => outcomes.extend(each(answer, part.len())?),
        }
    }
    Ok(outcomes)
}

/// One outcome per document.
pub(super) fn each(answer: Answer, count: usize) -> Result<Vec<Outcome>, String> {
    match answer {
        Answer::Whole(outcome) => Ok(vec![outcome; count]),
        Answer::Each(outcomes) => {
            let given = outcomes.len();
            ensure!(
                given == count,
                "a batch was not answered whole{}",
                instead(&format!("{count} outcomes"), &given.to_string())
            );
            Ok(outcomes)
        }
    }
}

pub(super) fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// Insists that the outside holds this document, an active account's. `when` ends the sentence that says that it does not.
///
/// # Errors
/// What it holds instead.
///
/// # Panics
/// When the account is destroyed.
pub async fn holds(world: &dyn World, document: &Document, when: &str) -> Result<(), String> {
    assert_eq!(
        document.status,
        Status::Active,
        "only an active account is held"
    );
    if world.unreadable().is_some() {
        return Ok(());
    }
    let held = world.held(document.sdk_app_id, &document.account).await;
    let shown = world.shown(document);
    ensure!(
        held.as_ref() == Some(&shown),
        "{} is not held {when}{}",
        who(world, document),
        difference(held.as_ref().map(members).as_ref(), Some(&members(&shown)))
    );
    Ok(())
}

/// Insists that the outside holds nothing of this account.
pub(super) async fn holds_nothing(
    world: &dyn World,
    sdk_app_id: u64,
    account: &str,
    when: &str,
) -> Result<(), String> {
    if world.unreadable().is_some() {
        return Ok(());
    }
    let held = world.held(sdk_app_id, account).await;
    ensure!(
        held.is_none(),
        "account {account:?} of app {} is held {when}{}",
        world.app(sdk_app_id),
        difference(held.as_ref().map(members).as_ref(), None)
    );
    Ok(())
}

/// Insists that a text shows no secret.
pub(super) fn has_no_secret(world: &dyn World, text: &str) -> Result<(), String> {
    for secret in world.secrets() {
        ensure!(!text.contains(&secret), "a secret is shown: {text}");
    }
    Ok(())
}

/// Polls a future at most so often, then drops it.
pub(super) async fn polled<F: Future>(most: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == most => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
