//! What an operator reaches of the running daemon: the admin API's questions and orders, and reloads.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{Running, configured};
use crate::{
    accept::tls,
    admin::{self, view::ReloadReport},
    config::{
        App, Config, Listener,
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
            needs_restart: needs_restart(&self.started, &config),
        };
        for key in &report.needs_restart {
            tracing::warn!(key, "this change takes effect at the next start");
        }
        self.ingest.reload(&config);
        // Every loop begins anew: its settings may be the same and its secrets not.
        self.dispatchers.reload(configured(&config, targets));
        self.config.store(Arc::new(config));
        Ok(report)
    }
}

/// What a reload changes, in words.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let apps = |config: &Config| -> BTreeMap<String, App> {
        let apps = config.apps.values();
        apps.map(|app| (app.name.clone(), app.clone())).collect()
    };
    let mut found = compared("app", &apps(old), &apps(new), |old, new| old == new);
    found.extend(compared(
        "target",
        &old.targets,
        &new.targets,
        |old, new| {
            // Patterns cannot be compared, but as text.
            old.kind.name == new.kind.name
                && format!("{:?}", old.options) == format!("{:?}", new.options)
                && old.settings == new.settings
        },
    ));
    let listener = |config: &Config| Listener {
        // Which waits for a restart.
        address: new.listener.address.clone(),
        ..config.listener.clone()
    };
    if listener(old) != listener(new) {
        found.push("listener changed".into());
    }
    if old.shutdown_grace != new.shutdown_grace {
        found.push("shutdown_grace changed".into());
    }
    found
}

fn compared<T>(
    what: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<String> {
    let gone = old
        .keys()
        .filter(|name| !new.contains_key(*name))
        .map(|name| format!("{what} {name} removed"));
    let rest = new.iter().filter_map(|(name, value)| match old.get(name) {
        None => Some(format!("{what} {name} added")),
        Some(before) if !same(before, value) => Some(format!("{what} {name} changed")),
        Some(_) => None,
    });
    gone.chain(rest).collect()
}

/// The keys whose change a daemon that was started with `old` does not take over.
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
                mode: target.options.mode.as_str().into(),
                ..TargetStatus::default()
            });
        }
        statuses.sort_by(|left, right| left.name.cmp(&right.name));
        statuses
    }

    async fn act(&self, target: &str, action: Action) -> Result<String, ActError> {
        let config = self.config.load_full();
        if let Some(target) = config
            .targets
            .get(target)
            .filter(|target| !target.options.enabled)
        {
            return Err(ActError::Refused(format!(
                "{} is disabled in the configuration: remove `enabled = false` there and reload",
                target.name
            )));
        }
        tokio::select! {
            done = self.dispatchers.act(target, action) => done,
            () = self.store.starved() => Err(ActError::Unavailable(
                "the disk of the state is full: it is done when there is space again".into(),
            )),
        }
    }

    async fn reload(&self) -> Result<ReloadReport, String> {
        let _one_at_a_time = self.reloading.lock().await;
        let path = self.path.clone();
        let loaded =
            tokio::task::spawn_blocking(move || load(&path, targets::KINDS, targets::open)).await;
        let loaded = loaded.map_err(|error| error.to_string())?;
        let report = loaded
            .map_err(|mistakes| mistakes.to_string())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("profilesync.toml");
        fs::write(&file, text).unwrap();
        let loaded = load(&file, targets::KINDS, |_, _| Ok(()));
        loaded
            .map_err(|mistakes| mistakes.lines().collect::<Vec<_>>())
            .unwrap()
            .config
    }

    #[test]
    fn what_a_reload_changes_is_said() {
        let old = "[apps.a]\nsdk_app_id = 1\ntoken = 'x'\n\
                   [targets.t]\ntype = 'file'\npath = '/x'\n[targets.gone]\ntype = 'file'\npath = '/y'\n";
        let moved = format!("\n# further down\n{old}");
        assert_eq!(differences(&config(old), &config(&moved)), [""; 0]);
        let new = "[apps.a]\nsdk_app_id = 1\ntoken = 'y'\n[apps.b]\nsdk_app_id = 2\ntoken = 'z'\n\
                   [targets.t]\ntype = 'file'\npath = '/z'\n";
        assert_eq!(
            differences(&config(old), &config(new)),
            [
                "app a changed",
                "app b added",
                "target gone removed",
                "target t changed"
            ]
        );
    }

    #[test]
    fn what_waits_for_a_restart_is_no_difference_and_what_does_not_is() {
        let [running, moved, later] = [
            "[listener]\naddress = '127.0.0.1:1'\n",
            "[listener]\naddress = '127.0.0.1:2'\n",
            "shutdown_grace = '7s'\n[listener]\naddress = '127.0.0.1:1'\nmax_body = 5\n",
        ]
        .map(|text| config(&format!("{text}[apps.a]\nsdk_app_id = 1\n")));
        assert_eq!(differences(&running, &moved), [""; 0]);
        assert_eq!(needs_restart(&running, &moved), ["listener.address"]);
        assert_eq!(
            differences(&moved, &later),
            ["listener changed", "shutdown_grace changed"]
        );
        assert_eq!(needs_restart(&running, &later), [""; 0]);
    }
}
