//! What operators do: settings that change, orders, the guard.

use std::time::Duration;

use profilesync_target::{Outcome, Status};
use tokio::time::sleep;

use super::{
    MINUTE, World, caught_up, id, ledger::Flaky, millis, options, parked, rate, receiver::Reaction,
    until,
};
use crate::{
    config::{Guard, Mode},
    dispatch::{ActError, Action, Targets, ledger::Ledger as _},
    event::Kind,
};

#[tokio::test(start_paused = true)]
async fn the_guard_holds_a_flood_until_it_is_approved() {
    let mut options = options();
    let window = Duration::from_hours(1);
    options.guard = Some(Guard {
        max_changes: 10.try_into().unwrap(),
        window,
    });
    let mut world = World::new(options);
    world.start();
    world.settle(MINUTE).await;
    let refused = world.dispatchers().act("crm", Action::Approve).await;
    assert!(matches!(refused, Err(ActError::Refused(_))));
    for n in 0..30 {
        world.change(n);
    }
    until(MINUTE, || world.status().state == "held").await;
    sleep(window * 2).await;
    assert_eq!(world.receiver.total(), 10);
    world.stop().await;
    world.start();
    until(MINUTE, || world.status().state == "held").await;
    until(MINUTE, || world.due() == 20).await;
    world.act(Action::Approve).await;
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.total(), 30);
    for n in 0..30 {
        world.change(n);
    }
    until(MINUTE, || world.status().state == "held").await;
    assert_eq!(world.receiver.total(), 40);
    let retry = Action::Retry {
        app: None,
        account: None,
        all_parked: true,
    };
    for (action, answer) in [
        (
            Action::Resume,
            "crm is held: it goes on once it is approved",
        ),
        (Action::Pause, "crm is paused"),
        (
            retry,
            "crm is paused and held: it tries 0 parked accounts once it is resumed and approved",
        ),
        (
            Action::Approve,
            "crm is paused: it goes on with all that is due once it is resumed",
        ),
        (Action::Resume, "crm goes on now"),
    ] {
        assert_eq!(world.act(action).await, answer);
    }
    world.receiver.check();
}

fn guarded() -> World {
    let mut options = options();
    options.guard = Some(Guard {
        max_changes: 10.try_into().unwrap(),
        window: Duration::from_hours(1),
    });
    World::new(options)
}

#[tokio::test(start_paused = true)]
async fn the_guard_counts_on_over_a_reload_and_the_loss_of_the_store() {
    let mut world = guarded();
    world.start();
    for round in 0..3 {
        for n in 0..4 {
            world.change(4 * round + n);
        }
        until(MINUTE, || world.receiver.total() == (4 * round + 4).min(10)).await;
        sleep(MINUTE).await;
        if round == 0 {
            world.options.timeout *= 2;
            world.dispatchers().reload(world.targets());
        } else {
            world.ledger.close();
            sleep(millis(1)).await;
            world.ledger.open();
        }
        sleep(MINUTE).await;
    }
    assert_eq!(world.status().state, "held");
    // Other limits count anew.
    world.options.guard.as_mut().unwrap().max_changes = 11.try_into().unwrap();
    world.dispatchers().reload(world.targets());
    world.act(Action::Approve).await;
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.total(), 12);
}

