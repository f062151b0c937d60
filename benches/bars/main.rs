//! The bars of the design (§12), measured on the program as a whole: the built binary against baselines of the same
//! machine and the same run. `benches/README.md` says how to run them and what they gave.
//!
//! `cargo bench --bench bars` measures everything, `cargo bench --bench bars -- ingest rss` the rows of these names.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot go on stops and says why"
)]

mod ack;
mod baseline;
mod daemon;
mod deliver;
mod ingest;
mod load;
mod report;
mod rss;
mod sink;
mod start;

use report::Report;

/// A row, or several that are measured together, by the name it is asked for.
type Bench = (&'static str, fn(&Settings, &mut Report));

const BENCHES: [Bench; 7] = [
    ("ingest", ingest::against_baseline),
    ("ack", ack::latency),
    ("growth", ingest::by_accounts),
    ("deliver", deliver::rate),
    ("event-to-target", deliver::latency),
    ("rss", rss::with_dead_targets),
    ("start", start::after_sigkill),
];

/// How much is measured.
pub(crate) struct Settings {
    /// Accounts of the large store.
    pub(crate) accounts: u64,
    /// How often each thing is measured; the median counts.
    pub(crate) rounds: usize,
}

const USAGE: &str = "arguments: [--accounts N] [--rounds N] [NAME…]";

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    match args.peek().map(String::as_str) {
        Some("baseline-listener") => return baseline::listen(),
        Some("baseline-sender") => return baseline::send(args.skip(1)),
        _ => {}
    }
    let mut settings = Settings {
        accounts: 1_000_000,
        rounds: 5,
    };
    let mut names = Vec::new();
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse().ok()).expect(USAGE);
        match arg.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--accounts" => settings.accounts = number(),
            "--rounds" => settings.rounds = usize::try_from(number()).expect(USAGE),
            name if BENCHES.iter().any(|(known, _)| *known == name) => names.push(arg),
            other => panic!(
                "{other}: {USAGE}; names: {:?}",
                BENCHES.map(|(name, _)| name)
            ),
        }
    }
    let mut report = Report::default();
    for (name, bench) in BENCHES {
        if names.is_empty() || names.iter().any(|asked| asked == name) {
            eprintln!("== {name}");
            bench(&settings, &mut report);
        }
    }
    println!("\n{report}");
}
