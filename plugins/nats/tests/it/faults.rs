//! Whose fault a failure is.

use std::time::Duration;

use profilesync_target::{Answer, Delivery, Outcome, Target, conformance::named};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use crate::{deliver, delivered, document, is_fault, open, open_at, start};

/// A user in the server's configuration, who may publish to these subjects.
fn user(name: &str, publish: &[&str]) -> String {
    let publish: Vec<_> = publish
        .iter()
        .map(|subject| format!("{subject:?}"))
        .collect();
    let publish = publish.join(", ");
    format!(
        "{{ user: {name}, password: pw, permissions: {{ publish: [{publish}], subscribe: [\"_INBOX.>\"] }} }}"
    )
}

#[tokio::test]
async fn wrong_credentials_are_the_servers_fault() {
    let Some(server) = start("", "").await else {
        return;
    };
    let url = server.url();
    for login in [
        "",
        "username = 'root'\npassword = 'wr0ng'",
        "token = 'wr0ng'",
    ] {
        let target = open(&format!("url = '{url}'\n{login}"));
        is_fault(
            &*target,
            &["cannot connect to 127.0.0.1:", "authorization violation"],
        )
        .await;
        assert!(!target.probe().await.unwrap_err().contains("wr0ng"));
    }
}

/// A server that refuses everyone, and says again what it was sent; this is its URL.
async fn parrot() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream
                .write_all(b"INFO {\"max_payload\":1048576}\r\n")
                .await
                .unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let answer = format!("-ERR 'what is {}'\r\n", line.trim_end());
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Closed with something unread, the connection would be reset, and the answer lost.
            let _ = stream.read_line(&mut line).await;
        }
    });
    url
}

