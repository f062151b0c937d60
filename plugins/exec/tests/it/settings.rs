//! What is said about settings, and what identifies a target.

use std::path::Path;

use crate::{LIMIT, try_open};

fn identity(settings: &str) -> serde_json::Value {
    try_open(settings, Path::new("."), LIMIT).unwrap().identity
}

#[test]
fn mistakes_are_told() {
    for (settings, word) in [
        ("", "command"),
        ("command = []", "empty"),
        ("command = ['']", "no program"),
        ("command = 'python3 x.py'", "sequence"),
        ("command = ['python3 x.py']", "no shell"),
        ("command = ['a']\nworkers = 0", "nonzero"),
        ("command = ['a']\nworkers = 65", "more than 64"),
        (
            "command = ['a']\nenv = { 'A=B' = '' }",
            "no name of a variable",
        ),
        (
            "command = ['a']\nenv = { A = { env = 'PROFILESYNC_NO_SUCH' } }",
            "PROFILESYNC_NO_SUCH",
        ),
        ("command = ['a']\nshell = true", "shell"),
    ] {
        let error = match try_open(settings, Path::new("."), LIMIT) {
            Ok(_) => panic!("{settings:?} is taken"),
            Err(error) => format!("{error} {:?}", error.help),
        };
        assert!(error.contains(word), "{settings:?}: {error}");
    }
}

#[test]
fn the_identity_is_command_and_environment_without_secrets() {
    let whole = identity("command = ['a', 'b']\nenv = { A = 'x', TOKEN = 'hunter2' }\nworkers = 3");
    assert_eq!(
        whole,
        serde_json::json!({ "command": ["a", "b"], "env": { "A": "x", "TOKEN": "***" } })
    );
    assert_ne!(whole, identity("command = ['a']"));
    // A longer value is hidden in texts, and yet decides what the outside holds.
    let long = identity("command = ['a']\nenv = { CRM_URL = 'https://crm.example' }");
    assert_eq!(long["env"]["CRM_URL"], "https://crm.example");
}
