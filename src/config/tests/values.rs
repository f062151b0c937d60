//! What a configuration means.

use std::{fs, path::Path, time::Duration};

use proptest::prelude::*;

use super::{KINDS, load_texts, loads, report};
use crate::{
    config::{Address, Mode, OnDestroy, Token, load::load},
    event::Field,
};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn six_lines_are_enough_and_the_rest_has_defaults() {
    let config = loads(
        "[apps.production]\nsdk_app_id = 1400000000\ntoken = 'abc'\n\
         [targets.crm]\ntype = 'post'\nurl = 'https://crm'\n",
    );
    let app = &config.apps[&1_400_000_000];
    assert_eq!(
        (app.name.as_str(), &app.tokens[..]),
        ("production", &[Token("abc".into())][..])
    );
    let listener = &config.listener;
    assert_eq!(
        listener.address,
        Address::Tcp("127.0.0.1:8700".parse().unwrap())
    );
    assert_eq!((listener.path.as_str(), listener.max_body), ("/", 65_536));
    assert_eq!(listener.max_clock_skew, 24 * 60 * MINUTE);
    assert_eq!(
        (listener.sign_window, listener.max_connections.get()),
        (MINUTE, 1024)
    );
    let store = &config.store;
    assert_eq!(store.path, Path::new("/var/lib/profilesync"));
    assert_eq!(
        (store.history, store.history_per_account.get()),
        (90 * 24 * 60 * MINUTE, 1000)
    );
    assert_eq!(
        (store.cache, store.journal_max, store.max_lag),
        (64 << 20, 256 << 20, 1_000_000)
    );
    assert_eq!(
        config.admin.socket,
        Path::new("/run/profilesync/admin.sock")
    );
    assert_eq!(config.shutdown_grace, MINUTE / 3);
    let options = &config.targets["crm"].options;
    assert_eq!((options.enabled, options.mode), (true, Mode::Live));
    assert_eq!(
        (options.concurrency.get(), options.timeout),
        (4, MINUTE / 6)
    );
    assert_eq!(
        (options.retry.initial, options.retry.max),
        (MINUTE / 60, 5 * MINUTE)
    );
    assert_eq!(
        (options.retry.max_delay, options.retry.give_up_after),
        (60 * MINUTE, 1440 * MINUTE)
    );
    assert_eq!(
        (options.breaker.failures.get(), options.breaker.probe),
        (10, MINUTE / 2)
    );
    assert_eq!(options.breaker.probe_max, 5 * MINUTE);
    assert_eq!(options.backfill_rate.to_string(), "1000/s");
}

#[test]
fn every_key_of_a_target_is_understood() {
    let config = loads(
        "[apps.a]\nsdk_app_id = 1\ntoken = 'x'\n[apps.b]\nsdk_app_id = 2\ntoken = 'x'\n\
         [targets.t]\ntype = 'post'\nurl = 'https://t'\nmode = 'shadow'\napps = ['b', 1]\n\
         accounts = ['@TOA#_*', 'x?']\nfields = ['name', 'extra.Level']\non_destroy = 'skip'\n\
         concurrency = 1\nrate_limit = '600/min'\ntimeout = '1s'\nbatch = 7\n\
         guard = { max_changes = 5, window = '1h' }\n",
    );
    let options = &config.targets["t"].options;
    assert_eq!(options.apps, Some(vec![1, 2]));
    let accounts = options.accounts.as_ref().unwrap();
    assert!(accounts.is_match("@TOA#_a/b") && accounts.is_match("xy") && !accounts.is_match("y"));
    assert_eq!(
        options.fields,
        Some(vec![Field::Name, Field::Extra("Level".into())])
    );
    assert_eq!(
        (options.mode, options.on_destroy),
        (Mode::Shadow, OnDestroy::Skip)
    );
    assert_eq!(options.rate_limit.unwrap().to_string(), "600/min");
    assert_eq!(options.batch.unwrap().get(), 7);
    assert_eq!(options.guard.unwrap().max_changes.get(), 5);
}

#[test]
fn the_identity_is_of_what_decides_which_deliveries_there_are() {
    let identity = |keys: &str| {
        let text = format!(
            "[apps.a]\nsdk_app_id = 1\ntoken = 'x'\n[apps.b]\nsdk_app_id = 2\ntoken = 'x'\n\
             [targets.t]\ntype = 'post'\nurl = 'https://t'\n{keys}"
        );
        loads(&text).targets["t"].options.identity.clone()
    };
    assert_eq!(identity("timeout = '1s'\nconcurrency = 9"), identity(""));
    assert_eq!(identity("apps = ['a', 2]"), identity("apps = [2, 1]"));
    for keys in [
        "mode = 'shadow'",
        "apps = [1]",
        "accounts = ['a']",
        "fields = ['name']",
        "on_destroy = 'skip'",
    ] {
        assert_ne!(identity(keys), identity(""), "{keys}");
    }
}

