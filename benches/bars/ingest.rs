//! Events per second: acknowledged, against the same route without a journal; applied; and with many accounts.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{
    Settings,
    baseline::Listener,
    daemon::Daemon,
    load::{self, CONNECTIONS, Plan},
    report::{Report, Spread},
};

const SLICE: Duration = Duration::from_secs(3);
/// Accounts of the small store.
const FEW: u64 = 1000;

/// A slice of load: events per second acknowledged, and applied.
struct Slice {
    acked: f64,
    applied: f64,
}

fn slice(daemon: &Daemon, accounts: u64) -> Slice {
    let start = Instant::now();
    let sent = load::send(daemon.address(), CONNECTIONS, Plan::Random(accounts, SLICE));
    daemon.applied();
    Slice {
        acked: sent.rate(),
        applied: sent.events as f64 / start.elapsed().as_secs_f64(),
    }
}

/// Durable ingest against the same route without a journal.
pub(crate) fn against_baseline(settings: &Settings, report: &mut Report) {
    let daemon = Daemon::start("ingest", "");
    let baseline = Listener::start();
    let plan = Plan::Random(FEW, SLICE);
    slice(&daemon, FEW);
    let (mut ratios, mut acked, mut bare, mut applied) = (vec![], vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        let one = load::send(baseline.address, CONNECTIONS, plan).rate();
        let own = slice(&daemon, FEW);
        eprintln!(
            "acked {:.0}/s, baseline {one:.0}/s, applied {:.0}/s",
            own.acked, own.applied
        );
        ratios.push(own.acked / one);
        acked.push(own.acked);
        bare.push(one);
        applied.push(own.applied);
    }
    let (ratio, applied) = (Spread::of(ratios), Spread::of(applied));
    report.row(
        "durable ingest, 64 keep-alive connections, against the route without a journal",
        "≥ 0.6 ×",
        format!(
            "{ratio} ×; {} against {} events/s",
            Spread::of(acked),
            Spread::of(bare)
        ),
        Some(ratio.median >= 0.6),
    );
    report.row(
        "events applied, until nothing is left to apply",
        "≥ 10 k/s",
        format!("{applied} events/s"),
        Some(applied.median >= 10_000.0),
    );
}

/// The daemon with the large store, which is made once and kept.
pub(crate) fn large(settings: &Settings) -> Daemon {
    let name = format!("accounts-{}", settings.accounts);
    let daemon = Daemon::resume(&name, "");
    daemon.applied();
    let known = daemon.status().unwrap()["accounts"].as_u64().unwrap();
    if known < settings.accounts {
        eprintln!("making {} accounts, once", settings.accounts);
        let start = Instant::now();
        let plan = Plan::Each(known, settings.accounts);
        let sent = load::send(daemon.address(), CONNECTIONS, plan);
        daemon.applied();
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("made: {:.0} accounts/s", sent.events as f64 / seconds);
    }
    daemon
}

/// Ingest with many accounts against ingest with few.
pub(crate) fn by_accounts(settings: &Settings, report: &mut Report) {
    let mut large = large(settings);
    let small = Daemon::start("growth", "");
    let accounts = settings.accounts;
    slice(&small, FEW);
    slice(&large, accounts);
    let (mut acked, mut applied, mut rates) = (vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        let (few, many) = (slice(&small, FEW), slice(&large, accounts));
        eprintln!(
            "acked {:.0} and {:.0}/s, applied {:.0} and {:.0}/s",
            few.acked, many.acked, few.applied, many.applied
        );
        acked.push(many.acked / few.acked);
        applied.push(many.applied / few.applied);
        rates.push(many.applied);
    }
    let ratio = Spread::of(acked);
    report.row(
        &format!("ingest at {accounts} accounts against {FEW}"),
        "≥ 0.8 ×",
        format!("{ratio} ×"),
        Some(ratio.median >= 0.8),
    );
    report.row(
        &format!("applied at {accounts} accounts against {FEW}"),
        "",
        format!("{} ×; {} events/s", Spread::of(applied), Spread::of(rates)),
        None,
    );
    large.end(Signal::TERM);
}
