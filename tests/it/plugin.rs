//! `profilesync plugin`, as its user calls it.

use std::{path::Path, process::Command};

use crate::daemon::BINARY;

/// Exit code, stdout and stderr of `profilesync plugin …` in this folder.
fn plugin(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY)
        .arg("plugin")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn what_is_begun_passes_the_test_it_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said, _) = plugin(folder.path(), &["new", "crm", "--lang", "sh"]);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("profilesync plugin test -- sh crm/crm.sh"),
        "{said}"
    );
    let (code, said, errors) = plugin(folder.path(), &["test", "--", "sh", "crm/crm.sh", "held"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(
        said.contains("\n14 passed, 0 failed, 1 skipped\n"),
        "{said}"
    );
    let (code, _, errors) = plugin(folder.path(), &["new", "crm", "--lang", "rust"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("crm exists, and is left as it is"),
        "{errors}"
    );
}

#[test]
fn what_fails_is_told_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo 'no such module' >&2; exit 3";
    let (code, said, errors) = plugin(folder.path(), &["test", "--", "sh", "-c", script]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("FAILED   it is started"), "{said}");
    assert!(
        said.contains("exit status: 3; it last said: no such module"),
        "{said}"
    );
    assert!(errors.contains("error: a check failed"), "{errors}");
    let (code, _, errors) = plugin(
        folder.path(),
        &["test", "--env", "PROFILESYNC_NO_SUCH", "--", "true"],
    );
    assert_eq!(code, Some(2));
    assert!(errors.contains("PROFILESYNC_NO_SUCH"), "{errors}");
}
