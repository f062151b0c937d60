//! Targets that come, change and go, and a store that does.

use std::time::Duration;

use profilesync_target::Status;
use tokio::time::sleep;

use super::{MINUTE, caught_up, millis, rate};
use crate::{
    clock,
    dispatch::{
        ActError, Action, Targets,
        ledger::Ledger as _,
        sim::{World, id, ledger::Flaky, options, receiver::Reaction, until},
    },
    event::Kind,
    store::Write,
};

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
async fn a_clean_restart_repeats_nothing() {
    let mut world = World::new(options());
    world.ledger.set_latency(millis(20));
    world.receiver.behave(|_| Reaction::ok().after(millis(3)));
    for round in 0..40 {
        world.start();
        for n in 0..20 {
            world.change(n);
        }
        sleep(millis(round)).await;
        world.stop().await;
    }
    world.start();
    world.settle(MINUTE).await;
    assert!((0..20).all(|n| world.receiver.holds(&n.to_string()) == Some(world.revision(&id(n)))));
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
async fn it_goes_on_when_the_store_comes_back() {
    let mut world = caught_up(10).await;
    world.ledger.set_latency(millis(10));
    for round in 0..20 {
        for n in 0..10 {
            world.change(n);
        }
        sleep(millis(round)).await;
        world.ledger.close();
        world.ledger.lose(3);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(world.status().state, "waiting");
        let refused = world.dispatchers().act("crm", Action::Pause).await;
        assert!(matches!(refused, Err(ActError::Unavailable(_))));
        world.receiver.forget_told(Duration::ZERO);
        world.ledger.open();
        world.settle(MINUTE).await;
    }
    assert!((0..10).all(|n| world.receiver.holds(&n.to_string()) == Some(21)));
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn an_idle_target_notices_that_the_store_was_rebuilt() {
    let mut world = caught_up(3).await;
    sleep(MINUTE).await;
    world.change("1");
    world.settle(MINUTE).await;
    world.receiver.forget_told(Duration::ZERO);
    world.ledger.close();
    world.ledger.lose(1);
    assert_eq!(world.delivery(&id(1)).delivered, 1);
    world.ledger.open();
    until(MINUTE, || world.delivery(&id(1)).delivered == 2).await;
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.total(), 5);
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn the_parked_are_counted_exactly_from_the_start() {
    let mut world = caught_up(600).await;
    world.stop().await;
    world.receiver.behave(|_| Reaction::rejected());
    for n in 0..600 {
        world.change(n);
    }
    world.start();
    world.settle(MINUTE).await;
    sleep(MINUTE).await;
    assert_eq!(world.status().parked, 600);
}

#[tokio::test(start_paused = true)]
async fn a_lost_write_is_made_good() {
    let mut world = caught_up(1).await;
    sleep(MINUTE).await;
    world.ledger.set_latency(Duration::from_hours(1));
    world.change("0");
    until(millis(5), || world.receiver.holds("0") == Some(2)).await;
    sleep(millis(1)).await;
    world.receiver.forget_told(Duration::ZERO);
    world.ledger.set_latency(Duration::ZERO);
    world.ledger.lose(0);
    sleep(Duration::from_hours(2)).await;
    assert_eq!(world.delivery(&id(0)).delivered, 2);
    assert_eq!(world.receiver.count("0"), 3);
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_half_forgotten_gets_everything_anew() {
    let mut world = caught_up(3).await;
    world.receiver.behave(|_| Reaction::retry());
    world.change("1");
    until(MINUTE, || world.delivery(&id(1)).trouble.is_some()).await;
    world.stop().await;
    let mut state = world.ledger.targets().unwrap().remove("crm").unwrap();
    let target = state.id;
    state.removed_at = Some(clock::now());
    sleep(Duration::from_hours(7 * 24)).await;
    let name = "crm".to_owned();
    drop(world.ledger.store().write(vec![
        Write::Target { name, state },
        Write::Delivery {
            target,
            id: id(1),
            state: Default::default(),
        },
    ]));
    world.receiver.behave(|_| Reaction::ok());
    world.receiver.forget_told(Duration::ZERO);
    world.start();
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.holds("1"), Some(2));
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panics_begins_anew() {
    let mut world = caught_up(1).await;
    world.ledger.panic();
    world.change("0");
    until(MINUTE, || world.receiver.holds("0") == Some(2)).await;
    world.settle(MINUTE).await;
    world.receiver.check();
}
