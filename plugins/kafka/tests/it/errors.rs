//! What is written, and what the errors of brokers mean.

use std::time::{Duration, Instant};

use profilesync_target::Outcome;
use rdkafka::types::RDKafkaRespErr as Error;

use crate::{
    deliver, destroyed, document, open,
    server::{Server, TOPIC},
};

#[tokio::test(flavor = "multi_thread")]
async fn records_have_key_headers_and_value() {
    let mut server = Server::start(3);
    let target = open(&server.settings());
    let documents = [document("@TOA#_a", 1), document("b", 2)];
    deliver(&*target, &documents).await;
    deliver(&*target, &[destroyed("b", 3)]).await;
    let found = server.compacted();
    let record = &found["1:@TOA#_a"];
    let value = record.value.clone().unwrap();
    assert_eq!(
        String::from_utf8(value).unwrap(),
        serde_json::to_string(&documents[0]).unwrap()
    );
    assert_eq!(record.headers["revision"], "1");
    assert_eq!(record.headers["type"], "profile.updated");
    assert_eq!(record.headers["content-type"], "application/json");
    let record = &found["1:b"];
    assert_eq!(record.value, None);
    assert_eq!(record.headers["type"], "profile.destroyed");
    assert_eq!(record.headers["revision"], "3");
    let rendered = target.render(&destroyed("b", 3)).unwrap();
    let expected = "topic: profiles\nkey: 1:b\nheader revision: 3\nheader type: profile.destroyed\n\
                    header content-type: application/json\n\n(no value: a tombstone)\n";
    assert_eq!(rendered, expected);
    target.close().await;
}

/// Partitions of Java's `Utils.toPositive(Utils.murmur2(key)) % 3`.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_those_of_the_java_client() {
    let mut server = Server::start(3);
    let target = open(&(server.settings() + "key = '{{ account }}'"));
    // The vectors of Kafka's UtilsTest.testMurmur2, as far as they are keys of accounts.
    let vectors = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ];
    let documents = vectors.map(|(account, _)| document(account, 1));
    deliver(&*target, &documents).await;
    let found = server.compacted();
    for (account, hash) in vectors {
        assert_eq!(
            found[account].partition,
            (hash & 0x7fff_ffff) % 3,
            "{account}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_takes_no_innocent_along() {
    let mut server = Server::start(1);
    let target = open(&server.settings());
    // A first one, so that the three below go in one request.
    deliver(&*target, &[document("first", 1)]).await;
    let errors = [
        Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Error::RD_KAFKA_RESP_ERR_NO_ERROR,
        Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Error::RD_KAFKA_RESP_ERR_NO_ERROR,
    ];
    server.fail(&errors);
    let outcomes = deliver(
        &*target,
        &[document("a", 1), document("b", 1), document("c", 1)],
    )
    .await;
    assert!(
        matches!(outcomes[0], Outcome::Delivered { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[2], Outcome::Delivered { .. }),
        "{outcomes:?}"
    );
    let keys: Vec<_> = server.compacted().into_keys().collect();
    assert_eq!(keys, ["1:a", "1:c", "1:first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_is_refused() {
    let mut server = Server::start(1);
    let target = open(&(server.settings() + "properties = { 'message.max.bytes' = 2000 }"));
    let mut large = document("large", 1);
    large.introduction = Some("x".repeat(5000));
    let outcomes = deliver(&*target, &[document("a", 1), large]).await;
    assert!(
        matches!(outcomes[0], Outcome::Delivered { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
    assert!(outcomes[1].text().contains("message.max.bytes"));
    assert_eq!(server.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_topic_is_the_targets_fault() {
    for (error, word) in [
        (Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "create it"),
        (
            Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            "not allowed",
        ),
    ] {
        let server = Server::start(1);
        server.fail_topic(error);
        let target = open(&server.settings());
        let begun = Instant::now();
        let outcomes = deliver(&*target, &[document("a", 1)]).await;
        assert!(matches!(outcomes[0], Outcome::Fault { .. }), "{outcomes:?}");
        assert!(outcomes[0].text().contains(word), "{outcomes:?}");
        assert!(begun.elapsed() < Duration::from_secs(6));
    }
    let server = Server::start(1);
    let target = open(&server.settings().replace(TOPIC, "none"));
    let error = target.probe().await.unwrap_err();
    assert!(error.contains("the topic none does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_of_trouble_is_borne() {
    let mut server = Server::start(1);
    let target = open(&server.settings());
    let errors = [
        Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Error::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    server.fail(&errors);
    let outcomes = deliver(&*target, &[document("a", 1), document("b", 1)]).await;
    for outcome in &outcomes {
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcomes:?}");
    }
    assert_eq!(server.records().len(), 2, "nothing is there twice");
}

/// A delivery is given up while nobody answers; the newer one that follows must be the last in the topic.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_never_follows_what_is_newer() {
    let mut server = Server::start(1);
    let target = open(&server.settings());
    deliver(&*target, &[document("a", 1)]).await;
    for round in 1..6 {
        server.stop();
        let given_up = document("a", 2 * round);
        let short = Duration::from_millis(50 * round);
        let cut = tokio::time::timeout(short, deliver(&*target, &[given_up])).await;
        assert!(cut.is_err());
        server.resume();
        let newer = document("a", 2 * round + 1);
        let outcomes = deliver(&*target, &[newer]).await;
        assert!(
            matches!(outcomes[0], Outcome::Delivered { .. }),
            "{outcomes:?}"
        );
    }
    target.close().await;
    let revisions: Vec<u64> = server
        .records()
        .iter()
        .map(|found| found.headers["revision"].parse().unwrap())
        .collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert_eq!(revisions.last(), Some(&11));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_the_producer_is_not_the_end() {
    let server = Server::start(1);
    let target = open(&server.settings());
    deliver(&*target, &[document("a", 1)]).await;
    let fenced = [Error::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED];
    server.fail(&fenced);
    let outcomes = deliver(&*target, &[document("a", 2)]).await;
    assert!(matches!(outcomes[0], Outcome::Fault { .. }), "{outcomes:?}");
    let outcomes = deliver(&*target, &[document("a", 2)]).await;
    assert!(
        matches!(outcomes[0], Outcome::Delivered { .. }),
        "{outcomes:?}"
    );
}
