//! Whose fault a failure is.

use std::time::{Duration, Instant};

use profilesync_target::{Outcome, Target};

use crate::{KEY, Server, deliver, delivered, document, open, open_at, start};

/// The delivery and the probe fail for the server's sake, and say this.
async fn is_fault(target: &dyn Target, words: &[&str]) {
    let outcome = deliver(target, document(1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    let probe = target.probe().await.unwrap_err();
    for text in [outcome.text(), &probe] {
        for word in words {
            assert!(text.contains(word), "{text}");
        }
    }
}

#[tokio::test]
async fn wrong_credentials_are_the_servers_fault() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let url = server.url();
    is_fault(&*open(&format!("url = '{url}'")), &["`password`"]).await;
    let wrong = open(&format!("url = '{url}'\npassword = 'wr0ng'"));
    is_fault(&*wrong, &["cannot connect to 127.0.0.1:"]).await;
    assert!(!wrong.probe().await.unwrap_err().contains("wr0ng"));
}

#[tokio::test]
async fn missing_permissions_are_the_servers_fault() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let open_as = |name: &str, rest: &str| {
        open(&format!(
            "url = '{}'\nusername = '{name}'\npassword = 'pw'\n{rest}",
            server.url()
        ))
    };
    // The permissions that the README lists.
    let listed = "ACL SETUSER sync on >pw ~profilesync:* ~changes &news \
                  +eval +evalsha +type +hget +hexists +hmget +hset +hdel +del +xadd +publish";
    server
        .ask::<()>(&listed.split_whitespace().collect::<Vec<_>>())
        .await;
    let notices = "stream = 'changes'\nchannel = 'news'";
    let target = open_as("sync", notices);
    target.probe().await.unwrap();
    delivered(&*target, document(1)).await;
    let back = target.read_back().unwrap();
    assert!(back.held(&[document(1)]).await.unwrap()[0].is_some());
    delivered(
        &*open_as("sync", "destroyed = 'delete'"),
        crate::destroyed(2),
    )
    .await;

    server
        .ask::<()>(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+hget"])
        .await;
    is_fault(&*open_as("reader", ""), &["NOPERM", "README"]).await;
    // Of another's keys.
    is_fault(&*open_as("sync", "prefix = 'other:'"), &["permission"]).await;
    // A notice that may not be given changes nothing.
    let outcome = deliver(&*open_as("sync", "channel = 'other'"), document(3)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert_eq!(server.ask::<u32>(&["EXISTS", KEY]).await, 0);
}

#[tokio::test]
async fn a_replica_is_the_wrong_server() {
    let Some(server) = start(&["--replicaof", "127.0.0.1", "1"]).await else {
        return;
    };
    is_fault(&*open_at(&server, ""), &["READONLY", "primary"]).await;
    let masterless = ["CONFIG", "SET", "replica-serve-stale-data", "no"];
    server.ask::<()>(&masterless).await;
    is_fault(&*open_at(&server, ""), &["MASTERDOWN"]).await;
}

#[tokio::test]
async fn a_full_server_is_its_own_fault() {
    let Some(server) = start(&["--maxmemory", "100kb"]).await else {
        return;
    };
    let outcome = deliver(&*open_at(&server, ""), document(1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("OOM"), "{outcome:?}");
}

#[tokio::test]
async fn a_cluster_is_told_apart() {
    let Some(server) = start(&["--cluster-enabled", "yes"]).await else {
        return;
    };
    is_fault(&*open_at(&server, ""), &["CLUSTERDOWN", "cluster"]).await;
}

#[tokio::test]
async fn a_busy_server_is_left_alone() {
    let Some(server) = start(&["--busy-reply-threshold", "10"]).await else {
        return;
    };
    let mut endless = server.connect().await.unwrap();
    let target = open_at(&server, "");
    delivered(&*target, document(1)).await;
    let script = tokio::spawn(async move {
        let mut eval = redis::cmd("EVAL");
        eval.arg("while true do end").arg(0);
        eval.query_async::<()>(&mut endless).await
    });
    // Until the script is found to be long it holds everything up, and afterwards it is refused with.
    let begun = Instant::now();
    loop {
        match deliver(&*target, document(2)).await {
            Outcome::Fault { reason, .. } => break assert!(reason.contains("BUSY"), "{reason}"),
            Outcome::Delivered { .. } => assert!(begun.elapsed() < Duration::from_secs(30)),
            other => panic!("{other:?}"),
        }
    }
    server.ask::<()>(&["SCRIPT", "KILL"]).await;
    let _ = script.await;
    delivered(&*target, document(2)).await;
}

#[tokio::test]
async fn a_key_of_another_kind_is_the_accounts_fault() {
    let Some(server) = start(&[]).await else {
        return;
    };
    server.ask::<()>(&["SET", KEY, "something else"]).await;
    let target = open_at(&server, "");
    let outcome = deliver(&*target, document(1)).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert!(outcome.text().contains("is a string"), "{outcome:?}");
    let held = target.read_back().unwrap().held(&[document(1)]).await;
    assert_ne!(held.unwrap(), [None], "something is in the way");
    assert_eq!(server.ask::<String>(&["GET", KEY]).await, "something else");
}

#[tokio::test]
async fn a_server_that_came_back_between_deliveries_is_no_fault() {
    let Some(mut server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "");
    for revision in 1..4 {
        assert_eq!(delivered(&*target, document(revision)).await, "written");
        server.process.kill();
        server.resume().await;
        let held: u32 = restarted(&server).await;
        assert_eq!(u64::from(held), revision);
    }
}

async fn restarted(server: &Server) -> u32 {
    server.ask(&["HGET", KEY, "revision"]).await
}
