//! The checks every target must pass, against its real server or a scripted one.
//!
//! A kind's tests implement [`World`] and call [`check`], which panics at the first promise that is not kept.

mod accounts;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;

use crate::{Answer, Delivery, Document, Outcome, Status, Target};
use accounts::{destroyed, hostile_accounts, profile};

/// A target, and the outside world it writes to.
#[async_trait]
pub trait World: Send + Sync {
    /// The target under test.
    fn target(&self) -> &dyn Target;

    /// What the outside holds of an account, read without the target; `None` when it holds nothing. Texts that
    /// the outside cannot tell from absent ones are to be `None`.
    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document>;

    /// Whether the target compares revisions, so that an older one cannot replace a newer one.
    fn compares_revisions(&self) -> bool;

    /// What the outside shows of a document that it holds. Differs from the document where the outside has no way
    /// to hold all of it, such as a NUL in a text.
    fn shown(&self, document: &Document) -> Document {
        document.clone()
    }

    /// Makes the outside refuse this account's data from now on, and only this. `false` when it cannot.
    async fn refuse(&self, _sdk_app_id: u64, _account: &str) -> bool {
        false
    }

    /// Secrets of the target's settings, which no text of it may hold.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the outside well, dead or slow. `false` when it cannot be so.
    async fn turn(&self, peer: Peer) -> bool;
}

/// How the outside world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It answers.
    Well,
    /// Nothing answers, or everything fails.
    Dead,
    /// It takes longer than anyone waits.
    Slow,
}

/// Longest wait for a slow peer; shorter than any peer's slowness.
const PATIENCE: Duration = Duration::from_millis(300);

/// Most documents of a batch that are tried.
const MAX_BATCH: usize = 500;

/// Awaits at which a delivery is dropped.
const MAX_CUTS: usize = 200;

/// Runs every check, each in a fresh world that holds nothing.
///
/// # Panics
/// When the target breaks a promise; the message says which.
pub async fn check<W: World>(fresh: impl AsyncFn() -> W) {
    repeats_change_nothing(&fresh().await).await;
    older_revisions_do_not_win(&fresh().await).await;
    accounts_are_destroyed_and_revived(&fresh().await).await;
    hostile_accounts_stay_apart(&fresh().await).await;
    full_batches_are_taken(&fresh().await).await;
    a_refused_account_takes_no_other_along(&fresh().await).await;
    dead_peers_are_faults(&fresh().await).await;
    slow_peers_are_cut_off(&fresh().await).await;
    dropped_deliveries_do_no_harm(&fresh().await).await;
    renders_hold_no_secret(&fresh().await).await;
    probes_change_nothing(&fresh().await).await;
    what_is_read_back_is_what_was_delivered(&fresh().await).await;
}

async fn repeats_change_nothing<W: World>(world: &W) {
    let document = profile(1, "repeated", 3);
    for attempt in ["first", "second", "third"] {
        deliver(world, &[&document]).await;
        holds(
            world,
            &document,
            &format!("after the {attempt} delivery of the same revision"),
        )
        .await;
    }
}

async fn older_revisions_do_not_win<W: World>(world: &W) {
    if !world.compares_revisions() {
        return;
    }
    let newer = profile(1, "raced", 8);
    deliver(world, &[&newer]).await;
    deliver(world, &[&profile(1, "raced", 7)]).await;
    holds(world, &newer, "after an older revision came late").await;
    deliver(world, &[&destroyed(1, "raced", 6)]).await;
    holds(world, &newer, "after an older destruction came late").await;
}

async fn accounts_are_destroyed_and_revived<W: World>(world: &W) {
    deliver(world, &[&destroyed(1, "never seen", 1)]).await;
    let bystander = profile(1, "bystander", 1);
    deliver(world, &[&bystander]).await;
    deliver(world, &[&profile(1, "phoenix", 1)]).await;
    for _ in 0..2 {
        deliver(world, &[&destroyed(1, "phoenix", 2)]).await;
        assert_eq!(
            world.held(1, "phoenix").await,
            None,
            "a destroyed account is still held"
        );
    }
    let revived = profile(1, "phoenix", 3);
    deliver(world, &[&revived]).await;
    holds(world, &revived, "after its revival").await;
    holds(
        world,
        &bystander,
        "after another account was destroyed and revived",
    )
    .await;
}

