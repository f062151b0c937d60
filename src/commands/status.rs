//! `profilesync status`: apps, ingest and targets at a glance.

use std::{
    io::{IsTerminal as _, stdout},
    time::Duration,
};

use clap::Args;
use profilesync_target::Period;

use super::{print, print_on};
use crate::{
    admin::view::{AppStatus, EventCounts, Progress, Status},
    client::{Client, ClientError},
    clock::Millis,
    exit::Failure,
    status::TargetStatus,
    table::{Cell, Colour, Table, ago, coloured, count, duration, harmless, harmless_json},
};

/// How it is called.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Show it again and again, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// Time between two looks of --watch
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_interval)]
    interval: Duration,
    /// Print the JSON of the admin API (with --watch: one line per look)
    #[arg(long)]
    json: bool,
}

/// Shows the status once, or until interrupted or nobody reads it any more.
///
/// # Errors
/// When the daemon does not answer; with `--watch` that is said, and it is waited for instead.
pub async fn run(client: &Client, args: &StatusArgs) -> Result<(), Failure> {
    if !args.watch {
        return print(&look(client, args).await?);
    }
    loop {
        let looked = look(client, args).await;
        if stdout().is_terminal() && !args.json {
            print("\x1b[H\x1b[2J")?;
        }
        match looked {
            Ok(text) if print_on(&text)? => {}
            Ok(_) => return Ok(()),
            Err(error) => eprint!("{}", Failure::from(error).report()),
        }
        tokio::time::sleep(args.interval).await;
    }
}

/// Any shorter and it would only keep the daemon busy.
const SHORTEST: Duration = Duration::from_millis(100);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < SHORTEST {
        return Err(format!("the shortest is {}", Period(SHORTEST)));
    }
    Ok(interval)
}

async fn look(client: &Client, args: &StatusArgs) -> Result<String, ClientError> {
    if args.json {
        return Ok(harmless_json(&client.text("/v1/status").await?) + "\n");
    }
    Ok(text(&client.get("/v1/status").await?, coloured()))
}

fn text(status: &Status, coloured: bool) -> String {
    let mut text = summary(status);
    if !status.apps.is_empty() {
        text += &format!("\n{}", apps(&status.apps).render(coloured));
    }
    if status.refused_without_app > 0 {
        text += &format!(
            "{} requests refused before an app was known: wrong path, method, peer (`listener.allow`) or SdkAppid\n",
            status.refused_without_app
        );
    }
    if !status.targets.is_empty() {
        text += &format!(
            "\n{}",
            targets(&status.targets, status.now).render(coloured)
        );
        text += &advice(&status.targets);
    }
    text
}

fn summary(status: &Status) -> String {
    let readiness = &status.readiness;
    let ready = if readiness.ready {
        "ready"
    } else {
        "NOT READY"
    };
    let uptime = duration(status.now.saturating_sub(status.started));
    let listener = match &status.listener {
        Some(address) => address,
        None => &readiness.listener,
    };
    let store = match (&readiness.progress, &readiness.store_error) {
        (Some(Progress { done, end }), _) => match end {
            Some(end) => format!("{} ({done} of {end})", readiness.store),
            None => format!("{} ({done} entries)", readiness.store),
        },
        (None, Some(error)) => format!("{}: {error}", readiness.store),
        (None, None) => readiness.store.clone(),
    };
    let damage = damage(status.rebuilds, status.journal_damaged);
    let version = &status.version;
    format!(
        "profilesync {version}, {ready}, up {uptime}\n\
         listener: {}\n\
         journal:  {}\n\
         store:    {}, {}, {} behind\n{damage}",
        harmless(listener),
        harmless(&readiness.journal),
        harmless(&store),
        count(status.accounts, "account"),
        count(status.apply_lag, "event"),
    )
}

