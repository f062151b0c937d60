//! Memory with many accounts and targets that are all down.

use std::{fmt::Write as _, thread::sleep, time::Duration};

use crate::{
    Settings,
    daemon::{Daemon, free_port, until},
    load::{self, CONNECTIONS, Plan},
    report::Report,
};

const ACCOUNTS: u64 = 100_000;
const TARGETS: usize = 5;
/// How long the daemon goes on trying before it is looked at.
const WHILE: Duration = Duration::from_secs(20);

/// Resident memory, at the end and at the most.
pub(crate) fn with_dead_targets(_: &Settings, report: &mut Report) {
    let mut tables = String::new();
    let port = free_port();
    for number in 0..TARGETS {
        write!(
            tables,
            "[targets.dead-{number}]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n"
        )
        .unwrap();
    }
    let daemon = Daemon::start("rss", &tables);
    let empty = daemon.memory("VmRSS:");
    load::send(daemon.address(), CONNECTIONS, Plan::Each(0, ACCOUNTS));
    daemon.applied();
    let loaded = daemon.memory("VmRSS:");
    sleep(WHILE);
    until(Duration::from_millis(200), || {
        let due = daemon.target("dead-0")?["due"].as_u64()?;
        (due == ACCOUNTS).then_some(())
    });
    let (now, most) = (daemon.memory("VmRSS:"), daemon.memory("VmHWM:"));
    report.row(
        "RSS at 100 k accounts, 5 targets, all down",
        "≤ 256 MB",
        format!(
            "{now:.0} MB, at most {most:.0} MB ({empty:.0} when empty, {loaded:.0} when loaded)"
        ),
        Some(most <= 256.0),
    );
}