async fn hostile_accounts_stay_apart<W: World>(world: &W) {
    let accounts = hostile_accounts();
    let first: Vec<_> = accounts
        .iter()
        .map(|(app, name)| profile(*app, name, 1))
        .collect();
    deliver(world, &first.iter().collect::<Vec<_>>()).await;
    for document in &first {
        holds(world, document, "among hostile accounts").await;
    }
    // Each is changed or destroyed in turn, and must take no other along.
    for (index, (app, name)) in accounts.iter().enumerate() {
        if index % 2 == 0 {
            deliver(world, &[&profile(*app, name, 2)]).await;
        } else {
            deliver(world, &[&destroyed(*app, name, 2)]).await;
        }
    }
    for (index, (app, name)) in accounts.iter().enumerate() {
        if index % 2 == 0 {
            holds(
                world,
                &profile(*app, name, 2),
                "after hostile accounts changed",
            )
            .await;
        } else {
            assert_eq!(
                world.held(*app, name).await,
                None,
                "{name:?} was destroyed and is still held"
            );
        }
    }
}

async fn full_batches_are_taken<W: World>(world: &W) {
    let count = world.target().limits().batch.min(MAX_BATCH);
    assert!(count > 0, "a batch of none delivers nothing");
    let documents: Vec<_> = (0..count)
        .rev()
        .map(|number| profile(1, &format!("member {number}"), 1))
        .collect();
    let batch: Vec<_> = documents.iter().cloned().map(Delivery::from).collect();
    let outcomes = each(world.target().deliver(&batch).await, count);
    assert!(
        outcomes.iter().all(is_delivered),
        "a full batch was not delivered: {outcomes:?}"
    );
    for document in &documents {
        holds(world, document, "after a full batch").await;
    }
}

async fn a_refused_account_takes_no_other_along<W: World>(world: &W) {
    if !world.refuse(1, "guilty").await {
        return;
    }
    let count = world.target().limits().batch.clamp(1, MAX_BATCH);
    let mut documents: Vec<_> = (1..count)
        .map(|number| profile(1, &format!("innocent {number}"), 1))
        .collect();
    documents.insert(documents.len() / 2, profile(1, "guilty", 1));
    let batch = documents.iter().cloned().map(Delivery::from).collect();
    for (document, outcome) in documents.iter().zip(bisected(world, batch).await) {
        if document.account == "guilty" {
            assert!(
                matches!(outcome, Outcome::Rejected { .. }),
                "an account that is refused is to be parked: {outcome:?}"
            );
            has_no_secret(world, outcome.text());
            assert_eq!(
                world.held(1, "guilty").await,
                None,
                "a refused account is held"
            );
        } else {
            assert!(
                is_delivered(&outcome),
                "a refused account took others along: {outcome:?}"
            );
            holds(world, document, "beside a refused account").await;
        }
    }
}

/// Delivers a batch, and the halves of what is refused as a whole, as the daemon does.
async fn bisected<W: World>(world: &W, batch: Vec<Delivery>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        match world.target().deliver(&part).await {
            Answer::Whole(Outcome::Rejected { .. } | Outcome::Denied { .. }) if part.len() > 1 => {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
            }
            answer => outcomes.extend(each(answer, part.len())),
        }
    }
    outcomes
}

async fn dead_peers_are_faults<W: World>(world: &W) {
    if !world.turn(Peer::Dead).await {
        return;
    }
    let document = profile(1, "patient", 1);
    let batch = [Delivery::from(document.clone())];
    let outcomes = each(world.target().deliver(&batch).await, 1);
    assert!(
        matches!(outcomes[0], Outcome::Fault { .. }),
        "a dead peer is the target's fault and no account's: {outcomes:?}"
    );
    let probe = world
        .target()
        .probe()
        .await
        .expect_err("a dead peer was probed with success");
    for text in [outcomes[0].text(), &probe] {
        assert!(!text.is_empty(), "a fault has no reason");
        has_no_secret(world, text);
    }
    assert!(world.turn(Peer::Well).await, "a dead peer cannot come back");
    deliver(world, &[&document]).await;
    holds(world, &document, "after the peer came back").await;
}

async fn slow_peers_are_cut_off<W: World>(world: &W) {
    if !world.turn(Peer::Slow).await {
        return;
    }
    let document = profile(1, "hurried", 1);
    let batch = [Delivery::from(document.clone())];
    if let Ok(answer) = tokio::time::timeout(PATIENCE, world.target().deliver(&batch)).await {
        let outcomes = each(answer, 1);
        assert!(
            matches!(outcomes[0], Outcome::Fault { .. } | Outcome::Retry { .. }),
            "a slow peer is no reason to give an account up: {outcomes:?}"
        );
    }
    assert!(world.turn(Peer::Well).await, "a slow peer cannot recover");
    deliver(world, &[&document]).await;
    holds(world, &document, "after a delivery was cut off").await;
}

async fn dropped_deliveries_do_no_harm<W: World>(world: &W) {
    for (revision, polls) in (1..).zip(1..MAX_CUTS) {
        let document = profile(1, "interrupted", revision);
        let batch = [Delivery::from(document.clone())];
        let done = polled(polls, world.target().deliver(&batch))
            .await
            .is_some();
        // Again the same, as the daemon does; then the next, which must not meet a remainder of the last.
        deliver(world, &[&document]).await;
        holds(
            world,
            &document,
            &format!("after a delivery was dropped at await {polls}"),
        )
        .await;
        if done {
            return;
        }
    }
}

