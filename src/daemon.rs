//! `profilesync run`: puts the parts together, and takes them apart in an order in which nothing is lost.
//!
//! The listener answers as soon as the journal is open; store and dispatchers come up behind it. On the way out the
//! listener goes first, then the dispatchers, then the journal, and the applier last.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{
        self, Limits, Socket,
        tls::{self, Tls},
    },
    admin::{self, Admin, view::ReloadReport},
    clock,
    config::{
        self, Address, Config,
        load::{Loaded, load},
    },
    dispatch::{ActError, Action, Dispatchers},
    exit::{Exit, Failure, chain},
    journal::{self, Journal},
    listen::Ingest,
    metrics::Metrics,
    status::TargetStatus,
    store::{
        self, Applier, Store,
        state_dir::{HoldError, LastRun, StateDir},
    },
    systemd::{self, Handed, Probe},
    targets::{self, OpenedTarget},
};

/// Events are refused while the file system has less than this left, bytes: what was acknowledged must still find
/// its way into the store.
const RESERVE_BYTES: u64 = 8 << 20;
/// Numbers left out at a start after an unclean stop, so that none is ever given out twice even when the journal
/// lost its newest segment.
const SEQ_GAP: u64 = 1 << 20;
/// Connections of the admin API, and bytes of a request to it.
const ADMIN_LIMITS: Limits = Limits::new(64, 64 << 10);

type Targets = BTreeMap<String, Arc<OpenedTarget>>;

/// The parts that a reload or an operator reaches.
struct Running {
    path: PathBuf,
    config: Arc<ArcSwap<Config>>,
    ingest: Arc<Ingest>,
    dispatchers: Dispatchers,
    store: Store,
    metrics: Metrics,
    tls: Option<Tls>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start.
pub async fn run(path: &Path) -> Result<(), Failure> {
    let Loaded {
        config,
        targets,
        warnings,
    } = read(path)?;
    for warning in warnings.lines() {
        tracing::warn!("{warning}");
    }
    let targets = shared(targets);
    let mut signals = Signals::new()?;
    let handed = systemd::sockets().map_err(|error| failed("no sockets from systemd", error))?;
    let (listening, listener) = webhook_sockets(&config.listener.address, handed.webhook).await?;
    let admin_sockets = admin_sockets(&config.admin, handed.admin).await?;
    let tls = config.listener.tls.as_ref().map(tls::load).transpose();
    let tls = tls.map_err(|error| failed("the listener's certificate cannot be used", error))?;

    let metrics = Metrics::new();
    let dir = Arc::new(hold(&config.store.path)?);
    let last_run = dir.begin_run();
    let journal = open_journal(&dir, last_run, &metrics)?;
    let config = Arc::new(ArcSwap::from_pointee(config));
    let options = store_options(&config, &metrics);
    let (store, applier) = Applier::start(Arc::clone(&dir), last_run, &journal, options);
    let ingest = Ingest::new(
        &config.load(),
        journal.clone(),
        lag(&journal, &store),
        metrics.clone(),
    );
    let dispatchers = Dispatchers::start(store.clone(), targets, metrics.clone());
    let running = Arc::new(Running {
        path: path.to_owned(),
        config,
        ingest: Arc::new(ingest),
        dispatchers,
        store: store.clone(),
        metrics: metrics.clone(),
        tls: tls.map(|config| Arc::new(ArcSwap::from_pointee(config))),
        reloading: Mutex::default(),
    });
    let started = clock::now();
    let daemon: Arc<dyn admin::Daemon> = Arc::clone(&running) as _;
    let (_, listener) = watch::channel(Ok(listener));
    let (journal_health, journal_synced) = (journal.health(), journal.synced());
    let admin = Admin {
        store,
        journal_health,
        journal_synced,
        listener,
        metrics,
        daemon,
        started,
    };
    let doors = Doors::open(
        &running,
        &journal,
        Arc::new(admin),
        listening,
        admin_sockets,
    );
    systemd::ready("listening");

    let grace = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break running.config.load().shutdown_grace,
            _ = signals.interrupt.recv() => break running.config.load().shutdown_grace,
            _ = signals.reload.recv() => running.reload_for_systemd().await,
        }
    };
    tracing::info!(?grace, "stopping");
    systemd::stopping("answering what is in hand and finishing deliveries");
    doors.close(&running, grace).await;
    journal.stop().await;
    applier.stop().await;
    tracing::info!("stopped");
    Ok(())
}

fn read(path: &Path) -> Result<Loaded<OpenedTarget>, Failure> {
    load(path, targets::KINDS, targets::open).map_err(|mistakes| {
        mistakes.print();
        let help = format!("`profilesync check -c {}` shows them again", path.display());
        Failure::new(
            Exit::Config,
            format!("the configuration has {} mistakes", mistakes.len()),
        )
        .help(help)
    })
}

fn shared(targets: BTreeMap<String, OpenedTarget>) -> Targets {
    targets
        .into_iter()
        .map(|(name, target)| (name, Arc::new(target)))
        .collect()
}

