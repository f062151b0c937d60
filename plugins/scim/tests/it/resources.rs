//! What the resources hold, and how refusals are sorted.

use profilesync_target::Outcome;
use serde_json::{Value, json};

use crate::{
    deliver, destroyed, document, full_settings, open, resources, send,
    server::{self, Server},
    settings,
};

#[track_caller]
fn is_delivered(outcome: &Outcome, answer: &str) {
    let Outcome::Delivered { answer: given } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(given.contains(answer), "{outcome:?}");
}

/// The only user of a service.
async fn user(server: &Server) -> Value {
    let mut users = resources(&server.url(), "Users").await;
    assert_eq!(users.len(), 1, "{users:?}");
    users.remove(0)
}

#[tokio::test]
async fn users_get_the_default_attributes_and_only_what_differs_is_sent() {
    if !server::is_there() {
        return;
    }
    for update in ["patch", "put"] {
        let server = Server::start().await;
        let target = open(&format!("{}update = '{update}'", settings(&server.url())));
        target.probe().await.unwrap();
        is_delivered(&deliver(&*target, document("Alice", 1)).await, "201");
        let held = user(&server).await;
        assert_eq!(held["userName"], "1400000000.%41lice");
        assert_eq!(held["externalId"], "1400000000:Alice");
        assert_eq!(held["displayName"], "Name 1");
        assert_eq!(held["active"], true);
        let photo = json!([{ "type": "photo", "value": "http://this.is.newface.url" }]);
        assert_eq!(held["photos"], photo);

        let again = deliver(&*target, document("Alice", 1)).await;
        is_delivered(&again, "the resource is as it should be");
        assert_eq!(user(&server).await["meta"], held["meta"]);

        // What others put there stays; a photo that is no URL does not spoil the rest.
        let id = held["id"].as_str().unwrap();
        let change = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "add", "path": "nickName", "value": "Ali" }],
        });
        let path = format!("/Users/{id}");
        let (status, answer) = send(&server.url(), "PATCH", &path, Some(&change)).await;
        assert!(status < 300, "{answer}");
        let mut changed = document("Alice", 2);
        changed.face_url = Some("=cmd|' /C calc'!A0".into());
        is_delivered(&deliver(&*target, changed).await, "20");
        let held = user(&server).await;
        assert_eq!(held["nickName"], "Ali");
        assert_eq!(held["displayName"], "Name 2");
        assert!(held["photos"].is_null(), "{held}");

        is_delivered(&deliver(&*target, destroyed("Alice", 3)).await, "204");
        assert!(resources(&server.url(), "Users").await.is_empty());
        let again = deliver(&*target, destroyed("Alice", 3)).await;
        is_delivered(&again, "there is no resource");
    }
}

#[tokio::test]
async fn groups_are_kept_too() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let target = open(&format!("{}resource = 'Groups'", settings(&server.url())));
    let mut nameless = document("Team", 1);
    nameless.name = None;
    is_delivered(&deliver(&*target, nameless).await, "201");
    is_delivered(&deliver(&*target, document("team", 1)).await, "201");
    let groups = resources(&server.url(), "Groups").await;
    let names = groups.iter().map(|group| group["displayName"].as_str());
    let mut names: Vec<_> = names.flatten().collect();
    names.sort_unstable();
    assert_eq!(names, ["Name 1", "Team"]);
}

#[tokio::test]
async fn members_of_a_group_stay_and_a_patch_does_not_read_them() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let url = server.url();
    let group = async || resources(&url, "Groups").await.remove(0);
    // The first would not fit into an answer.
    for (update, count) in [("patch", 400), ("put", 4)] {
        let target = open(&format!(
            "{}resource = 'Groups'\nupdate = '{update}'",
            settings(&url)
        ));
        is_delivered(&deliver(&*target, document("Team", 1)).await, "201");
        let members: Vec<_> = (0..count)
            .map(|number| json!({ "value": format!("{number:0200}") }))
            .collect();
        let change = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "add", "path": "members", "value": members }],
        });
        let held = group().await;
        let path = format!("/Groups/{}", held["id"].as_str().unwrap());
        let (status, answer) = send(&url, "PATCH", &path, Some(&change)).await;
        assert!(status < 300, "{answer}");

        is_delivered(&deliver(&*target, document("Team", 2)).await, "20");
        let held = group().await;
        assert_eq!(held["displayName"], "Name 2");
        assert_eq!(held["members"], json!(members));
        is_delivered(&deliver(&*target, destroyed("Team", 3)).await, "204");
    }
}