#[test]
fn drop_ins_add_tables_and_keys_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("profilesync.toml");
    let drop_ins = folder.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(
        &main,
        "\u{feff}[apps.a]\r\nsdk_app_id = 1\r\n[listener]\r\npath = '/x'\r\n",
    )
    .unwrap();
    fs::write(drop_ins.join("b.toml"), "[listener]\nmax_body = '1MiB'").unwrap();
    fs::write(
        drop_ins.join("a.toml"),
        "apps.a.token = { file = 'secret' }",
    )
    .unwrap();
    fs::write(drop_ins.join(".b.toml"), "[").unwrap();
    fs::write(drop_ins.join("b.toml~"), "[").unwrap();
    fs::write(folder.path().join("secret"), "abc\n").unwrap();
    let loaded = load(&main, KINDS, |_, _| Ok(())).unwrap();
    let names: Vec<_> = loaded
        .config
        .files
        .iter()
        .map(|file| file.file_name().unwrap())
        .collect();
    assert_eq!(names, ["profilesync.toml", "a.toml", "b.toml"]);
    assert_eq!(loaded.config.apps[&1].tokens, [Token("abc".into())]);
    let listener = loaded.config.listener;
    assert_eq!((listener.path.as_str(), listener.max_body), ("/x", 1 << 20));
}

#[test]
fn relative_paths_start_at_the_folder_of_the_main_file() {
    let config = loads(
        "[apps.a]\nsdk_app_id = 1\n[store]\npath = 's'\n[admin]\nsocket = '../a'\n\
         [listener]\naddress = 'unix:l'\n[targets.t]\ntype = 'post'\nurl = 'https://t'\n",
    );
    assert_eq!(config.store.path, Path::new("/base/s"));
    assert_eq!(config.admin.socket, Path::new("/base/../a"));
    assert_eq!(config.listener.address, Address::Unix("/base/l".into()));
    assert_eq!(config.targets["t"].context().base, Path::new("/base"));
}

#[test]
fn a_secret_is_read_from_wherever_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "in a file\n").unwrap();
    let text = "[apps.a]\nsdk_app_id = 1\n\
                tokens = ['plain', { file = 'file' }, { command = ['echo', 'said'] }, { env = 'PATH' }]";
    let loaded = load_texts(&[("a.toml", text)], folder.path()).unwrap_or_else(|e| panic!("{e}"));
    let tokens = &loaded.config.apps[&1].tokens;
    let values: Vec<_> = tokens[..3].iter().map(|token| token.0.as_str()).collect();
    assert_eq!(values, ["plain", "in a file", "said"]);
    assert_eq!(tokens[3].0, std::env::var("PATH").unwrap());
}

#[test]
fn a_disabled_target_is_not_opened() {
    let text = "[apps.a]\nsdk_app_id = 1\n[targets.t]\ntype = 'post'\nenabled = false\n";
    let loaded = load_texts(&[("a.toml", text)], Path::new("/")).unwrap_or_else(|e| panic!("{e}"));
    assert!(loaded.targets.is_empty() && !loaded.config.targets["t"].options.enabled);
}

/// Pieces that configurations are made of, and some that they are not.
const PIECES: [&str; 24] = [
    "[apps.a]\n",
    "sdk_app_id = 1\n",
    "token = 's3cret'\n",
    "[listener]\n",
    "[listener.tls]\n",
    "certificate = 5\n",
    "[targets.t]\n",
    "type = 'post'\n",
    "url = 'x'\n",
    "retry.max = '1s'\n",
    "retry = { initial = 5 }\n",
    "targets = 5\n",
    "apps = ['a', {}]\n",
    "[[targets]]\n",
    "x = \"",
    "= 1\n",
    "{",
    "]",
    "\n",
    "\u{feff}",
    "é",
    "'''",
    "\r",
    "fields = ['extra.', \"ü\"]\n",
];

proptest! {
    #[test]
    fn nothing_that_is_written_makes_it_panic_or_tell_a_secret(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24),
        other in any::<String>(),
        at in any::<prop::sample::Index>(),
    ) {
        let text = pieces.concat();
        let printed = report(&[("a.toml", &text), ("b.toml", &other), ("c.toml", &text)]);
        prop_assert!(!printed.contains("s3cret"), "{}", printed);
        let cut = text.floor_char_boundary(at.index(text.len() + 1));
        let printed = report(&[("a.toml", &text[..cut]), ("b.toml", &text[cut..])]);
        prop_assert!(!printed.contains("s3cret"), "{}", printed);
    }
}
