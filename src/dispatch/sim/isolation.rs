//! What fails delays nobody but itself.

use std::time::Duration;

use profilesync_target::Limits;
use tokio::time::sleep;

use super::{MINUTE, World, caught_up, id, millis, options, parked, receiver::Reaction, until};
use crate::store::records::Next;

#[tokio::test(start_paused = true)]
async fn an_account_is_due_once_however_often_it_changes_at_a_dead_target() {
    for batch in [1, 50] {
        let mut world = World::new(options());
        world.receiver.set_limits(Limits {
            batch,
            ..Limits::default()
        });
        world.receiver.behave(|_| Reaction::fault());
        world.start();
        world.settle(MINUTE).await;
        for _ in 0..2 {
            for n in 0..1000 {
                world.change(n);
            }
            sleep(MINUTE).await;
            let status = world.status();
            assert_eq!((status.state.as_str(), status.due), ("open", 1000));
        }
    }
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
async fn a_crowd_of_new_accounts_that_fail_does_not_shut_out_those_that_worked() {
    let mut world = caught_up(20).await;
    world
        .receiver
        .behave(|documents| match documents[0].account.starts_with("bad") {
            true => Reaction::fault(),
            false => Reaction::ok(),
        });
    for n in 0..100 {
        world.change(format!("bad {n}"));
    }
    until(MINUTE, || world.status().state == "open").await;
    world.change("7");
    until(MINUTE, || world.receiver.holds("7") == Some(2)).await;
    for revision in 3..20 {
        world.change("7");
        until(MINUTE, || world.receiver.holds("7") == Some(revision)).await;
    }
    world.receiver.check();
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
