//! After an outage, a restart or the loss of a store everything gets where it belongs, once.

use std::{num::NonZeroU32, time::Duration};

use globset::{Glob, GlobSetBuilder};
use profilesync_target::Outcome;
use tokio::time::sleep;

use super::{MINUTE, World, caught_up, id, millis, options, receiver::Reaction, until};
use crate::{
    clock,
    dispatch::{ActError, Action, ledger::Ledger as _},
    store::{Write, records::Next},
};

#[tokio::test(start_paused = true)]
async fn a_revived_target_gets_each_due_account_once() {
    let mut options = options();
    options.retry.give_up_after = Duration::from_mins(10);
    let mut world = World::new(options);
    world.start();
    for n in 0..200 {
        world.change(n);
    }
    world.settle(MINUTE).await;
    world.receiver.behave(|_| Reaction::fault());
    for n in 0..200 {
        world.change(n);
    }
    until(MINUTE, || world.status().state == "open").await;
    sleep(Duration::from_hours(1)).await;
    assert_eq!(world.status().parked, 0);
    assert_eq!(world.due(), 200);
    assert!(world.status().lag_seconds > 3590.0);
    world.receiver.behave(|_| Reaction::ok());
    let before = world.receiver.total();
    until(Duration::from_mins(5), || world.status().state != "open").await;
    world.settle(millis(500)).await;
    assert_eq!(world.receiver.total() - before, 200);
    assert!((0..200).all(|n: u32| world.receiver.holds(&n.to_string()) == Some(2)));
    world.receiver.check();
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
async fn a_recovered_target_need_not_wait_for_backoffs() {
    let mut options = options();
    options.retry.max = Duration::from_hours(5);
    let mut world = World::new(options);
    world.start();
    world.settle(MINUTE).await;
    world.receiver.behave(|_| Reaction::fault());
    world.change("0");
    world.change("1");
    sleep(Duration::from_hours(1)).await;
    world.receiver.behave(|_| Reaction::ok());
    until(Duration::from_mins(6), || world.status().state != "open").await;
    world.settle(millis(500)).await;
    assert_eq!(world.receiver.inner().held.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn accounts_that_recover_while_they_are_counted_are_not_probed_with() {
    let long = Duration::from_hours(1000);
    let mut options = options();
    (options.retry.initial, options.retry.max) = (long, long);
    options.breaker.failures = NonZeroU32::new(700).unwrap();
    let mut world = World::new(options);
    world.receiver.behave(|_| Reaction::fault());
    world.start();
    for n in 0..600 {
        world.change(n);
    }
    sleep(Duration::from_secs(5)).await;
    world.stop().await;
    sleep(long).await;
    world.receiver.behave(|_| Reaction::ok().after(millis(1)));
    world.start();
    world.settle(MINUTE).await;
    world.receiver.behave(|_| Reaction::fault());
    for n in 1000..1700 {
        world.change(n);
    }
    until(MINUTE, || world.status().state == "open").await;
    world.receiver.behave(|_| Reaction::ok());
    until(MINUTE, || world.status().state != "open").await;
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

/// A machine that boots with a clock that is ahead, and without a network.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_keeps_nobody_waiting() {
    for restart in [false, true] {
        let mut world = caught_up(300).await;
        let ahead_ms = 8 * 3_600_000;
        clock::set(ahead_ms);
        let reactions = [Reaction::fault(), Reaction::retry(), Reaction::rejected()];
        for (n, reaction) in reactions.into_iter().enumerate() {
            world.receiver.behave(move |_| reaction.clone());
            world.change(n);
            until(MINUTE, || world.delivery(&id(n)).trouble.is_some()).await;
        }
        if restart {
            world.stop().await;
        }
        clock::set(-ahead_ms);
        world.receiver.behave(|_| Reaction::ok());
        world.change("1");
        if restart {
            world.start();
        }
        let holds = |account, revision| world.receiver.holds(account) == Some(revision);
        until(Duration::from_secs(2), || holds("0", 2) && holds("1", 3)).await;
        sleep(MINUTE).await;
        assert_eq!((world.status().due, world.status().parked), (0, 1));
        world.receiver.check();
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_a_little_cuts_no_wait_short() {
    let mut world = caught_up(1).await;
    world.receiver.behave(|_| {
        let (reason, after) = ("not now".into(), Some(MINUTE * 50));
        Outcome::Retry { reason, after }.into()
    });
    world.change("0");
    until(MINUTE, || world.delivery(&id(0)).trouble.is_some()).await;
    clock::set(-300_000);
    sleep(MINUTE * 54).await;
    assert_eq!(world.receiver.count("0"), 2);
    until(MINUTE * 2, || world.receiver.count("0") == 3).await;
}

/// Only the next look at the status would notice it, which may be a second off.
#[tokio::test(start_paused = true)]
async fn a_retry_that_comes_due_while_others_are_looked_at_is_not_missed() {
    let mut options = options();
    let glob = Glob::new("0").unwrap();
    options.accounts = GlobSetBuilder::new().add(glob).build().ok();
    let mut world = World::new(options);
    world.receiver.behave(|_| {
        let (reason, after) = ("not now".into(), Some(MINUTE));
        Outcome::Retry { reason, after }.into()
    });
    world.start();
    world.settle(MINUTE).await;
    world.change("0");
    until(MINUTE, || world.delivery(&id(0)).trouble.is_some()).await;
    let Some(Next::Retry { at, .. }) = world.delivery(&id(0)).trouble.map(|trouble| trouble.next)
    else {
        panic!("it was rejected");
    };
    // The cursor is written now, and need not be for a second.
    sleep(millis(at - clock::now() - 300)).await;
    world.change("left out");
    sleep(millis(297)).await;
    world.ledger.set_reading(10);
    world.change("left out");
    until(millis(20), || world.receiver.count("0") == 2).await;
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
