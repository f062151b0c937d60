//! The checks themselves. Each gets a world that holds nothing, and says how the promise is broken.

use super::{
    MAX_BATCH, MAX_CUTS, PATIENCE, Peer, Verdict, World,
    accounts::{destroyed, hostile_accounts, profile, twin_accounts, untidy_profiles},
    tools::{
        all_delivered, bisected, deliver, each, ensure, has_no_secret, holds, holds_nothing,
        is_delivered, polled, seen, skipped, taken,
    },
    words::{difference, instead, said, who},
};
use crate::{Delivery, Document, Outcome, ReadBack, Status};

type Found = Result<Verdict, String>;

pub(super) async fn repeats_change_nothing(world: &dyn World) -> Found {
    let document = profile(1, "repeated", 3);
    for attempt in ["first", "second", "third"] {
        deliver(world, &[&document]).await?;
        let when = format!("after the {attempt} delivery of the same revision");
        holds(world, &document, &when).await?;
    }
    seen(world)
}

pub(super) async fn older_revisions_do_not_win(world: &dyn World) -> Found {
    if !world.compares_revisions() {
        return skipped("the target does not compare revisions");
    }
    let newer = profile(1, "raced", 8);
    deliver(world, &[&newer]).await?;
    deliver(world, &[&profile(1, "raced", 7)]).await?;
    holds(world, &newer, "after an older revision came late").await?;
    deliver(world, &[&destroyed(1, "raced", 6)]).await?;
    holds(world, &newer, "after an older destruction came late").await?;
    if world.remembers_destroyed() {
        deliver(world, &[&destroyed(1, "raced", 9)]).await?;
        deliver(world, &[&newer]).await?;
        let when = "though it was destroyed, after an older revision came late";
        holds_nothing(world, 1, "raced", when).await?;
    }
    seen(world)
}

pub(super) async fn accounts_are_destroyed_and_revived(world: &dyn World) -> Found {
    deliver(world, &[&destroyed(1, "never seen", 1)]).await?;
    let bystander = profile(1, "bystander", 1);
    deliver(world, &[&bystander]).await?;
    deliver(world, &[&profile(1, "phoenix", 1)]).await?;
    for _ in 0..2 {
        deliver(world, &[&destroyed(1, "phoenix", 2)]).await?;
        holds_nothing(world, 1, "phoenix", "after it was destroyed").await?;
    }
    let revived = profile(1, "phoenix", 3);
    deliver(world, &[&revived]).await?;
    holds(world, &revived, "after its revival").await?;
    let when = "after another account was destroyed and revived";
    holds(world, &bystander, when).await?;
    seen(world)
}

pub(super) async fn hostile_accounts_stay_apart(world: &dyn World) -> Found {
    let first_of = |accounts: &[(u64, String)]| -> Vec<Document> {
        let profiles = accounts.iter().map(|(app, name)| profile(*app, name, 1));
        profiles.collect()
    };
    let mut first = first_of(&hostile_accounts());
    deliver(world, &first.iter().collect::<Vec<_>>()).await?;
    first.extend(taken(world, first_of(&twin_accounts())).await?);
    first.extend(taken(world, untidy_profiles()).await?);
    for document in &first {
        holds(world, document, "among hostile accounts").await?;
    }
    let accounts: Vec<_> = first
        .iter()
        .map(|document| (document.sdk_app_id, document.account.as_str()))
        .collect();
    // Each is changed or destroyed in turn, and must take no other along.
    for (index, &(app, name)) in accounts.iter().enumerate() {
        if index % 2 == 0 {
            deliver(world, &[&profile(app, name, 2)]).await?;
        } else {
            deliver(world, &[&destroyed(app, name, 2)]).await?;
        }
    }
    for (index, &(app, name)) in accounts.iter().enumerate() {
        if index % 2 == 0 {
            let when = "after hostile accounts changed";
            holds(world, &profile(app, name, 2), when).await?;
        } else {
            holds_nothing(world, app, name, "after it was destroyed").await?;
        }
    }
    seen(world)
}

