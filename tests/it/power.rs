//! Power cuts: at any moment the disk holds what was synced, and any part of the rest. No acknowledged event is ever
//! missing from it. `PROFILESYNC_POWER_CUTS=3000` for more than the 300 of a usual run.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use profilesync::{clock, store::offline};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    daemon::{BINARY, Daemon},
    disk::{Disk, Rest, library, read_trace},
    sender::{OK, change},
};

/// Daemons whose traces are cut, and how often each is killed and started again.
const RUNS: usize = 3;
const STARTS: usize = 3;
/// The daemon itself is started after one in so many cuts; after the others the store is rebuilt without it.
const BOOTED: usize = 5;
/// Events a start takes.
const EVENTS: usize = 400;

/// The length of the trace when an event was acknowledged, and the event's name.
type Acknowledged = Arc<Mutex<Vec<(u64, String)>>>;

async fn send(daemon: &Daemon, trace: &Path, start: usize, acknowledged: &Acknowledged) {
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (sender, trace, acknowledged) =
            (daemon.sender(), trace.to_owned(), Arc::clone(acknowledged));
        senders.spawn(async move {
            for event in 0..EVENTS / 8 {
                let name = format!("{start} {number} {event}");
                let account = format!("account {}", fastrand::u8(..20));
                let body = change(
                    &account,
                    clock::now() + event as u64,
                    &json!({ "Name": name }),
                );
                if sender.try_send(&body).await == Some(OK) {
                    let length = fs::metadata(&trace).unwrap().len();
                    acknowledged.lock().unwrap().push((length, name));
                }
            }
        });
    }
    senders.join_all().await;
}

/// Does something with a folder that nobody uses. Another test may start a process in the very moment in which this
/// one has a lock; the child then holds it too, until it becomes what it is to be.
fn unheld<T>(mut action: impl FnMut() -> Result<T, offline::OfflineError>) -> T {
    let start = Instant::now();
    loop {
        match action() {
            Err(_) if start.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result.unwrap(),
        }
    }
}

/// The names of all events that `store rebuild` finds after a cut.
fn rebuilt(state: &Path) -> BTreeSet<String> {
    if !state.join("journal").is_dir() {
        return BTreeSet::new();
    }
    unheld(|| offline::rebuild(state));
    kept(state)
}

/// The names of all events that the daemon has, once it runs on what a cut left.
async fn booted(cut: impl FnOnce(&Path)) -> BTreeSet<String> {
    let mut daemon = Daemon::prepare("");
    cut(&daemon.state());
    // The kernel is another one after a power cut.
    if daemon.state().join("boot").exists() {
        fs::write(daemon.state().join("boot"), "before-the-cut running\n").unwrap();
    }
    daemon.spawn();
    daemon.ready().await;
    daemon.settled(&[]).await;
    daemon.stop().await;
    kept(&daemon.state())
}

/// The names of all events in the store.
fn kept(state: &Path) -> BTreeSet<String> {
    let mut lines = Vec::new();
    unheld(|| {
        lines.clear();
        offline::dump(state, &mut lines)
    });
    let lines = String::from_utf8(lines).unwrap();
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let bodies = events.filter_map(|line| line["event"]["body"].as_str().map(str::to_owned));
    let names = bodies.map(|body| serde_json::from_str::<Value>(&body).unwrap()["Name"].clone());
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Runs a daemon with small journal segments' worth of snapshots, killing it now and then; gives what it did.
async fn run(library: &Path, run: usize) -> (Daemon, Vec<(u64, String)>) {
    let mut daemon = Daemon::prepare("[store]\njournal_max = \"64KiB\"\n");
    let acknowledged = Acknowledged::default();
    for start in 0..STARTS {
        let mut command = Command::new(BINARY);
        command
            .args(["run", "-c"])
            .arg(daemon.config())
            .env("LD_PRELOAD", library);
        command
            .env("DISK_TRACE", daemon.trace())
            .env("DISK_ROOT", daemon.state());
        daemon.spawn_by(command);
        daemon.ready().await;
        send(
            &daemon,
            &daemon.trace(),
            run * STARTS + start,
            &acknowledged,
        )
        .await;
        if fastrand::bool() {
            daemon.kill().await;
        } else {
            daemon.stop().await;
        }
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    (daemon, acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_event_is_lost_by_power_cuts() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(folder.path()) else {
        eprintln!("skipped: there is no C compiler `cc` to build tests/it/disk.c with");
        return;
    };
    let cuts = std::env::var("PROFILESYNC_POWER_CUTS").map_or(300, |count| count.parse().unwrap());
    let mut checked = 0;
    for number in 0..RUNS {
        let (daemon, acknowledged) = run(&library, number).await;
        assert_eq!(
            acknowledged.len(),
            STARTS * EVENTS,
            "every event is acknowledged:\n{}",
            daemon.log()
        );
        let operations = read_trace(&daemon.trace());
        let mut moments: Vec<_> = (0..cuts / RUNS)
            .map(|_| fastrand::usize(..=operations.len()))
            .collect();
        moments.sort_unstable();
        let mut disk = Disk::default();
        let mut done = 0;
        for moment in moments {
            operations[done..moment]
                .iter()
                .for_each(|operation| disk.apply(operation));
            done = moment;
            let end = operations
                .get(moment.wrapping_sub(1))
                .map_or(0, |operation| operation.end);
            let rest = [Rest::Nothing, Rest::Everything, Rest::Some][fastrand::usize(..3)];
            let state = folder.path().join(format!("cut {number} {checked}"));
            let survivors = if checked % BOOTED == 0 {
                booted(|state| disk.cut(rest, &daemon.state(), state)).await
            } else {
                disk.cut(rest, &daemon.state(), &state);
                rebuilt(&state)
            };
            for (_, name) in acknowledged.iter().filter(|(length, _)| *length <= end) {
                assert!(
                    survivors.contains(name),
                    "event {name} is lost by cut {checked} ({rest:?}) in {state:?}"
                );
            }
            fs::remove_dir_all(&state).ok();
            checked += 1;
        }
    }
    eprintln!("{checked} power cuts, nothing acknowledged was lost");
}
