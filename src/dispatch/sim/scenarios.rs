//! One promise at a time.

use std::time::Duration;

use profilesync_target::{Answer, Document, Limits, Outcome, Status};
use tokio::time::{Instant, sleep};

use super::{World, id, ledger::Flaky, options, receiver::Reaction, until};
use crate::{
    config::{Guard, Mode, Rate},
    dispatch::{ActError, Action, ledger::Ledger as _},
    event::Kind,
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
async fn bad_accounts_delay_nobody_else() {
    let mut world = caught_up(0).await;
    world
        .receiver
        .behave(|documents| match documents[0].account.as_str() {
            "hangs" => Reaction::hang(),
            "rejected" => Reaction::rejected(),
            "busy" => Reaction::retry(),
            "panics" => Reaction::panic(),
            "faulty" => Reaction::fault(),
            _ => Reaction::ok().after(millis(20)),
        });
    let bad = ["hangs", "rejected", "busy", "panics", "faulty"];
    bad.iter().for_each(|account| world.change(account));
    for n in 1..150 {
        world.change("good");
        let took = until(MINUTE, || world.receiver.holds("good") == Some(n)).await;
        assert!(took <= millis(25), "change {n} took {took:?}");
        sleep(Duration::from_secs(fastrand::u64(1..100))).await;
    }
    assert!(parked(&world, "rejected"));
    assert!(!parked(&world, "hangs") && !parked(&world, "faulty") && !parked(&world, "busy"));
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn hanging_accounts_leave_room_for_others() {
    let mut world = caught_up(0).await;
    world
        .receiver
        .behave(|documents| match documents[0].account.as_str() {
            "good" => Reaction::ok(),
            _ => Reaction::hang(),
        });
    for n in 1..=20 {
        world.change(n);
        sleep(Duration::from_secs(15)).await;
        world.change("good");
        until(millis(2), || world.receiver.holds("good") == Some(n)).await;
    }
    for n in 21..60 {
        sleep(Duration::from_secs(fastrand::u64(1..30))).await;
        world.change("good");
        until(millis(2), || world.receiver.holds("good") == Some(n)).await;
    }
    world.receiver.check();
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
async fn an_account_that_fails_alone_does_not_shut_out_others() {
    let mut world = caught_up(2).await;
    world
        .receiver
        .behave(|documents| match documents[0].account.as_str() {
            "0" => Reaction::fault(),
            _ => Reaction::ok(),
        });
    world.change("0");
    until(Duration::from_hours(1), || world.status().state == "open").await;
    world.change("1");
    until(millis(2), || world.receiver.holds("1") == Some(2)).await;
    until(millis(2), || world.status().state == "failing").await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_or_panics_is_the_targets_fault() {
    let mut world = caught_up(0).await;
    for (reaction, reason) in [
        (Reaction::hang(), "no answer within 10s"),
        (
            Reaction::panic(),
            "the target panicked; its message is in the log",
        ),
    ] {
        world.receiver.behave(move |_| reaction.clone());
        world.change(reason);
        until(MINUTE, || world.delivery(&id(reason)).trouble.is_some()).await;
        let trouble = world.delivery(&id(reason)).trouble.unwrap();
        assert_eq!(trouble.reason, reason);
        assert!(matches!(trouble.next, Next::Retry { fault: true, .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_account_is_parked_once_others_are_not() {
    let mut world = caught_up(20).await;
    world
        .receiver
        .behave(|documents| match documents[0].account.as_str() {
            "0" => Reaction::denied(),
            _ => Reaction::ok(),
        });
    world.change("0");
    sleep(Duration::from_mins(20)).await;
    assert!(
        !parked(&world, "0"),
        "no other account says that the target is well"
    );
    world.change("1");
    until(Duration::from_mins(6), || parked(&world, "0")).await;

    world.receiver.behave(|_| Reaction::denied());
    for n in 1..20 {
        world.change(n);
    }
    sleep(Duration::from_hours(2)).await;
    assert_eq!(world.status().parked, 1);
    assert_eq!(world.status().state, "open");
    world.receiver.behave(|_| Reaction::ok());
    world.settle(Duration::from_mins(6)).await;
    assert_eq!(world.status().parked, 1);
    assert_eq!(world.status().last_error.as_deref(), Some("404"));
    world.receiver.check();
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
    world.receiver.check();
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
        "crm gets 10 accounts anew"
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
async fn a_parked_account_is_tried_when_it_changes() {
    let mut world = caught_up(0).await;
    world
        .receiver
        .behave(|documents| match documents[0].revision {
            1 => Reaction::rejected(),
            _ => Reaction::ok(),
        });
    world.change("a");
    until(MINUTE, || parked(&world, "a")).await;
    sleep(Duration::from_hours(1)).await;
    assert_eq!(world.receiver.count("a"), 1);
    world.change("a");
    until(millis(5), || world.receiver.holds("a") == Some(2)).await;
    world.settle(MINUTE).await;
    assert_eq!(world.status().parked, 0);
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
    world.receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_reload_waits_for_the_calls_under_way() {
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
    world.options.enabled = false;
    world.dispatchers().reload(world.targets());
    world.change("0");
    sleep(MINUTE).await;
    assert_eq!(world.receiver.holds("0"), Some(2));
    assert_eq!(
        (world.status().state.as_str(), world.due()),
        ("disabled", 1)
    );
    world.options.enabled = true;
    world.dispatchers().reload(world.targets());
    world.settle(MINUTE).await;
    assert_eq!(world.receiver.holds("0"), Some(3));
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
