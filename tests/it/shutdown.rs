//! SIGTERM with work in flight, within and beyond the grace period.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use profilesync::clock;
use rustix::process::Signal;
use serde_json::json;

use crate::{
    daemon::{Daemon, until},
    receiver::{Receiver, Reply},
    sender::{OK, change},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_in_flight_is_let_finish() {
    let receiver = Receiver::start(|_| Reply::Late(200, Duration::from_secs(1))).await;
    let mut daemon = Daemon::start(&receiver.target("crm", "")).await;
    daemon
        .sender()
        .send(&change("a", clock::now(), &json!({ "Name": "x" })))
        .await;
    until("it is on its way", async || receiver.deliveries().pop()).await;
    daemon.restart().await;
    assert_eq!(receiver.name_of("a").as_deref(), Some("x"));
    daemon.settled(&["crm"]).await;
    assert_eq!(receiver.count("a"), 1, "what was finished is not repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_does_not_finish_is_named_and_made_again() {
    let patient = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&patient);
    let receiver = Receiver::start(move |_| match script.load(Ordering::Relaxed) {
        true => Reply::Status(200),
        false => Reply::Hang,
    })
    .await;
    let mut daemon = Daemon::start(&receiver.target("crm", "timeout = \"60s\"")).await;
    daemon
        .sender()
        .send(&change("a", clock::now(), &json!({ "Name": "x" })))
        .await;
    until("it is on its way", async || receiver.deliveries().pop()).await;
    let start = Instant::now();
    let status = daemon.stop().await;
    let took = start.elapsed();
    assert!(status.success(), "{status}");
    // The harness configures a grace of 5 s.
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(15)).contains(&took),
        "it took {took:?}"
    );
    assert!(daemon.log().contains("crm"), "the log names the target");

    patient.store(true, Ordering::Relaxed);
    daemon.spawn();
    daemon.ready().await;
    until("it is delivered", async || receiver.name_of("a")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_hangs_is_not_waited_for() {
    let mut daemon = Daemon::start("").await;
    let script = daemon.config().with_file_name("secret.sh");
    let began = daemon.config().with_file_name("began");
    let text = format!("#!/bin/sh\n: > {began:?}\nexec sleep 30\n");
    fs::write(&script, text).unwrap();
    daemon.reconfigure(&format!(
        "[apps.other]\nsdk_app_id = 1400000001\ntoken = {{ command = [\"sh\", {script:?}] }}\n"
    ));
    daemon.signal(Signal::HUP);
    until("it waits for the secret", async || {
        began.exists().then_some(())
    })
    .await;
    let start = Instant::now();
    assert!(daemon.stop().await.success());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_hand_are_answered_and_what_was_answered_stays() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let mut daemon = Daemon::start(&receiver.target("crm", "")).await;
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..8 {
        let sender = daemon.sender();
        senders.spawn(async move {
            let account = format!("account {number}");
            let mut last = None;
            for step in 0_u64.. {
                let name = format!("name {step}");
                let event = change(
                    &account,
                    clock::now() - 1_000_000 + step,
                    &json!({ "Name": name }),
                );
                match sender.try_send(&event).await {
                    Some(OK) => last = Some(name),
                    Some(other) => assert_eq!((other.http, other.code), (503, 120_006)),
                    None => break,
                }
            }
            (account, last)
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.signal(Signal::TERM);
    let status = daemon.ended().await;
    assert!(status.success(), "{status}");
    let acknowledged = senders.join_all().await;

    daemon.spawn();
    daemon.ready().await;
    for (account, name) in acknowledged {
        let name = name.expect("some events were acknowledged");
        until(
            "the last acknowledged name is held, or one the answer to which was lost",
            async || {
                let held = receiver.name_of(&account)?;
                (step(&held) >= step(&name)).then_some(())
            },
        )
        .await;
    }
    receiver.assert_orderly();
}

fn step(name: &str) -> u64 {
    name.strip_prefix("name ").unwrap().parse().unwrap()
}
