//! The scenario every kind goes through: a backfill, a restart of the server in the middle, changes while it is down.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use profilesync::clock;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    daemon::{APP, Daemon, until},
    sender::{CHANGED, CREATED, DESTROYED, event},
};

/// Accounts that are fed, unless a server is too slow or `PROFILESYNC_ACCOUNTS` says otherwise.
const ACCOUNTS: usize = 2_000;
/// Connections they come over.
const CONNECTIONS: usize = 32;
/// Accounts that change while the server is down.
const CHANGED_MEANWHILE: usize = 500;

/// Slow enough that the middle of the backfill of so many accounts is met, and quick to come back after a restart.
fn pace(accounts: usize) -> String {
    let rate = accounts * 2 / 5;
    format!(
        "backfill = {{ rate = \"{rate}/s\" }}\nretry = {{ initial = \"100ms\", max = \"500ms\" }}\n\
         breaker = {{ failures = 3, probe = \"200ms\", probe_max = \"500ms\" }}\ntimeout = \"5s\"\n"
    )
}

/// What is held of each account that exists: revision and name.
pub(crate) type Held = BTreeMap<(u64, String), (u64, Option<String>)>;

/// A server under test, and how it is stopped, started and read.
pub(crate) trait Outside {
    /// The lines of `[targets.out]` that are the kind's own, the type included.
    fn target(&self) -> String;

    /// The most accounts that it takes within a minute.
    fn most_accounts(&self) -> usize {
        usize::MAX
    }

    /// Stops it the hard way; what it has acknowledged it must still hold when it is back.
    async fn stop(&mut self);

    /// Starts it again, on the same port and with the same data. It takes deliveries when this returns.
    async fn start(&mut self);

    /// All it holds, read without the target. Accounts that were destroyed are not held.
    async fn held(&mut self) -> Held;
}

/// Runs the scenario.
pub(crate) async fn survives_a_restart(mut outside: impl Outside) {
    let asked =
        std::env::var("PROFILESYNC_ACCOUNTS").map_or(ACCOUNTS, |count| count.parse().unwrap());
    let accounts = asked.min(outside.most_accounts());
    let mut daemon = Daemon::start("").await;
    feed(&daemon, events(accounts)).await;
    daemon.settled(&[]).await;
    let pace = pace(accounts);
    daemon.reconfigure(&format!("[targets.out]\n{}{pace}", outside.target()));
    let start = Instant::now();
    let (code, _, errors) = daemon.command(&["reload"]).await;
    assert_eq!(code, Some(0), "the target is not taken: {errors}");

    let delivered = middle(&daemon, accounts as u64).await;
    let rate = delivered as f64 / start.elapsed().as_secs_f64();
    outside.stop().await;
    until("the target notices that its server is gone", async || {
        daemon.target("out").await["last_error"]
            .as_str()
            .map(|_| ())
    })
    .await;
    feed(&daemon, changes(accounts, CHANGED_MEANWHILE)).await;
    outside.start().await;
    drained(&daemon).await;
    let status = daemon.target("out").await;
    eprintln!(
        "{accounts} accounts, about {rate:.0}/s; stopped when {delivered} were delivered; in the end: {status}"
    );
    assert_eq!(status["parked"], 0, "accounts were given up on: {status}");
    assert!(
        status["backfill"].is_null(),
        "the backfill is not done: {status}"
    );

    let ended = daemon.stop().await;
    assert!(ended.success(), "the daemon ends with {ended}");
    let stored = stored(&daemon).await;
    assert!(stored.len() > accounts / 2, "{} are stored", stored.len());
    same(&stored, &outside.held().await);
}

/// Waits until a part of the backfill, and not all of it, is delivered.
async fn middle(daemon: &Daemon, accounts: u64) -> u64 {
    let range = accounts / 10..accounts * 9 / 10;
    let delivered = until("a tenth is delivered", async || {
        let delivered = daemon.target("out").await["delivered"].as_u64()?;
        (delivered >= range.start).then_some(delivered)
    })
    .await;
    assert!(
        range.contains(&delivered),
        "the middle was missed: {delivered} are delivered"
    );
    delivered
}

