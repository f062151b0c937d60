//! How accounts reach a target that is well.

use std::time::Duration;

use profilesync_target::{Answer, Document, Limits, Outcome};
use tokio::time::{Instant, sleep};

use super::{MINUTE, World, caught_up, millis, options, parked, rate, receiver::Reaction, until};
use crate::dispatch::ledger::Ledger as _;

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
async fn results_that_come_together_are_written_together() {
    let mut world = caught_up(3).await;
    world.receiver.behave(|_| Reaction::ok().after(millis(1)));
    let writes = world.ledger.writes();
    for n in 0..400 {
        world.change(n);
    }
    world.settle(MINUTE).await;
    // 100 ms, four at a time.
    let writes = world.ledger.writes() - writes;
    assert!(writes <= 15, "{writes} writes");
    assert_eq!(world.receiver.total(), 403);
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

#[tokio::test(start_paused = true)]
async fn a_failed_batch_is_cut_down_to_the_guilty() {
    let mut world = World::new(options());
    world.receiver.set_limits(Limits {
        batch: 64,
        ..Limits::default()
    });
    let guilty = |document: &Document| document.account.ends_with('7');
    world.receiver.behave(move |documents| {
        if documents.iter().any(guilty) {
            Reaction::rejected()
        } else {
            Reaction::ok()
        }
    });
    for n in 0..100 {
        world.change(n);
    }
    world.start();
    world.settle(MINUTE).await;
    for n in 0..100 {
        let name = n.to_string();
        assert_eq!(parked(&world, &name), n % 10 == 7, "{n}");
        assert_eq!(world.receiver.holds(&name).is_some(), n % 10 != 7, "{n}");
    }
    assert!(world.receiver.inner().calls.iter().any(|&size| size > 1));
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_does_not_keep_others_waiting() {
    let mut world = World::new(options());
    world.receiver.set_limits(Limits {
        batch: 200,
        ..Limits::default()
    });
    world.start();
    world.settle(MINUTE).await;
    world.receiver.behave(|documents| {
        let bad = documents.iter().any(|document| document.account != "good");
        let reaction = if bad {
            Reaction::rejected()
        } else {
            Reaction::ok()
        };
        reaction.after(Duration::from_secs(1))
    });
    (0..200).for_each(|n| world.change(n));
    sleep(Duration::from_secs(5)).await;
    world.change("good");
    let took = until(MINUTE, || world.receiver.holds("good").is_some()).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    until(MINUTE * 5, || world.status().parked == 200).await;
}

#[tokio::test(start_paused = true)]
async fn accounts_on_which_the_target_hangs_are_left_alone_soon() {
    let mut world = World::new(options());
    world.receiver.set_limits(Limits {
        batch: 100,
        ..Limits::default()
    });
    world.start();
    world.settle(MINUTE).await;
    world.receiver.behave(|documents| {
        match documents
            .iter()
            .any(|document| document.account.starts_with("bad"))
        {
            true => Reaction::ok().after(MINUTE),
            false => Reaction::ok(),
        }
    });
    (0..3).for_each(|n| world.change(format!("bad {n}")));
    (0..97).for_each(|n| world.change(n));
    let took = until(MINUTE * 5, || world.receiver.inner().held.len() == 97).await;
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_takes_what_is_due() {
    let mut options = options();
    options.backfill_rate = rate(1000);
    let mut world = World::new(options);
    let interval = Duration::from_secs(1);
    world.receiver.set_limits(Limits {
        batch: 20_000,
        concurrency: Some(1),
        interval,
    });
    (0..3000).for_each(|n| world.change(n));
    world.start();
    until(MINUTE, || world.receiver.total() == 3000).await;
    assert_eq!(world.receiver.inner().calls, [1000; 3]);
    world.settle(MINUTE).await;
    (0..3000).for_each(|n| world.change(n));
    until(MINUTE, || world.receiver.total() == 6000).await;
    assert_eq!(world.receiver.inner().calls[3..].iter().max(), Some(&3000));
}

#[tokio::test(start_paused = true)]
async fn a_batch_may_fare_differently_by_account() {
    let mut world = World::new(options());
    world.receiver.set_limits(Limits {
        batch: 10,
        ..Limits::default()
    });
    world.receiver.behave(|documents| {
        let outcome = |document: &Document| match document.account.as_str() {
            "3" => Outcome::Rejected {
                reason: "bad".into(),
            },
            "4" => Outcome::Retry {
                reason: "busy".into(),
                after: None,
            },
            _ => Outcome::Delivered {
                answer: "ok".into(),
            },
        };
        let answer = Some(Answer::Each(documents.iter().map(outcome).collect()));
        Reaction {
            answer,
            ..Reaction::ok()
        }
    });
    for n in 0..10 {
        world.change(n);
    }
    world.start();
    until(MINUTE, || world.due() == 1 && world.status().parked == 1).await;
    assert!(parked(&world, "3"));
    assert_eq!(world.receiver.inner().held.len(), 8);
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
