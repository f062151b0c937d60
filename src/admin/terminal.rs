//! For whoever runs the daemon by hand: a line about what it did, when it did something.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Admin, view::Status};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(3);

/// Logs a line whenever there is something new to tell, until `stop`.
pub async fn status_lines(admin: Arc<Admin>, stop: CancellationToken) {
    let mut last = String::new();
    while stop
        .run_until_cancelled(tokio::time::sleep(INTERVAL))
        .await
        .is_some()
    {
        let line = line(&admin.status());
        if line != last {
            tracing::info!("status: {line}");
            last = line;
        }
    }
}

fn line(status: &Status) -> String {
    let events: u64 = status
        .apps
        .iter()
        .map(|app| {
            let events = &app.events;
            events.recorded + events.duplicate + events.stale + events.unchanged
        })
        .sum();
    let due: u64 = status.targets.iter().map(|target| target.due).sum();
    let mut parts = vec![count(events, "event")];
    if status.readiness.store != "ready" {
        parts.push(format!("store: {}", status.readiness.store));
    }
    let targets = status.targets.iter();
    parts.extend(targets.map(|target| format!("{}: {}", target.name, target.state)));
    parts.push(count(status.accounts, "account"));
    parts.push(format!("{due} due"));
    parts.join(", ")
}

fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
