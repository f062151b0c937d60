//! The configuration as the file writes it: one struct per table, which knows the table's keys and their defaults.
//!
//! `load` and `target` turn these into the checked values of [`config`](super). The JSON Schema is made of them,
//! so that the comments here are what an editor shows.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use profilesync_target::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::units::{
    AppRef, At, Bytes, Count, FieldName, HttpUrl, ListenAddress, Network, Pattern, TcpAddress,
    Time, TimeOrZero, UrlPath,
};
use crate::config::{Address, Mode, OnDestroy, Rate};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The configuration of profilesync.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Root {
    /// The apps whose webhooks are taken, each under a name of its own.
    pub(super) apps: BTreeMap<String, At<App>>,
    /// Where webhooks come in.
    pub(super) listener: Listener,
    /// Where events and profiles are kept.
    pub(super) store: Store,
    /// Where the commands and the admin API reach the daemon.
    pub(super) admin: Admin,
    /// What is kept in sync, each under a name of its own.
    #[schemars(skip)]
    pub(super) targets: IgnoredAny,
    /// How long a stop waits for requests and deliveries to finish.
    pub(super) shutdown_grace: TimeOrZero,
}

impl Default for Root {
    fn default() -> Self {
        Self {
            apps: BTreeMap::new(),
            listener: Listener::default(),
            store: Store::default(),
            admin: Admin::default(),
            targets: IgnoredAny,
            shutdown_grace: TimeOrZero(20 * SECOND),
        }
    }
}

/// One app of Tencent Cloud Chat.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    /// The app's SDKAppID.
    pub(super) sdk_app_id: At<NonZeroU64>,
    /// The token its requests are signed with. Without one they are not checked.
    pub(super) token: Option<At<Secret>>,
    /// Several tokens that are valid at once, while one is replaced by another.
    pub(super) tokens: Option<At<Vec<At<Secret>>>>,
}

/// Where webhooks come in.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listener {
    /// Where to listen, unless systemd hands over a socket: an IP address and a port, or `unix:/path`.
    pub(super) address: ListenAddress,
    /// The one path of the URL that takes webhooks.
    pub(super) path: UrlPath,
    /// The longest body of a request.
    pub(super) max_body: Bytes<{ 16 << 20 }>,
    /// How far in the future an EventTime may be.
    pub(super) max_clock_skew: TimeOrZero,
    /// How far from now the RequestTime of a signed request may be.
    pub(super) sign_window: Time,
    /// Most connections open at the same time.
    pub(super) max_connections: Count<1_000_000>,
    /// Most requests, such as "500/s". No limit by default.
    pub(super) rate_limit: Option<Rate>,
    /// Proxies whose X-Forwarded-For is believed.
    pub(super) trusted_proxies: Vec<Network>,
    /// Networks that may send webhooks. All may by default.
    pub(super) allow: Vec<Network>,
    /// Serves https.
    pub(super) tls: Option<Tls>,
    /// Passes on the webhooks that are not about profiles.
    pub(super) forward: Option<Forward>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: ListenAddress(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 8700)))),
            path: UrlPath("/".into()),
            max_body: Bytes(64 << 10),
            max_clock_skew: TimeOrZero(DAY),
            sign_window: Time(MINUTE),
            max_connections: Count(1024),
            rate_limit: None,
            trusted_proxies: Vec::new(),
            allow: Vec::new(),
            tls: None,
            forward: None,
        }
    }
}

/// Serves https. The files are read again when they change.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// PEM file: the certificate and its chain.
    pub(super) certificate: At<PathBuf>,
    /// PEM file: the certificate's key.
    pub(super) private_key: At<PathBuf>,
}

/// Passes on the webhooks that are not about profiles.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Forward {
    /// Where to. What it answers goes back to the sender.
    pub(super) url: HttpUrl,
}

/// Where events and profiles are kept.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    /// The state directory.
    pub(super) path: PathBuf,
    /// How long events are kept.
    pub(super) history: Time,
    /// How many events of one account are kept.
    pub(super) history_per_account: NonZeroU32,
    /// Memory for the store's cache.
    pub(super) cache: Bytes,
    /// How much journal is written before the next snapshot.
    pub(super) journal_max: Bytes,
    /// How many events the store may be behind the journal before webhooks are refused.
    pub(super) max_lag: NonZeroU64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: "/var/lib/profilesync".into(),
            history: Time(90 * DAY),
            history_per_account: NonZeroU32::new(1000).expect("is above zero"),
            cache: Bytes(64 << 20),
            journal_max: Bytes(256 << 20),
            max_lag: NonZeroU64::new(1_000_000).expect("is above zero"),
        }
    }
}

