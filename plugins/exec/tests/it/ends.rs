//! How children end when the target is closed or dropped, and what they are given.

use std::time::{Duration, Instant};

use profilesync_target::Outcome;

use crate::{LIMIT, Script, runs, until};

const HELLO: &str = "read -r hello; echo '{\"protocol\":1}'";
const SERVE: &str = "echo '{\"id\":1,\"outcome\":\"delivered\"}'";

#[tokio::test]
async fn a_child_ends_by_itself_when_its_input_ends() {
    let script = Script::new(&format!(
        "{HELLO}; echo $$ >pid; read -r request; {SERVE}; sleep 1000 & echo $! >>pid\n\
         cat >rest; sleep 0.3; echo bye >bye"
    ));
    assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
    script.target.close().await;
    assert_eq!(script.read("bye"), "bye\n", "it was not left to finish");
    let pids = script.read("pid");
    until("nobody is left of its group", || !pids.lines().any(runs)).await;
}

#[tokio::test]
async fn a_child_that_does_not_end_is_made_to() {
    for trap in ["echo term >>signals; exit", ""] {
        let script = Script::new(&format!(
            "trap '{trap}' TERM; {HELLO}; echo $$ >pid; read -r request; {SERVE}\n\
             while :; do sleep 0.05; done"
        ));
        assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
        let start = Instant::now();
        script.target.close().await;
        assert!(start.elapsed() < Duration::from_secs(8));
        assert_eq!(script.read("signals").is_empty(), trap.is_empty());
        until("it is dead", || !runs(&script.read("pid"))).await;
    }
}

#[tokio::test]
async fn a_target_that_is_dropped_leaves_nobody() {
    let script = Script::new(&format!(
        "{HELLO}; read -r request; {SERVE}; sleep 1000 & echo $$ $! | tr ' ' '\\n' >pids; wait"
    ));
    assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
    until("both are there", || {
        script.read("pids").lines().count() == 2
    })
    .await;
    let pids = script.read("pids");
    let Script { target, folder } = script;
    drop(target);
    until("both are dead", || !pids.lines().any(runs)).await;
    drop(folder);
}

#[tokio::test]
async fn a_child_is_given_what_the_protocol_says_and_no_more() {
    let script = Script::with(
        &format!("env >env; pwd >pwd; {HELLO}; echo \"$hello\" >hello; cat"),
        "env = { PLAIN = 'shown', API_TOKEN = 'hunter2' }",
        LIMIT,
    );
    // Cargo sets many variables for a test, none of which is to be seen.
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok());
    let _ = script.deliver().await;
    let env = script.read("env");
    for line in ["PLAIN=shown", "API_TOKEN=hunter2", "PROFILESYNC_TARGET=crm"] {
        assert!(env.lines().any(|have| have == line), "{line}: {env}");
    }
    assert!(env.contains("PATH=") && env.contains("LANG="), "{env}");
    assert!(!env.contains("CARGO"), "{env}");
    let folder = script.folder.path().canonicalize().unwrap();
    assert_eq!(script.read("pwd").trim(), folder.to_str().unwrap());
    assert_eq!(
        script.read("hello").trim(),
        r#"{"hello":{"protocol":1,"version":"1.2.3","target":"crm","timeout_ms":30000}}"#
    );
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    let script = Script::with(
        "echo \"my token is $API_TOKEN\" >&2; exit 1",
        "env = { API_TOKEN = 'hunter2' }",
        LIMIT,
    );
    let outcome = script.deliver().await;
    assert!(outcome.text().contains("my token is ***"), "{outcome:?}");
    let script = Script::with(
        &format!(
            "{HELLO}; read -r request; echo '{{\"id\":1,\"outcome\":\"rejected\",\"reason\":\"not by '$KEY'\"}}'; cat"
        ),
        "env = { KEY = { command = ['echo', 'hunter2'] } }",
        LIMIT,
    );
    assert_eq!(script.deliver().await.text(), "not by ***");
}
