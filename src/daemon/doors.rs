//! What serves requests: the listener, the admin API, and who watches them.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Running, sockets::Sockets};
use crate::{
    accept::{self, Limits, tls},
    admin::{self, Admin},
    journal::Journal,
    store::Store,
    systemd::{self, Probe},
};

/// Connections of the admin API, and bytes of a request to it.
const ADMIN_LIMITS: Limits = Limits::new(64, 64 << 10);

/// What serves requests, and what is to end with it.
pub(super) struct Doors {
    stop_listening: CancellationToken,
    listener: JoinHandle<usize>,
    stop_admin: CancellationToken,
    admin: JoinHandle<usize>,
}

impl Doors {
    pub(super) fn open(
        running: &Arc<Running>,
        journal: &Journal,
        admin: Arc<Admin>,
        sockets: Sockets,
    ) -> Self {
        let (stop_listening, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let config = running.config.load();
        let routes = Arc::clone(&running.ingest).routes();
        let tls = running.tls.clone();
        if let Some(tls) = &tls {
            let config = Arc::clone(&running.config);
            tokio::spawn(tls::follow(
                move || config.load().listener.tls.clone(),
                Arc::clone(tls),
                stop_listening.clone(),
            ));
        }
        let reloaded = Arc::clone(&running.config);
        let grace = move || reloaded.load().shutdown_grace;
        let listener = accept::serve(
            sockets.webhook,
            tls,
            Arc::clone(&running.ingest),
            routes,
            stop_listening.clone(),
            grace,
        );
        let listener = tokio::spawn(listener);
        if let Some(interval) = systemd::watchdog_interval() {
            let probes = probes(&running.store, journal, &listener, &stop_listening);
            tokio::spawn(systemd::watchdog(interval, probes, stop_admin.clone()));
        }
        if io::stderr().is_terminal() {
            tokio::spawn(admin::status_lines(Arc::clone(&admin), stop_admin.clone()));
        }
        let routes = admin::routes(admin, config.admin.token.clone());
        let patience = || Duration::from_secs(1);
        let admin = accept::serve(
            sockets.admin,
            None,
            Arc::new(ADMIN_LIMITS),
            routes,
            stop_admin.clone(),
            patience,
        );
        Self {
            stop_listening,
            listener,
            stop_admin,
            admin: tokio::spawn(admin),
        }
    }

    /// Within `grace`: requests first, deliveries beside them, the admin API last.
    pub(super) async fn close(self, running: &Running, grace: Duration) {
        self.stop_listening.cancel();
        let (cut_off, unfinished) = tokio::join!(self.listener, running.dispatchers.stop(grace));
        match cut_off {
            Ok(0) => {}
            Ok(connections) => tracing::warn!(connections, "connections were cut off"),
            Err(error) => tracing::error!(%error, "the listener did not end well"),
        }
        for target in unfinished {
            tracing::warn!(
                target,
                "deliveries did not finish in time and will be made again"
            );
        }
        self.stop_admin.cancel();
        if let Err(error) = self.admin.await {
            tracing::error!(%error, "the admin API did not end well");
        }
    }
}

/// The watchdog is fed while the listener's task lives until it is to end, the journal answers and the applier moves.
fn probes(
    store: &Store,
    journal: &Journal,
    listener: &JoinHandle<usize>,
    stop_listening: &CancellationToken,
) -> Vec<Probe> {
    let (store, journal) = (store.clone(), journal.clone());
    let (listener, to_end) = (listener.abort_handle(), stop_listening.clone());
    vec![
        Probe::new("listener", move || {
            let alive = !listener.is_finished() || to_end.is_cancelled();
            async move { alive }
        }),
        Probe::new("journal", move || {
            let journal = journal.clone();
            async move { journal.answers().await }
        }),
        Probe::new("store", move || {
            let store = store.clone();
            async move { store.answers().await }
        }),
    ]
}
