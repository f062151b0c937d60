//! Settings that are refused, limits, probes and errors.

use std::{fs, time::Duration};

use profilesync_target::conformance::refused;

use crate::{deliver, document, open, try_open};

#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    refused(try_open(settings), settings, message, at);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    check("", "missing field `path`", "");
    check("path = ''", "`path` is empty", "''");
    check(
        "path = 'x'\nformat = 'xml'",
        "expected one of `json`, `jsonl`, `csv`, `json-array`",
        "'xml'",
    );
    check(
        "path = 'x'\nformatt = 'csv'",
        "unknown field `formatt`",
        "formatt",
    );
    check(
        "path = 'x'\nrotate_bytes = '1MiB'",
        "`rotate_bytes` means nothing",
        "'1MiB'",
    );
    check(
        "path = 'x'\nformat = 'csv'\nrotate_keep = 3",
        "`rotate_keep` means nothing",
        "3",
    );
    check(
        "path = 'x'\nformat = 'jsonl'\nrotate_keep = 3",
        "without `rotate_bytes`",
        "3",
    );
    check(
        "path = 'x'\nformat = 'jsonl'\nrotate_bytes = '1MB!'",
        "64KiB",
        "'1MB!'",
    );
    check(
        "path = 'x'\nformat = 'jsonl'\ninterval = '1s'",
        "`interval` means nothing",
        "'1s'",
    );
    check(
        "path = 'x'\nescape_formulas = true",
        "`escape_formulas` means nothing",
        "true",
    );
}

#[test]
fn snapshots_are_paced() {
    let limits = |settings: &str| try_open(settings).unwrap().target.limits();
    let csv = limits("path = 'x'\nformat = 'csv'");
    assert_eq!(
        (csv.interval, csv.concurrency),
        (Duration::from_secs(1), Some(1))
    );
    let slow = limits("path = 'x'\nformat = 'json-array'\ninterval = '1min'");
    assert_eq!(slow.interval, Duration::from_secs(60));
    assert_eq!(limits("path = 'x'").interval, Duration::ZERO);
}

#[test]
fn the_identity_follows_what_is_written() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    assert_eq!(identity("path = 'x'"), identity("path = '/base/x'"));
    let csv = identity("path = 'x'\nformat = 'csv'");
    assert_eq!(
        identity("path = 'x'\nformat = 'csv'\ninterval = '9s'\nescape_formulas = true"),
        csv
    );
    assert_ne!(
        identity("path = 'x'\nformat = 'csv'\nescape_formulas = false"),
        csv
    );
    assert_ne!(identity("path = 'y'\nformat = 'csv'"), csv);
    assert_ne!(identity("path = 'x'\nformat = 'json-array'"), csv);
}

#[tokio::test]
async fn a_probe_creates_nothing() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("not/yet/there");
    open(&missing, "").probe().await.unwrap();
    open(&missing, "format = 'csv'").probe().await.unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    let reason = open(root.path(), "format = 'csv'")
        .probe()
        .await
        .unwrap_err();
    assert!(reason.contains("is a folder"), "{reason}");
    let reason = open("/dev/null/x".as_ref(), "").probe().await.unwrap_err();
    assert_eq!(reason, "/dev/null is no folder");
}

#[tokio::test]
async fn a_target_is_closed_after_its_last_write() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("accounts");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let target = open(&path, "format = 'csv'");
    // Nobody has the other end of the pipe: the write hangs, as on a disk that does not answer.
    let limit = Duration::from_millis(200);
    let documents = [document("a", 1)];
    let delivery = tokio::time::timeout(limit, deliver(&*target, &documents));
    assert!(delivery.await.is_err(), "it does not hang");
    let closed = tokio::time::timeout(limit, target.close());
    assert!(closed.await.is_err(), "it was closed before");
    let end = fs::OpenOptions::new().write(true).open(&path).unwrap();
    target.close().await;
    drop(end);
    assert!(fs::metadata(&path).unwrap().is_file(), "it was not written");
}

#[tokio::test]
async fn an_error_names_the_path() {
    let target = open("/proc/no/such/place".as_ref(), "");
    let reason = deliver(&*target, &[document("a", 1)]).await.unwrap_err();
    assert!(
        reason.starts_with("cannot create the folder /proc/no: "),
        "{reason}"
    );
    let full = open("/dev/full".as_ref(), "format = 'jsonl'");
    let reason = deliver(&*full, &[document("a", 1)]).await.unwrap_err();
    assert!(reason.contains("/dev/full: No space left"), "{reason}");
}