/// Where the commands and the admin API reach the daemon.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    /// The admin socket; its mode is 0660.
    pub(super) socket: PathBuf,
    /// Serves API and metrics on TCP too. Needs a token if it is not a loopback address.
    pub(super) address: Option<At<TcpAddress>>,
    /// Asked for as a bearer token on TCP.
    pub(super) token: Option<At<Secret>>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: "/run/profilesync/admin.sock".into(),
            address: None,
            token: None,
        }
    }
}

/// What every target has, of whatever type.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// A disabled target keeps its state and gets nothing.
    pub(super) enabled: bool,
    /// `shadow` records what would be sent and sends nothing.
    pub(super) mode: Mode,
    /// Only accounts of these apps: names, or sdk_app_ids.
    pub(super) apps: Option<At<Vec<At<AppRef>>>>,
    /// Only accounts whose id matches one of these patterns, such as "@TOA#_*".
    pub(super) accounts: Option<At<Vec<Pattern>>>,
    /// Deliver only if one of these fields of the document changed, such as "name" or "extra.Level".
    pub(super) fields: Option<At<Vec<FieldName>>>,
    /// Whether the target is told of destroyed accounts.
    pub(super) on_destroy: OnDestroy,
    /// Calls at the same time.
    pub(super) concurrency: Count<1024>,
    /// Most deliveries, such as "50/s". No limit by default.
    pub(super) rate_limit: Option<Rate>,
    /// How long one call may take.
    pub(super) timeout: Time,
    /// Most documents in one call, for types that take several.
    pub(super) batch: Option<Count<10_000>>,
    /// When to try again.
    pub(super) retry: At<Retry>,
    /// When to leave a failing target alone.
    pub(super) breaker: At<Breaker>,
    /// How fast a new or changed target is filled.
    pub(super) backfill: Backfill,
    /// Holds a target that would get too many changes. Off by default.
    pub(super) guard: Option<Guard>,
}

/// The keys of [`Options`], which are the daemon's; all others of a target's table are the type's own.
pub(super) const OPTION_KEYS: [&str; 14] = [
    "enabled",
    "mode",
    "apps",
    "accounts",
    "fields",
    "on_destroy",
    "concurrency",
    "rate_limit",
    "timeout",
    "batch",
    "retry",
    "breaker",
    "backfill",
    "guard",
];

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: Mode::Live,
            apps: None,
            accounts: None,
            fields: None,
            on_destroy: OnDestroy::Deliver,
            concurrency: Count(4),
            rate_limit: None,
            timeout: Time(10 * SECOND),
            batch: None,
            retry: At::default(),
            breaker: At::default(),
            backfill: Backfill::default(),
            guard: None,
        }
    }
}

/// When to try again: after a random time below a bound that doubles with each failure.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retry {
    /// The first bound.
    pub(super) initial: Time,
    /// The greatest bound.
    pub(super) max: Time,
    /// The longest delay that a target may ask for (Retry-After).
    pub(super) max_delay: Time,
    /// An account that fails for so long is parked until it changes.
    pub(super) give_up_after: Time,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Time(SECOND),
            max: Time(5 * MINUTE),
            max_delay: Time(HOUR),
            give_up_after: Time(DAY),
        }
    }
}

/// When to leave a failing target alone.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Breaker {
    /// So many failures of the target in a row open the breaker.
    pub(super) failures: NonZeroU32,
    /// How long an open breaker waits before it tries one delivery.
    pub(super) probe: Time,
    /// What that wait grows to.
    pub(super) probe_max: Time,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::new(10).expect("is above zero"),
            probe: Time(30 * SECOND),
            probe_max: Time(5 * MINUTE),
        }
    }
}

/// How fast a new or changed target is filled.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Backfill {
    /// Accounts that become due, such as "1000/s".
    pub(super) rate: Rate,
}

impl Default for Backfill {
    fn default() -> Self {
        Self {
            rate: Rate {
                count: NonZeroU32::new(1000).expect("is above zero"),
                per: SECOND,
            },
        }
    }
}

/// Holds a target that would get more changes than this, until `profilesync targets approve`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Guard {
    /// So many accounts may change…
    pub(super) max_changes: NonZeroU32,
    /// …in this time.
    pub(super) window: Time,
}
