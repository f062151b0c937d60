//! What the server can answer, and what it means; each against the real server.

use std::time::{Duration, Instant};

use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use profilesync_target::{Delivery, Document, Outcome, Target};

use crate::{deliver, deliver_all, document, open, server::Server};

#[track_caller]
fn faulty(outcomes: &[Outcome], count: usize, text: &str) {
    assert_eq!(outcomes.len(), count);
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains(text), "{outcome:?}");
    }
}

fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

fn target(server: &Server, settings: &str) -> Box<dyn Target> {
    open(&format!("url = '{}'\n{settings}", server.url()))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_sorted() {
    let Some(server) = Server::start("max_message_size = 20000").await else {
        return;
    };
    server.declare("profiles").await;
    unroutable_messages_are_the_targets_fault(&server).await;
    a_full_queue_is_the_targets_fault(&server).await;
    an_exchange_that_is_not_there_is_the_targets_fault(&server).await;
    missing_permissions_are_sorted(&server).await;
    a_message_that_is_too_large_is_the_accounts(&server).await;
    a_blocked_connection_is_a_fault_in_time(&server).await;
    dropped_deliveries_leave_no_thread(&server).await;
}

async fn unroutable_messages_are_the_targets_fault(server: &Server) {
    // Only the accounts that are bound for are routed, in the same batch.
    let connection = server.connect().await;
    let channel = connection.create_channel().await.unwrap();
    channel
        .exchange_declare(
            "picky".into(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    for key in ["1.b", "1.d"] {
        channel
            .queue_bind(
                "profiles".into(),
                "picky".into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    }
    let strict = target(server, "exchange = 'picky'");
    for _ in 0..20 {
        let outcomes = deliver(&*strict, &["a", "b", "c", "d", "e"]).await;
        let routed: Vec<_> = outcomes.iter().map(is_delivered).collect();
        assert_eq!(routed, [false, true, false, true, false], "{outcomes:?}");
        faulty(
            &outcomes[..1],
            1,
            "no queue is bound to picky for the routing key \"1.a\"",
        );
    }
    let lax = target(server, "exchange = 'picky'\nmandatory = false");
    assert!(deliver(&*lax, &["a", "b"]).await.iter().all(is_delivered));
    // The default exchange leads to the queue that the key names.
    let queue = target(
        server,
        "exchange = ''\nrouting_key = 'profiles'\nformat = 'profile'",
    );
    server.drain("profiles").await;
    queue.probe().await.unwrap();
    assert!(deliver(&*queue, &["a"]).await.iter().all(is_delivered));
    let found = server.drain("profiles").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, serde_json::to_value(document("a")).unwrap());
}

async fn a_full_queue_is_the_targets_fault(server: &Server) {
    let connection = server.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    channel
        .queue_declare("small".into(), QueueDeclareOptions::default(), arguments)
        .await
        .unwrap();
    let small = target(server, "exchange = ''\nrouting_key = 'small'");
    let mut outcomes = Vec::new();
    for _ in 0..50 {
        outcomes = deliver(&*small, &["a", "b", "c"]).await;
        if !outcomes.iter().any(is_delivered) {
            break;
        }
    }
    faulty(&outcomes, 3, "basic.nack");
}

async fn an_exchange_that_is_not_there_is_the_targets_fault(server: &Server) {
    let nowhere = target(server, "exchange = 'nowhere'");
    let accounts: Vec<_> = (0..200).map(|number| format!("a{number}")).collect();
    let accounts: Vec<_> = accounts.iter().map(String::as_str).collect();
    faulty(
        &deliver(&*nowhere, &accounts).await,
        200,
        "no exchange 'nowhere' in vhost '/'",
    );
    let error = nowhere.probe().await.unwrap_err();
    assert!(error.contains("no exchange 'nowhere'"), "{error}");
    let vhost = target(server, "exchange = 'profiles'\nvhost = 'nowhere'");
    faulty(&deliver(&*vhost, &["a"]).await, 1, "nowhere");
}

async fn missing_permissions_are_sorted(server: &Server) {
    server.control(&["add_user", "weak", "in-password"]);
    let weak = target(
        server,
        "exchange = 'profiles'\nusername = 'weak'\npassword = 'in-password'",
    );
    faulty(&deliver(&*weak, &["a"]).await, 1, "weak");
    server.control(&["set_permissions", "weak", "^$", "^$", "^$"]);
    faulty(
        &deliver(&*weak, &["a"]).await,
        1,
        "access to exchange 'profiles'",
    );
    server.control(&["set_permissions", "weak", "^$", ".*", "^$"]);
    server.control(&[
        "set_topic_permissions",
        "weak",
        "profiles",
        "^1[.]good",
        ".*",
    ]);
    let outcomes = deliver(&*weak, &["bad"]).await;
    assert!(
        matches!(outcomes[0], Outcome::Denied { .. }),
        "{outcomes:?}"
    );
    assert!(is_delivered(&deliver(&*weak, &["good"]).await[0]));
    let wrong = target(
        server,
        "exchange = 'profiles'\nusername = 'weak'\npassword = 'wrong'",
    );
    faulty(&deliver(&*wrong, &["a"]).await, 1, "Login was refused");
}

async fn a_message_that_is_too_large_is_the_accounts(server: &Server) {
    let profiles = target(server, "exchange = 'profiles'");
    let large = Document {
        introduction: Some("x".repeat(20_000)),
        ..document("large")
    };
    let outcomes = deliver_all(&*profiles, &[Delivery::from(large)]).await;
    assert!(
        matches!(outcomes[0], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
    assert!(outcomes[0].text().contains("larger than"), "{outcomes:?}");
    assert!(is_delivered(&deliver(&*profiles, &["small"]).await[0]));
}

async fn a_blocked_connection_is_a_fault_in_time(server: &Server) {
    let profiles = target(server, "exchange = 'profiles'");
    assert!(is_delivered(&deliver(&*profiles, &["a"]).await[0]));
    server.control(&["set_vm_memory_high_watermark", "0.0000001"]);
    for _ in 0..3 {
        let started = Instant::now();
        faulty(
            &deliver(&*profiles, &["a", "b"]).await,
            2,
            "connection.blocked",
        );
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
    }
    server.control(&["set_vm_memory_high_watermark", "0.4"]);
    let recovered = async {
        while !is_delivered(&deliver(&*profiles, &["a"]).await[0]) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), recovered)
        .await
        .expect("publishing goes on once the alarm is over");
}

/// Threads of clients whose connection did not end.
fn client_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("lapin-io-loop"))
        .count()
}

async fn dropped_deliveries_leave_no_thread(server: &Server) {
    // Other tests of this process have some too, now more and now fewer.
    let most = client_threads() + 3;
    let profiles = target(server, "exchange = 'profiles'");
    assert!(is_delivered(&deliver(&*profiles, &["a"]).await[0]));
    server.process.signal("STOP");
    // The first is dropped while it waits for a confirm, the others while they connect.
    for _ in 0..10 {
        let cut = tokio::time::timeout(Duration::from_millis(200), deliver(&*profiles, &["a"]));
        assert!(cut.await.is_err(), "a frozen server confirmed");
    }
    let ended = async {
        while client_threads() > most {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    server.process.signal("CONT");
    assert!(ended.is_ok(), "{} threads are left", client_threads());
    assert!(is_delivered(&deliver(&*profiles, &["a"]).await[0]));
    profiles.close().await;
}
