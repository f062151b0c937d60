//! Down, slow, rejecting and misbehaving targets: one delays no other, one account delays no other.

use std::time::{Duration, Instant};

use profilesync::clock;
use serde_json::json;

use crate::{
    daemon::{Daemon, free_port, until},
    receiver::{Receiver, Reply, webhook},
    sender::{Sender, change},
};

/// Retries soon, so that tests are short.
const QUICK: &str = "timeout = \"1s\"\n\
     retry = { initial = \"50ms\", max = \"300ms\" }\n\
     breaker = { failures = 10, probe = \"200ms\", probe_max = \"400ms\" }";

/// Sends one change to each of these accounts.
async fn change_all(sender: &Sender, accounts: impl IntoIterator<Item = String>, name: &str) {
    let now = clock::now();
    for account in accounts {
        sender
            .send(&change(&account, now, &json!({ "Name": name })))
            .await;
    }
}

fn good() -> impl Iterator<Item = String> {
    (0..20).map(|number| format!("good {number}"))
}

/// Waits until every good account's name is held.
async fn good_hold(receiver: &Receiver, name: &str) {
    until("every other account is delivered", async || {
        good()
            .all(|account| receiver.name_of(&account).as_deref() == Some(name))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_account_is_parked_and_a_newer_revision_frees_it() {
    let receiver = Receiver::start(|delivery| match delivery.document()["name"].as_str() {
        Some("bad") => Reply::Status(422),
        _ => Reply::Status(200),
    })
    .await;
    let daemon = Daemon::start(&receiver.target("crm", QUICK)).await;
    let sender = daemon.sender();
    change_all(&sender, ["refused".to_owned()], "bad").await;
    change_all(&sender, good(), "fine").await;
    good_hold(&receiver, "fine").await;
    until("it is parked", async || {
        (daemon.target("crm").await["parked"] == 1).then_some(())
    })
    .await;
    assert_eq!(
        receiver.count("refused"),
        1,
        "a rejection is not tried again"
    );

    change_all(&sender, ["refused".to_owned()], "better").await;
    until("the newer revision is held", async || {
        (receiver.name_of("refused")? == "better").then_some(())
    })
    .await;
    until("none is parked", async || {
        (daemon.target("crm").await["parked"] == 0).then_some(())
    })
    .await;
    receiver.assert_orderly();
}

#[tokio::test(flavor = "multi_thread")]
async fn misbehaving_answers_delay_no_other_account() {
    let receiver = Receiver::start(|delivery| match delivery.account.as_str() {
        "hang" => Reply::Hang,
        "reset" => Reply::Reset,
        "trickle" => Reply::Trickle,
        "huge" => Reply::Huge(64 << 20),
        "failing" => Reply::Status(500),
        _ => Reply::Status(200),
    })
    .await;
    let daemon = Daemon::start(&receiver.target("crm", QUICK)).await;
    let sender = daemon.sender();
    change_all(
        &sender,
        ["hang", "reset", "trickle", "huge", "failing"].map(str::to_owned),
        "x",
    )
    .await;
    let start = Instant::now();
    change_all(&sender, good(), "fine").await;
    good_hold(&receiver, "fine").await;
    // Bad accounts may hold all four workers for one timeout, and the breaker may open once.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "it took {:?}",
        start.elapsed()
    );
    assert_eq!(receiver.name_of("huge").as_deref(), Some("x"));
    until("the failing one is tried again", async || {
        (receiver.count("failing") > 2).then_some(())
    })
    .await;
    receiver.assert_orderly();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_target_delays_no_other() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let silent = Receiver::start(|_| Reply::Hang).await;
    let dead = webhook("dead", &format!("http://127.0.0.1:{}/", free_port()), QUICK);
    let tables = receiver.target("crm", "") + &silent.target("silent", QUICK) + &dead;
    let daemon = Daemon::start(&tables).await;
    let sender = daemon.sender();
    for round in 0..20 {
        let name = format!("round {round}");
        let start = Instant::now();
        change_all(&sender, ["account".to_owned()], &name).await;
        until("the live target holds it", async || {
            (receiver.name_of("account")? == name).then_some(())
        })
        .await;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "round {round} took {:?}",
            start.elapsed()
        );
    }
    assert_eq!(daemon.target("dead").await["due"], 1);
    assert_eq!(
        daemon.target("dead").await["parked"],
        0,
        "a target's fault parks no account"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured_for_its_account_alone() {
    let receiver = Receiver::start(|delivery| match delivery.account.as_str() {
        "limited" if delivery.earlier == 0 => Reply::Header(429, "retry-after", "3"),
        _ => Reply::Status(200),
    })
    .await;
    let daemon = Daemon::start(&receiver.target("crm", QUICK)).await;
    let sender = daemon.sender();
    change_all(&sender, ["limited".to_owned()], "x").await;
    until("it was refused once", async || {
        (receiver.count("limited") == 1).then_some(())
    })
    .await;
    change_all(&sender, good(), "fine").await;
    good_hold(&receiver, "fine").await;
    assert_eq!(receiver.count("limited"), 1, "the others did not wait");
    until("it is held", async || receiver.name_of("limited")).await;
    let times: Vec<_> = receiver
        .deliveries()
        .into_iter()
        .filter(|delivery| delivery.account == "limited")
        .collect();
    let waited = times[1].at - times[0].at;
    assert!(
        (Duration::from_millis(2990)..Duration::from_secs(6)).contains(&waited),
        "waited {waited:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revived_target_gets_each_due_account_once() {
    let port = free_port();
    let daemon = Daemon::start(&webhook("crm", &format!("http://127.0.0.1:{port}/"), QUICK)).await;
    let sender = daemon.sender();
    for name in ["one", "two", "three"] {
        change_all(&sender, good(), name).await;
    }
    until("the breaker is open and all are due", async || {
        let status = daemon.target("crm").await;
        // An account that failed and has changed since is counted twice until the change is looked at.
        (status["state"] == "open" && status["due"].as_u64() >= Some(20)).then_some(())
    })
    .await;

    let receiver = Receiver::start_on(port, |_| Reply::Status(200)).await;
    good_hold(&receiver, "three").await;
    daemon.settled(&["crm"]).await;
    for delivery in receiver.deliveries() {
        assert_eq!(
            (delivery.earlier, delivery.revision),
            (0, 3),
            "{}",
            delivery.account
        );
    }
    assert_eq!(daemon.target("crm").await["state"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_keeps_failing_is_parked_and_an_operator_frees_it() {
    let receiver = Receiver::start(|delivery| match delivery.account.as_str() {
        "stuck" if delivery.earlier < 3 => Reply::Header(429, "retry-after", "1"),
        _ => Reply::Status(200),
    })
    .await;
    let hasty = "retry = { initial = \"50ms\", max = \"300ms\", give_up_after = \"1500ms\" }";
    let daemon = Daemon::start(&receiver.target("crm", hasty)).await;
    change_all(&daemon.sender(), ["stuck".to_owned()], "x").await;
    until("it is parked", async || {
        (daemon.target("crm").await["parked"] == 1).then_some(())
    })
    .await;
    assert_eq!(receiver.name_of("stuck"), None);
    let before = receiver.count("stuck");
    assert!((2..=3).contains(&before), "{before} attempts in 1.5 s");

    let (code, _, said) = daemon
        .command(&["targets", "retry", "crm", "--all-parked"])
        .await;
    assert_eq!(code, Some(0), "{said}");
    until("it is tried again", async || {
        (receiver.count("stuck") > before).then_some(())
    })
    .await;
}
