//! What the commands say, to people and to programs, with a daemon and without.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use profilesync::clock;
use serde_json::{Value, json};

use crate::{
    daemon::{BINARY, Daemon, until},
    sender::{CHANGED, change, query},
};

const EXPORT: &str = "[targets.export]\ntype = \"file\"\npath = \"export\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_named_is_used_or_nothing_is_done() {
    for args in [
        &["status"][..],
        &["reload"],
        &["targets", "pause", "crm"],
        &["store", "check"],
        &["store", "rebuild"],
    ] {
        let output = Command::new(BINARY)
            .args(args)
            .args(["-c", "/nonexistent/p.toml"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{args:?}: {said}");
        assert!(said.contains("/nonexistent/p.toml"), "{said}");
    }
    let output = Command::new(BINARY)
        .args(["status", "--socket", "/nonexistent/admin.sock"])
        .env("PROFILESYNC_CONFIG", "")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_of_the_folder_that_was_named() {
    let daemon = Daemon::start("").await;
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let of = async |state: &str| {
        let args = [
            "store",
            "backup",
            backup.to_str().unwrap(),
            "--state-dir",
            state,
        ];
        daemon.command(&args).await
    };
    let (code, _, said) = of(dir.path().to_str().unwrap()).await;
    assert_eq!(code, Some(1), "{said}");
    let (code, _, said) = of(daemon.state().to_str().unwrap()).await;
    assert_eq!(code, Some(75), "{said}");
    assert!(!backup.exists() && said.contains("--state-dir"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_the_state_needs_no_configuration() {
    let mut daemon = Daemon::start("").await;
    daemon.settled(&[]).await;
    daemon.stop().await;
    fs::write(daemon.config(), "[apps").unwrap();
    let (code, _, said) = daemon.command(&["store", "check"]).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("--state-dir"), "{said}");
    let (state, backup) = (daemon.state(), daemon.config().with_file_name("backup"));
    let of_state = ["--state-dir", state.to_str().unwrap()];
    for action in [
        &["check"][..],
        &["dump"],
        &["backup", backup.to_str().unwrap()],
    ] {
        let args = [&["store"][..], action, &of_state].concat();
        let (code, _, said) = daemon.command(&args).await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    assert!(backup.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_state_is_not_damaged() {
    let mut daemon = Daemon::start("").await;
    let event = change("a", clock::now(), &json!({ "Name": "x" }));
    daemon.sender().send(&event).await;
    daemon.settled(&[]).await;
    let backup = daemon.config().with_file_name("backup");
    let backup = backup.to_str().unwrap();
    let (code, _, said) = daemon.command(&["store", "backup", backup]).await;
    assert_eq!(code, Some(0), "{said}");
    daemon.stop().await;
    let (code, _, said) = daemon.command(&["store", "restore", backup]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, report, said) = daemon.command(&["store", "check"]).await;
    assert_eq!(code, Some(0), "{report}{said}");
    assert!(report.contains("not built yet"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_state_is_left_alone() {
    let mut daemon = Daemon::start("").await;
    daemon.stop().await;
    let owned = std::os::unix::fs::chown(daemon.state().join("journal"), Some(65_534), None);
    if owned.is_err() {
        eprintln!("skipped: only root may give files away");
        return;
    }
    for action in ["check", "rebuild"] {
        let (code, _, said) = daemon.command(&["store", action]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("sudo -u '#65534'"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_restart_is_what_differs_from_what_runs() {
    let daemon = Daemon::start("").await;
    let text = fs::read_to_string(daemon.config()).unwrap();
    let reload = async |text: &str| {
        fs::write(daemon.config(), text).unwrap();
        let (code, said, error) = daemon.command(&["reload"]).await;
        assert_eq!(code, Some(0), "{error}");
        said
    };
    let moved = text.replace(&format!(":{}\"", daemon.port()), ":1\"");
    for _ in 0..2 {
        let said = reload(&moved).await;
        assert!(said.contains("  listener.address\n"), "{said}");
        assert!(!said.contains("nothing"), "{said}");
    }
    let said = reload(&text).await;
    assert!(said.contains("nothing is different"), "{said}");
    let said = reload(&text.replace("\"5s\"", "\"6s\"")).await;
    assert!(said.contains("shutdown_grace changed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_target_is_called_that() {
    let tables = format!("{EXPORT}enabled = false\nmode = \"shadow\"\n");
    let daemon = Daemon::start(&tables).await;
    assert_eq!(daemon.target("export").await["mode"], "shadow");
    let (_, table, _) = daemon.command(&["targets"]).await;
    assert!(table.contains("disabled (shadow)"), "{table}");
    let (code, _, said) = daemon.command(&["targets", "pause", "export"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("disabled in the configuration"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_named_in_the_same_way_everywhere() {
    let daemon = Daemon::start(EXPORT).await;
    let sender = daemon.sender();
    for id in ["a", "b"] {
        let event = change(id, clock::now(), &json!({ "Name": "x" }));
        sender.send(&event).await;
    }
    daemon.settled(&["export"]).await;
    let (code, list, said) = daemon.command(&["accounts", "--after", "test/a"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(list.contains("  b ") && !list.contains("  a "), "{list}");
    for args in [
        &["--account", "test/a"][..],
        &["--account", "a"],
        &["--account", "a", "--app", "test"],
    ] {
        let args = [&["targets", "retry", "export"], args].concat();
        let (_, _, said) = daemon.command(&args).await;
        assert!(said.contains("the account neither waits"), "{said}");
    }
    let args = ["targets", "retry", "export", "--account", "other/a"];
    let (code, _, said) = daemon.command(&args).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no account"), "{said}");
    let (code, _, said) = daemon.command(&["accounts", "--limit", "0"]).await;
    assert_eq!(code, Some(2), "{said}");
    let (code, done, said) = daemon
        .command(&["targets", "pause", "export", "--json"])
        .await;
    assert_eq!(code, Some(0), "{said}");
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["target"], "export");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_shows_events_as_they_were_received() {
    let daemon = Daemon::start("").await;
    let sender = daemon.sender();
    let now = clock::now();
    let body = format!(
        "{{\"Official_Account\":\"a\", \"CallbackCommand\":\"{CHANGED}\",\r\n\t\"Name\" : \"\\u516c\", \"EventTime\":{now}, \"B\":1.0, \"A\":2}}"
    );
    let url = format!("{}?{}", sender.url(), query(CHANGED));
    let answer = sender.client().post(url).body(body.clone()).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    daemon.settled(&[]).await;
    let (_, text, said) = daemon.command(&["history", "a"]).await;
    for line in body.lines() {
        assert!(text.contains(&line.replace('\t', "\\t")), "{text}{said}");
    }
    let (_, text, _) = daemon.command(&["history", "a", "--json"]).await;
    assert!(text.contains(&body.replace(['\r', '\t'], " ")), "{text}");
    let history: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(history["events"][0]["body"]["Name"], "公");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_listener_is_shown_under_its_name() {
    let mut daemon = Daemon::prepare("");
    let socket = daemon.config().with_file_name("l.sock");
    let text = fs::read_to_string(daemon.config()).unwrap();
    let address = format!("127.0.0.1:{}", daemon.port());
    let text = text.replace(&address, &format!("unix:{}", socket.display()));
    fs::write(daemon.config(), text).unwrap();
    daemon.spawn();
    daemon.ready().await;
    let (_, status) = daemon.get("/v1/status").await.unwrap();
    assert_eq!(status["listener"], format!("unix:{}", socket.display()));
    assert!(socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_reader() {
    let daemon = Daemon::start("").await;
    let mut watch = Command::new(BINARY)
        .args(["status", "--watch", "--json", "--interval", "100ms", "-c"])
        .arg(daemon.config())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(watch.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with('{'), "{line}");
    drop(reader);
    let status = until("it ends", async || watch.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
    let (code, _, said) = daemon
        .command(&["status", "--watch", "--interval", "0s"])
        .await;
    assert_eq!(code, Some(2), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_says_on_stderr_that_there_is_no_daemon() {
    let daemon = Daemon::prepare("");
    let mut watch = Command::new(BINARY)
        .args(["status", "--watch", "--json", "-c"])
        .arg(daemon.config())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(watch.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    assert!(line.contains("does not answer"), "{line}");
    watch.kill().unwrap();
    let output = watch.wait_with_output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
}
