//! The files in config/ are documentation, and true: they load, and every default they state is the default.
#![cfg(all(feature = "file", feature = "webhook"))]

use std::{fs, path::Path};

use super::super::load::load;
use crate::{config::Config, targets};

const REFERENCE: &str = include_str!("../../../config/profilesync.toml");

/// What a configuration says, but for secrets and for what only its targets' kinds know.
fn shown(config: &Config) -> String {
    let Config {
        apps,
        listener,
        store,
        admin,
        targets,
        shutdown_grace,
        ..
    } = config;
    let apps: Vec<_> = apps
        .values()
        .map(|app| (&app.name, app.sdk_app_id, &app.tokens))
        .collect();
    let targets: Vec<_> = targets
        .values()
        .map(|target| (&target.name, target.kind.name, &target.options))
        .collect();
    format!("{apps:?} {listener:?} {store:?} {admin:?} {targets:?} {shutdown_grace:?}")
}

/// What the text says, with the identities of its targets as opened.
fn load_text(folder: &Path, text: &str) -> (String, Vec<String>) {
    let path = folder.join("profilesync.toml");
    fs::write(&path, text).unwrap();
    let loaded = load(&path, targets::KINDS, targets::open)
        .unwrap_or_else(|mistakes| panic!("{}", mistakes.report()));
    let identities = loaded.targets.into_values().map(|target| target.identity);
    (shown(&loaded.config), identities.collect())
}

#[test]
fn every_default_of_the_reference_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let as_it_is = load_text(folder.path(), REFERENCE);
    let mut defaults = 0;
    for line in REFERENCE.lines() {
        if let Some(default) = line.strip_prefix("# ").filter(|line| is_default(line)) {
            let text = REFERENCE.replacen(line, default, 1);
            assert_eq!(load_text(folder.path(), &text), as_it_is, "{line}");
            defaults += 1;
        }
    }
    assert!(defaults > 25, "{defaults} defaults were found");
}

/// `key = value`, and not a sentence.
fn is_default(line: &str) -> bool {
    let key = line.split_once(" = ").map_or("", |(key, _)| key);
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'))
}

#[test]
fn every_example_of_the_reference_loads() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tls")).unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |file: &str, text| fs::write(folder.path().join("tls").join(file), text).unwrap();
    write("fullchain.pem", pair.cert.pem());
    write("privkey.pem", pair.signing_key.serialize_pem());
    let as_it_is = load_text(folder.path(), REFERENCE);
    let mut lines: Vec<_> = REFERENCE.lines().map(str::to_owned).collect();
    // Nothing is started with systemd's credentials here.
    for line in &mut lines {
        if line.contains("{ credential = ") && line.starts_with("#: ") {
            *line = "#: token = \"secret\"".into();
        }
    }
    let mut examples = 0;
    let mut start = 0;
    while let Some(first) = lines[start..]
        .iter()
        .position(|line| line.starts_with("#: "))
    {
        let first = start + first;
        let length = lines[first..]
            .iter()
            .take_while(|line| line.starts_with("#: "))
            .count();
        let mut text = lines.clone();
        for line in &mut text[first..first + length] {
            *line = line["#: ".len()..].to_owned();
        }
        assert_ne!(
            load_text(folder.path(), &text.join("\n")),
            as_it_is,
            "{}",
            lines[first]
        );
        examples += 1;
        start = first + length;
    }
    assert!(examples > 12, "{examples} examples were found");
}

#[test]
fn the_quickstart_loads_without_a_warning_and_stays_in_its_folder() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/quickstart.toml");
    let loaded = load(&path, targets::KINDS, targets::open)
        .unwrap_or_else(|mistakes| panic!("{}", mistakes.report()));
    assert_eq!(loaded.warnings.to_string(), "");
    let config = loaded.config;
    for path in [&config.store.path, &config.admin.socket] {
        assert!(
            path.to_string_lossy().contains("/config/../quickstart/"),
            "{path:?}"
        );
    }
    assert_eq!(config.apps[&1_400_000_000].tokens.len(), 1);
    assert_eq!(loaded.targets.len(), 1);
}

#[test]
fn the_reference_names_every_key_of_the_schema() {
    let schema = crate::config::schema::schema(targets::KINDS);
    let mut keys = Vec::new();
    collect_keys(&schema, &mut keys);
    for key in keys {
        let named = REFERENCE
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|word| word == key);
        assert!(named, "the reference does not name {key}");
    }
}

fn collect_keys(schema: &serde_json::Value, keys: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member.as_object()) {
                    ("properties", Some(properties)) => {
                        keys.extend(properties.keys().cloned());
                        // One of them may be called `properties`, too.
                        properties
                            .values()
                            .for_each(|member| collect_keys(member, keys));
                    }
                    _ => collect_keys(member, keys),
                }
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| collect_keys(value, keys));
        }
        _ => {}
    }
}
