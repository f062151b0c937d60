//! From files to a checked [`Config`] and open targets, or to everything that is wrong with them.
//!
//! The files are parsed and put together into one tree ([`merge`]); its tables are read into structs
//! that mirror them ([`raw`], [`read`]), and what those hold is checked against each other and against
//! the machine here. Nothing is changed by loading, and no network is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use profilesync_target::{Secret, Settings, SettingsError};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostics::{Diagnostic, Diagnostics},
    merge, raw,
    read::{Read, read},
    sources::Sources,
    target::{Known, check_name, number, targets},
    units::{At, Bytes, Network},
};
use crate::{
    accept::tls::{self, TlsError},
    config::{Address, Admin, App, Config, Kinds, Listener, ListenerTls, Store, Target, Token},
    exit::chain,
};

/// A configuration without mistakes.
pub struct Loaded<T> {
    /// What it says.
    pub config: Config,
    /// What was made of the enabled targets, by name.
    pub targets: BTreeMap<String, T>,
    /// What is allowed and unwise.
    pub warnings: Diagnostics,
}

/// Loads the file `path` and its drop-ins. `open` is called with every enabled target and the kind's own settings of
/// it; what it finds wrong is reported together with all other mistakes.
///
/// Relative paths start at the folder of `path`.
///
/// # Errors
/// Everything that is wrong.
pub fn load<T>(
    path: &Path,
    kinds: Kinds<'_>,
    open: impl FnMut(&Target, Settings<'_>) -> Result<T, SettingsError>,
) -> Result<Loaded<T>, Diagnostics> {
    let (sources, unread) = Sources::read(path);
    load_sources(sources, unread, &base(path), kinds, open)
}

pub(super) fn load_sources<T>(
    sources: Sources,
    mut found: Vec<Diagnostic>,
    base: &Path,
    kinds: Kinds<'_>,
    open: impl FnMut(&Target, Settings<'_>) -> Result<T, SettingsError>,
) -> Result<Loaded<T>, Diagnostics> {
    let merge::Parsed {
        tree,
        syntax,
        masks,
        conflicts,
    } = merge::parse(&sources);
    found.extend(syntax);
    if !found.is_empty() {
        drop(tree);
        return Err(Diagnostics::new(sources, masks, found));
    }
    found.extend(conflicts);
    for span in masks.secrets() {
        found.extend(readable_secret(&sources, span));
    }
    let loaded = check(tree, base, kinds, open, &mut found);
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(Diagnostic::is_error);
    match loaded {
        Some((mut config, targets)) if errors.is_empty() => {
            config.files = sources.files.iter().map(|file| file.path.clone()).collect();
            Ok(Loaded {
                config,
                targets,
                warnings: Diagnostics::new(sources, masks, warnings),
            })
        }
        _ => Err(Diagnostics::new(sources, masks, errors)),
    }
}

/// Where relative paths start.
pub(super) fn base(path: &Path) -> PathBuf {
    let mut folder = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    folder.pop();
    folder
}

fn check<T>(
    mut tree: DeTable<'_>,
    base: &Path,
    kinds: Kinds<'_>,
    open: impl FnMut(&Target, Settings<'_>) -> Result<T, SettingsError>,
    found: &mut Vec<Diagnostic>,
) -> Option<(Config, BTreeMap<String, T>)> {
    let app_names = keys(&tree, "apps");
    let tables = take_targets(&mut tree, found);
    let root: Read<raw::Root> = read("", Spanned::new(0..0, tree), found);
    let whole = root.whole;
    let root = root.value?;
    if app_names.is_empty() && whole {
        found.push(Diagnostic::error("no app is configured").help(
            "add a table [apps.NAME] with `sdk_app_id = …`, and the `token` its webhooks are signed with",
        ));
    }
    let before = found.len();
    let apps = apps(root.apps, base, found);
    let known = Known {
        kinds,
        apps: &apps,
        app_names: &app_names,
        apps_whole: whole && found[before..].iter().all(|found| !found.is_error()),
        base,
    };
    if tables.is_empty() {
        found.push(
            Diagnostic::warning("no target is configured: events are kept and go nowhere")
                .help("add a table [targets.NAME]"),
        );
    }
    let (targets, opened) = targets(tables, &known, open, found);
    let listener = listener(root.listener, base, found);
    let config = Config {
        files: Vec::new(),
        store: store(root.store, base),
        admin: admin(root.admin, &listener.address, base, whole, found),
        listener,
        shutdown_grace: root.shutdown_grace.0,
        apps,
        targets,
    };
    Some((config, opened))
}

fn keys(tree: &DeTable<'_>, table: &str) -> BTreeSet<String> {
    tree.get(table)
        .and_then(|table| table.get_ref().as_table())
        .into_iter()
        .flat_map(DeTable::keys)
        .map(|key| key.get_ref().to_string())
        .collect()
}

fn take_targets<'a>(tree: &mut DeTable<'a>, found: &mut Vec<Diagnostic>) -> DeTable<'a> {
    let Some(targets) = tree.remove("targets") else {
        return DeTable::new();
    };
    let span = targets.span();
    match targets.into_inner() {
        DeValue::Table(tables) => tables,
        _ => {
            let message = "`targets` must be a table: write [targets.NAME]";
            found.push(Diagnostic::error(message).at(span));
            DeTable::new()
        }
    }
}

fn apps(
    raw: BTreeMap<String, At<raw::App>>,
    base: &Path,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<u64, App> {
    let mut apps: BTreeMap<u64, App> = BTreeMap::new();
    let mut spans = BTreeMap::new();
    for (name, At { span, value: raw }) in raw {
        if let Err(message) = check_name(&name) {
            found.push(Diagnostic::error(message).at(span.clone()));
        }
        let id = raw.sdk_app_id.value.get();
        if let Some(first) = spans.insert(id, raw.sdk_app_id.span.clone()) {
            let message = format!("two apps have the sdk_app_id {id}");
            found.push(
                Diagnostic::error(message)
                    .at(raw.sdk_app_id.span)
                    .and_at(first, "the other one")
                    .help("for several tokens of one app, write `tokens = [ …, … ]`"),
            );
        }
        let tokens = tokens(&name, &span, raw.token, raw.tokens, base, found);
        apps.insert(
            id,
            App {
                name,
                sdk_app_id: id,
                tokens,
            },
        );
    }
    apps
}

fn tokens(
    app: &str,
    span: &Range<usize>,
    token: Option<At<Secret>>,
    tokens: Option<At<Vec<At<Secret>>>>,
    base: &Path,
    found: &mut Vec<Diagnostic>,
) -> Vec<Token> {
    if let (Some(token), Some(tokens)) = (&token, &tokens) {
        let message = format!("`apps.{app}` has both `token` and `tokens`");
        found.push(
            Diagnostic::error(message)
                .at(token.span.clone())
                .and_at(tokens.span.clone(), "and here")
                .help("put all of them into `tokens`"),
        );
    }
    match (&token, &tokens) {
        (_, Some(tokens)) if tokens.value.is_empty() => found.push(
            Diagnostic::error(format!("`apps.{app}.tokens` is empty"))
                .at(tokens.span.clone())
                .help("leave it out if the app's webhooks are not signed"),
        ),
        (None, None) => found.push(
            Diagnostic::warning(format!(
                "`apps.{app}` has no token: whoever reaches the listener can change its profiles"
            ))
            .at(span.clone())
            .help("set the authentication token of the webhook in the console, and `token` here"),
        ),
        _ => {}
    }
    let one = token.into_iter().map(|token| ("token", token));
    let several = tokens.into_iter().flat_map(|tokens| tokens.value);
    one.chain(several.map(|token| ("tokens", token)))
        .filter_map(|(key, secret)| read_secret(&format!("apps.{app}.{key}"), secret, base, found))
        .collect()
}

fn read_secret(
    path: &str,
    secret: At<Secret>,
    base: &Path,
    found: &mut Vec<Diagnostic>,
) -> Option<Token> {
    match secret.value.within(base).read() {
        Ok(value) => Some(Token(value)),
        Err(error) => {
            found.push(Diagnostic::error(format!("`{path}`: {error}")).at(secret.span));
            None
        }
    }
}

fn listener(raw: raw::Listener, base: &Path, found: &mut Vec<Diagnostic>) -> Listener {
    let Bytes(max_body) = raw.max_body;
    let networks = |list: Vec<Network>| list.into_iter().map(|Network(net)| net).collect();
    Listener {
        address: absolute(raw.address.0, base),
        path: raw.path.0,
        max_body: usize::try_from(max_body).unwrap_or(usize::MAX),
        max_clock_skew: raw.max_clock_skew.0,
        sign_window: raw.sign_window.0,
        max_connections: number(raw.max_connections),
        rate_limit: raw.rate_limit,
        trusted_proxies: networks(raw.trusted_proxies),
        allow: networks(raw.allow),
        tls: raw.tls.map(|tls| listener_tls(&tls, base, found)),
        forward: raw.forward.map(|forward| forward.url.0),
    }
}

pub(super) fn absolute(address: Address, base: &Path) -> Address {
    match address {
        Address::Unix(path) => Address::Unix(base.join(path)),
        tcp @ Address::Tcp(_) => tcp,
    }
}

/// The files are read to see that they will do; the daemon reads them again.
fn listener_tls(raw: &raw::Tls, base: &Path, found: &mut Vec<Diagnostic>) -> ListenerTls {
    let before = found.len();
    let files = ListenerTls {
        certificate: readable("listener.tls.certificate", &raw.certificate, base, found),
        private_key: readable("listener.tls.private_key", &raw.private_key, base, found),
    };
    if found.len() > before {
        return files;
    }
    if let Err(error) = tls::load(&files) {
        let wrong = |key: &str, path: &At<PathBuf>| {
            let message = format!("`listener.tls.{key}`: {}", chain(&error));
            Diagnostic::error(message).at(path.span.clone())
        };
        found.push(match &error {
            TlsError::Certificate { .. } => wrong("certificate", &raw.certificate),
            TlsError::PrivateKey { .. } => wrong("private_key", &raw.private_key),
            TlsError::Pair { .. } => wrong("private_key", &raw.private_key)
                .and_at(raw.certificate.span.clone(), "the certificate"),
        });
    }
    files
}

/// A file that must be there.
fn readable(key: &str, path: &At<PathBuf>, base: &Path, found: &mut Vec<Diagnostic>) -> PathBuf {
    let file = base.join(&path.value);
    if let Err(error) = File::open(&file) {
        let message = format!("`{key}`: {} cannot be read: {error}", file.display());
        found.push(Diagnostic::error(message).at(path.span.clone()));
    }
    file
}

fn store(raw: raw::Store, base: &Path) -> Store {
    Store {
        path: base.join(raw.path),
        history: raw.history.0,
        history_per_account: raw.history_per_account,
        cache: raw.cache.0,
        journal_max: raw.journal_max.0,
        max_lag: raw.max_lag.get(),
    }
}

/// `whole` says that nothing was left out of `raw` for its mistakes.
fn admin(
    raw: raw::Admin,
    listener: &Address,
    base: &Path,
    whole: bool,
    found: &mut Vec<Diagnostic>,
) -> Admin {
    if let (Some(address), None, true) = (&raw.address, &raw.token, whole)
        && !address.value.0.ip().is_loopback()
    {
        found.push(
            Diagnostic::error(
                "`admin.address` is not a loopback address, and there is no `admin.token`",
            )
            .at(address.span.clone())
            .help("set `admin.token`, or listen on 127.0.0.1"),
        );
    }
    if let (Some(At { span, value }), Address::Tcp(listener)) = (&raw.address, listener)
        && overlap(&value.0, listener)
    {
        let message = format!("`admin.address` is taken by `listener.address`, {listener}");
        found.push(
            Diagnostic::error(message)
                .at(span.clone())
                .help("give one of them another port"),
        );
    }
    Admin {
        socket: base.join(raw.socket),
        address: raw.address.map(|address| address.value.0),
        token: raw
            .token
            .and_then(|token| read_secret("admin.token", token, base, found)),
    }
}

/// Whether only one of two sockets can be had. Port 0 is any that is free.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip()
        || one.is_ipv4() == other.is_ipv4()
            && (one.ip().is_unspecified() || other.ip().is_unspecified());
    one.port() == other.port() && one.port() != 0 && same_ip
}

/// A secret that is written out in a file which every user of the machine may read.
fn readable_secret(sources: &Sources, span: Range<usize>) -> Option<Diagnostic> {
    let source = sources.source_at(span.start)?;
    source.public.then(|| {
        Diagnostic::warning("a secret is written out in a file that every user can read")
            .at(span)
            .help(format!(
                "`chmod o-r {}`, or keep it elsewhere: {{ file = \"…\" }}, {{ credential = \"…\" }}",
                source.path.display()
            ))
    })
}
