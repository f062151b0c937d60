//! kill -9 at random moments: every event that was acknowledged survives, and targets reach the model's state.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use profilesync::clock;
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    model,
    receiver::{Receiver, Reply},
    sender::{DESTROYED, OK, Sender, change, event},
};

/// The sender's next event. Every change sets a member of its own, so that the loss of any one event shows in the
/// end; the four senders move on to another account before one has more members than the merge keeps.
fn next_event(round: u32, sender: u32, count: usize) -> Value {
    let account = format!("round {round} account {}", count / 10);
    let time = clock::now() - 1000 + fastrand::u64(..60);
    let name = format!("e{sender}_{count}");
    match fastrand::u32(..100) {
        0 => event(DESTROYED, &account, time, &json!({})),
        _ => change(&account, time, &json!({ "Name": name, &name: true })),
    }
}

/// Sends events until `stop`, each until it is acknowledged; gives them all.
async fn send_until(stop: Arc<AtomicBool>, sender: Sender, round: u32, number: u32) -> Vec<Value> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let event = next_event(round, number, acknowledged.len());
        while sender.try_send(&event).await != Some(OK) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        acknowledged.push(event);
    }
    acknowledged
}

/// Lets senders send, kills the daemon in the midst of it, starts it again.
async fn round(daemon: &mut Daemon, round: u32) -> Vec<Value> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..4 {
        senders.spawn(send_until(
            Arc::clone(&stop),
            daemon.sender(),
            round,
            number,
        ));
    }
    tokio::time::sleep(Duration::from_millis(fastrand::u64(20..400))).await;
    daemon.kill().await;
    if fastrand::bool() {
        // In the midst of starting, too.
        daemon.spawn();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..150))).await;
        daemon.kill().await;
    }
    stop.store(true, Ordering::Relaxed);
    daemon.spawn();
    daemon.ready().await;
    senders.join_all().await.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_event_is_lost_by_kills() {
    let kills = std::env::var("PROFILESYNC_KILLS").map_or(10, |count| count.parse().unwrap());
    let receiver =
        Receiver::start(|_| Reply::Late(200, Duration::from_millis(fastrand::u64(..10)))).await;
    let mut daemon = Daemon::start(&receiver.target("crm", "")).await;
    let mut acknowledged = Vec::new();
    for number in 0..kills {
        acknowledged.extend(round(&mut daemon, number).await);
    }
    receiver.reaches(&model::documents(&acknowledged)).await;
    eprintln!(
        "{} events acknowledged over {kills} kills",
        acknowledged.len()
    );
}
