//! The shipped examples, tried out as `profilesync plugin test` does.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use profilesync_exec::trial::Trial;
use profilesync_target::conformance::Verdict;

use crate::context;

/// The folder of the examples.
fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn present(program: &str) -> bool {
    let found = Command::new(program).arg("-c").arg("").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Tries it out; returns what failed and what was skipped.
async fn tried(command: &[&str]) -> (Vec<String>, Vec<String>) {
    let command = command.iter().map(|&part| part.to_owned()).collect();
    let trial = Trial::new(
        command,
        BTreeMap::new(),
        context(&folder(), Duration::from_secs(20)),
    );
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    trial
        .run(|name, found| match found {
            Ok(Verdict::Passed) => {}
            Ok(Verdict::Skipped(reason)) => skipped.push(format!("{name}: {reason}")),
            Err(broken) => failed.push(format!("{name}: {broken}")),
        })
        .await;
    (failed, skipped)
}

/// Nothing fails, and only what nobody can try is skipped.
async fn passes(command: &[&str]) {
    let (failed, skipped) = tried(command).await;
    assert!(failed.is_empty(), "{command:?}\n{}", failed.join("\n"));
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert!(skipped[0].contains("made dead"), "{skipped:?}");
}

#[tokio::test]
async fn the_python_example_keeps_its_promises() {
    if present("python3") {
        let outside = tempfile::tempdir().unwrap();
        let database = outside.path().join("accounts.db");
        // The second time over what the first one left.
        for _ in 0..2 {
            passes(&["python3", "mirror.py", database.to_str().unwrap()]).await;
        }
    }
}

#[tokio::test]
async fn the_shell_example_keeps_its_promises() {
    for shell in ["dash", "bash"] {
        if present(shell) {
            let outside = tempfile::tempdir().unwrap();
            passes(&[shell, "mirror.sh", outside.path().to_str().unwrap()]).await;
        }
    }
}

#[tokio::test]
async fn the_plugin_of_the_handbook_keeps_its_promises() {
    if !present("python3") {
        return;
    }
    let handbook = std::fs::read_to_string(folder().join("../../README.md")).unwrap();
    let (_, rest) = handbook.split_once("```python\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let outside = tempfile::tempdir().unwrap();
    let (plugin, book) = (
        outside.path().join("book.py"),
        outside.path().join("book.json"),
    );
    std::fs::write(&plugin, text).unwrap();
    passes(&["python3", plugin.to_str().unwrap(), book.to_str().unwrap()]).await;
}

#[tokio::test]
async fn the_rust_example_keeps_its_promises() {
    // Cargo builds the examples beside the tests.
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/mirror");
    if !example.exists() {
        eprintln!("skipped: the example is not built; run `cargo test -p profilesync-exec`");
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    passes(&[example.to_str().unwrap(), outside.path().to_str().unwrap()]).await;
}

#[tokio::test]
async fn a_plugin_that_breaks_a_promise_is_found_out() {
    let forgets = "import json,sys\nsys.stdin.readline()\n\
        def say(m): print(json.dumps(m), flush=True)\n\
        say({'protocol':1,'revisions':True,'read_back':True})\nheld={}\n\
        for line in sys.stdin:\n r=json.loads(line)\n\
        \x20for d in r.get('deliver',[]):\n  held[d['document']['account']]=d['document']; say({'id':d['id'],'outcome':'delivered'})\n\
        \x20for a in r.get('read',[]): say({'id':a['id'],'held':held.get(a['account'])})\n\
        \x20if 'probe' in r: say({'id':r['probe']['id'],'outcome':'ok'})\n";
    if !present("python3") {
        return;
    }
    let (failed, _) = tried(&["python3", "-c", forgets]).await;
    let has = |name: &str| failed.iter().any(|line| line.starts_with(name));
    for name in [
        "an older revision changes nothing",
        "hostile accounts and texts stay apart",
        "what was delivered survives a kill",
    ] {
        assert!(has(name), "{name}: {failed:#?}");
    }
    assert!(!has("a full batch is taken"), "{failed:#?}");
}

#[tokio::test]
async fn a_plugin_that_cannot_be_read_back_is_tried_as_far_as_may_be() {
    let blind = "read -r hello; echo '{\"protocol\":1,\"format\":\"lines\"}'\n\
        while IFS= read -r line; do case $line in\n\
        deliver*) word=delivered id=${line#* } ;; probe*) word=ok id=${line#* } ;;\n\
        '') echo \"{\\\"id\\\":$id,\\\"outcome\\\":\\\"$word\\\"}\" ;; esac; done";
    let (failed, skipped) = tried(&["sh", "-c", blind]).await;
    assert!(failed.is_empty(), "{failed:#?}");
    let blind = skipped
        .iter()
        .filter(|line| line.ends_with("the plugin cannot be read back"));
    assert_eq!(blind.count(), 6, "{skipped:#?}");
}

#[tokio::test]
async fn a_program_that_is_no_plugin_is_told_once() {
    let (failed, skipped) = tried(&["echo", "usage: crm [OPTIONS]"]).await;
    assert_eq!((failed.len(), skipped.len()), (1, 0), "{failed:?}");
    assert!(failed[0].contains("usage: crm"), "{failed:?}");
}
