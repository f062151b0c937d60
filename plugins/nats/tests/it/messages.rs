//! Profiles as messages of a stream.

use profilesync_target::{Delivery, Outcome};
use serde_json::{Value, json};

use crate::{
    SUBJECT, Server, deliver, delivered, destroyed, document, is_fault, open_at, start, token,
};

async fn with_stream() -> Option<Server> {
    let server = start("", "").await?;
    server
        .add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    Some(server)
}

#[tokio::test]
async fn a_profile_is_one_message_with_its_revision() {
    let Some(server) = with_stream().await else {
        return;
    };
    let target = open_at(&server, "");
    assert_eq!(delivered(&*target, document(7)).await, "PROFILES 1");
    let (payload, headers) = server.last("PROFILES", SUBJECT).await.unwrap();
    let body: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(body, serde_json::to_value(document(7)).unwrap());
    for header in [
        "Nats-Msg-Id: ",
        "content-type: application/json\r\n",
        "profilesync-revision: 7\r\n",
    ] {
        assert!(headers.contains(header), "{headers}");
    }
    assert_eq!(delivered(&*target, destroyed(8)).await, "PROFILES 2");
    let (payload, _) = server.last("PROFILES", SUBJECT).await.unwrap();
    let body: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(body["status"], "destroyed");
}

#[tokio::test]
async fn a_repeated_revision_is_dropped_by_its_id() {
    let Some(server) = with_stream().await else {
        return;
    };
    let target = open_at(&server, "");
    for revision in [1, 1, 2, 1, 2] {
        delivered(&*target, document(revision)).await;
    }
    assert_eq!(
        delivered(&*target, document(1)).await,
        "is PROFILES 1 already"
    );
    assert_eq!(server.count("PROFILES").await, 2);
    // Other apps, accounts and targets have other ids.
    let mut other = document(1);
    other.sdk_app_id = 2;
    delivered(&*target, other).await;
    let mut other = document(1);
    other.account = "@TOA#_other".into();
    delivered(&*target, other).await;
    let second = open_at(&server, "subject = 'profilesync.second.{{ account }}'");
    delivered(&*second, document(1)).await;
    assert_eq!(server.count("PROFILES").await, 5);
}

#[tokio::test]
async fn accounts_stay_in_their_token() {
    let Some(server) = with_stream().await else {
        return;
    };
    let target = open_at(&server, "subject = 'profilesync.x.{{ account }}.y'");
    let accounts = [
        "a.b",
        "a",
        "*",
        ">",
        "a b",
        "=2E",
        ".",
        "*)(uid=*))(|(uid=*",
        "'; DROP TABLE accounts;--",
        "../../etc/x",
        "=cmd|' /C calc'!A0",
        "é",
    ];
    let batch: Vec<_> = accounts
        .iter()
        .map(|account| {
            let mut document = document(1);
            document.account = (*account).into();
            Delivery::from(document)
        })
        .collect();
    target.deliver(&batch).await;
    assert_eq!(server.count("PROFILES").await, accounts.len() as u64);
    for account in accounts {
        let subject = format!("profilesync.x.{}.y", token(account));
        let (payload, _) = server.last("PROFILES", &subject).await.unwrap();
        let body: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(body["account"], account);
    }
}

#[tokio::test]
async fn without_a_stream_nothing_is_delivered() {
    let Some(server) = start("", "").await else {
        return;
    };
    let target = open_at(&server, "");
    is_fault(
        &*target,
        &[
            "no stream takes profilesync.*.*",
            "nats stream add PROFILES",
        ],
    )
    .await;
    server
        .add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    target.probe().await.unwrap();
    delivered(&*target, document(1)).await;
}

#[tokio::test]
async fn another_stream_takes_nothing() {
    let Some(server) = with_stream().await else {
        return;
    };
    let target = open_at(&server, "stream = 'OTHER'");
    let outcome = deliver(&*target, document(1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("expected stream"), "{outcome:?}");
    assert!(target.probe().await.unwrap_err().contains("OTHER"));
    assert_eq!(server.count("PROFILES").await, 0);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_the_accounts_fault() {
    let Some(server) = start("max_payload: 64KB", "").await else {
        return;
    };
    let limit = json!({ "max_msg_size": 4096 });
    server
        .add_stream("PROFILES", &["profilesync.>"], &limit)
        .await;
    let target = open_at(&server, "");
    for length in [5_000, 100_000] {
        let mut large = document(1);
        large.introduction = Some("x".repeat(length));
        let batch = [
            Delivery::from(large),
            Delivery::from(document(length as u64)),
        ];
        let profilesync_target::Answer::Each(outcomes) = target.deliver(&batch).await else {
            panic!("each has its own outcome");
        };
        assert!(
            matches!(outcomes[0], Outcome::Rejected { .. }),
            "{outcomes:?}"
        );
        assert!(
            matches!(outcomes[1], Outcome::Delivered { .. }),
            "{outcomes:?}"
        );
    }
}

#[tokio::test]
async fn a_full_stream_is_the_servers_fault() {
    let Some(server) = start("", "").await else {
        return;
    };
    let limit = json!({ "max_msgs": 1, "discard": "new" });
    server
        .add_stream("PROFILES", &["profilesync.>"], &limit)
        .await;
    let target = open_at(&server, "");
    delivered(&*target, document(1)).await;
    let outcome = deliver(&*target, document(2)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(
        outcome.text().contains("maximum messages exceeded"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_rendered_is_what_is_sent() {
    let Some(server) = with_stream().await else {
        return;
    };
    let target = open_at(&server, "stream = 'PROFILES'");
    let rendered = target.render(&document(7)).unwrap();
    delivered(&*target, document(7)).await;
    let (payload, headers) = server.last("PROFILES", SUBJECT).await.unwrap();
    let (head, body) = rendered.split_once("\n\n").unwrap();
    assert_eq!(body.trim_end().as_bytes(), payload);
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), format!("PUB {SUBJECT}"));
    let mut sent: Vec<_> = headers
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .collect();
    lines.sort_unstable();
    sent.sort_unstable();
    assert_eq!(lines, sent);
}