#[tokio::test]
async fn a_secret_that_the_server_says_again_is_hidden() {
    let url = parrot().await;
    for login in [
        "username = 'root'\npassword = 'hunter2\"x'",
        "token = 'hunter2\"x'",
    ] {
        let target = open(&format!("url = '{url}'\n{login}"));
        is_fault(&*target, &["what is CONNECT", "\"***\""]).await;
        for text in [
            deliver(&*target, document(1)).await.text().to_owned(),
            target.probe().await.unwrap_err(),
        ] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

#[tokio::test]
async fn missing_permissions_are_told_at_once() {
    // The permissions that the README lists.
    let users = [
        user("messages", &["profilesync.>", "$JS.API.STREAM.NAMES"]),
        user(
            "bucket",
            &[
                "$KV.accounts.>",
                "$JS.API.STREAM.MSG.GET.KV_accounts",
                "$JS.API.STREAM.INFO.KV_accounts",
            ],
        ),
        user("nothing", &["other"]),
    ];
    let Some(server) = start("", &users.join("\n")).await else {
        return;
    };
    server
        .add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    server.add_bucket("accounts").await;
    let open_as = |name: &str, rest: &str| {
        let url = server.url();
        open(&format!(
            "url = '{url}'\nusername = '{name}'\npassword = 'pw'\n{rest}"
        ))
    };
    for (name, rest) in [("messages", ""), ("bucket", "bucket = 'accounts'")] {
        let target = open_as(name, rest);
        target.probe().await.unwrap();
        delivered(&*target, document(1)).await;
        let begun = std::time::Instant::now();
        let target = open_as("nothing", rest);
        let outcome = deliver(&*target, document(1)).await;
        // A bucket is not even read; the subjects of other accounts may be allowed.
        let expected = match name {
            "bucket" => matches!(outcome, Outcome::Fault { .. }),
            _ => matches!(outcome, Outcome::Denied { .. }),
        };
        assert!(expected, "{outcome:?}");
        let probe = target.probe().await.unwrap_err();
        for text in [outcome.text(), &probe] {
            assert!(
                text.contains("ermissions") && text.contains("README"),
                "{text}"
            );
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

/// Delivers a batch, and the halves of what is denied as a whole, as the daemon does.
async fn bisected(target: &dyn Target, batch: &[Delivery]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        match target.deliver(part).await {
            Answer::Whole(Outcome::Denied { .. }) if part.len() > 1 => {
                let (front, back) = part.split_at(part.len() / 2);
                parts.extend([back, front]);
            }
            Answer::Whole(outcome) => outcomes.extend(vec![outcome; part.len()]),
            Answer::Each(each) => outcomes.extend(each),
        }
    }
    outcomes
}

#[tokio::test]
async fn a_subject_that_is_denied_keeps_no_other_account_back() {
    let users = user("one", &["profilesync.1.>"]);
    let Some(server) = start("", &users).await else {
        return;
    };
    server
        .add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    let target = open(&format!(
        "url = '{}'\nusername = 'one'\npassword = 'pw'",
        server.url()
    ));
    // The third is of another app.
    let batch = [named("a", 1), named("b", 1), document(1), named("c", 1)].map(Delivery::from);
    let whole = target.deliver(&batch).await;
    assert!(
        matches!(whole, Answer::Whole(Outcome::Denied { .. })),
        "{whole:?}"
    );
    let outcomes = bisected(&*target, &batch).await;
    assert!(
        matches!(outcomes[2], Outcome::Denied { .. }),
        "{outcomes:?}"
    );
    assert!(
        outcomes[2].text().contains("profilesync.1400000000."),
        "{outcomes:?}"
    );
    let delivered = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Delivered { .. }));
    assert_eq!(delivered.count(), 3, "{outcomes:?}");
}

#[tokio::test]
async fn a_server_without_jetstream_takes_nothing() {
    let Some(server) = start("", "").await else {
        return;
    };
    for rest in ["", "bucket = 'accounts'"] {
        let url = server.url();
        let target = open(&format!(
            "url = '{url}'\nusername = 'bare'\npassword = 'pw'\n{rest}"
        ));
        is_fault(&*target, &[]).await;
        let probe = target.probe().await.unwrap_err();
        assert!(probe.contains("JetStream not enabled"), "{probe}");
    }
}

#[tokio::test]
async fn a_server_that_dies_amid_a_delivery_is_at_fault_at_once() {
    let Some(mut server) = start("", "").await else {
        return;
    };
    server
        .add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    let target = open_at(&server, "");
    delivered(&*target, document(1)).await;
    server.process.signal("STOP");
    let delivery = deliver(&*target, document(2));
    let killing = async {
        // The delivery has sent its request to a server that does not read it.
        tokio::task::yield_now().await;
        server.process.kill();
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::join!(delivery, killing).0
    });
    let outcome = ended.await.expect("the end of the connection is noticed");
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    server.resume().await;
    let answer = delivered(&*target, document(2)).await;
    assert_eq!(answer, "PROFILES 2");
}

#[tokio::test]
async fn a_server_that_came_back_between_deliveries_is_no_fault() {
    let Some(mut server) = start("", "").await else {
        return;
    };
    server.add_bucket("accounts").await;
    let target = open_at(&server, "bucket = 'accounts'");
    for revision in 1..4 {
        delivered(&*target, document(revision)).await;
        server.process.kill();
        server.resume().await;
    }
}

#[tokio::test]
async fn any_server_of_a_cluster_will_do() {
    let Some(server) = start("", "").await else {
        return;
    };
    server.add_bucket("accounts").await;
    let url = server.url();
    let target = open(&format!(
        "url = ['nats://127.0.0.1:1', '{url}']\nusername = 'root'\npassword = 'in-auth'\nbucket = 'accounts'"
    ));
    for revision in 1..4 {
        delivered(&*target, document(revision)).await;
    }
}

#[tokio::test]
async fn a_server_at_fault_is_let_go_for_another() {
    let (Some(faulty), Some(mut well)) = (start("", "").await, start("", "").await) else {
        return;
    };
    well.add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    well.process.kill();
    let target = open(&format!(
        "url = ['{}', '{}']\nusername = 'root'\npassword = 'in-auth'",
        faulty.url(),
        well.url()
    ));
    let outcome = deliver(&*target, document(1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    well.resume().await;
    // Each new connection is to either of them, by chance.
    for _ in 0..64 {
        let outcome = deliver(&*target, document(1)).await;
        if matches!(outcome, Outcome::Delivered { .. }) {
            return;
        }
    }
    panic!("the server at fault is asked for ever");
}
