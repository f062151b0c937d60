//! S3, beyond what every output promises.

use profilesync_target::Outcome;

use crate::{
    deliver, delivered, destroyed, document, open,
    server::{Moto, Server},
};

#[tokio::test]
async fn objects_are_guarded_rendered_and_named() {
    let Some(moto) = Moto::start().await else {
        eprintln!("skipped: there is no moto server (pip install 'moto[server]')");
        return;
    };
    let mut server = Server::new(&moto).await;
    let target = open(&server.settings());

    // Two of one account: both changed what they read, and one of them looks again.
    let name = "profiles/v1/1/%40TOA%23_x.json";
    for round in 1..20 {
        let (one, two) = tokio::join!(
            deliver(&*target, document("@TOA#_x", 2 * round)),
            deliver(&*target, document("@TOA#_x", 2 * round + 1)),
        );
        for outcome in [one, two] {
            assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
        }
        let objects = server.objects().await;
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].0, name);
        let text = String::from_utf8(objects[0].1.clone()).unwrap();
        let newer = document("@TOA#_x", 2 * round + 1);
        assert_eq!(text, serde_json::to_string(&newer).unwrap() + "\n");
        let rendered = target.render(&newer).unwrap();
        assert_eq!(rendered, format!("PUT s3://bucket-0/{name}\n\n{text}"));
    }
    let rendered = target.render(&destroyed("@TOA#_x", 99)).unwrap();
    assert_eq!(rendered, format!("DELETE s3://bucket-0/{name}\n"));

    // One that is gone is written again, of the same revision too.
    server.clear().await;
    let again = delivered(&*target, document("@TOA#_x", 39)).await;
    assert_eq!(again, "written");
    assert_eq!(server.objects().await.len(), 1);

    // What is no document is replaced.
    server.put("profiles/v1/1/foreign.json", "not JSON").await;
    assert_eq!(delivered(&*target, document("foreign", 1)).await, "written");
    let back = target.read_back().unwrap();
    server.put("profiles/v1/1/foreign.json", "changed").await;
    let held = back.held(&[document("foreign", 1)]).await.unwrap();
    assert_ne!(held[0], back.wanted(&document("foreign", 1)));
}

#[tokio::test]
async fn a_missing_bucket_is_the_targets_fault() {
    let Some(moto) = Moto::start().await else {
        eprintln!("skipped: there is no moto server (pip install 'moto[server]')");
        return;
    };
    let server = Server::new(&moto).await;
    let target = open(&server.settings().replace("bucket-0", "no-such-bucket"));
    for document in [document("a", 1), destroyed("a", 2)] {
        let outcome = deliver(&*target, document).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains("NoSuchBucket"), "{outcome:?}");
    }
    let error = target.probe().await.unwrap_err();
    assert!(error.contains("create it, or correct `url`"), "{error}");
}
