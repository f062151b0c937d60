//! Deliveries per second of the daemon for each kind, next to a bare loop of the same client library that makes the
//! same writes, as many at a time, in the same run. `benches/README.md` says what it gave.
//!
//! `cargo bench --features full --bench kinds` measures all kinds, `… --bench kinds -- sql redis` those of these
//! names; `--accounts N` and `--rounds N` make it shorter or longer.
//!
//! To add a kind, write `benches/kinds/KIND.rs` with a `pub(crate) fn run(settings: &Settings, report: &mut Report)`
//! that calls [`compare`] with its [`Side`] (or [`skip`] when its server is not on this machine), and list it in
//! `BENCHES`. `sql.rs` is an example.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot go on stops and says why"
)]

mod amqp;
mod compare;
#[path = "../bars/daemon.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod daemon;
mod exec;
mod kafka;
mod ldap;
#[path = "../bars/load.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod load;
mod mqtt;
mod nats;
mod object_store;
mod redis;
#[path = "../bars/report.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod report;
mod scim;
mod sql;
mod webhook;

use report::Report;

/// A kind, by its name.
type Bench = (&'static str, fn(&Settings, &mut Report));

const BENCHES: &[Bench] = &[
    ("amqp", amqp::run),
    ("exec", exec::run),
    ("kafka", kafka::run),
    ("ldap", ldap::run),
    ("mqtt", mqtt::run),
    ("nats", nats::run),
    ("object-store", object_store::run),
    ("redis", redis::run),
    ("scim", scim::run),
    ("sql", sql::run),
    ("webhook", webhook::run),
];

/// How much is measured.
pub(crate) struct Settings {
    /// Accounts that are delivered in each round.
    pub(crate) accounts: u64,
    /// How often each thing is measured; the median counts.
    pub(crate) rounds: usize,
}

const USAGE: &str = "arguments: [--accounts N] [--rounds N] [KIND…]";

fn main() {
    let mut args = std::env::args().skip(1);
    let mut settings = Settings {
        accounts: 20_000,
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
            other => panic!("{other}: {USAGE}"),
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
