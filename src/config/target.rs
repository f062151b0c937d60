//! `[targets.NAME]`: finds the kind, takes out the daemon's own keys and opens the target with the rest.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::Path,
};

use globset::{GlobSet, GlobSetBuilder};
use profilesync_target::{Kind, Settings, SettingsError};
use serde_json::json;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostics::Diagnostic,
    raw,
    read::{MOST, explain, join, missing_field, named_key, read, take_entry},
    units::{AppRef, At, Count, Pattern},
};
use crate::config::{App, Breaker, Guard, Kinds, Retry, Target, TargetOptions};

/// A key that comes after all others.
const LAST: &str = "\u{10ffff}";

/// What targets may refer to.
pub(super) struct Known<'a> {
    pub(super) kinds: Kinds<'a>,
    pub(super) apps: &'a BTreeMap<u64, App>,
    /// The names of all apps in the files, those with mistakes included.
    pub(super) app_names: &'a BTreeSet<String>,
    /// Whether all apps in the files are in `apps`.
    pub(super) apps_whole: bool,
    /// Where relative paths start.
    pub(super) base: &'a Path,
}

/// All targets, and what `open` made of those that are enabled.
pub(super) type Targets<T> = (BTreeMap<String, Target>, BTreeMap<String, T>);

/// Reads and opens all targets. What `open` finds wrong is reported with the rest.
pub(super) fn targets<T>(
    tables: DeTable<'_>,
    known: &Known<'_>,
    mut open: impl FnMut(&Target, Settings<'_>) -> Result<T, SettingsError>,
    found: &mut Vec<Diagnostic>,
) -> Targets<T> {
    let mut targets = BTreeMap::new();
    let mut opened = BTreeMap::new();
    for (name, table) in tables {
        let (name_span, name) = (name.span(), name.into_inner().into_owned());
        let span = table.span();
        if let Err(message) = check_name(&name) {
            found.push(Diagnostic::error(message).at(name_span));
        }
        let DeValue::Table(table) = table.into_inner() else {
            let message = format!("`targets.{name}` must be a table");
            found.push(Diagnostic::error(message).at(span));
            continue;
        };
        let (target, table) = target(&name, Spanned::new(span, table), known, found);
        let Some(target) = target else { continue };
        opened.extend(open_kind(&target, table, &mut open, found));
        targets.insert(name, target);
    }
    (targets, opened)
}

/// Opens a target, or reports what its kind cannot read, as [`read`] does. What a kind only says of what it could read
/// is reported alone: what was taken out may be the cause.
///
/// A disabled target is not opened, which would read secrets that need not be there yet. Only what its kind cannot read
/// is reported: a key that no kind knows, and that comes last, ends it then.
fn open_kind<T>(
    target: &Target,
    mut table: Spanned<DeTable<'_>>,
    open: &mut impl FnMut(&Target, Settings<'_>) -> Result<T, SettingsError>,
    found: &mut Vec<Diagnostic>,
) -> Option<(String, T)> {
    let mut removed: Vec<String> = Vec::new();
    if !target.options.enabled {
        let last = Spanned::new(0..0, Cow::from(LAST));
        let value = Spanned::new(0..0, DeValue::Boolean(true));
        table.get_mut().insert(last, value);
    }
    loop {
        let error = match open(target, Settings::new(table.clone())) {
            Ok(opened) if removed.is_empty() && target.options.enabled => {
                return Some((target.name.clone(), opened));
            }
            Ok(_) => return None,
            Err(error) => error,
        };
        if error.message.contains(LAST) {
            return None;
        }
        let is_unread = explain(&error.message, "").is_some();
        let missing = missing_field(&error.message).map(str::to_owned);
        let (entry, diagnostic) = explain_kinds(&target.name, &mut table, error);
        let missing = missing.map(|field| join(entry.as_deref().unwrap_or_default(), &field));
        let is_told = missing.is_some_and(|missing| removed.contains(&missing));
        if removed.is_empty() || is_unread && !is_told {
            found.push(diagnostic);
        }
        match entry {
            Some(entry) if is_unread && removed.len() < MOST => removed.push(entry),
            _ => return None,
        }
    }
}

/// Names are part of URLs, metrics and files.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name: a name has 1 to 64 characters out of a-z, 0-9, _ and -"
    ))
}