pub(super) async fn full_batches_are_taken(world: &dyn World) -> Found {
    let count = world.target().limits().batch.min(MAX_BATCH);
    ensure!(count > 0, "a batch of none delivers nothing");
    let documents: Vec<_> = (0..count)
        .rev()
        .map(|number| profile(1, &format!("member {number}"), 1))
        .collect();
    let batch: Vec<_> = documents.iter().cloned().map(Delivery::from).collect();
    let outcomes = each(world.target().deliver(&batch).await, count)?;
    all_delivered(world, &batch, &outcomes)?;
    for document in &documents {
        holds(world, document, "after a full batch").await?;
    }
    Ok(Verdict::Passed)
}

pub(super) async fn a_refused_account_takes_no_other_along(world: &dyn World) -> Found {
    if !world.refuse(1, "guilty").await {
        return skipped("the outside cannot be made to refuse an account");
    }
    let count = world.target().limits().batch.clamp(1, MAX_BATCH);
    let mut documents: Vec<_> = (1..count)
        .map(|number| profile(1, &format!("innocent {number}"), 1))
        .collect();
    documents.insert(documents.len() / 2, profile(1, "guilty", 1));
    let batch = documents.iter().cloned().map(Delivery::from).collect();
    for (document, outcome) in documents.iter().zip(bisected(world, batch).await?) {
        if document.account == "guilty" {
            ensure!(
                matches!(outcome, Outcome::Rejected { .. }),
                "{} is refused and must be parked{}",
                who(world, document),
                instead("rejected", &said(&outcome))
            );
            has_no_secret(world, outcome.text())?;
            holds_nothing(world, 1, "guilty", "though it was refused").await?;
        } else {
            ensure!(
                is_delivered(&outcome),
                "{} was taken along by a refused one{}",
                who(world, document),
                instead("delivered", &said(&outcome))
            );
            holds(world, document, "beside a refused account").await?;
        }
    }
    Ok(Verdict::Passed)
}

pub(super) async fn dead_peers_are_faults(world: &dyn World) -> Found {
    if !world.turn(Peer::Dead).await {
        return skipped("the outside cannot be made dead");
    }
    let document = profile(1, "patient", 1);
    let batch = [Delivery::from(document.clone())];
    let outcomes = each(world.target().deliver(&batch).await, 1)?;
    ensure!(
        matches!(outcomes[0], Outcome::Fault { .. }),
        "a dead peer is the target's fault and no account's{}",
        instead("fault", &said(&outcomes[0]))
    );
    let Err(probe) = world.target().probe().await else {
        return Err("a dead peer was probed with success".into());
    };
    for text in [outcomes[0].text(), &probe] {
        ensure!(!text.is_empty(), "a fault has no reason");
        has_no_secret(world, text)?;
    }
    ensure!(world.turn(Peer::Well).await, "a dead peer cannot come back");
    deliver(world, &[&document]).await?;
    holds(world, &document, "after the peer came back").await?;
    Ok(Verdict::Passed)
}

pub(super) async fn slow_peers_are_cut_off(world: &dyn World) -> Found {
    if !world.turn(Peer::Slow).await {
        return skipped("the outside cannot be made slow");
    }
    let document = profile(1, "hurried", 1);
    let batch = [Delivery::from(document.clone())];
    if let Ok(answer) = tokio::time::timeout(PATIENCE, world.target().deliver(&batch)).await {
        let outcomes = each(answer, 1)?;
        ensure!(
            matches!(outcomes[0], Outcome::Fault { .. } | Outcome::Retry { .. }),
            "a slow peer is no reason to give an account up{}",
            instead("fault or retry", &said(&outcomes[0]))
        );
    }
    ensure!(world.turn(Peer::Well).await, "a slow peer cannot recover");
    deliver(world, &[&document]).await?;
    holds(world, &document, "after a delivery was cut off").await?;
    Ok(Verdict::Passed)
}

pub(super) async fn dropped_deliveries_do_no_harm(world: &dyn World) -> Found {
    for (revision, polls) in (1..).zip(1..MAX_CUTS) {
        let document = profile(1, "interrupted", revision);
        let batch = [Delivery::from(document.clone())];
        let delivery = world.target().deliver(&batch);
        let done = polled(polls, delivery).await.is_some();
        // Again the same, as the daemon does; then the next, which must not meet a remainder of the last.
        deliver(world, &[&document]).await?;
        let when = format!("after a delivery was dropped at await {polls}");
        holds(world, &document, &when).await?;
        if done {
            break;
        }
    }
    seen(world)
}