/// What was mended since the start, which somebody should look into.
fn damage(rebuilds: u64, records: u64) -> String {
    let mut text = String::new();
    if rebuilds > 0 {
        text += &format!(
            "          built anew {} since the start; the log says why\n",
            count(rebuilds, "time")
        );
    }
    if records > 0 {
        text += &format!(
            "          {} of the journal damaged and stepped over; the log says where\n",
            count(records, "record")
        );
    }
    text
}

fn apps(apps: &[AppStatus]) -> Table {
    let mut table = Table::new(&[
        "APP",
        "SDKAPPID",
        "SIGNED",
        "RECORDED",
        "DUPLICATE",
        "STALE",
        "UNCHANGED",
        "IGNORED",
        "REFUSED",
    ]);
    for app in apps {
        let EventCounts {
            recorded,
            duplicate,
            stale,
            unchanged,
            ignored,
            refused,
        } = app.events;
        let signed = if app.signed { "yes" } else { "no" };
        let mut row = vec![
            Cell::text(&app.name),
            Cell::text(app.sdk_app_id.to_string()),
            Cell::text(signed),
        ];
        row.extend([recorded, duplicate, stale, unchanged, ignored].map(Cell::number));
        row.push(Cell::number(refused).colour(unless_zero(refused, Colour::Yellow)));
        table.row(row);
    }
    table
}

/// The targets as a table; `profilesync targets` prints the same.
pub(super) fn targets(targets: &[TargetStatus], now: Millis) -> Table {
    let mut table = Table::new(&[
        "TARGET",
        "TYPE",
        "STATE",
        "DUE",
        "PARKED",
        "DELIVERED",
        "LAG",
        "LAST SUCCESS",
        "LAST ERROR",
    ]);
    for target in targets {
        table.row(vec![
            Cell::text(&target.name),
            Cell::text(&target.kind),
            Cell::text(state(target)).colour(state_colour(&target.state)),
            Cell::number(target.due),
            Cell::number(target.parked).colour(unless_zero(target.parked, Colour::Red)),
            Cell::number(target.delivered),
            Cell::text(lag(target)),
            Cell::text(
                target
                    .last_success
                    .map_or_else(String::new, |at| ago(now, at)),
            ),
            Cell::text(last_error(target, now)),
        ]);
    }
    table
}

/// What to do about targets that are not well, one line each; the table shows what is wrong.
pub(super) fn advice(targets: &[TargetStatus]) -> String {
    let mut text = String::new();
    for target in targets {
        let name = harmless(&target.name);
        let mut line = |what: &str| text += &format!("{name}: {what}\n");
        match target.state.as_str() {
            "open" => line(&format!(
                "the target fails as a whole. It gets one delivery now and then, and everything when that succeeds; \
                 once it is mended, `profilesync targets retry {name}` tries at once"
            )),
            "failing" => line(&format!(
                "what failed is tried again by itself; `profilesync targets retry {name}` tries now"
            )),
            "held" => line(&format!(
                "its guard holds it, as more accounts change than guard.max_changes; \
                 if they should, `profilesync targets approve {name}`"
            )),
            "paused" => line(&format!("`profilesync targets resume {name}` goes on")),
            _ => {}
        }
        if target.parked > 0 {
            line(&format!(
                "{} given up on until a newer revision; the log says which and why (\"parked\"). \
                 `profilesync targets retry {name} --all-parked` tries again",
                count(target.parked, "account")
            ));
        }
    }
    text
}

fn state(target: &TargetStatus) -> String {
    let mut state = target.state.clone();
    if target.mode != "live" {
        state += &format!(" ({})", target.mode);
    }
    if let Some(backfill) = target.backfill {
        let done = backfill.total.saturating_sub(backfill.remaining);
        state += &format!(", backfill {done}/{}", backfill.total);
    }
    state
}

fn state_colour(state: &str) -> Colour {
    match state {
        "ok" => Colour::Green,
        "open" | "held" => Colour::Red,
        "failing" | "paused" | "waiting" => Colour::Yellow,
        _ => Colour::Plain,
    }
}

