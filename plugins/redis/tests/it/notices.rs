//! Notices of changes: one for each, and none for what changed nothing.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use profilesync_target::Outcome;
use redis::Client;
use serde_json::json;

use crate::{KEY, PASSWORD, Server, deliver, delivered, destroyed, document, open_at, start};

async fn entries(server: &Server) -> Vec<BTreeMap<String, String>> {
    let entries: Vec<(String, BTreeMap<String, String>)> =
        server.ask(&["XRANGE", "changes", "-", "+"]).await;
    entries.into_iter().map(|(_, entry)| entry).collect()
}

#[tokio::test]
async fn each_change_is_one_entry_of_the_stream() {
    let Some(server) = start(&[]).await else {
        return;
    };
    for (settings, end) in [("", "kept"), ("destroyed = 'delete'", "deleted")] {
        server.ask::<()>(&["FLUSHALL"]).await;
        let target = open_at(&server, &format!("stream = 'changes'\n{settings}"));
        for document in [
            document(1),
            document(1),
            document(3),
            document(2),
            destroyed(4),
            destroyed(4),
        ] {
            delivered(&*target, document).await;
        }
        let seen: Vec<_> = entries(&server)
            .await
            .into_iter()
            .map(|entry| {
                assert_eq!(entry["key"], KEY);
                assert_eq!(entry["account"], "@TOA#_test");
                assert_eq!(entry["sdk_app_id"], "1400000000");
                assert_eq!(entry.len(), 5);
                (entry["revision"].clone(), entry["status"].clone())
            })
            .collect();
        let expected = [("1", "active"), ("3", "active"), ("4", "destroyed")];
        let expected = expected.map(|(one, two)| (one.to_owned(), two.to_owned()));
        assert_eq!(seen, expected, "{end}");
    }
}

#[tokio::test]
async fn a_subscriber_reads_the_new_hash() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let client = Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port)).unwrap();
    let mut subscriber = client.get_async_pubsub().await.unwrap();
    subscriber.subscribe("news").await.unwrap();
    let mut messages = subscriber.on_message();
    let target = open_at(&server, "channel = 'news'");
    for revision in 1..20 {
        let delivery = delivered(&*target, document(revision));
        let reading = async {
            let text: String = messages.next().await.unwrap().get_payload().unwrap();
            let held: String = server.ask(&["HGET", KEY, "revision"]).await;
            (text, held)
        };
        let (_, (text, held)) = tokio::join!(delivery, reading);
        let notice: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "sdk_app_id": 1_400_000_000, "account": "@TOA#_test", "revision": revision, "status": "active", "key": KEY,
        });
        assert_eq!(notice, expected);
        assert_eq!(held, revision.to_string());
    }
}

#[tokio::test]
async fn a_stream_is_kept_short() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "stream = 'changes'\nstream_maxlen = 10");
    for revision in 1..=500 {
        delivered(&*target, document(revision)).await;
    }
    let length: u32 = server.ask(&["XLEN", "changes"]).await;
    assert!((10..=200).contains(&length), "{length}");
}

#[tokio::test]
async fn without_the_notice_there_is_no_change() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "stream = 'changes'\nchannel = 'news'");
    server.ask::<()>(&["SET", "changes", "no stream"]).await;
    let outcome = deliver(&*target, document(1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("`stream`"), "{outcome:?}");
    assert!(target.probe().await.unwrap_err().contains("no stream"));
    assert_eq!(server.ask::<u32>(&["EXISTS", KEY]).await, 0);
    server.ask::<()>(&["DEL", "changes"]).await;
    delivered(&*target, document(1)).await;
    assert_eq!(entries(&server).await.len(), 1);
}
