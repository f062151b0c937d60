//! Webhook in, every target holds the latest profile.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use profilesync::clock;
use serde_json::{Value, json};

use crate::{
    daemon::{APP, Daemon, until},
    model,
    receiver::{Receiver, Reply},
    sender::{CREATED, DESTROYED, change, event},
};

/// A `[targets.export]` that writes one JSON file per account into `path`.
pub(crate) fn export(path: &Path) -> String {
    format!("[targets.export]\ntype = \"file\"\nformat = \"json\"\npath = {path:?}\n")
}

/// The documents in an export folder, by account.
pub(crate) fn exported(path: &Path) -> BTreeMap<String, Value> {
    let files = fs::read_dir(path.join(APP.to_string()))
        .into_iter()
        .flatten();
    let documents = files
        .map(|entry| entry.unwrap().path())
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
        })
        // A file may go between the two looks.
        .filter_map(|file| fs::read(file).ok())
        .map(|text| serde_json::from_slice::<Value>(&text).unwrap());
    documents
        .map(|document| (document["account"].as_str().unwrap().to_owned(), document))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_webhook_and_file() {
    let receiver = Receiver::start(|_| Reply::Status(204)).await;
    let folder = tempfile::tempdir().unwrap();
    let tables = receiver.target("crm", "") + &export(folder.path());
    let daemon = Daemon::start(&tables).await;
    let now = clock::now();
    let first = json!({ "Name": "Old", "FaceUrl": "http://face", "Operator_Account": "leckie", "Level": 3 });
    daemon
        .sender()
        .send(&change("@TOA#_one", now, &first))
        .await;
    daemon
        .sender()
        .send(&change(
            "@TOA#_one",
            now + 1,
            &json!({ "Name": "New", "FaceUrl": "" }),
        ))
        .await;

    let document = until("both targets hold the second revision", async || {
        let held = receiver.held().remove("@TOA#_one")?;
        let file = exported(folder.path()).remove("@TOA#_one")?;
        (held["revision"] == 2 && file == held).then_some(held)
    })
    .await;
    let expected = json!({
        "sdk_app_id": 1_400_000_000_u64, "account": "@TOA#_one", "revision": 2, "status": "active",
        "name": "New", "introduction": null, "face_url": "", "organization": null,
        "owner": null, "operator": "leckie", "event_time": now + 1, "extra": { "Level": 3 },
    });
    assert_eq!(document, expected);
    let last = receiver.deliveries().pop().unwrap();
    assert_eq!(last.body["type"], "profile.updated");
    assert_eq!(last.headers["profilesync-target"], "crm");
    receiver.assert_orderly();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_account_is_told_and_its_file_goes() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&(receiver.target("crm", "") + &export(folder.path()))).await;
    let now = clock::now();
    daemon
        .sender()
        .send(&event(
            CREATED,
            "gone",
            now,
            &json!({ "Name": "A", "Owner_Account": "o" }),
        ))
        .await;
    until("the file is there", async || {
        exported(folder.path()).remove("gone")
    })
    .await;
    daemon
        .sender()
        .send(&event(DESTROYED, "gone", now + 1, &json!({ "Name": "A" })))
        .await;
    until("the file is gone", async || {
        exported(folder.path()).is_empty().then_some(())
    })
    .await;
    until("the webhook knows", async || {
        let last = receiver.deliveries().pop()?;
        (last.body["type"] == "profile.destroyed" && last.document()["status"] == "destroyed")
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_a_handful_of_deliveries() {
    let receiver = Receiver::start(|_| Reply::Late(200, Duration::from_millis(100))).await;
    let daemon = Daemon::start(&receiver.target("crm", "")).await;
    let now = clock::now();
    let sender = daemon.sender();
    for step in 0..300 {
        sender
            .send(&change(
                "busy",
                now + step,
                &json!({ "Name": format!("name {step}") }),
            ))
            .await;
    }
    until("the last name is held", async || {
        (receiver.name_of("busy")? == "name 299").then_some(())
    })
    .await;
    daemon.settled(&["crm"]).await;
    let first = receiver.deliveries()[0].at;
    let most = 3 + first.elapsed().as_millis() / 100;
    let count = receiver.count("busy");
    assert!(
        count as u128 <= most.min(60),
        "{count} deliveries of 300 events"
    );
    receiver.assert_orderly();
}

/// Random events about a few accounts: few distinct times, so that ties happen.
pub(crate) fn random_events(count: usize, accounts: usize, seed: u64) -> Vec<Value> {
    let mut random = fastrand::Rng::with_seed(seed);
    let base = clock::now() - 3_600_000;
    let mut events = Vec::with_capacity(count);
    for _ in 0..count {
        let account = format!("account {}", random.usize(..accounts));
        let time = base + random.u64(..60);
        let mut members = serde_json::Map::new();
        for name in [
            "Name",
            "Introduction",
            "FaceUrl",
            "Organization",
            "Owner_Account",
            "Operator_Account",
            "Level",
        ] {
            let value = match random.u32(..10) {
                0..5 => continue,
                5 => Value::Null,
                6 => json!(""),
                _ => json!(format!("value {}", random.u32(..50))),
            };
            members.insert(name.to_owned(), value);
        }
        let members = Value::Object(members);
        events.push(match random.u32(..12) {
            0 => event(DESTROYED, &account, time, &members),
            1 => event(CREATED, &account, time, &members),
            _ => change(&account, time, &members),
        });
    }
    events
}

/// Sends every event, some of them twice, in random order over 8 connections.
async fn send_shuffled(daemon: &Daemon, events: &[Value], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all: Vec<_> = events.to_vec();
    all.extend(
        random
            .choose_multiple(events, events.len() / 5)
            .into_iter()
            .cloned(),
    );
    random.shuffle(&mut all);
    let mut senders = tokio::task::JoinSet::new();
    for chunk in all.chunks(all.len().div_ceil(8)) {
        let (sender, chunk) = (daemon.sender(), chunk.to_vec());
        senders.spawn(async move {
            for event in &chunk {
                sender.send(event).await;
            }
        });
    }
    senders.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_events_end_as_the_model_says_at_failing_targets() {
    let moody = |share: f32| {
        move |_: &_| match fastrand::f32() {
            luck if luck > share => Reply::Late(200, Duration::from_millis(fastrand::u64(..20))),
            luck if luck > share / 2.0 => Reply::Status(503),
            _ => Reply::Reset,
        }
    };
    let (first, second) = (
        Receiver::start(moody(0.1)).await,
        Receiver::start(moody(0.4)).await,
    );
    let folder = tempfile::tempdir().unwrap();
    let quick = "retry = { initial = \"20ms\", max = \"200ms\" }\nbreaker = { failures = 10, probe = \"100ms\" }";
    let tables =
        first.target("first", quick) + &second.target("second", quick) + &export(folder.path());
    let daemon = Daemon::start(&tables).await;

    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let events = random_events(1250, 40, seed);
    send_shuffled(&daemon, &events, seed).await;

    let mut expected = model::documents(&events);
    first.reaches(&expected).await;
    second.reaches(&expected).await;
    expected.retain(|_, document| document["status"] == "active");
    daemon.settled(&["export"]).await;
    assert_eq!(model::comparable(&exported(folder.path())), expected);
}
