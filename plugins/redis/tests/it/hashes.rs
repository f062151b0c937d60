//! What the hash of an account holds, and when it changes.

use std::collections::BTreeMap;

use profilesync_target::Target;

use crate::{KEY, Server, delivered, destroyed, document, open_at, start};

async fn hash(server: &Server) -> BTreeMap<String, String> {
    server.ask(&["HGETALL", KEY]).await
}

fn fields(fields: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

#[tokio::test]
async fn a_profile_is_a_hash_and_absent_texts_are_absent_fields() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "");
    let mut first = document(1);
    first.owner = Some("somebody".into());
    assert_eq!(delivered(&*target, first).await, "written");
    assert_eq!(hash(&server).await["owner"], "somebody");
    assert_eq!(delivered(&*target, document(2)).await, "written");
    let second = fields(&[
        ("sdk_app_id", "1400000000"),
        ("account", "@TOA#_test"),
        ("revision", "2"),
        ("status", "active"),
        ("name", "Name 2"),
        ("face_url", "http://this.is.newface.url"),
        ("operator", "leckie"),
        ("event_time", "1670574414123"),
        ("extra", r#"{"Level":7}"#),
    ]);
    assert_eq!(hash(&server).await, second);
}

#[tokio::test]
async fn fields_of_others_stay_and_lost_ones_come_back() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "");
    delivered(&*target, document(1)).await;
    server.ask::<()>(&["HSET", KEY, "visits", "9"]).await;
    assert_eq!(delivered(&*target, document(1)).await, "was there already");
    server.ask::<()>(&["HDEL", KEY, "name"]).await;
    assert_eq!(delivered(&*target, document(1)).await, "written");
    server.ask::<()>(&["HSET", KEY, "owner", "nobody"]).await;
    assert_eq!(delivered(&*target, document(1)).await, "written");
    let hash = hash(&server).await;
    assert_eq!((&*hash["name"], &*hash["visits"]), ("Name 1", "9"));
    assert_eq!(hash.get("owner"), None);
}

#[tokio::test]
async fn revisions_are_compared_as_whole_numbers() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "");
    for (revision, held) in [
        (9, 9),
        (10, 10),
        (9, 10),
        // A double takes the next two for the same.
        (u64::MAX - 1, u64::MAX - 1),
        (u64::MAX, u64::MAX),
        (u64::MAX - 1, u64::MAX),
    ] {
        delivered(&*target, document(revision)).await;
        let hash = hash(&server).await;
        assert_eq!(hash["revision"], held.to_string());
        assert_eq!(hash["name"], format!("Name {held}"));
    }
}

#[tokio::test]
async fn a_destroyed_account_keeps_its_revision() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "");
    delivered(&*target, document(1)).await;
    assert_eq!(delivered(&*target, destroyed(3)).await, "written");
    let end = fields(&[
        ("sdk_app_id", "1400000000"),
        ("account", "@TOA#_test"),
        ("revision", "3"),
        ("status", "destroyed"),
        ("event_time", "1670574414123"),
    ]);
    assert_eq!(hash(&server).await, end);
    let late = delivered(&*target, document(2)).await;
    assert_eq!(late, "revision 3 is there already");
    assert_eq!(hash(&server).await, end);
}

#[tokio::test]
async fn a_destroyed_account_goes_if_so_configured() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "destroyed = 'delete'");
    delivered(&*target, document(4)).await;
    let late = delivered(&*target, destroyed(3)).await;
    assert_eq!(late, "revision 4 is there already");
    assert_eq!(delivered(&*target, destroyed(5)).await, "written");
    assert_eq!(server.ask::<u32>(&["EXISTS", KEY]).await, 0);
    assert_eq!(delivered(&*target, destroyed(5)).await, "was there already");
}

#[tokio::test]
async fn keys_and_database_are_as_configured() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "prefix = '{oa}/'\ndb = 3");
    delivered(&*target, document(1)).await;
    assert_eq!(server.ask::<u32>(&["DBSIZE"]).await, 0);
    let mut connection = server.connect().await.unwrap();
    let mut pipeline = redis::pipe();
    pipeline.cmd("SELECT").arg(3).ignore().cmd("KEYS").arg("*");
    let (keys,): (Vec<String>,) = pipeline.query_async(&mut connection).await.unwrap();
    assert_eq!(keys, ["{oa}/1400000000:@TOA#_test"]);
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_sent_again() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "");
    for revision in 1..4 {
        assert_eq!(delivered(&*target, document(revision)).await, "written");
        server.ask::<()>(&["SCRIPT", "FLUSH"]).await;
    }
}

#[tokio::test]
async fn what_is_rendered_is_what_is_done() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let target = open_at(&server, "stream = 'changes'\nchannel = 'news'");
    let rendered = target.render(&document(7)).unwrap();
    let expected = r#"# in one step, unless "profilesync:1400000000:@TOA#_test" has a later revision, or all this already:
XADD "changes" MAXLEN ~ 100000 * "sdk_app_id" "1400000000" "account" "@TOA#_test" "revision" "7" "status" "active" "key" "profilesync:1400000000:@TOA#_test"
PUBLISH "news" "{\"sdk_app_id\":1400000000,\"account\":\"@TOA#_test\",\"revision\":7,\"status\":\"active\",\"key\":\"profilesync:1400000000:@TOA#_test\"}"
HSET "profilesync:1400000000:@TOA#_test" "sdk_app_id" "1400000000" "account" "@TOA#_test" "revision" "7" "status" "active" "name" "Name 7" "face_url" "http://this.is.newface.url" "operator" "leckie" "event_time" "1670574414123" "extra" "{\"Level\":7}"
HDEL "profilesync:1400000000:@TOA#_test" "introduction" "organization" "owner"
"#;
    assert_eq!(rendered, expected);
    let target: Box<dyn Target> = open_at(&server, "destroyed = 'delete'");
    let rendered = target.render(&destroyed(8)).unwrap();
    assert!(
        rendered.ends_with("\nDEL \"profilesync:1400000000:@TOA#_test\"\n"),
        "{rendered}"
    );
}