#[tokio::test(start_paused = true)]
async fn an_approval_outlives_a_reload_but_is_not_for_another_target() {
    let mut world = guarded();
    world.start();
    (0..30).for_each(|n| world.change(n));
    until(MINUTE, || world.status().state == "held").await;
    world
        .receiver
        .behave(|_| Reaction::ok().after(Duration::from_secs(1)));
    world.act(Action::Approve).await;
    sleep(millis(1500)).await;
    world.dispatchers().reload(world.targets());
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.total(), 30);
    world.receiver.forget_told(Duration::ZERO);
    world.identity = "second".into();
    world.dispatchers().reload(world.targets());
    until(MINUTE, || world.status().state == "held").await;
    until(MINUTE, || world.receiver.total() == 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_shadow_sends_nothing() {
    let mut options = options();
    options.mode = Mode::Shadow;
    let mut world = World::new(options);
    world.start();
    world.change("a");
    world.change("unrenderable");
    world.settle(MINUTE).await;
    assert_eq!(world.delivery(&id("a")).answer, "shadow: PUT a body");
    assert_eq!(world.delivery(&id("a")).delivered, 1);
    assert!(parked(&world, "unrenderable"));
    assert_eq!(world.receiver.total(), 0);
    assert_eq!(world.status().mode, "shadow");
}

#[tokio::test(start_paused = true)]
async fn a_new_target_is_backfilled_with_live_accounts_at_its_rate() {
    let mut options = options();
    options.backfill_rate = rate(10);
    let mut world = World::new(options);
    for n in 0..100 {
        world.change(n);
    }
    for n in 0..20 {
        world.event(n, Kind::Destroyed);
    }
    world.start();
    until(MINUTE, || world.status().backfill.is_some()).await;
    sleep(Duration::from_secs(3)).await;
    world.change("live");
    until(millis(5), || world.receiver.holds("live").is_some()).await;
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.total(), 81);
    let (first, last) = {
        let inner = world.receiver.inner();
        (
            inner.seen.first().unwrap().at,
            inner.seen.last().unwrap().at,
        )
    };
    assert!((last - first).as_secs() >= 7);
    assert_eq!(world.status().backfill, None);
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_changed_target_gets_everything_anew_and_no_destroy_is_lost() {
    let mut world = caught_up(50).await;
    world
        .receiver
        .behave(|documents| match documents[0].account.as_str() {
            "1" | "2" => Reaction::rejected(),
            _ => Reaction::ok(),
        });
    world.change("1");
    world.change("2");
    world.settle(MINUTE).await;
    world.receiver.behave(|_| Reaction::fault());
    for account in ["1", "3", "4"] {
        world.event(account, Kind::Destroyed);
    }
    until(MINUTE, || world.delivery(&id(4)).trouble.is_some()).await;
    world.stop().await;
    world.event("5", Kind::Destroyed);
    world.receiver.forget_told(Duration::ZERO);
    world.receiver.behave(|_| Reaction::ok());
    let before = world.receiver.total();
    world.identity = "second".into();
    world.start();
    world.settle(Duration::from_mins(6)).await;
    assert_eq!(world.receiver.total() - before, 50);
    let inner = world.receiver.inner();
    for n in 0..50 {
        let expected = match n {
            1 => (3, Status::Destroyed),
            2 => (2, Status::Active),
            3..=5 => (2, Status::Destroyed),
            _ => (1, Status::Active),
        };
        assert_eq!(inner.held[&n.to_string()], expected, "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn operators_pause_resume_and_backfill() {
    let mut world = caught_up(10).await;
    assert_eq!(world.act(Action::Pause).await, "crm is paused");
    world.change("1");
    sleep(MINUTE).await;
    assert_eq!((world.status().state.as_str(), world.due()), ("paused", 1));
    world.stop().await;
    world.start();
    until(MINUTE, || world.status().state == "paused").await;
    assert_eq!(world.receiver.holds("1"), Some(1));
    world.act(Action::Resume).await;
    until(millis(5), || world.receiver.holds("1") == Some(2)).await;
    world.settle(MINUTE).await;
    let before = world.receiver.total();
    world.receiver.forget_told(Duration::ZERO);
    assert_eq!(
        world.act(Action::Backfill).await,
        "crm gets every live account anew (10 accounts known)"
    );
    until(MINUTE, || world.status().backfill.is_none()).await;
    assert_eq!(world.receiver.total() - before, 10);
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn operators_retry_what_waits_or_is_parked() {
    let mut world = caught_up(0).await;
    world
        .receiver
        .behave(|documents| match documents[0].account.as_str() {
            "waits" => Outcome::Retry {
                reason: "no".into(),
                after: Some(MINUTE * 50),
            }
            .into(),
            "good" => Reaction::ok(),
            _ => Reaction::rejected(),
        });
    let accounts = ["waits", "good", "bad", "worse"];
    accounts.iter().for_each(|account| world.change(account));
    until(MINUTE, || world.status().parked == 2 && world.due() == 1).await;
    sleep(MINUTE).await;
    world.receiver.behave(|_| Reaction::ok());
    let retry = |account: Option<&str>, all_parked| {
        let account = account.map(str::to_owned);
        Action::Retry {
            app: None,
            account,
            all_parked,
        }
    };
    let refused = world
        .dispatchers()
        .act("crm", retry(Some("good"), false))
        .await;
    assert!(matches!(refused, Err(ActError::Refused(_))));
    let unknown = world
        .dispatchers()
        .act("crm", retry(Some("nobody"), false))
        .await;
    assert_eq!(unknown, Err(ActError::UnknownAccount("nobody".into())));
    let unknown = world.dispatchers().act("cmr", Action::Pause).await;
    assert_eq!(unknown, Err(ActError::UnknownTarget("cmr".into())));
    assert_eq!(
        world.act(retry(Some("waits"), false)).await,
        "crm tries 1 account now"
    );
    until(millis(5), || world.receiver.holds("waits").is_some()).await;
    assert_eq!(
        world.act(retry(None, true)).await,
        "crm tries 2 parked accounts now"
    );
    until(millis(50), || world.receiver.holds("worse").is_some()).await;
    world.settle(MINUTE).await;
    assert_eq!(world.status().parked, 0);
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_removed_target_is_kept_for_a_week() {
    let mut world = caught_up(3).await;
    let removed_at = |ledger: &Flaky| ledger.targets().unwrap().get("crm").map(|s| s.removed_at);
    world.dispatchers().reload(Default::default());
    assert!(world.dispatchers().statuses().is_empty());
    until(MINUTE, || removed_at(&world.ledger).unwrap().is_some()).await;
    sleep(Duration::from_hours(6 * 24)).await;
    world.change("1");
    world.dispatchers().reload(world.targets());
    world.settle(MINUTE).await;
    assert_eq!(removed_at(&world.ledger), Some(None));
    assert_eq!(world.receiver.total(), 4);
    world.dispatchers().reload(Default::default());
    sleep(Duration::from_hours(7 * 24 + 2)).await;
    assert_eq!(removed_at(&world.ledger), None);
    let metrics = world.metrics.render();
    assert!(!metrics.contains("profilesync_due{"), "{metrics}");
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_reload_waits_for_calls_and_a_disabled_target_keeps_its_state() {
    let mut world = caught_up(1).await;
    let same = world.targets();
    world.dispatchers().reload(same.clone());
    world.settle(MINUTE).await;
    world
        .receiver
        .behave(|_| Reaction::ok().after(Duration::from_secs(5)));
    world.change("0");
    sleep(Duration::from_secs(1)).await;
    world.dispatchers().reload(same);
    let disabled = Targets::from([("crm".to_owned(), None)]);
    world.dispatchers().reload(disabled);
    world.change("0");
    sleep(Duration::from_hours(8 * 24)).await;
    assert_eq!(world.receiver.holds("0"), Some(2));
    assert!(world.dispatchers().statuses().is_empty());
    world.receiver.behave(|_| Reaction::ok());
    world.dispatchers().reload(world.targets());
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.holds("0"), Some(3));
    assert_eq!(world.receiver.total(), 3);
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_backfill_includes_what_was_under_way_when_it_began() {
    let mut world = caught_up(3).await;
    world
        .receiver
        .behave(|_| Reaction::ok().after(Duration::from_secs(5)));
    world.change("1");
    sleep(Duration::from_secs(1)).await;
    world.receiver.forget_told(MINUTE);
    for _ in 0..2 {
        world.act(Action::Backfill).await;
        sleep(Duration::from_secs(1)).await;
    }
    world.settle(MINUTE).await;
    let epoch = world.ledger.targets().unwrap()["crm"].epoch;
    assert_eq!(epoch, 3);
    assert!((0..3).all(|n| world.delivery(&id(n)).epoch == epoch));
    world.receiver.check();
}

fn retry_all(all_parked: bool) -> Action {
    Action::Retry {
        app: None,
        account: None,
        all_parked,
    }
}

/// A world whose target has refused `parked` accounts, and is to be asked again for `waiting` others in an hour.
async fn troubled(parked: u64, waiting: u64) -> World {
    let mut world = caught_up(0).await;
    world.receiver.behave(|documents| {
        if documents[0].account.starts_with("bad") {
            return Reaction::rejected();
        }
        let (reason, after) = ("no".into(), Some(MINUTE * 50));
        Outcome::Retry { reason, after }.into()
    });
    (0..parked).for_each(|n| world.change(format!("bad {n}")));
    (0..waiting).for_each(|n| world.change(format!("waits {n}")));
    let status = || world.status();
    until(MINUTE, || {
        status().parked == parked && status().due == waiting
    })
    .await;
    // Until they have cooled.
    sleep(MINUTE).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_was_asked_for_outlives_a_restart() {
    let mut world = troubled(1, 0).await;
    world.act(Action::Pause).await;
    world
        .act(Action::Retry {
            app: None,
            account: Some("bad 0".into()),
            all_parked: false,
        })
        .await;
    world.stop().await;
    world.receiver.behave(|_| Reaction::ok());
    world.start();
    until(MINUTE, || world.status().state == "paused").await;
    world.act(Action::Resume).await;
    until(MINUTE, || world.receiver.holds("bad 0").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_all_does_not_end_another() {
    let world = troubled(400, 3).await;
    world.receiver.behave(|_| Reaction::ok());
    tokio::join!(world.act(retry_all(false)), world.act(retry_all(true)));
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.inner().held.len(), 403);
}

/// In paused time, a loop that does not rest hangs.
#[tokio::test(start_paused = true)]
async fn a_stop_amid_a_retry_of_all_rests_until_the_calls_end() {
    let mut world = troubled(400, 0).await;
    world.ledger.set_latency(millis(50));
    world
        .receiver
        .behave(|_| Reaction::ok().after(Duration::from_secs(5)));
    world.change("busy");
    sleep(millis(1)).await;
    world.act(retry_all(true)).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_all_that_is_cut_short_is_not_called_done() {
    let mut world = troubled(3000, 0).await;
    world.ledger.set_latency(millis(50));
    let dispatchers = world.dispatchers.take().unwrap();
    let asked = dispatchers.act("crm", retry_all(true));
    let (asked, unfinished) = tokio::join!(asked, async {
        sleep(millis(1)).await;
        dispatchers.stop(MINUTE).await
    });
    assert!(unfinished.is_empty());
    assert!(matches!(asked, Err(ActError::Unavailable(_))), "{asked:?}");
}