#[tokio::test]
async fn refusals_are_sorted() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let url = server.url();
    // An attribute that the service has no room for.
    let odd = open(&format!(
        "{}attributes = {{ userName = 'safe_id', active = 'name' }}",
        settings(&url)
    ));
    let outcome = deliver(&*odd, document("x", 1)).await;
    assert!(matches!(outcome, Outcome::Denied { .. }), "{outcome:?}");

    // Names that are unique without regard to case.
    let folding = open(&format!(
        "{}attributes = {{ userName = 'account' }}",
        settings(&url)
    ));
    is_delivered(&deliver(&*folding, document("Case", 1)).await, "201");
    let outcome = deliver(&*folding, document("case", 1)).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert!(outcome.text().contains("409"), "{outcome:?}");
    assert_eq!(user(&server).await["userName"], "Case");

    let wrong = open(&settings(&url).replace("token-of-scim", "hunter2"));
    let outcome = deliver(&*wrong, document("x", 1)).await;
    assert!(matches!(outcome, Outcome::Denied { .. }), "{outcome:?}");
    assert!(!outcome.text().contains("hunter2"), "{outcome:?}");
    wrong.probe().await.unwrap_err();

    // Two with one externalId, which none of ours made.
    let twin = |name: &str| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": name, "externalId": "1400000000:twin",
        })
    };
    for name in ["one", "two"] {
        assert_eq!(send(&url, "POST", "/Users", Some(&twin(name))).await.0, 201);
    }
    let target = open(&settings(&url));
    let outcome = deliver(&*target, document("twin", 1)).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert!(outcome.text().contains("remove all but one"), "{outcome:?}");
}

#[tokio::test]
async fn an_older_revision_changes_nothing_and_a_race_is_noticed() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let url = server.url();
    let targets = [open(&full_settings(&url)), open(&full_settings(&url))];
    for round in 0..10 {
        let newer = document("raced", 2 * round + 2);
        let older = document("raced", 2 * round + 1);
        let (one, other) = tokio::join!(
            deliver(&*targets[0], older),
            deliver(&*targets[1], newer.clone())
        );
        if round > 0 {
            let fine = |outcome: &Outcome| {
                matches!(outcome, Outcome::Delivered { .. } | Outcome::Retry { .. })
            };
            assert!(fine(&one) && fine(&other), "{one:?}, {other:?}");
        }
        deliver(&*targets[1], newer.clone()).await;
        let held = user(&server).await;
        assert_eq!(held[crate::EXTENSION]["revision"], newer.revision);
        assert_eq!(held[crate::EXTENSION]["name"], newer.name.unwrap());
    }
    let late = deliver(&*targets[0], destroyed("raced", 7)).await;
    is_delivered(&late, "the resource is newer");
}

#[tokio::test]
async fn a_revision_may_be_kept_as_a_text() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let attributes = format!(
        "[attributes]\nuserName = 'safe_id'\n'{0}:owner' = '{{{{ revision }}}}'\n'{0}:name' = 'name'",
        crate::EXTENSION
    );
    let target = open(&format!("{}{attributes}", settings(&server.url())));
    // As texts these are the other way round.
    let newer = document("texts", 10);
    deliver(&*target, newer.clone()).await;
    deliver(&*target, document("texts", 9)).await;
    let held = user(&server).await;
    assert_eq!(held[crate::EXTENSION]["owner"], "10");
    assert_eq!(held[crate::EXTENSION]["name"], newer.name.unwrap());
}

#[tokio::test]
async fn what_is_rendered_is_the_request() {
    let target = open(&settings("http://127.0.0.1:1/v2"));
    let text = target.render(&document("a\"b", 1)).unwrap();
    assert!(
        text.starts_with("POST http://127.0.0.1:1/v2/Users\n\n{"),
        "{text}"
    );
    assert!(
        text.contains(r#""externalId": "1400000000:a\"b""#),
        "{text}"
    );
    let text = target.render(&destroyed("a", 1)).unwrap();
    assert_eq!(text, "DELETE http://127.0.0.1:1/v2/Users/ID\n");
}
