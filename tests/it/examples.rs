//! The configurations in config/examples are taken as they are, with the secrets they name.

use std::{fs, path::Path, process::Command};

use profilesync::targets::KINDS;
use toml::{Table, Value};

use crate::daemon::BINARY;

/// The values of this key, wherever it is.
fn values<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Table(table) => {
            found.extend(table.get(key).and_then(Value::as_str));
            table.values().for_each(|value| values(value, key, found));
        }
        Value::Array(array) => array.iter().for_each(|value| values(value, key, found)),
        _ => {}
    }
}

#[test]
fn examples_are_taken_as_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let credentials = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let table = Value::Table(fs::read_to_string(&path).unwrap().parse::<Table>().unwrap());
        let targets = table.get("targets").and_then(Value::as_table).unwrap();
        let types = targets
            .values()
            .map(|target| target["type"].as_str().unwrap());
        let missing: Vec<_> = types
            .filter(|name| KINDS.built.iter().all(|kind| kind.name != *name))
            .collect();
        if !missing.is_empty() {
            eprintln!("skipped: {} needs a build with {missing:?}", path.display());
            continue;
        }
        let mut names = Vec::new();
        values(&table, "credential", &mut names);
        for name in names {
            let secret = match name.ends_with("-url") {
                true => "https://example.com/the-secret",
                false => "the secret",
            };
            fs::write(credentials.path().join(name), secret).unwrap();
        }
        let mut command = Command::new(BINARY);
        command
            .args(["check", "-c"])
            .arg(&path)
            .env("CREDENTIALS_DIRECTORY", credentials.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", path.display());
        checked += 1;
    }
    assert!(checked > 0, "no example was checked");
}