pub(super) async fn renders_hold_no_secret(world: &dyn World) -> Found {
    let rendered = |document: &Document| {
        let text = world.target().render(document);
        text.map_err(|error| format!("a plain document does not render: {error}"))
    };
    for document in [profile(1, "rendered", 1), destroyed(1, "rendered", 2)] {
        let text = rendered(&document)?;
        ensure!(!text.is_empty(), "nothing is rendered");
        has_no_secret(world, &text)?;
        ensure!(
            text == rendered(&document)?,
            "a document renders differently each time"
        );
    }
    holds_nothing(world, 1, "rendered", "after it was rendered").await?;
    Ok(Verdict::Passed)
}

pub(super) async fn probes_change_nothing(world: &dyn World) -> Found {
    let unprobed = |error| format!("a well peer cannot be probed: {error}");
    world.target().probe().await.map_err(unprobed)?;
    let document = profile(1, "probed", 1);
    deliver(world, &[&document]).await?;
    world.target().probe().await.map_err(unprobed)?;
    holds(world, &document, "after a probe").await?;
    seen(world)
}

pub(super) async fn what_is_read_back_is_what_was_delivered(world: &dyn World) -> Found {
    let Some(back) = world.target().read_back() else {
        return skipped("the target cannot be read back");
    };
    let accounts = hostile_accounts();
    let documents: Vec<_> = accounts
        .iter()
        .map(|(app, name)| profile(*app, name, 1))
        .collect();
    let unread = |error| format!("a well peer cannot be read: {error}");
    let held = back.held(&documents).await.map_err(unread)?;
    for (held, document) in held.iter().zip(&documents) {
        ensure!(
            held.is_none(),
            "{} is read back before it was delivered{}",
            who(world, document),
            difference(held.as_ref(), None)
        );
    }
    deliver(world, &documents.iter().collect::<Vec<_>>()).await?;
    in_sync(world, back, &documents).await?;
    let later: Vec<_> = accounts
        .iter()
        .enumerate()
        .map(|(index, (app, name))| match index % 2 {
            0 => destroyed(*app, name, 2),
            _ => profile(*app, name, 2),
        })
        .collect();
    // A target may leave out of an account all that differs.
    let changed: Vec<_> = documents
        .iter()
        .zip(&later)
        .filter(|(before, after)| back.wanted(before) != back.wanted(after))
        .map(|(_, after)| after.clone())
        .collect();
    ensure!(
        changed.iter().any(|one| one.status == Status::Active),
        "what is to be read back of an account stays the same whatever its profile is"
    );
    let held = back.held(&changed).await.map_err(unread)?;
    for (held, document) in held.iter().zip(&changed) {
        ensure!(
            *held != back.wanted(document),
            "{} is read back before it was delivered",
            who(world, document)
        );
    }
    deliver(world, &later.iter().collect::<Vec<_>>()).await?;
    in_sync(world, back, &later).await?;
    if world.turn(Peer::Dead).await {
        let Err(error) = back.held(&later).await else {
            return Err("a dead peer was read".into());
        };
        has_no_secret(world, &error)?;
    }
    Ok(Verdict::Passed)
}

async fn in_sync(
    world: &dyn World,
    back: &dyn ReadBack,
    documents: &[Document],
) -> Result<(), String> {
    let held = back.held(documents).await;
    let held = held.map_err(|error| format!("a well peer cannot be read: {error}"))?;
    ensure!(
        held.len() == documents.len(),
        "{} states for {} documents",
        held.len(),
        documents.len()
    );
    for (held, document) in held.into_iter().zip(documents) {
        let wanted = back.wanted(document);
        ensure!(
            held == wanted,
            "{} is not read back as it was delivered{}",
            who(world, document),
            difference(held.as_ref(), wanted.as_ref())
        );
    }
    Ok(())
}
