//! `profilesync run`: puts the parts together, and takes them apart in an order in which nothing is lost.
//!
//! The listener answers as soon as the journal is open; store and dispatchers come up behind it. On the way out the
//! listener goes first, then the dispatchers, then the journal, and the applier last.

mod control;
mod doors;
mod sockets;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, watch},
};

use crate::{
    accept::tls::{self, Tls},
    admin::Admin,
    clock,
    config::{
        Config,
        load::{Loaded, load},
    },
    dispatch::{Dispatchers, Targets},
    exit::{Exit, Failure},
    journal::{self, Journal},
    listen::Ingest,
    metrics::Metrics,
    store::{self, Applier, Store, state_dir::StateDir},
    systemd,
    targets::{self, OpenedTarget},
};
use doors::Doors;
use sockets::Sockets;

/// Events are refused while the file system has less than this left, bytes: what was acknowledged must still find
/// its way into the store.
const RESERVE_BYTES: u64 = 8 << 20;
/// Numbers left out at every start, so that none is ever given out twice even when the journal lost its newest
/// segment.
const SEQ_GAP: u64 = 1 << 20;

/// The parts that a reload or an operator reaches.
struct Running {
    path: PathBuf,
    config: Arc<ArcSwap<Config>>,
    /// What it was started with, of which some stays in force until it ends.
    started: Arc<Config>,
    ingest: Arc<Ingest>,
    dispatchers: Dispatchers,
    store: Store,
    metrics: Metrics,
    tls: Option<Tls>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

/// Runs the daemon until SIGTERM or SIGINT, on the sockets `handed` over and what is configured beside them.
///
/// # Errors
/// When it cannot start.
pub async fn run(path: &Path, handed: systemd::Sockets) -> Result<(), Failure> {
    let loaded = read(path)?;
    for warning in loaded.warnings.lines() {
        tracing::warn!("{warning}");
    }
    let names = |names: Vec<&str>| names.join(", ");
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %path.display(),
        apps = names(loaded.config.apps.values().map(|app| &*app.name).collect()),
        targets = names(loaded.targets.keys().map(String::as_str).collect()),
        admin = %loaded.config.admin.socket.display(),
        "starting"
    );
    let Signals {
        mut terminate,
        mut interrupt,
        mut reload,
    } = Signals::new()?;
    let dir = hold(&loaded.config.store.path)?;
    let sockets = Sockets::get(&loaded.config, handed).await?;
    let daemon = Daemon::start(path, loaded, dir, sockets)?;
    systemd::ready("listening");
    let reloads = async {
        loop {
            reload.recv().await;
            daemon.running.reload_for_systemd().await;
        }
    };
    // A reload that waits for something does not keep the daemon from stopping.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = reloads => {}
    }
    daemon.stop().await;
    Ok(())
}

/// A daemon at work.
struct Daemon {
    running: Arc<Running>,
    /// Where webhooks are taken, or why not.
    listening: watch::Sender<Result<String, String>>,
    doors: Doors,
    journal: Journal,
    applier: Applier,
}

impl Daemon {
    fn start(
        path: &Path,
        loaded: Loaded<OpenedTarget>,
        dir: StateDir,
        sockets: Sockets,
    ) -> Result<Self, Failure> {
        let Loaded {
            config, targets, ..
        } = loaded;
        let targets = configured(&config, targets);
        let tls = config.listener.tls.as_ref().map(tls::load).transpose();
        let tls =
            tls.map_err(|error| failed("the listener's certificate cannot be used", error))?;
        let metrics = Metrics::new();
        let last_run = dir.begin_run();
        let journal = open_journal(&dir, &metrics)?;
        let config = Arc::new(ArcSwap::from_pointee(config));
        let options = store_options(&config, &metrics);
        let (store, applier) = Applier::start(Arc::new(dir), last_run, &journal, options);
        let ingest = Ingest::new(
            &config.load(),
            journal.clone(),
            lag(&journal, &store),
            metrics.clone(),
        );
        let running = Arc::new(Running {
            path: path.to_owned(),
            started: config.load_full(),
            config,
            ingest: Arc::new(ingest),
            dispatchers: Dispatchers::start(store.clone(), targets, metrics.clone()),
            store: store.clone(),
            metrics: metrics.clone(),
            tls: tls.map(|config| Arc::new(ArcSwap::from_pointee(config))),
            reloading: Mutex::default(),
        });
        let (listening, listener) = watch::channel(Ok(sockets.places.clone()));
        let admin = Admin {
            store,
            journal_health: journal.health(),
            journal_synced: journal.synced(),
            listener,
            metrics,
            daemon: Arc::clone(&running) as _,
            started: clock::now(),
        };
        let doors = Doors::open(&running, &journal, Arc::new(admin), sockets);
        Ok(Self {
            running,
            listening,
            doors,
            journal,
            applier,
        })
    }

    async fn stop(self) {
        let grace = self.running.config.load().shutdown_grace;
        tracing::info!(?grace, "stopping");
        systemd::stopping("answering what is in hand and finishing deliveries");
        self.listening
            .send_modify(|place| *place = Err("closed: the daemon is stopping".into()));
        self.doors.close(&self.running, grace).await;
        self.journal.stop().await;
        self.applier.stop().await;
        tracing::info!("stopped");
    }
}

fn read(path: &Path) -> Result<Loaded<OpenedTarget>, Failure> {
    load(path, targets::KINDS, targets::open).map_err(|mistakes| mistakes.into_failure())
}

/// What is configured, disabled targets included.
fn configured(config: &Config, opened: BTreeMap<String, OpenedTarget>) -> Targets {
    let disabled = config.targets.keys().map(|name| (name.clone(), None));
    let opened = opened
        .into_iter()
        .map(|(name, target)| (name, Some(Arc::new(target))));
    disabled.chain(opened).collect()
}

fn failed(
    what: impl Into<String>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Failure {
    Failure::new(Exit::Failed, what).because(error)
}

fn hold(path: &Path) -> Result<StateDir, Failure> {
    StateDir::hold(path).map_err(Failure::from)
}

fn open_journal(dir: &StateDir, metrics: &Metrics) -> Result<Journal, Failure> {
    let options = journal::Options {
        dir: dir.journal(),
        segment_bytes: journal::SEGMENT_BYTES,
        reserve_bytes: RESERVE_BYTES,
        floor: dir.journal_floor(),
        gap: SEQ_GAP,
        metrics: metrics.clone(),
    };
    let (journal, _) =
        Journal::open(options).map_err(|error| failed("the journal cannot be opened", error))?;
    Ok(journal)
}

fn store_options(config: &Arc<ArcSwap<Config>>, metrics: &Metrics) -> store::Options {
    let (apps, config) = (Arc::clone(config), config.load());
    store::Options {
        cache_bytes: config.store.cache,
        history: config.store.history,
        history_per_account: config.store.history_per_account,
        max_lag: config.store.max_lag,
        journal_max: config.store.journal_max,
        metrics: metrics.clone(),
        app_name: Arc::new(move |app| {
            apps.load()
                .apps
                .get(&app)
                .map_or_else(|| app.to_string(), |app| app.name.clone())
        }),
    }
}

/// Events in the journal that the store has not applied.
fn lag(journal: &Journal, store: &Store) -> Arc<dyn Fn() -> u64 + Send + Sync> {
    let (synced, store) = (journal.synced(), store.clone());
    Arc::new(move || synced.borrow().saturating_sub(store.applied()))
}

/// What the daemon is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| failed("signals cannot be handled", error));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            reload: on(SignalKind::hangup())?,
        })
    }
}