/// Waits until nothing is due. A slow server may take its time as long as the deliveries go on.
async fn drained(daemon: &Daemon) {
    let mut delivered = 0;
    loop {
        let progress = until("more is delivered, or all is", async || {
            let status = daemon.target("out").await;
            let now = status["delivered"].as_u64()?;
            let done = status["due"] == 0 && status["inflight"] == 0;
            (done || now > delivered).then_some((done, now))
        })
        .await;
        match progress {
            (true, _) => return daemon.settled(&["out"]).await,
            (false, now) => delivered = now,
        }
    }
}

/// Ids that are data everywhere, and plain ones.
fn account(number: usize) -> String {
    const HOSTILE: [&str; 12] = [
        "*)(uid=*))(|(uid=*",
        "'; DROP TABLE accounts;--",
        "../../etc/x",
        "=cmd|' /C calc'!A0",
        "Case",
        "case",
        "caf\u{e9}",
        "cafe\u{301}",
        " leading and trailing ",
        "a/b\\c%2F#?&+",
        "\u{1F980}.*>",
        "{{ account }}$(reboot)`reboot`",
    ];
    match HOSTILE.get(number) {
        Some(name) => (*name).to_owned(),
        None => format!("@TOA#_{number}"),
    }
}

/// The events of so many accounts: several of some, and some are destroyed, or destroyed and created again.
fn events(accounts: usize) -> Vec<Value> {
    let mut events = Vec::new();
    let now = clock::now();
    for number in 0..accounts {
        let id = account(number);
        let mut add = |command: &str, members: Value| {
            let time = now + events.len() as u64;
            events.push(event(command, &id, time, &members));
        };
        let members = json!({ "Name": format!("Name of '{number}' \u{1F980}"), "Introduction": "two\nlines", "Level": number });
        add(CREATED, members);
        for round in 0..number % 4 {
            add(
                CHANGED,
                json!({ "Name": format!("{number}, changed {round}") }),
            );
        }
        if number % 10 == 9 {
            add(DESTROYED, json!({}));
        }
        if number % 20 == 19 {
            add(CREATED, json!({ "Name": "revived" }));
        }
    }
    events
}

/// What happens to some of all accounts later.
fn changes(accounts: usize, count: usize) -> Vec<Value> {
    let now = clock::now() + accounts as u64 * 10;
    let change = |number: usize| {
        let id = account(number * (accounts / count));
        let (command, members) = match number % 3 {
            0 => (DESTROYED, json!({})),
            _ => (
                CHANGED,
                json!({ "Name": format!("{number}, while it was down") }),
            ),
        };
        event(command, &id, now, &members)
    };
    (0..count).map(change).collect()
}

/// Sends events; those of one account over one connection, in their order.
async fn feed(daemon: &Daemon, events: Vec<Value>) {
    let mut shares: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    let mut accounts = BTreeMap::new();
    for event in events {
        let next = accounts.len() % CONNECTIONS;
        let id = event["Official_Account"].as_str().unwrap().to_owned();
        let share = *accounts.entry(id).or_insert(next);
        shares.entry(share).or_default().push(event);
    }
    let mut tasks = JoinSet::new();
    for events in shares.into_values() {
        let sender = Arc::new(daemon.sender());
        tasks.spawn(async move {
            for event in events {
                sender.send(&event).await;
            }
        });
    }
    tasks.join_all().await;
}

/// What the store of a stopped daemon holds.
async fn stored(daemon: &Daemon) -> Held {
    let (code, lines, errors) = daemon.command(&["store", "dump"]).await;
    assert_eq!(code, Some(0), "the store is not read: {errors}");
    let mut stored = Held::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let document = &line["account"];
        if document["status"] == "active" {
            let id = document["account"].as_str().unwrap().to_owned();
            let name = document["name"].as_str().map(str::to_owned);
            stored.insert((APP, id), (document["revision"].as_u64().unwrap(), name));
        }
    }
    stored
}

/// Fails with the first differences.
fn same(stored: &Held, held: &Held) {
    let ids = stored.keys().chain(held.keys());
    let mut differences: Vec<_> = ids
        .filter(|id| stored.get(id) != held.get(id))
        .map(|id| {
            format!(
                "{id:?}: stored {:?}, held {:?}",
                stored.get(id),
                held.get(id)
            )
        })
        .collect();
    differences.dedup();
    let count = differences.len();
    differences.truncate(10);
    assert_eq!(
        count,
        0,
        "the outside differs from the store:\n{}",
        differences.join("\n")
    );
}