async fn renders_hold_no_secret<W: World>(world: &W) {
    for document in [profile(1, "rendered", 1), destroyed(1, "rendered", 2)] {
        let text = world
            .target()
            .render(&document)
            .expect("a plain document renders");
        assert!(!text.is_empty(), "nothing is rendered");
        has_no_secret(world, &text);
        let again = world
            .target()
            .render(&document)
            .expect("a plain document renders");
        assert_eq!(text, again, "a document renders differently each time");
    }
    assert_eq!(world.held(1, "rendered").await, None, "rendering delivered");
}

async fn probes_change_nothing<W: World>(world: &W) {
    world
        .target()
        .probe()
        .await
        .expect("a well peer can be probed");
    let document = profile(1, "probed", 1);
    deliver(world, &[&document]).await;
    world
        .target()
        .probe()
        .await
        .expect("a well peer can be probed after a delivery");
    holds(world, &document, "after a probe").await;
}

async fn what_is_read_back_is_what_was_delivered<W: World>(world: &W) {
    let Some(back) = world.target().read_back() else {
        return;
    };
    let accounts = hostile_accounts();
    let documents: Vec<_> = accounts
        .iter()
        .map(|(app, name)| profile(*app, name, 1))
        .collect();
    let held = back
        .held(&documents)
        .await
        .expect("a well peer can be read");
    assert_eq!(
        held,
        vec![None; documents.len()],
        "an empty target holds accounts"
    );
    deliver(world, &documents.iter().collect::<Vec<_>>()).await;
    in_sync(world, &documents).await;
    let later: Vec<_> = accounts
        .iter()
        .enumerate()
        .map(|(index, (app, name))| match index % 2 {
            0 => destroyed(*app, name, 2),
            _ => profile(*app, name, 2),
        })
        .collect();
    let wanted = later.iter().map(|document| back.wanted(document));
    let held = back.held(&later).await.expect("a well peer can be read");
    for ((held, wanted), document) in held.iter().zip(wanted).zip(&later) {
        assert_ne!(
            *held, wanted,
            "the change of {:?} does not show",
            document.account
        );
    }
    deliver(world, &later.iter().collect::<Vec<_>>()).await;
    in_sync(world, &later).await;
    if world.turn(Peer::Dead).await {
        let error = back.held(&later).await.expect_err("a dead peer was read");
        has_no_secret(world, &error);
    }
}

async fn in_sync<W: World>(world: &W, documents: &[Document]) {
    let back = world.target().read_back().expect("asked before");
    let held = back.held(documents).await.expect("a well peer can be read");
    assert_eq!(
        held.len(),
        documents.len(),
        "there must be one state per document"
    );
    for (held, document) in held.into_iter().zip(documents) {
        assert_eq!(
            held,
            back.wanted(document),
            "{:?} is not read back as it was delivered",
            document.account
        );
    }
}

/// Delivers in batches as the daemon does, and insists on success.
async fn deliver<W: World>(world: &W, documents: &[&Document]) {
    for chunk in documents.chunks(world.target().limits().batch.max(1)) {
        let batch: Vec<_> = chunk
            .iter()
            .map(|&document| Delivery::from(document.clone()))
            .collect();
        let outcomes = each(world.target().deliver(&batch).await, batch.len());
        for (outcome, delivery) in outcomes.iter().zip(&batch) {
            assert!(
                is_delivered(outcome),
                "{:?} was not delivered: {outcome:?}",
                delivery.document
            );
            has_no_secret(world, outcome.text());
        }
    }
}

fn each(answer: Answer, count: usize) -> Vec<Outcome> {
    match answer {
        Answer::Whole(outcome) => vec![outcome; count],
        Answer::Each(outcomes) => {
            assert_eq!(
                outcomes.len(),
                count,
                "there must be one outcome per document"
            );
            outcomes
        }
    }
}

fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

async fn holds<W: World>(world: &W, document: &Document, when: &str) {
    let held = world.held(document.sdk_app_id, &document.account).await;
    assert_eq!(
        held,
        Some(world.shown(document)),
        "{:?} is not held {when}",
        document.account
    );
    assert_eq!(
        document.status,
        Status::Active,
        "only an active account is held"
    );
}

fn has_no_secret<W: World>(world: &W, text: &str) {
    for secret in world.secrets() {
        assert!(!text.contains(&secret), "a secret is shown: {text}");
    }
}

/// Polls a future at most so often, then drops it.
async fn polled<F: Future>(most: usize, future: F) -> Option<F::Output> {
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