/// The target without the kind's own keys, and those.
fn target<'a>(
    name: &str,
    mut table: Spanned<DeTable<'a>>,
    known: &Known<'_>,
    found: &mut Vec<Diagnostic>,
) -> (Option<Target>, Spanned<DeTable<'a>>) {
    let kind = kind(name, &mut table, known.kinds, found);
    let mut own = DeTable::new();
    for key in raw::OPTION_KEYS {
        if let Some((key, value)) = table.get_mut().remove_entry(key) {
            own.insert(key, value);
        }
    }
    let path = format!("targets.{name}");
    let raw = read::<raw::Options>(&path, Spanned::new(table.span(), own), found).value;
    let options = raw.and_then(|raw| options(&path, raw, known, found));
    let target = kind.zip(options).map(|(kind, options)| Target {
        name: name.to_owned(),
        kind,
        base: known.base.to_owned(),
        options,
        // What is no table for the kind is none for the comparison either.
        settings: Settings::new(table.clone()).parse().unwrap_or_default(),
    });
    (target, table)
}

fn kind(
    name: &str,
    table: &mut Spanned<DeTable<'_>>,
    kinds: Kinds<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Kind> {
    let names = kinds.built.iter().map(|kind| kind.name);
    let span = table.span();
    let Some(value) = table.get_mut().remove("type") else {
        let known: Vec<_> = names.map(|name| format!("type = \"{name}\"")).collect();
        found.push(
            Diagnostic::error(format!("`targets.{name}.type` is missing"))
                .at(span)
                .help(format!("say what it is: {}", known.join(" or "))),
        );
        return None;
    };
    let wanted = value.get_ref().as_str().unwrap_or_default();
    let kind = kinds.built.iter().find(|kind| kind.name == wanted);
    if kind.is_none() {
        let wrong = if kinds.names.contains(&wanted) {
            let known: Vec<_> = names.collect();
            Diagnostic::error(format!("`targets.{name}.type`: `{wanted}` is not in this build"))
                .help(format!(
                    "build it with `cargo build --release --features {wanted}` (or `full`); known here: {}",
                    known.join(", ")
                ))
        } else {
            Diagnostic::error(format!(
                "`targets.{name}.type` is not a type of target that this program was built with"
            ))
            .suggest(wanted, names)
        };
        found.push(wrong.at(value.span()));
    }
    kind.copied()
}

fn options(
    path: &str,
    raw: raw::Options,
    known: &Known<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<TargetOptions> {
    not_empty(path, "apps", raw.apps.as_ref(), found);
    not_empty(path, "accounts", raw.accounts.as_ref(), found);
    not_empty(path, "fields", raw.fields.as_ref(), found);
    let retry = raw.retry.value;
    if retry.initial.0 > retry.max.0 {
        let message = format!("`{path}.retry.initial` is longer than `{path}.retry.max`");
        found.push(Diagnostic::error(message).at(raw.retry.span));
    }
    let breaker = raw.breaker.value;
    if breaker.probe.0 > breaker.probe_max.0 {
        let message = format!("`{path}.breaker.probe` is longer than `{path}.breaker.probe_max`");
        found.push(Diagnostic::error(message).at(raw.breaker.span));
    }
    let apps = raw.apps.map(|apps| app_ids(path, apps.value, known, found));
    let mut patterns: Vec<_> = raw
        .accounts
        .iter()
        .flat_map(|accounts| &accounts.value)
        .map(|Pattern(glob)| glob.glob().to_owned())
        .collect();
    patterns.sort();
    let accounts = match raw.accounts {
        Some(accounts) => Some(glob_set(path, &accounts, found)?),
        None => None,
    };
    let mut fields: Option<Vec<_>> = raw
        .fields
        .map(|fields| fields.value.into_iter().map(|field| field.0).collect());
    if let Some(fields) = &mut fields {
        fields.sort();
    }
    let identity = json!({
        "mode": raw.mode,
        "apps": apps,
        "accounts": patterns,
        "fields": fields,
        "on_destroy": raw.on_destroy,
    });
    Some(TargetOptions {
        enabled: raw.enabled,
        mode: raw.mode,
        apps,
        accounts,
        fields,
        on_destroy: raw.on_destroy,
        concurrency: number(raw.concurrency),
        rate_limit: raw.rate_limit,
        timeout: raw.timeout.0,
        batch: raw.batch.map(number),
        retry: Retry {
            initial: retry.initial.0,
            max: retry.max.0,
            max_delay: retry.max_delay.0,
            give_up_after: retry.give_up_after.0,
        },
        breaker: Breaker {
            failures: breaker.failures,
            probe: breaker.probe.0,
            probe_max: breaker.probe_max.0,
        },
        backfill_rate: raw.backfill.rate,
        guard: raw.guard.map(|guard| Guard {
            max_changes: guard.max_changes,
            window: guard.window.0,
        }),
        identity,
    })
}

/// An empty list would let nothing through, which nobody means.
fn not_empty<T>(path: &str, key: &str, list: Option<&At<Vec<T>>>, found: &mut Vec<Diagnostic>) {
    if let Some(At { span, value }) = list
        && value.is_empty()
    {
        found.push(
            Diagnostic::error(format!("`{path}.{key}` is empty"))
                .at(span.clone())
                .help("leave it out to take all"),
        );
    }
}

fn app_ids(
    path: &str,
    refs: Vec<At<AppRef>>,
    known: &Known<'_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<u64> {
    let mut ids = BTreeSet::new();
    for At { span, value } in refs {
        let app = match &value {
            AppRef::Id(id) => known.apps.get(id),
            AppRef::Name(name) => known.apps.values().find(|app| app.name == *name),
        };
        match (app, value) {
            (Some(app), _) => drop(ids.insert(app.sdk_app_id)),
            (None, AppRef::Name(name)) if !known.app_names.contains(&name) => found.push(
                Diagnostic::error(format!("`{path}.apps`: there is no [apps.{name}]"))
                    .at(span)
                    .suggest(&name, known.app_names.iter().map(String::as_str)),
            ),
            (None, AppRef::Id(id)) if known.apps_whole => found.push(
                Diagnostic::error(format!("`{path}.apps`: no app has the sdk_app_id {id}"))
                    .at(span)
                    .suggest("", known.app_names.iter().map(String::as_str)),
            ),
            // The app is there and has a mistake of its own.
            (None, _) => {}
        }
    }
    ids.into_iter().collect()
}

fn glob_set(
    path: &str,
    accounts: &At<Vec<Pattern>>,
    found: &mut Vec<Diagnostic>,
) -> Option<GlobSet> {
    let mut builder = GlobSetBuilder::new();
    for Pattern(glob) in &accounts.value {
        builder.add(glob.clone());
    }
    builder
        .build()
        .map_err(|error| {
            let message = format!("`{path}.accounts`: {error}");
            found.push(Diagnostic::error(message).at(accounts.span.clone()));
        })
        .ok()
}

pub(super) fn number<const MAX: u32>(Count(count): Count<MAX>) -> NonZeroUsize {
    usize::try_from(count)
        .ok()
        .and_then(NonZeroUsize::new)
        .expect("a count is above zero, and a usize holds any u32")
}

/// What a kind found wrong, in the same words as the rest and with the names of the daemon's keys for a suggestion; and
/// the entry that it is about, which is taken out.
fn explain_kinds(
    name: &str,
    table: &mut Spanned<DeTable<'_>>,
    error: SettingsError,
) -> (Option<String>, Diagnostic) {
    let span = error.span.unwrap_or_else(|| table.span());
    let span = named_key(table, &span, &error.message).unwrap_or(span);
    let entry = take_entry(table.get_mut(), &span);
    let target = format!("targets.{name}");
    let path = join(&target, entry.as_deref().unwrap_or_default());
    let own_key = entry.as_ref().is_some_and(|entry| !entry.contains('.'));
    let message = match error.message.strip_prefix("unknown field ") {
        Some(_) if own_key => Cow::from(format!(
            "{}, {}",
            error.message,
            raw::OPTION_KEYS.map(|key| format!("`{key}`")).join(", ")
        )),
        _ => Cow::from(&error.message),
    };
    let diagnostic = explain(&message, &path)
        .unwrap_or_else(|| Diagnostic::error(format!("target {name}: {}", error.message)))
        .at(span);
    let diagnostic = match error.help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    };
    (entry, diagnostic)
}
