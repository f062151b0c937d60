//! One promise at a time.

mod failures;
mod orders;
mod restarts;

use std::time::Duration;

use profilesync_target::Limits;
use tokio::time::{Instant, sleep};

use super::{World, id, options, receiver::Reaction, until};
use crate::{
    config::{Mode, Rate},
    dispatch::ledger::Ledger as _,
    store::records::Next,
};

const MINUTE: Duration = Duration::from_mins(1);

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rate(count: u32) -> Rate {
    Rate {
        count: count.try_into().unwrap(),
        per: Duration::from_secs(1),
    }
}

/// A world whose target has caught up with the accounts `0..accounts`.
async fn caught_up(accounts: usize) -> World {
    let mut world = World::new(options());
    world.start();
    for n in 0..accounts {
        world.change(n);
    }
    world.settle(MINUTE).await;
    world
}

fn parked(world: &World, account: &str) -> bool {
    let trouble = world.delivery(&id(account)).trouble;
    trouble.is_some_and(|trouble| trouble.next == Next::Parked)
}

#[tokio::test(start_paused = true)]
async fn a_change_goes_out_at_once() {
    let mut world = caught_up(3).await;
    sleep(MINUTE).await;
    world.change("0");
    assert!(until(MINUTE, || world.receiver.holds("0") == Some(2)).await <= millis(1));
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_a_handful_of_deliveries() {
    for gap in [0, 1, 10] {
        let mut world = World::new(options());
        world.receiver.behave(|_| Reaction::ok().after(millis(5)));
        world.start();
        world.settle(MINUTE).await;
        for _ in 0..300 {
            world.change("busy");
            sleep(millis(gap)).await;
        }
        until(millis(1100), || world.receiver.holds("busy") == Some(300)).await;
        let deliveries = world.receiver.count("busy");
        assert!(
            deliveries <= 10,
            "{deliveries} deliveries at a gap of {gap} ms"
        );
        world.settle(MINUTE).await;
        world.receiver.check();
    }
}

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
async fn a_dead_target_costs_no_writes() {
    let mut world = caught_up(1000).await;
    world.receiver.behave(|_| Reaction::fault());
    for n in 0..1000 {
        world.change(n);
    }
    until(MINUTE, || world.status().state == "open").await;
    sleep(Duration::from_secs(10)).await;
    let (writes, calls) = (world.ledger.writes(), world.receiver.total());
    for _ in 0..10 {
        for n in 0..1000 {
            world.change(n);
        }
        sleep(MINUTE).await;
    }
    assert!(world.receiver.total() - calls <= 6, "one call per probe");
    assert!(world.ledger.writes() - writes <= 7, "one write per probe");
    assert!((1000..1030).contains(&world.due()), "{}", world.due());
}

#[tokio::test(start_paused = true)]
async fn the_pace_of_the_target_is_kept() {
    let mut world = World::new(options());
    let interval = Duration::from_secs(1);
    let concurrency = Some(1);
    world.receiver.set_limits(Limits {
        batch: 5,
        concurrency,
        interval,
    });
    for n in 0..50 {
        world.change(n);
    }
    world.start();
    until(MINUTE, || world.receiver.total() == 50).await;
    let calls = world.receiver.inner().calls.clone();
    assert_eq!(calls, [5; 10]);
    let times: Vec<Instant> = world
        .receiver
        .inner()
        .seen
        .iter()
        .map(|seen| seen.at)
        .collect();
    assert!(
        times
            .windows(6)
            .all(|times| times[5] - times[0] >= interval)
    );
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_is_kept() {
    let mut options = options();
    options.rate_limit = Some(rate(50));
    let mut world = World::new(options);
    world.start();
    world.settle(MINUTE).await;
    for n in 0..500 {
        world.change(n);
    }
    let took = until(MINUTE, || world.receiver.total() == 500).await;
    assert!((9_800..10_100).contains(&took.as_millis()), "{took:?}");
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
    assert_eq!(world.delivery(&id("a")).answer, "shadow: PUT a");
    assert_eq!(world.delivery(&id("a")).delivered, 1);
    assert!(parked(&world, "unrenderable"));
    assert_eq!(world.receiver.total(), 0);
    assert_eq!(world.status().mode, "shadow");
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_is_not_looked_at_again() {
    let mut options = options();
    options.apps = Some(vec![1]);
    let mut world = World::new(options);
    world.start();
    world.settle(MINUTE).await;
    for n in 0..500 {
        world.change(n);
    }
    world.settle(MINUTE).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.ledger.targets().unwrap()["crm"].live, 500);
    assert!(world.ledger.writes() < 10);
    assert_eq!(world.receiver.total(), 0);
}
