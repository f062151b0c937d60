//! For whoever runs the daemon by hand: a line about what it did, when it did something.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Admin, view::Status};
use crate::table::count;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::view::{AppStatus, EventCounts, Readiness},
        status::TargetStatus,
    };

    #[test]
    fn line_as_text() {
        let target = |name: &str, state: &str, due| TargetStatus {
            name: name.into(),
            state: state.into(),
            due,
            ..TargetStatus::default()
        };
        let status = Status {
            version: String::new(),
            started: 0,
            now: 0,
            readiness: Readiness {
                ready: true,
                journal: "ok".into(),
                store: "ready".into(),
                progress: None,
                store_error: None,
                listener: "ok".into(),
            },
            listener: None,
            accounts: 1,
            apply_lag: 0,
            apps: vec![AppStatus {
                name: "production".into(),
                sdk_app_id: 1,
                signed: true,
                events: EventCounts {
                    recorded: 10,
                    duplicate: 2,
                    refused: 5,
                    ..EventCounts::default()
                },
            }],
            rebuilds: 0,
            journal_damaged: 0,
            refused_without_app: 0,
            targets: vec![target("crm", "open", 3), target("export", "ok", 1)],
        };
        assert_eq!(
            line(&status),
            "12 events, crm: open, export: ok, 1 account, 4 due"
        );
    }
}
