//! From an event's first byte sent to its OK, at 100 events/s, against one `fdatasync` of the same disk.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Settings,
    baseline::append_and_sync,
    daemon::Daemon,
    load::{Request, expect_ok, is_whole},
    report::{Report, Spread, percentile},
};

/// Time between two events; the disk alone is measured half-way between them.
const PACE: Duration = Duration::from_millis(10);
/// Events of one round.
const EVENTS: u64 = 1000;
const ACCOUNTS: u64 = 1000;

/// Acknowledgements and syncs in turn.
pub(crate) fn latency(settings: &Settings, report: &mut Report) {
    let daemon = Daemon::start("ack", "");
    let mut file = File::create(daemon.dir().join("sync")).unwrap();
    let (mut ratios, mut acks, mut syncs) = (vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        let (mut ack, mut sync) = round(&daemon, &mut file);
        ack.sort_unstable();
        sync.sort_unstable();
        let (one, other) = (percentile(&ack, 99), percentile(&sync, 99));
        eprintln!("p99: ack {one:.2} ms, fdatasync {other:.2} ms");
        ratios.push(one / other);
        acks.extend(ack);
        syncs.extend(sync);
    }
    acks.sort_unstable();
    syncs.sort_unstable();
    let ratio = Spread::of(ratios);
    let both = |times: &[_]| {
        format!(
            "{:.2} / {:.2} ms",
            percentile(times, 50),
            percentile(times, 99)
        )
    };
    report.row(
        "ack latency at 100 events/s, p99 against one fdatasync's p99",
        "≤ 3 ×",
        format!(
            "{ratio} ×; p50 / p99 {} against {}",
            both(&acks),
            both(&syncs)
        ),
        Some(ratio.median <= 3.0),
    );
}

fn round(daemon: &Daemon, file: &mut File) -> (Vec<Duration>, Vec<Duration>) {
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = Request::new();
    let (mut acks, mut syncs) = (vec![], vec![]);
    let mut next = Instant::now();
    for event in 0..EVENTS {
        acks.push(acknowledged(&mut stream, request.of(event % ACCOUNTS)));
        wait_until(next + PACE / 2);
        syncs.push(append_and_sync(file, 512));
        next += PACE;
        wait_until(next);
    }
    (acks, syncs)
}

/// Sends a request and reads its OK; how long that took.
pub(crate) fn acknowledged(stream: &mut TcpStream, request: &[u8]) -> Duration {
    let start = Instant::now();
    stream.write_all(request).unwrap();
    let mut answer = [0; 4096];
    let mut length = 0;
    while !is_whole(&answer[..length]) {
        length += stream.read(&mut answer[length..]).unwrap();
    }
    expect_ok(&answer[..length]);
    start.elapsed()
}

/// Sleeps; not at all when that is past.
pub(crate) fn wait_until(time: Instant) {
    sleep(time.saturating_duration_since(Instant::now()));
}
