//! What the server can answer, and what it means; each against the real server.

use std::fs;

use profilesync_target::{Answer, Delivery, Document, Outcome, Target};

use crate::{deliver, deliver_all, document, open, server::Server, world::users};

#[track_caller]
fn faulty(outcomes: &[Outcome], text: &str) {
    for outcome in outcomes {
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains(text), "{outcome:?}");
    }
}

fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// Delivers a batch, and the halves of what is rejected as a whole, as the daemon does.
async fn bisected(target: &dyn Target, batch: &[Delivery]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        match target.deliver(part).await {
            Answer::Whole(Outcome::Rejected { .. }) if part.len() > 1 => {
                let (front, back) = part.split_at(part.len() / 2);
                parts.extend([back, front]);
            }
            Answer::Whole(outcome) => outcomes.extend(vec![outcome; part.len()]),
            Answer::Each(each) => outcomes.extend(each),
        }
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_permissions_are_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("acl");
    fs::write(&acl, "user profilesync\ntopic readwrite profiles/1/good\n").unwrap();
    let Some(server) = Server::start(&format!(
        "password_file {}\nallow_anonymous false\nacl_file {}",
        users(&folder, "profilesync"),
        acl.display()
    ))
    .await
    else {
        return;
    };
    let with = |more: &str| open(&format!("url = '{}'\n{more}", server.url()));
    let right = with("username = 'profilesync'\npassword = 'in-password'");
    let outcomes = deliver(&*right, &["good", "bad", "good"]).await;
    assert!(is_delivered(&outcomes[0]), "{outcomes:?}");
    // mosquitto hangs up after it has refused a message.
    assert!(
        matches!(
            outcomes[2],
            Outcome::Retry { .. } | Outcome::Delivered { .. }
        ),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::Denied { .. }),
        "{outcomes:?}"
    );
    right.probe().await.unwrap();
    // The probe has a client id of its own, and did not end the connection.
    assert!(is_delivered(&deliver(&*right, &["good"]).await[0]));
    right.close().await;

    let wrong = with("username = 'profilesync'\npassword = 'wrong'");
    faulty(&deliver(&*wrong, &["good"]).await, "refuses the connection");
    faulty(
        &deliver(&*with(""), &["good"]).await,
        "refuses the connection",
    );
    let error = wrong.probe().await.unwrap_err();
    assert!(error.contains("refuses the connection"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_the_accounts() {
    let Some(server) = Server::start("max_packet_size 2000\nallow_anonymous true").await else {
        return;
    };
    let target = open(&format!("url = '{}'", server.url()));
    let large = Document {
        introduction: Some("x".repeat(3000)),
        ..document("large")
    };
    let outcomes = deliver_all(&*target, &[Delivery::from(large)]).await;
    assert!(
        matches!(outcomes[0], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
    assert!(outcomes[0].text().contains("takes 2000"), "{outcomes:?}");
    assert!(is_delivered(&deliver(&*target, &["small"]).await[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_an_unannounced_limit_is_the_accounts() {
    // With this many, which is its default, mosquitto does not hang up after a refusal.
    let limit = "message_size_limit 2000\nmax_queued_messages 1000\nallow_anonymous true";
    let Some(server) = Server::start(limit).await else {
        return;
    };
    let target = open(&format!("url = '{}'", server.url()));
    let batch = ["a", "b", "large", "c", "d"].map(|account| {
        let mut document = document(account);
        if account == "large" {
            document.introduction = Some("x".repeat(3000));
        }
        Delivery::from(document)
    });
    let whole = target.deliver(&batch).await;
    assert!(
        matches!(whole, Answer::Whole(Outcome::Rejected { .. })),
        "{whole:?}"
    );
    let outcomes = bisected(&*target, &batch).await;
    assert!(
        matches!(outcomes[2], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
    assert!(outcomes[2].text().contains("larger than"), "{outcomes:?}");
    let delivered = outcomes.iter().filter(|outcome| is_delivered(outcome));
    assert_eq!(delivered.count(), 4, "{outcomes:?}");
    let held: Vec<_> = server.retained(None).await.into_keys().collect();
    let small = [
        "profiles/1/a",
        "profiles/1/b",
        "profiles/1/c",
        "profiles/1/d",
    ];
    assert_eq!(held, small);

    // The others have their answers: it must be this one.
    let outcomes = deliver_all(&*target, &batch[1..3]).await;
    assert!(is_delivered(&outcomes[0]), "{outcomes:?}");
    assert!(
        matches!(outcomes[1], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_retained_messages_is_a_fault() {
    let Some(server) = Server::start("retain_available false\nallow_anonymous true").await else {
        return;
    };
    let target = open(&format!("url = '{}'", server.url()));
    faulty(&deliver(&*target, &["a"]).await, "retained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_deliveries_is_no_fault() {
    let Some(mut server) = Server::start("allow_anonymous true").await else {
        return;
    };
    let target = open(&format!("url = '{}'", server.url()));
    assert!(is_delivered(&deliver(&*target, &["a"]).await[0]));
    server.process.end().await;
    server.run().await;
    assert!(is_delivered(&deliver(&*target, &["b"]).await[0]));
    let held: Vec<_> = server.retained(None).await.into_keys().collect();
    assert_eq!(held, ["profiles/1/a", "profiles/1/b"]);
}
