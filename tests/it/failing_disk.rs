//! Syncs of the journal that fail: nothing is acknowledged by them, and it goes on when they succeed again.

use std::{collections::BTreeSet, fs};

use profilesync::clock;
use serde_json::json;
use tokio::process::Command;

use crate::{
    daemon::{BINARY, Daemon, until},
    disk::library,
    sender::{OK, Reply, change},
};

/// Accounts of `acknowledged` that the store does not have.
async fn missing(daemon: &Daemon, acknowledged: &BTreeSet<String>) -> Vec<String> {
    daemon.settled(&[]).await;
    let (_, accounts) = daemon.get("/v1/accounts?limit=1000").await.unwrap();
    let accounts = accounts["accounts"].as_array().unwrap().iter();
    let stored: BTreeSet<_> = accounts
        .map(|one| one["account"].as_str().unwrap().to_owned())
        .collect();
    acknowledged.difference(&stored).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(folder.path()) else {
        eprintln!("skipped: there is no C compiler `cc` to build tests/it/disk.c with");
        return;
    };
    let failing = folder.path().join("failing");
    let mut daemon = Daemon::prepare("");
    let start = |daemon: &mut Daemon| {
        let mut command = Command::new(BINARY);
        command
            .args(["run", "-c"])
            .arg(daemon.config())
            .env("LD_PRELOAD", &library);
        command
            .env("DISK_FAIL", &failing)
            .env("DISK_ROOT", daemon.state());
        daemon.spawn_by(command);
    };
    start(&mut daemon);
    daemon.ready().await;
    let sender = daemon.sender();
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let time = clock::now();
        for event in 0..20 {
            let account = format!("{round} {event}");
            sender
                .send(&change(&account, time, &json!({ "Name": "n" })))
                .await;
            acknowledged.insert(account);
        }
        fs::write(&failing, "").unwrap();
        let refused = Reply {
            http: 503,
            code: 120_006,
        };
        for event in 0..5 {
            let body = change(
                &format!("lost {round} {event}"),
                time,
                &json!({ "Name": "n" }),
            );
            assert_eq!(sender.try_send(&body).await, Some(refused.clone()));
        }
        assert!(
            !daemon.is_ready().await,
            "nothing can be acknowledged, and /readyz is green"
        );
        fs::remove_file(&failing).unwrap();
        until("events are taken again", async || {
            daemon.is_ready().await.then_some(())
        })
        .await;
        assert_eq!(
            sender
                .try_send(&change("back", time, &json!({ "Name": "n" })))
                .await,
            Some(OK)
        );
    }
    for _ in 0..2 {
        assert_eq!(missing(&daemon, &acknowledged).await, [""; 0], "lost");
        daemon.kill().await;
        start(&mut daemon);
        daemon.ready().await;
    }
}
