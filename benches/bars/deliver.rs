//! Deliveries per second to a local sink against a bare reqwest loop, and from event to target on an idle system.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    Settings,
    ack::{acknowledged, wait_until},
    baseline::{append_and_sync, run_sender},
    daemon::{Daemon, until},
    load::{self, CONNECTIONS, Plan, Request},
    report::{Report, Spread, percentile},
    sink::Sink,
};

/// Deliveries of one round.
const DELIVERIES: u64 = 20_000;
const CONCURRENCY: [usize; 2] = [4, 32];

fn target(sink: &Sink, more: &str) -> String {
    format!(
        "[targets.sink]\ntype = \"webhook\"\nurl = \"http://{}/hook\"\n{more}",
        sink.address
    )
}

/// Deliveries per second.
pub(crate) fn rate(settings: &Settings, report: &mut Report) {
    for concurrency in CONCURRENCY {
        let sink = Sink::start();
        let url = format!("http://{}/hook", sink.address);
        let tables = target(
            &sink,
            &format!("concurrency = {concurrency}\ntimeout = \"60s\"\n"),
        );
        let daemon = Daemon::start("deliver", &tables);
        let (mut ratios, mut own, mut bare) = (vec![], vec![], vec![]);
        for _ in 0..settings.rounds {
            let one = burst(&daemon, &sink, concurrency as u64);
            let request = sink.request();
            sink.clear();
            run_sender(&url, concurrency, DELIVERIES, &request);
            let other = sink.rate(DELIVERIES);
            eprintln!("deliveries {one:.0}/s, reqwest {other:.0}/s");
            ratios.push(one / other);
            own.push(one);
            bare.push(other);
        }
        let ratio = Spread::of(ratios);
        report.row(
            &format!("deliveries to a local sink, {concurrency} at a time, against a reqwest loop"),
            "≥ 0.7 ×",
            format!(
                "{ratio} ×; {} against {}/s",
                Spread::of(own),
                Spread::of(bare)
            ),
            Some(ratio.median >= 0.7),
        );
    }
}

/// Changes every account while the sink answers nothing; the rate of deliveries when it does again.
fn burst(daemon: &Daemon, sink: &Sink, concurrency: u64) -> f64 {
    sink.open(false);
    load::send(daemon.address(), CONNECTIONS, Plan::Each(0, DELIVERIES));
    daemon.applied();
    sink.clear();
    sink.open(true);
    // The others have arrived before.
    let rate = sink.rate(DELIVERIES - concurrency);
    until(Duration::from_millis(50), || {
        let status = daemon.target("sink")?;
        (status["due"] == 0 && status["inflight"] == 0).then_some(())
    });
    rate
}

/// Time between two events.
const PACE: Duration = Duration::from_millis(40);
/// Events of one round.
const EVENTS: u64 = 250;

/// From the first byte of an event to the last byte of its delivery.
pub(crate) fn latency(settings: &Settings, report: &mut Report) {
    let sink = Sink::start();
    let daemon = Daemon::start("event-to-target", &target(&sink, ""));
    let mut file = std::fs::File::create(daemon.dir().join("sync")).unwrap();
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = Request::new();
    let (mut times, mut syncs) = (vec![], vec![]);
    let mut next = Instant::now();
    for event in 0..EVENTS * settings.rounds as u64 {
        let start = Instant::now();
        acknowledged(&mut stream, request.of(event));
        let (_, _, arrived) = sink.wait(event + 1);
        times.push(arrived - start);
        wait_until(next + PACE / 2);
        syncs.push(append_and_sync(&mut file, 512));
        next += PACE;
        wait_until(next);
    }
    times.sort_unstable();
    syncs.sort_unstable();
    let p99 = percentile(&times, 99);
    report.row(
        "event → target, idle system, loopback, p99",
        "≤ 10 ms",
        format!(
            "{p99:.2} ms; p50 {:.2} ms; one fdatasync p50 / p99 {:.2} / {:.2} ms",
            percentile(&times, 50),
            percentile(&syncs, 50),
            percentile(&syncs, 99)
        ),
        Some(p99 <= 10.0),
    );
}
