//! A local folder.

use std::{fs, process::Command, time::Duration};

use profilesync_target::Outcome;
use tokio::time::timeout;

use crate::{deliver, delivered, destroyed, document, open};

#[tokio::test]
async fn objects_are_files_with_safe_names() {
    let root = tempfile::tempdir().unwrap();
    let target = open(&format!("url = 'file://{}'", root.path().display()));
    for account in ["@TOA#_a", "../../etc/x", "..", "Aa", "aA"] {
        delivered(&*target, document(account, 1)).await;
    }
    let mut names: Vec<_> = fs::read_dir(root.path().join("1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "%2E..json",
        "%2E.%2F..%2Fetc%2Fx.json",
        "%40%54%4F%41%23_a.json",
        "%41a.json",
        "a%41.json",
    ];
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_held_already_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let target = open(&format!("url = 'file://{}'", root.path().display()));
    assert_eq!(delivered(&*target, document("a", 5)).await, "written");
    let file = root.path().join("1/a.json");
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    let again = delivered(&*target, document("a", 5)).await;
    assert_eq!(again, "the object holds it already");
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
    let older = delivered(&*target, destroyed("a", 4)).await;
    assert_eq!(older, "the object holds revision 5 already");
    assert_eq!(delivered(&*target, destroyed("a", 6)).await, "removed");
    assert!(!file.exists());
    let gone = delivered(&*target, destroyed("a", 6)).await;
    assert_eq!(gone, "there is no object");
}

#[tokio::test]
async fn a_folder_that_is_missing_is_not_made() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mounted");
    let target = open(&format!("url = 'file://{}/'", path.display()));
    let outcome = deliver(&*target, document("a", 1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("does not exist"), "{outcome:?}");
    assert!(!path.exists());
    assert!(target.probe().await.unwrap_err().contains("mount"));
    fs::write(&path, "").unwrap();
    assert!(target.probe().await.unwrap_err().contains("cannot write"));
}

#[tokio::test]
async fn a_target_is_closed_after_its_last_write() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("1")).unwrap();
    let path = root.path().join("1/a.json");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let target = open(&format!("url = 'file://{}'", root.path().display()));
    // Nobody has the other end of the pipe: reading what is held hangs, as on a disk that does not answer.
    let limit = Duration::from_millis(200);
    let delivery = timeout(limit, deliver(&*target, document("a", 1))).await;
    let closed = timeout(limit, target.close()).await;
    // Opened both ways it never waits for a reader.
    let mut both = fs::OpenOptions::new();
    let end = both.read(true).write(true).open(&path).unwrap();
    assert!(delivery.is_err(), "it does not hang");
    assert!(closed.is_err(), "it was closed before");
    target.close().await;
    drop(end);
}
