//! What commands read of the configuration, and when they go without it.

use std::{fs, path::Path};

use crate::config::peek::{File, peek};

const MAIN: &str = "[apps.a]\nsdk_app_id = 1\ntoken = { file = '/nowhere' }\n\
     [admin]\nsocket = 'admin.sock'\n[targets.t]\ntype = 'unknown'\n";

#[test]
fn no_secret_is_needed_and_no_mistake_of_a_target_matters() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("profilesync.toml");
    fs::write(&main, MAIN).unwrap();
    let peek = peek(&main).unwrap();
    assert_eq!(peek.socket, folder.path().join("admin.sock"));
    assert_eq!(peek.store, Path::new("/var/lib/profilesync"));
    assert_eq!(peek.apps.len(), 1);
    assert!(peek.apps[0].token.is_some());
}

#[test]
fn a_file_that_was_named_is_read_or_nothing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("profilesync.toml");
    let named = File::new(Some(main.clone()));
    let wrong = |words: &str| {
        for mistakes in [named.peek().err().unwrap(), named.socket().unwrap_err()] {
            let text = mistakes.to_string();
            assert!(text.contains(words), "{text}");
            assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
        }
    };
    wrong("cannot be read");
    for (text, words) in [
        ("[store", "syntax error"),
        ("[store]\npath = 5\n", "`store.path` must be a path"),
        ("[stoer]\npath = '/x'\n", "did you mean \"store\"?"),
        (
            "[apps.a]\nsdk_app_id = 1\ntokne = 'x'\n",
            "did you mean \"token\"?",
        ),
    ] {
        fs::write(&main, text).unwrap();
        wrong(words);
    }
    fs::write(&main, MAIN).unwrap();
    assert_eq!(named.socket().unwrap(), folder.path().join("admin.sock"));
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    fs::write(folder.path().join("conf.d/broken.toml"), "[").unwrap();
    wrong("broken.toml");
}
