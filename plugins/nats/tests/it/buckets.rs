//! Profiles as the values of a bucket.

use async_nats::HeaderMap;
use profilesync_target::{Outcome, Target};
use serde_json::{Value, json};

use crate::{Server, deliver, delivered, destroyed, document, is_fault, open_at, start};

const KEY: &str = "$KV.accounts.1400000000.=40TOA=23_test";

async fn with_bucket() -> Option<(Server, Box<dyn Target>)> {
    let server = start("", "").await?;
    server.add_bucket("accounts").await;
    let target = open_at(&server, "bucket = 'accounts'");
    Some((server, target))
}

async fn put(server: &Server, headers: &[(&'static str, &str)], payload: &str) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    server.ask(KEY, map, payload.to_owned()).await.unwrap();
}

async fn revision(server: &Server) -> Value {
    let (payload, _) = server.last("KV_accounts", KEY).await.unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["revision"].clone()
}

#[tokio::test]
async fn a_profile_is_a_value_and_never_goes_back() {
    let Some((server, target)) = with_bucket().await else {
        return;
    };
    assert_eq!(delivered(&*target, document(7)).await, "KV_accounts 1");
    let (payload, _) = server.last("KV_accounts", KEY).await.unwrap();
    let body: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(body, serde_json::to_value(document(7)).unwrap());
    assert_eq!(delivered(&*target, document(7)).await, "is 1 already");
    assert_eq!(
        delivered(&*target, document(6)).await,
        "revision 7 is there already"
    );
    assert_eq!(
        delivered(&*target, destroyed(6)).await,
        "revision 7 is there already"
    );
    assert_eq!(delivered(&*target, document(8)).await, "KV_accounts 2");
    assert_eq!(revision(&server).await, 8);
}

#[tokio::test]
async fn a_destroyed_account_leaves_a_marker_with_its_revision() {
    let Some((server, target)) = with_bucket().await else {
        return;
    };
    delivered(&*target, document(1)).await;
    delivered(&*target, destroyed(3)).await;
    let (payload, headers) = server.last("KV_accounts", KEY).await.unwrap();
    assert!(payload.is_empty());
    for header in [
        "KV-Operation: PURGE",
        "Nats-Rollup: sub",
        "profilesync-revision: 3",
    ] {
        assert!(headers.contains(header), "{headers}");
    }
    assert_eq!(
        delivered(&*target, document(2)).await,
        "revision 3 is there already"
    );
    assert!(delivered(&*target, destroyed(3)).await.ends_with("already"));
    assert_eq!(server.count("KV_accounts").await, 1);
    delivered(&*target, document(4)).await;
    assert_eq!(revision(&server).await, 4);
}

#[tokio::test]
async fn what_others_wrote_is_put_right() {
    let Some((server, target)) = with_bucket().await else {
        return;
    };
    delivered(&*target, document(5)).await;
    let marker: &[_] = &[("KV-Operation", "DEL")];
    let mut other = document(5);
    other.name = Some("another".into());
    let other = serde_json::to_string(&other).unwrap();
    for (headers, payload) in [(marker, ""), (&[], "not ours"), (&[], "{}"), (&[], &*other)] {
        put(&server, headers, payload).await;
        let answer = delivered(&*target, document(5)).await;
        assert!(answer.starts_with("KV_accounts "), "{answer}");
        assert_eq!(revision(&server).await, 5);
    }
}

#[tokio::test]
async fn concurrent_revisions_end_at_the_last() {
    let Some((server, _)) = with_bucket().await else {
        return;
    };
    let deliveries = (1..=20).map(|revision| {
        let target = open_at(&server, "bucket = 'accounts'");
        tokio::spawn(async move { deliver(&*target, document(revision)).await })
    });
    let deliveries: Vec<_> = deliveries.collect();
    for delivery in deliveries {
        let outcome = delivery.await.unwrap();
        assert!(
            matches!(outcome, Outcome::Delivered { .. } | Outcome::Retry { .. }),
            "{outcome:?}"
        );
    }
    delivered(&*open_at(&server, "bucket = 'accounts'"), document(20)).await;
    assert_eq!(revision(&server).await, 20);
}

#[tokio::test]
async fn without_a_bucket_nothing_is_delivered() {
    let Some(server) = start("", "").await else {
        return;
    };
    let target = open_at(&server, "bucket = 'accounts'");
    is_fault(&*target, &["no bucket accounts", "nats kv add accounts"]).await;
    // A stream of that name is no bucket yet.
    server
        .add_stream("KV_accounts", &["$KV.accounts.>"], &json!({}))
        .await;
    assert!(target.probe().await.unwrap_err().contains("no bucket"));
}

#[tokio::test]
async fn what_is_rendered_says_what_is_done() {
    let Some((_server, target)) = with_bucket().await else {
        return;
    };
    let rendered = target.render(&document(7)).unwrap();
    let json = serde_json::to_string(&document(7)).unwrap();
    assert_eq!(
        rendered,
        format!("PUT accounts 1400000000.=40TOA=23_test\n\n{json}\n")
    );
    let rendered = target.render(&destroyed(8)).unwrap();
    assert_eq!(
        rendered,
        "PURGE accounts 1400000000.=40TOA=23_test\nprofilesync-revision: 8\n"
    );
}
