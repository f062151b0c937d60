//! Stop and start at each stage: nothing is lost, nothing is sent twice without need.

use std::time::Duration;

use profilesync::clock;
use serde_json::json;

use crate::{
    daemon::{Daemon, free_port, until},
    deliver::{export, exported},
    receiver::{Receiver, Reply, webhook},
    sender::{DESTROYED, Sender, change, event},
};

const QUICK: &str = "retry = { initial = \"50ms\", max = \"300ms\" }\nbreaker = { failures = 3, probe = \"200ms\" }";

async fn change_five(sender: &Sender, name: &str) {
    for number in 0..5 {
        let account = format!("account {number}");
        sender
            .send(&change(&account, clock::now(), &json!({ "Name": name })))
            .await;
    }
}

async fn five_hold(receiver: &Receiver, name: &str) {
    until("all five are held", async || {
        let held = receiver.held();
        (held.len() == 5 && held.values().all(|document| document["name"] == name)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_is_not_sent_again() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let mut daemon = Daemon::start(&receiver.target("crm", "")).await;
    change_five(&daemon.sender(), "one").await;
    five_hold(&receiver, "one").await;
    daemon.settled(&["crm"]).await;
    daemon.restart().await;
    change_five(&daemon.sender(), "two").await;
    five_hold(&receiver, "two").await;
    daemon.settled(&["crm"]).await;
    assert_eq!(receiver.deliveries().len(), 10);
    receiver.assert_orderly();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_delivered_after_a_restart() {
    let port = free_port();
    let mut daemon =
        Daemon::start(&webhook("crm", &format!("http://127.0.0.1:{port}/"), QUICK)).await;
    change_five(&daemon.sender(), "one").await;
    until("it has failed", async || {
        daemon.target("crm").await["last_error"]
            .as_str()
            .map(|_| ())
    })
    .await;
    daemon.restart().await;
    change_five(&daemon.sender(), "two").await;
    daemon.kill().await;
    daemon.spawn();
    daemon.ready().await;
    let receiver = Receiver::start_on(port, |_| Reply::Status(200)).await;
    five_hold(&receiver, "two").await;
    daemon.settled(&["crm"]).await;
    assert_eq!(receiver.deliveries().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_repeats_at_most_and_loses_nothing() {
    let receiver = Receiver::start(|_| Reply::Late(200, Duration::from_millis(300))).await;
    let mut daemon = Daemon::start(&receiver.target("crm", QUICK)).await;
    change_five(&daemon.sender(), "one").await;
    until("a delivery is on its way", async || {
        receiver.deliveries().pop()
    })
    .await;
    daemon.kill().await;
    daemon.spawn();
    daemon.ready().await;
    five_hold(&receiver, "one").await;
    daemon.settled(&["crm"]).await;
    let count = receiver.deliveries().len();
    assert!((5..=10).contains(&count), "{count} deliveries");
}

/// sled writes what it was given a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_was_told_outlives_a_kill() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let mut daemon = Daemon::start(&receiver.target("crm", "")).await;
    let ready = async |daemon: &Daemon| {
        until("the target has a state", async || {
            let target = daemon.target("crm").await;
            let state = target["state"].as_str()?.to_owned();
            (state != "waiting").then_some(state)
        })
        .await
    };
    assert_eq!(ready(&daemon).await, "ok");
    for (action, state) in [("pause", "paused"), ("resume", "ok"), ("pause", "paused")] {
        let (code, _, said) = daemon.command(&["targets", action, "crm"]).await;
        assert_eq!(code, Some(0), "{said}");
        daemon.kill().await;
        daemon.spawn();
        daemon.ready().await;
        assert_eq!(ready(&daemon).await, state, "after {action}");
    }
    // Neither does it need the index.
    daemon.kill().await;
    std::fs::remove_dir_all(daemon.state().join("index")).unwrap();
    daemon.spawn();
    daemon.ready().await;
    assert_eq!(ready(&daemon).await, "paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_added_by_reload_is_backfilled() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&receiver.target("crm", "")).await;
    change_five(&daemon.sender(), "one").await;
    five_hold(&receiver, "one").await;
    daemon.settled(&["crm"]).await;

    daemon.reconfigure(&(receiver.target("crm", "") + &export(folder.path())));
    daemon.signal(rustix::process::Signal::HUP);
    until("the new target holds all", async || {
        (exported(folder.path()).len() == 5).then_some(())
    })
    .await;
    assert_eq!(
        receiver.deliveries().len(),
        5,
        "the other target heard nothing"
    );
}

/// In shadow the daemon takes note of what it would have sent, and the target knows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_happened_in_shadow_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let live = export(folder.path());
    let daemon = Daemon::start(&live).await;
    let sender = daemon.sender();
    change_five(&sender, "one").await;
    until("all are there", async || {
        (exported(folder.path()).len() == 5).then_some(())
    })
    .await;
    let reload = async |tables: &str| {
        daemon.reconfigure(tables);
        let (code, _, said) = daemon.command(&["reload"]).await;
        assert_eq!(code, Some(0), "{said}");
        daemon.settled(&["export"]).await;
    };
    reload(&format!("{live}mode = \"shadow\"\n")).await;
    let gone = event(DESTROYED, "account 3", clock::now(), &json!({}));
    sender.send(&gone).await;
    daemon.settled(&["export"]).await;
    assert_eq!(exported(folder.path()).len(), 5);
    reload(&live).await;
    until("the destroyed one is gone", async || {
        (exported(folder.path()).len() == 4).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_leaves_the_running_configuration() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let daemon = Daemon::start(&receiver.target("crm", "")).await;
    daemon.reconfigure("[targets.crm]\ntype = \"webhok\"\n");
    daemon.signal(rustix::process::Signal::HUP);
    until("the log says so", async || {
        daemon.log().contains("not reloaded").then_some(())
    })
    .await;
    change_five(&daemon.sender(), "one").await;
    five_hold(&receiver, "one").await;
}
