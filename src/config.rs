//! The configuration once checked: values that cannot be wrong.
//!
//! `config/load.rs` makes it of the files; the modules below it hold every message about them.

pub mod diagnostics;
pub mod load;
mod mask;
mod merge;
pub mod peek;
mod raw;
mod read;
pub mod schema;

mod sources;
mod target;
#[cfg(test)]
mod tests;
mod units;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use globset::GlobSet;
use ipnet::IpNet;
use profilesync_target::{Kind, OpenContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything the files say.
pub struct Config {
    /// Where it was read: the main file first, then the drop-ins.
    pub files: Vec<PathBuf>,
    /// Apps by `sdk_app_id`.
    pub apps: BTreeMap<u64, App>,
    /// `[listener]`
    pub listener: Listener,
    /// `[store]`
    pub store: Store,
    /// `[admin]`
    pub admin: Admin,
    /// `[targets.NAME]` by NAME, disabled ones included.
    pub targets: BTreeMap<String, Target>,
    /// How long SIGTERM lets requests and deliveries finish.
    pub shutdown_grace: Duration,
}

/// `[apps.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// NAME
    pub name: String,
    /// `sdk_app_id`
    pub sdk_app_id: u64,
    /// The tokens that are valid now; empty when requests are not signed.
    pub tokens: Vec<Token>,
}

/// A secret's value; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `[listener]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where to listen, unless systemd hands over a socket.
    pub address: Address,
    /// The one path that takes webhooks.
    pub path: String,
    /// Bytes.
    pub max_body: usize,
    /// How far in the future an `EventTime` may be.
    pub max_clock_skew: Duration,
    /// How far `RequestTime` may be from now.
    pub sign_window: Duration,
    /// Open connections.
    pub max_connections: NonZeroUsize,
    /// Requests per second; `None` is no limit.
    pub rate_limit: Option<Rate>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers that may send; empty allows all.
    pub allow: Vec<IpNet>,
    /// Certificate and key, PEM.
    pub tls: Option<ListenerTls>,
    /// Where other commands go.
    pub forward: Option<reqwest::Url>,
}

/// A TCP address or a Unix socket's path (`unix:/run/…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// PEM file: the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file.
    pub private_key: PathBuf,
}

/// So many per second (`"50/s"`); also written per minute or hour.
pub type Rate = profilesync_target::Rate;

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The state directory.
    pub path: PathBuf,
    /// How long events are kept.
    pub history: Duration,
    /// How many events of one account are kept.
    pub history_per_account: NonZeroU32,
    /// sled's cache, bytes.
    pub cache: u64,
    /// Journal bytes since the last snapshot that ask for a new one.
    pub journal_max: u64,
    /// Events the store may be behind the journal.
    pub max_lag: u64,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The admin socket, mode 0660.
    pub socket: PathBuf,
    /// TCP too.
    pub address: Option<SocketAddr>,
    /// Asked for on TCP; needed off loopback.
    pub token: Option<Token>,
}

/// The kinds of targets that there are.
#[derive(Clone, Copy)]
pub struct Kinds<'a> {
    /// Those that this program was built with.
    pub built: &'a [Kind],
    /// The names of all, by which others can be built in.
    pub names: &'a [&'a str],
}

/// `[targets.NAME]`; [`load`](load::load) opens it with the kind's own keys.
pub struct Target {
    /// NAME
    pub name: String,
    /// The output.
    pub kind: Kind,
    /// Where relative paths in its settings start.
    pub base: PathBuf,
    /// The daemon's keys.
    pub options: TargetOptions,
    /// The kind's own keys as written, to be compared with those of another time; may hold secrets.
    pub settings: toml::Table,
}

impl Target {
    /// What the kind is told when it opens the target.
    #[must_use]
    pub fn context(&self) -> OpenContext {
        OpenContext {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            timeout: self.options.timeout,
            base: self.base.clone(),
        }
    }
}

/// The keys every `[targets.NAME]` has.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// A disabled target keeps its state and gets nothing.
    pub enabled: bool,
    /// Whether anything is sent.
    pub mode: Mode,
    /// Only accounts of these apps (`sdk_app_id`s); `None` takes all.
    pub apps: Option<Vec<u64>>,
    /// Only accounts whose id matches one of these globs; `None` takes all.
    pub accounts: Option<GlobSet>,
    /// Deliver only if one of these changed; `None` is any. Names as in the document; `extra.X` for others.
    pub fields: Option<Vec<crate::event::Field>>,
    /// What to do about destroyed accounts.
    pub on_destroy: OnDestroy,
    /// Calls at the same time.
    pub concurrency: NonZeroUsize,
    /// Deliveries per second.
    pub rate_limit: Option<Rate>,
    /// Of one call.
    pub timeout: Duration,
    /// Most documents in one call, beside the kind's own limit; `None` leaves it to the kind.
    pub batch: Option<NonZeroUsize>,
    /// `retry`
    pub retry: Retry,
    /// `breaker`
    pub breaker: Breaker,
    /// `backfill.rate`: accounts per second.
    pub backfill_rate: Rate,
    /// `guard`
    pub guard: Option<Guard>,
    /// What the daemon's keys add to the identity of the target: mode, apps, accounts, fields, `on_destroy`.
    pub identity: serde_json::Value,
}

/// `mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Sends.
    Live,
    /// Renders and records, sends nothing.
    Shadow,
}

impl Mode {
    /// As it is written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Shadow => "shadow",
        }
    }
}

/// `on_destroy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDestroy {
    /// The target is told.
    Deliver,
    /// It is not.
    Skip,
}

/// `retry`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The bound of the first delay.
    pub initial: Duration,
    /// The bound of every delay.
    pub max: Duration,
    /// The most a target's own Retry-After is honoured.
    pub max_delay: Duration,
    /// An account that fails for so long is parked.
    pub give_up_after: Duration,
}

/// `breaker`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Consecutive target faults that open it.
    pub failures: NonZeroU32,
    /// The first interval between probes; it grows to `probe_max`.
    pub probe: Duration,
    /// 5 min.
    pub probe_max: Duration,
}

/// `guard`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// More account changes than this…
    pub max_changes: NonZeroU32,
    /// …in this time hold the target.
    pub window: Duration,
}
