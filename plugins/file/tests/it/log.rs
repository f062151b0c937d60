//! `format = "jsonl"`

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
};

use profilesync_target::Document;

use crate::{deliver, destroyed, document, names, open};

fn line(document: &Document) -> String {
    serde_json::to_string(document).unwrap() + "\n"
}

#[tokio::test]
async fn every_delivery_is_a_line() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x/log.jsonl");
    let target = open(&path, "format = 'jsonl'");
    let documents = [document("a", 1), document("b", 1), destroyed("a", 2)];
    deliver(&*target, &documents[..2]).await.unwrap();
    deliver(&*target, &documents[2..]).await.unwrap();
    let expected: String = documents.iter().map(line).collect();
    assert_eq!(fs::read_to_string(path).unwrap(), expected);
}

#[tokio::test]
async fn a_torn_line_is_ended_first() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log.jsonl");
    let target = open(&path, "format = 'jsonl'");
    let first = document("a", 1);
    let (whole, torn) = (line(&first), "{\"sdk_app_id\":1,\"acc");
    fs::write(&path, format!("{whole}{torn}")).unwrap();
    deliver(&*target, std::slice::from_ref(&first))
        .await
        .unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!("{whole}{torn}\n{whole}")
    );
}

#[tokio::test]
async fn a_full_file_is_rotated_and_the_oldest_goes() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log.jsonl");
    let two_lines = 2 * line(&document("a", 1)).len();
    let settings = format!("format = 'jsonl'\nrotate_bytes = '{two_lines}B'\nrotate_keep = 2");
    let target = open(&path, &settings);
    for revision in 1..=9 {
        deliver(&*target, &[document("a", revision)]).await.unwrap();
    }
    assert_eq!(
        names(root.path()),
        ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    );
    let revisions = |name: &str| {
        let text = fs::read_to_string(root.path().join(name)).unwrap();
        let documents = text
            .lines()
            .map(|line| serde_json::from_str::<Document>(line).unwrap());
        documents
            .map(|document| document.revision)
            .collect::<Vec<_>>()
    };
    assert_eq!(revisions("log.jsonl.2"), [5, 6]);
    assert_eq!(revisions("log.jsonl.1"), [7, 8]);
    assert_eq!(revisions("log.jsonl"), [9]);
}

#[tokio::test]
async fn who_can_read_a_log_stays_so_when_it_is_rotated() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    fs::write(&path, "{}\n").unwrap();
    // Only root may give a file to any group.
    let group = match chown(&path, None, Some(4711)) {
        Ok(()) => 4711,
        Err(_) => fs::metadata(&path).unwrap().gid(),
    };
    let target = open(&path, "format = 'jsonl'\nrotate_bytes = '1B'");
    for mode in [0o600, 0o640, 0o664] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let account = document("a", mode.into());
        deliver(&*target, std::slice::from_ref(&account))
            .await
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), line(&account));
        let now = fs::metadata(&path).unwrap();
        assert_eq!(now.permissions().mode() & 0o777, mode, "{now:?}");
        assert_eq!(now.gid(), group, "{now:?}");
    }
}

#[tokio::test]
async fn a_batch_larger_than_a_file_is_written_whole() {
    let root = tempfile::tempdir().unwrap();
    let target = open(
        &root.path().join("log"),
        "format = 'jsonl'\nrotate_bytes = '1B'",
    );
    deliver(&*target, &[document("a", 1), document("b", 1)])
        .await
        .unwrap();
    assert_eq!(names(root.path()), ["log"]);
}

#[tokio::test]
async fn a_log_that_was_moved_begins_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let target = open(&path, "format = 'jsonl'");
    deliver(&*target, &[document("a", 1)]).await.unwrap();
    fs::rename(&path, root.path().join("log.old")).unwrap();
    deliver(&*target, &[document("a", 2)]).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), line(&document("a", 2)));
}

#[tokio::test]
async fn a_link_stays_one_and_its_end_is_rotated() {
    let root = tempfile::tempdir().unwrap();
    let disk = root.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let link = root.path().join("log.jsonl");
    std::os::unix::fs::symlink("disk/log", &link).unwrap();
    let target = open(
        &link,
        "format = 'jsonl'\nrotate_bytes = '1B'\nrotate_keep = 2",
    );
    for revision in 1..=4 {
        deliver(&*target, &[document("a", revision)]).await.unwrap();
    }
    assert!(link.is_symlink());
    assert_eq!(names(root.path()), ["disk", "log.jsonl"]);
    assert_eq!(names(&disk), ["log", "log.1", "log.2"]);
}
