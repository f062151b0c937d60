//! What is not accepted: over the wire, in the configuration, on the command line.

use std::{fs, time::Duration};

use profilesync::clock;
use serde_json::{Value, json};

use crate::{
    daemon::{APP, BINARY, Daemon, TOKEN, until},
    receiver::{Receiver, Reply},
    sender::{CHANGED, change, query, sign, signed, unsigned},
};

/// Posts and compares status and `ErrorCode`; the members of an answer have their order.
async fn check(daemon: &Daemon, query: &str, body: impl Into<String>, expected: (u16, u64)) {
    let body: String = body.into();
    let shown: String = format!("{query} {body}").chars().take(300).collect();
    let url = format!("{}?{query}", daemon.sender().url());
    let response = daemon
        .sender()
        .client()
        .post(url)
        .body(body)
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "{shown}"
    );
    let text = response.text().await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    let code = answer["ErrorCode"].as_u64().unwrap();
    assert_eq!((status, code), expected, "{shown} got {text}");
    assert_eq!(
        answer["ActionStatus"],
        if code == 0 { "OK" } else { "FAIL" },
        "{shown}"
    );
    let places =
        ["\"ActionStatus\"", "\"ErrorInfo\"", "\"ErrorCode\""].map(|name| text.find(name).unwrap());
    assert!(places.is_sorted(), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged() {
    let daemon = Daemon::start("").await;
    let now = clock::now();
    let well = query(CHANGED);
    let body = change("a", now, &json!({ "Name": "x" })).to_string();
    let stale = change("a", now - 5, &json!({ "Name": "late" })).to_string();
    let seconds = now / 1000;
    let upper = sign(TOKEN, seconds).to_uppercase();
    let upper = format!("{}&Sign={upper}&RequestTime={seconds}", unsigned(CHANGED));
    for (query, body) in [
        (well.clone(), body.clone()),
        (well.clone(), body.clone()),
        (well.clone(), stale),
        (format!("Unknown=1&{well}"), body.clone()),
        (upper, body),
        (query("C2C.CallbackAfterSendMsg"), "{}".to_owned()),
        (format!("SdkAppid={APP}"), String::new()),
    ] {
        check(&daemon, &query, body, (200, 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_unsigned_and_oversized_requests() {
    let daemon = Daemon::start("").await;
    let now = clock::now();
    let well = query(CHANGED);
    let body = change("a", now, &json!({ "Name": "x" })).to_string();
    let seconds = now / 1000;
    for foreign in [
        well.replace(&format!("SdkAppid={APP}"), "X=1"),
        well.replace(&APP.to_string(), "1400000001"),
        format!("{well}&SdkAppid={APP}"),
    ] {
        check(&daemon, &foreign, &body, (403, 120_001)).await;
    }
    for forged in [
        unsigned(CHANGED),
        signed(CHANGED, "wrong", seconds),
        signed(CHANGED, TOKEN, seconds - 90),
        signed(CHANGED, TOKEN, seconds + 90),
        format!("{well}&RequestTime={seconds}"),
        format!("{well}&Sign={}", sign(TOKEN, seconds)),
    ] {
        check(&daemon, &forged, &body, (403, 120_002)).await;
    }
    let huge = change("a", now, &json!({ "Name": "x".repeat(70_000) })).to_string();
    check(&daemon, &well, huge, (413, 120_004)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bodies() {
    let daemon = Daemon::start("").await;
    let now = clock::now();
    let good = change("a", now, &json!({ "Name": "x" }));
    let with = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body.to_string()
    };
    let bodies = [
        String::new(),
        "[]".to_owned(),
        "{".to_owned(),
        with("Name", json!(1)),
        with("Official_Account", Value::Null),
        with("Official_Account", json!("")),
        with("Official_Account", json!("a\nb")),
        with("Official_Account", json!("x".repeat(256))),
        with("EventTime", Value::Null),
        with("EventTime", json!(now / 1000)),
        with("EventTime", json!(now + 25 * 3_600_000)),
        with("EventTime", json!(1.5e12)),
        with("CallbackCommand", json!("C2C.CallbackAfterSendMsg")),
    ];
    for body in bodies {
        check(&daemon, &query(CHANGED), body, (400, 120_003)).await;
    }
    check(
        &daemon,
        &query(CHANGED),
        with("EventTime", json!(now.to_string())),
        (200, 0),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods() {
    let daemon = Daemon::start("").await;
    let sender = daemon.sender();
    let other = sender
        .client()
        .post(format!("{}other", sender.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 404);
    assert_eq!(other.json::<Value>().await.unwrap()["ErrorCode"], 120_005);
    let got = sender.client().get(sender.url()).send().await.unwrap();
    assert_eq!(got.status(), 405);
    assert_eq!(got.json::<Value>().await.unwrap()["ErrorCode"], 120_005);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_is_acknowledged_and_not_delivered() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let daemon = Daemon::start(&receiver.target("crm", "")).await;
    let sender = daemon.sender();
    let now = clock::now();
    let event = change("a", now, &json!({ "Name": "x", "Operator_Account": "o" }));
    sender.send(&event).await;
    until("it is delivered", async || receiver.name_of("a")).await;
    sender.send(&event).await;
    sender
        .send(&change("a", now - 1, &json!({ "Name": "late" })))
        .await;
    sender
        .send(&change("a", now + 1, &json!({ "Name": "x" })))
        .await;
    sender
        .send(&change("b", now, &json!({ "Name": "x" })))
        .await;
    until("a later event is delivered", async || receiver.name_of("b")).await;
    assert_eq!(receiver.count("a"), 1);
}

/// Starts a daemon with these tables and expects it to end with 78 and these words.
async fn refused(tables: &str, words: &[&str]) {
    let mut daemon = Daemon::prepare(tables);
    daemon.spawn();
    let status = daemon.ended().await;
    let log = daemon.log();
    assert_eq!(status.code(), Some(78), "{tables}\n{log}");
    for word in words {
        assert!(log.contains(word), "{word:?} is not in:\n{log}");
    }
    let (code, _, check) = daemon.command(&["check"]).await;
    assert_eq!(code, Some(78), "check says:\n{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configurations_are_named_and_end_with_78() {
    refused(
        "[targets.crm]\ntype = \"webhook\"\nurll = \"http://x/\"\n",
        &["test.toml:3:1", "urll", "url"],
    )
    .await;
    refused(
        "[targets.crm]\ntype = \"webhok\"\n",
        &["test.toml:2:", "webhok", "webhook"],
    )
    .await;
    refused(
        "[listener]\naddress = \"127.0.0.1:1\"\n",
        &["test.toml", "profilesync.toml", "address"],
    )
    .await;
    refused("[targets\n", &["test.toml:1:"]).await;
    refused(
        "[listener.tls]\ncertificate = \"profilesync.toml\"\nprivate_key = \"profilesync.toml\"\n",
        &["test.toml:2:15", "listener.tls.certificate"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_ends_with_78_and_wrong_usage_with_2() {
    let run = |args: &'static [&str]| async move {
        let output = tokio::process::Command::new(BINARY)
            .args(args)
            .output()
            .await
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = run(&["run", "-c", "/nonexistent/profilesync.toml"]).await;
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("/nonexistent/profilesync.toml"), "{text}");
    let (code, text) = run(&["frobnicate"]).await;
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = run(&["status", "-c", "/nonexistent/profilesync.toml"]).await;
    assert_ne!(code, Some(0), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_store_ends_with_75() {
    let daemon = Daemon::start("").await;
    let text = fs::read_to_string(daemon.config()).unwrap();
    let second = tempfile::tempdir().unwrap();
    let port = crate::daemon::free_port();
    let text = text
        .replace(&format!(":{}\"", daemon.port()), &format!(":{port}\""))
        .replace(
            daemon.admin_socket().to_str().unwrap(),
            second.path().join("admin.sock").to_str().unwrap(),
        );
    let config = second.path().join("profilesync.toml");
    fs::write(&config, text).unwrap();
    let mut command = tokio::process::Command::new(BINARY);
    command.args(["run", "-c"]).arg(&config).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(
        said.contains(&daemon.pid().as_raw_nonzero().to_string()),
        "it says who holds the store: {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_daemon_ends_with_69() {
    let daemon = Daemon::prepare("");
    let (code, _, text) = daemon.command(&["status"]).await;
    assert_eq!(code, Some(69), "{text}");
}
