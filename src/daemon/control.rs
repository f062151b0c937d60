//! What an operator reaches of the running daemon: the admin API's questions and orders, and reloads.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{Running, shared};
use crate::{
    accept::tls,
    admin::{self, view::ReloadReport},
    config::{
        Config,
        load::{Loaded, load},
    },
    dispatch::{ActError, Action},
    exit::chain,
    status::TargetStatus,
    systemd,
    targets::{self, OpenedTarget},
};

impl Running {
    pub(super) async fn reload_for_systemd(&self) {
        systemd::reloading();
        match admin::Daemon::reload(self).await {
            Ok(_) => systemd::ready("reloaded"),
            Err(mistakes) => {
                tracing::error!(%mistakes, "the configuration was not reloaded; the old one stays in force");
                systemd::ready("reload failed: the old configuration is in force");
            }
        }
    }

    fn apply(&self, loaded: Loaded<OpenedTarget>) -> Result<ReloadReport, String> {
        let Loaded {
            config,
            targets,
            warnings,
        } = loaded;
        if let (Some(running), Some(files)) = (&self.tls, &config.listener.tls) {
            running.store(Arc::new(tls::load(files).map_err(|error| chain(&error))?));
        }
        for warning in warnings.lines() {
            tracing::warn!("{warning}");
        }
        let old = self.config.load_full();
        let report = ReloadReport {
            applied: differences(&old, &config),
            needs_restart: needs_restart(&old, &config),
        };
        for key in &report.needs_restart {
            tracing::warn!(key, "this change takes effect at the next start");
        }
        self.ingest.reload(&config);
        // Every loop begins anew: its settings may be the same and its secrets not.
        self.dispatchers.reload(shared(targets));
        self.config.store(Arc::new(config));
        Ok(report)
    }
}

/// What a reload changes, in words.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let apps = |config: &Config| -> BTreeMap<String, String> {
        config
            .apps
            .values()
            .map(|app| {
                (
                    app.name.clone(),
                    format!("{} {:?}", app.sdk_app_id, app.tokens.len()),
                )
            })
            .collect()
    };
    let targets = |config: &Config| -> BTreeMap<String, String> {
        let targets = config.targets.values();
        targets
            .map(|target| {
                (
                    target.name.clone(),
                    format!("{} {:?}", target.kind.name, target.options),
                )
            })
            .collect()
    };
    let mut found = compared("app", &apps(old), &apps(new));
    found.extend(compared("target", &targets(old), &targets(new)));
    if old.listener != new.listener {
        found.push("listener changed".into());
    }
    found
}

fn compared(
    what: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Vec<String> {
    let gone = old
        .keys()
        .filter(|name| !new.contains_key(*name))
        .map(|name| format!("{what} {name} removed"));
    let rest = new.iter().filter_map(|(name, text)| match old.get(name) {
        None => Some(format!("{what} {name} added")),
        Some(before) if before != text => Some(format!("{what} {name} changed")),
        Some(_) => None,
    });
    gone.chain(rest).collect()
}

/// The keys whose change a running daemon does not take over.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let keys = [
        (
            "listener.address",
            old.listener.address != new.listener.address,
        ),
        (
            "listener.tls",
            old.listener.tls.is_some() != new.listener.tls.is_some(),
        ),
        ("store", old.store != new.store),
        ("admin", old.admin != new.admin),
    ];
    keys.into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| key.to_owned())
        .collect()
}

#[async_trait]
impl admin::Daemon for Running {
    fn apps(&self) -> Vec<admin::App> {
        let config = self.config.load();
        let apps = config.apps.values().map(|app| admin::App {
            name: app.name.clone(),
            sdk_app_id: app.sdk_app_id,
            signed: !app.tokens.is_empty(),
        });
        apps.collect()
    }

    fn targets(&self) -> Vec<TargetStatus> {
        let mut statuses = self.dispatchers.statuses();
        for target in self
            .config
            .load()
            .targets
            .values()
            .filter(|target| !target.options.enabled)
        {
            statuses.push(TargetStatus {
                name: target.name.clone(),
                kind: target.kind.name.into(),
                state: "disabled".into(),
                ..TargetStatus::default()
            });
        }
        statuses.sort_by(|left, right| left.name.cmp(&right.name));
        statuses
    }

    async fn act(&self, target: &str, action: Action) -> Result<String, ActError> {
        self.dispatchers.act(target, action).await
    }

    async fn reload(&self) -> Result<ReloadReport, String> {
        let _one_at_a_time = self.reloading.lock().await;
        let path = self.path.clone();
        let loaded =
            tokio::task::spawn_blocking(move || load(&path, targets::KINDS, targets::open)).await;
        let loaded = loaded.map_err(|error| error.to_string())?;
        let report = loaded
            .map_err(|mistakes| mistakes.lines().collect::<Vec<_>>().join("\n"))
            .and_then(|loaded| self.apply(loaded));
        self.metrics
            .config_last_reload_successful
            .set(i64::from(report.is_ok()));
        if report.is_ok() {
            tracing::info!("the configuration is reloaded");
        }
        report
    }
}