fn lag(target: &TargetStatus) -> String {
    if target.due == 0 {
        return String::new();
    }
    let lag = Duration::try_from_secs_f64(target.lag_seconds).unwrap_or_default();
    duration(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX))
}

fn last_error(target: &TargetStatus, now: Millis) -> String {
    match (&target.last_error, target.last_error_at) {
        (Some(error), Some(at)) => format!("{}: {error}", ago(now, at)),
        (Some(error), None) => error.clone(),
        (None, _) => String::new(),
    }
}

fn unless_zero(number: u64, colour: Colour) -> Colour {
    if number == 0 { Colour::Plain } else { colour }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::view::Readiness, status::BackfillStatus};

    fn sample() -> Status {
        let now = 1_700_000_000_000;
        let crm = TargetStatus {
            name: "crm".into(),
            kind: "webhook".into(),
            state: "open".into(),
            mode: "live".into(),
            due: 3,
            parked: 1,
            lag_seconds: 12.4,
            last_success: Some(now - 300_000),
            last_error_at: Some(now - 10_000),
            last_error: Some("connection refused\n".into()),
            ..TargetStatus::default()
        };
        let export = TargetStatus {
            name: "export".into(),
            kind: "file".into(),
            state: "ok".into(),
            mode: "shadow".into(),
            delivered: 12,
            backfill: Some(BackfillStatus {
                remaining: 4,
                total: 10,
            }),
            ..TargetStatus::default()
        };
        Status {
            version: "1.2.3".into(),
            started: now - 7_380_000,
            now,
            readiness: Readiness {
                ready: true,
                journal: "ok".into(),
                store: "replaying".into(),
                progress: Some(Progress {
                    done: 5,
                    end: Some(10),
                }),
                store_error: None,
                listener: "ok".into(),
            },
            listener: Some("127.0.0.1:8700".into()),
            accounts: 12,
            apply_lag: 5,
            apps: vec![AppStatus {
                name: "production".into(),
                sdk_app_id: 1_400_000_000,
                signed: true,
                events: EventCounts {
                    recorded: 12,
                    refused: 1,
                    ..EventCounts::default()
                },
            }],
            rebuilds: 1,
            journal_damaged: 0,
            refused_without_app: 2,
            targets: vec![crm, export],
        }
    }

    #[test]
    fn table() {
        let expected = "\
profilesync 1.2.3, ready, up 2h 3m
listener: 127.0.0.1:8700
journal:  ok
store:    replaying (5 of 10), 12 accounts, 5 events behind
          built anew 1 time since the start; the log says why

APP         SDKAPPID    SIGNED  RECORDED  DUPLICATE  STALE  UNCHANGED  IGNORED  REFUSED
production  1400000000  yes           12          0      0          0        0        1
2 requests refused before an app was known: wrong path, method, peer (`listener.allow`) or SdkAppid

TARGET  TYPE     STATE                       DUE  PARKED  DELIVERED  LAG  LAST SUCCESS  LAST ERROR
crm     webhook  open                          3       1          0  12s  5m 0s ago     10s ago: connection refused\\n
export  file     ok (shadow), backfill 6/10    0       0         12  -    -             -
crm: the target fails as a whole. It gets one delivery now and then, and everything when that succeeds; \
once it is mended, `profilesync targets retry crm` tries at once
crm: 1 account given up on until a newer revision; the log says which and why (\"parked\"). \
`profilesync targets retry crm --all-parked` tries again
";
        assert_eq!(text(&sample(), false), expected);
    }

    #[test]
    fn colours_only_colour() {
        let coloured = text(&sample(), true);
        assert!(coloured.contains("\x1b[31mopen\x1b[0m"), "{coloured}");
        let plain = ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"]
            .iter()
            .fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, text(&sample(), false));
    }
}
