//! The clouds, beyond what every output promises.

use profilesync_target::Outcome;

use crate::{
    deliver, delivered, destroyed, document,
    emulator::{Cloud, Emulator, SAS, SECRET},
    open,
    server::Server,
};

async fn are_guarded_rendered_and_named(cloud: Cloud, scheme: &str) {
    let Some(emulator) = Emulator::start(cloud).await else {
        return;
    };
    let mut server = Server::new(&emulator).await;
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
        assert_eq!(
            rendered,
            format!("PUT {scheme}://bucket-0/{name}\n\n{text}")
        );
    }
    let rendered = target.render(&destroyed("@TOA#_x", 99)).unwrap();
    assert_eq!(rendered, format!("DELETE {scheme}://bucket-0/{name}\n"));

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
async fn objects_of_s3_are_guarded_rendered_and_named() {
    are_guarded_rendered_and_named(Cloud::Amazon, "s3").await;
}

#[tokio::test]
async fn objects_of_azure_are_guarded_rendered_and_named() {
    are_guarded_rendered_and_named(Cloud::Azure, "az").await;
}

#[tokio::test]
async fn objects_of_google_are_guarded_rendered_and_named() {
    are_guarded_rendered_and_named(Cloud::Google, "gs").await;
}

async fn is_missing(cloud: Cloud, code: &str) {
    let Some(emulator) = Emulator::start(cloud).await else {
        return;
    };
    let server = Server::new(&emulator).await;
    let target = open(&server.settings().replace("bucket-0", "no-such-bucket"));
    for document in [document("a", 1), destroyed("a", 2)] {
        let outcome = deliver(&*target, document).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains(code), "{outcome:?}");
    }
    let error = target.probe().await.unwrap_err();
    assert!(error.contains("create it, or correct `url`"), "{error}");
}

#[tokio::test]
async fn a_missing_bucket_of_s3_is_the_targets_fault() {
    is_missing(Cloud::Amazon, "NoSuchBucket").await;
}

#[tokio::test]
async fn a_missing_container_of_azure_is_the_targets_fault() {
    is_missing(Cloud::Azure, "ContainerNotFound").await;
}

#[tokio::test]
async fn a_missing_bucket_of_google_is_the_targets_fault() {
    is_missing(Cloud::Google, "NoSuchBucket").await;
}

#[tokio::test]
async fn wrong_credentials_are_the_targets_fault() {
    let wrong = "d3Jvbmcga2V5";
    for (cloud, from, to) in [
        (Cloud::Azure, SECRET, wrong),
        (Cloud::Google, "keeper@", "stranger@"),
    ] {
        let Some(emulator) = Emulator::start(cloud).await else {
            continue;
        };
        let mut server = Server::new(&emulator).await;
        let target = open(&server.settings().replace(from, to));
        let outcome = deliver(&*target, document("a", 1)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(!outcome.text().contains(wrong), "{outcome:?}");
        assert!(target.probe().await.is_err());
        assert_eq!(server.objects().await.len(), 0);
    }
}

#[tokio::test]
async fn azure_takes_a_shared_access_signature() {
    let Some(emulator) = Emulator::start(Cloud::Azure).await else {
        return;
    };
    let mut server = Server::new(&emulator).await;
    let key = format!("access_key = \"{SECRET}\"");
    let settings = |sas: &str| {
        let settings = server.settings();
        settings.replace(&key, &format!("sas_token = \"{sas}\""))
    };
    let (good, bad) = (settings(SAS), settings(&SAS.replace("sig=Q1", "sig=R1")));
    let target = open(&good);
    for revision in 1..4 {
        delivered(&*target, document("@TOA#_a", revision)).await;
    }
    assert_eq!(server.objects().await.len(), 1);
    // Azurite answers 500 to a removal: it knows no batch within a container by such a signature, which Azure does.

    let outcome = deliver(&*open(&bad), document("a", 1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    // The signature is a part of the URL.
    assert!(!outcome.text().contains("sig="), "{outcome:?}");
    server.close().await;
    let outcome = deliver(&*target, document("a", 1)).await;
    assert!(outcome.text().contains("cannot be reached"), "{outcome:?}");
    assert!(!outcome.text().contains("sig="), "{outcome:?}");
}

#[tokio::test]
async fn azure_is_restarted_between_a_reading_and_the_next() {
    let Some(emulator) = Emulator::start(Cloud::Azure).await else {
        return;
    };
    let mut server = Server::new(&emulator).await;
    drop(emulator);
    let target = open(&server.settings());
    for account in ["a", "b", "@TOA#_c"] {
        delivered(&*target, document(account, 5)).await;
    }
    server.restart().await;
    let older = delivered(&*target, document("a", 4)).await;
    assert_eq!(older, "the object holds revision 5 already");
    assert_eq!(delivered(&*target, document("b", 6)).await, "written");
    assert_eq!(
        delivered(&*target, destroyed("@TOA#_c", 6)).await,
        "removed"
    );
    let back = target.read_back().unwrap();
    let documents = ["a", "b", "@TOA#_c"].map(|account| document(account, 1));
    let held = back.held(&documents).await.unwrap();
    let revisions = held.into_iter().map(|state| {
        let state = serde_json::Value::from(state?);
        state["revision"].as_u64()
    });
    let revisions: Vec<_> = revisions.collect();
    assert_eq!(revisions, [Some(5), Some(6), None]);
}
