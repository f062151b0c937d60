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

/// The shipped shell plugin, changed, and put to the test.
fn changed(from: &str, to: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/exec/examples/mirror.sh");
    let text = std::fs::read_to_string(shipped).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(folder.path().join("crm.sh"), text.replace(from, to)).unwrap();
    let (code, said, _) = plugin(folder.path(), &["test", "--", "sh", "crm.sh", "held"]);
    (code, said)
}

#[test]
fn a_broken_promise_is_told_once_and_in_words() {
    let (code, said) = changed("-gt \"$held\"", "-gt 0");
    assert_eq!(code, Some(1), "{said}");
    let (_, seen) = said
        .split_once("FAILED   an older revision changes nothing\n")
        .unwrap();
    let (account, seen) = seen.split_once(" of app ").unwrap();
    assert_eq!(account.trim_start(), "account \"raced\"");
    // The app that the plugin was told of.
    let (app, seen) = seen.split_once(", revision 8 is not held after ").unwrap();
    assert!(1_000_000_000_000 < app.parse::<u64>().unwrap(), "{said}");
    assert!(
        seen.contains("`name`\n               expected: \"revision 8 of \\\"raced\\\"\"\n"),
        "{said}"
    );

    let (code, said) = changed("outcome=delivered", "outcome=fault reason='it is full'");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said.matches("got:      fault: it is full").count(),
        1,
        "{said}"
    );
    let again = said.matches("as in: the same revision again changes nothing");
    assert_eq!(again.count(), 9, "{said}");
    assert!(!said.contains("Some("), "{said}");
}

#[test]
fn a_plugin_that_cannot_be_read_back_proves_little() {
    let (code, said) = changed(",\"read_back\":true", "");
    assert_eq!(code, Some(0), "{said}");
    let (_, after) = said.split_once(" 0 failed, 9 skipped\n").unwrap();
    assert!(after.contains("warning: this proves little."), "{after}");
    assert!(after.contains("\"read_back\": true"), "{after}");
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
