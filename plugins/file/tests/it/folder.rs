//! `format = "json"`

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::{deliver, destroyed, document, names, open};

#[tokio::test]
async fn an_account_is_a_file_that_others_can_read() {
    let root = tempfile::tempdir().unwrap();
    let target = open(&root.path().join("deep/er"), "");
    let account = document("@TOA#_x", 1);
    deliver(&*target, std::slice::from_ref(&account))
        .await
        .unwrap();
    let path = root.path().join("deep/er/1/%40TOA%23_x.json");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, serde_json::to_string(&account).unwrap() + "\n");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644 & !umask());
    let rendered = target.render(&account).unwrap();
    assert_eq!(rendered, format!("write {}\n\n{text}", path.display()));
}

/// The process's umask, as a plain new file shows it.
fn umask() -> u32 {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("plain");
    fs::write(&path, "").unwrap();
    0o666 & !fs::metadata(path).unwrap().permissions().mode()
}

#[tokio::test]
async fn leftovers_of_a_crash_go_and_other_files_stay() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("1");
    fs::create_dir(&folder).unwrap();
    for name in [".profilesync-AbCdEf.tmp", "notes.txt", ".profilesync-keep"] {
        fs::write(folder.join(name), "half").unwrap();
    }
    deliver(&*open(root.path(), ""), &[document("a", 1)])
        .await
        .unwrap();
    assert_eq!(names(&folder), [".profilesync-keep", "a.json", "notes.txt"]);
}

#[tokio::test]
async fn a_damaged_file_is_replaced_and_a_changed_one_repaired() {
    let root = tempfile::tempdir().unwrap();
    let target = open(root.path(), "");
    let path = root.path().join("1/a.json");
    deliver(&*target, &[document("a", 5)]).await.unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    for damaged in ["", "{", "{\"revision\":5}", "\u{0}\u{0}"] {
        fs::write(&path, damaged).unwrap();
        deliver(&*target, &[document("a", 5)]).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    }
}

#[tokio::test]
async fn what_does_not_change_is_not_written() {
    let root = tempfile::tempdir().unwrap();
    let target = open(root.path(), "");
    let path = root.path().join("1/a.json");
    deliver(&*target, &[document("a", 5)]).await.unwrap();
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    let answer = deliver(&*target, &[document("a", 5)]).await.unwrap();
    assert_eq!(answer, "the file holds it already");
    let answer = deliver(&*target, &[document("a", 4)]).await.unwrap();
    assert_eq!(answer, "the file holds revision 5 already");
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn a_folder_that_was_removed_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x");
    let target = open(&path, "");
    deliver(&*target, &[document("a", 1)]).await.unwrap();
    fs::remove_dir_all(&path).unwrap();
    deliver(&*target, &[document("a", 2), destroyed("b", 1)])
        .await
        .unwrap();
    assert_eq!(names(&path.join("1")), ["a.json"]);
}

#[tokio::test]
async fn a_failed_batch_leaves_no_temporary_file() {
    let root = tempfile::tempdir().unwrap();
    let target = open(root.path(), "");
    fs::create_dir_all(root.path().join("1/b.json")).unwrap();
    let reason = deliver(&*target, &[document("a", 1), document("b", 1)])
        .await
        .unwrap_err();
    assert!(reason.contains("1/b.json: "), "{reason}");
    assert_eq!(names(&root.path().join("1")), ["b.json"]);
}
