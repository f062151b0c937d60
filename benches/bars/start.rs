//! Starting with many accounts: after SIGKILL, and with an index to be rebuilt from a snapshot.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    Settings,
    daemon::Daemon,
    ingest::large,
    load::{self, CONNECTIONS, Plan},
    report::{Report, Spread},
};

/// Load before each kill.
const BEFORE: Duration = Duration::from_secs(2);

/// Starts after SIGKILL, and a start from a snapshot alone.
pub(crate) fn after_sigkill(settings: &Settings, report: &mut Report) {
    let mut daemon = large(settings);
    let accounts = settings.accounts;
    let loads = [
        ("while one connection sends", 1),
        ("in a burst over 64 connections", CONNECTIONS),
    ];
    for (load, connections) in loads {
        let (mut green, mut ready) = (vec![], vec![]);
        for _ in 0..settings.rounds.min(3) {
            load::send(
                daemon.address(),
                connections,
                Plan::Random(accounts, BEFORE),
            );
            daemon.end(Signal::KILL);
            let (one, other) = start(&mut daemon);
            eprintln!("green after {one:.2} s, store ready after {other:.2} s");
            green.push(one);
            ready.push(other);
        }
        let what = format!("start after SIGKILL {load}, {accounts} accounts");
        for (until, times) in [("events are taken", green), ("the store is ready", ready)] {
            let times = Spread::of(times);
            report.row(
                &format!("{what}: {until}"),
                "≤ 5 s",
                format!("{times} s"),
                Some(times.median <= 5.0),
            );
        }
    }
    drop(daemon);
    rebuild(accounts, report);
}

/// With one event of each account; every further event is one more entry.
fn rebuild(accounts: u64, report: &mut Report) {
    let mut daemon = Daemon::start("rebuild", "");
    load::send(daemon.address(), CONNECTIONS, Plan::Each(0, accounts));
    daemon.applied();
    daemon.end(Signal::TERM);
    let backup = daemon.dir().join("backup");
    fs::remove_file(&backup).ok();
    daemon.store(&["backup", backup.to_str().unwrap()]);
    daemon.store(&["restore", "--discard-journal", backup.to_str().unwrap()]);
    let bytes = fs::metadata(&backup).unwrap().len() >> 20;
    let (_, ready) = start(&mut daemon);
    let rate = accounts as f64 / ready;
    report.row(
        &format!("rebuild from a snapshot of {accounts} accounts ({bytes} MiB)"),
        "≥ 50 k accounts/s",
        format!("{rate:.0} accounts/s, {ready:.1} s"),
        Some(rate >= 50_000.0),
    );
}

/// Starts it: seconds until events are taken, and until the store is ready.
fn start(daemon: &mut Daemon) -> (f64, f64) {
    let start = Instant::now();
    daemon.spawn();
    daemon.ready();
    let green = start.elapsed().as_secs_f64();
    daemon.applied();
    (green, start.elapsed().as_secs_f64())
}