fn failed(
    what: impl Into<String>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Failure {
    Failure::new(Exit::Failed, what).because(error)
}

fn hold(path: &Path) -> Result<StateDir, Failure> {
    StateDir::hold(path).map_err(|error| {
        let exit = match error {
            HoldError::Held { .. } => Exit::TryAgain,
            HoldError::Io { .. } => Exit::Failed,
        };
        Failure::new(exit, "the daemon cannot start").because(error)
    })
}

fn open_journal(dir: &StateDir, last_run: LastRun, metrics: &Metrics) -> Result<Journal, Failure> {
    let options = journal::Options {
        dir: dir.journal(),
        segment_bytes: journal::SEGMENT_BYTES,
        reserve_bytes: RESERVE_BYTES,
        floor: dir.journal_floor(),
        gap: if last_run == LastRun::Clean {
            0
        } else {
            SEQ_GAP
        },
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

/// Sockets for webhooks, and where they are.
async fn webhook_sockets(
    address: &Address,
    handed: Vec<Handed>,
) -> Result<(Vec<Socket>, String), Failure> {
    let cannot = |error: io::Error| failed("the sockets from systemd cannot be used", error);
    let sockets = if handed.is_empty() {
        vec![bind(address).await?]
    } else {
        handed
            .into_iter()
            .map(take)
            .collect::<Result<_, _>>()
            .map_err(cannot)?
    };
    let places: Vec<_> = sockets.iter().map(place).collect();
    let places = places.join(" ");
    tracing::info!(address = %places, "listening");
    Ok((sockets, places))
}

async fn admin_sockets(
    config: &config::Admin,
    handed: Vec<Handed>,
) -> Result<Vec<Socket>, Failure> {
    if handed.is_empty() {
        return admin::bind(config)
            .await
            .map_err(|error| failed("the admin API cannot be served", error));
    }
    let sockets = handed.into_iter().map(take).collect::<Result<_, _>>();
    sockets.map_err(|error| failed("the sockets from systemd cannot be used", error))
}

async fn bind(address: &Address) -> Result<Socket, Failure> {
    match address {
        Address::Tcp(address) => {
            TcpListener::bind(address)
                .await
                .map(Socket::Tcp)
                .map_err(|error| {
                    failed(format!("cannot listen on {address}"), error).help(
                        "another process may have the port; set listener.address to a free one",
                    )
                })
        }
        Address::Unix(path) => admin::bind_unix(path)
            .map(Socket::Unix)
            .map_err(|error| failed(format!("cannot listen on {}", path.display()), error)),
    }
}

fn take(handed: Handed) -> io::Result<Socket> {
    Ok(match handed {
        Handed::Tcp(listener) => Socket::Tcp(TcpListener::from_std(listener)?),
        Handed::Unix(listener) => Socket::Unix(UnixListener::from_std(listener)?),
    })
}

fn place(socket: &Socket) -> String {
    match socket {
        Socket::Tcp(listener) => listener
            .local_addr()
            .map_or_else(|_| "?".into(), |at| at.to_string()),
        Socket::Unix(listener) => {
            let path = listener
                .local_addr()
                .ok()
                .and_then(|at| at.as_pathname().map(Path::to_owned));
            path.map_or_else(
                || "unix:?".into(),
                |path| format!("unix:{}", path.display()),
            )
        }
    }
}

/// What serves requests, and what is to end with it.
struct Doors {
    stop_listening: CancellationToken,
    listener: JoinHandle<usize>,
    stop_admin: CancellationToken,
    admin: JoinHandle<usize>,
}

impl Doors {
    fn open(
        running: &Arc<Running>,
        journal: &Journal,
        admin: Arc<Admin>,
        listening: Vec<Socket>,
        admin_sockets: Vec<Socket>,
    ) -> Self {
        let (stop_listening, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let config = running.config.load();
        let ingest = Arc::clone(&running.ingest);
        let limits = move || ingest.limits();
        let routes = Arc::clone(&running.ingest).routes();
        let tls = running.tls.clone();
        if let (Some(tls), Some(files)) = (&tls, &config.listener.tls) {
            tokio::spawn(tls::follow(
                files.clone(),
                Arc::clone(tls),
                stop_listening.clone(),
            ));
        }
        let grace = config.shutdown_grace;
        let listener = accept::serve(
            listening,
            tls,
            limits,
            routes,
            stop_listening.clone(),
            grace,
        );
        let listener = tokio::spawn(listener);
        if let Some(interval) = systemd::watchdog_interval() {
            let probes = probes(&running.store, journal, &listener);
            tokio::spawn(systemd::watchdog(interval, probes, stop_admin.clone()));
        }
        if std::io::IsTerminal::is_terminal(&io::stderr()) {
            tokio::spawn(admin::status_lines(Arc::clone(&admin), stop_admin.clone()));
        }
        let routes = admin::routes(admin, config.admin.token.clone());
        let patience = Duration::from_secs(1);
        let admin = accept::serve(
            admin_sockets,
            None,
            || ADMIN_LIMITS,
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
    async fn close(self, running: &Running, grace: Duration) {
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

/// The watchdog is fed while the listener's task lives, the journal answers and the applier moves.
fn probes(store: &Store, journal: &Journal, listener: &JoinHandle<usize>) -> Vec<Probe> {
    let (store, journal, listener) = (store.clone(), journal.clone(), listener.abort_handle());
    vec![
        Probe::new("listener", move || {
            let alive = !listener.is_finished();
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

impl Running {
    async fn reload_for_systemd(&self) {
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
