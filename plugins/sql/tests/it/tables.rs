//! Tables of other shapes and names, and keys that do not tell accounts apart.

use profilesync_target::{Outcome, Status};
use serde_json::json;

use crate::{
    faults::{deliver, profile},
    outside::Outside,
    server::Kind,
};

#[tokio::test]
async fn columns_may_have_any_name_and_hold_any_member() {
    let hostile = "we\"ird`; DROP TABLE profiles;--";
    for outside in Outside::all() {
        let (mark, doubled) = match outside.kind() {
            Some(Kind::MariaDb) => ('`', "we\"ird``; DROP TABLE profiles;--"),
            _ => ('"', "we\"\"ird`; DROP TABLE profiles;--"),
        };
        let settings = outside.settings().await;
        let schema = if outside.kind() == Some(Kind::Postgres) {
            "crm."
        } else {
            ""
        };
        if !schema.is_empty() {
            outside.run("CREATE SCHEMA crm").await;
        }
        let target = crate::open(&format!(
            "{settings}table = '{schema}select'\ncreate_table = true\ndestroy = 'flag'\n[columns]\n\
             \"from\" = 'account'\n\"Group\" = 'sdk_app_id'\n'{hostile}' = 'name'\norder = 'revision'\nstate = 'status'\n\
             level = 'extra.Level'\ntags = 'extra.Tags'\nvip = 'extra.Vip'\n"
        ));
        let mut document = profile("'; DROP TABLE accounts;--", 4);
        document.extra.insert("Level".into(), json!(3));
        document
            .extra
            .insert("Tags".into(), json!(["a", { "b": null }]));
        document.extra.insert("Vip".into(), json!(true));
        let outcome = deliver(&*target, document.clone()).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");

        let table = format!("{schema}{mark}select{mark}");
        let sql = format!("SELECT {mark}{doubled}{mark} FROM {table}");
        assert_eq!(outside.texts(&sql).await, [document.name.clone()]);
        let back = target.read_back().unwrap();
        let held = back
            .held(&[document.clone(), profile("nobody", 1)])
            .await
            .unwrap();
        assert_eq!(held, [back.wanted(&document), None]);
        assert_eq!(held[0].as_ref().unwrap()["level"], json!(3));

        // The row of a destroyed account stays and keeps older revisions away.
        document.status = Status::Destroyed;
        document.revision = 5;
        (document.name, document.extra) = (None, serde_json::Map::new());
        deliver(&*target, document.clone()).await;
        deliver(&*target, profile("'; DROP TABLE accounts;--", 4)).await;
        let state = outside.texts(&format!("SELECT state FROM {table}")).await;
        assert_eq!(state, [Some("destroyed".into())]);
        assert_eq!(
            back.held(&[document.clone()]).await.unwrap(),
            [back.wanted(&document)]
        );
    }
}

#[tokio::test]
async fn rows_without_a_revision_are_taken_over() {
    for outside in Outside::all() {
        let key = match outside.kind() {
            Some(Kind::MariaDb) => "VARCHAR(255) COLLATE utf8mb4_nopad_bin",
            _ => "VARCHAR(255)",
        };
        outside
            .run(&format!(
                "CREATE TABLE p (sdk_app_id BIGINT, account {key}, revision BIGINT, name VARCHAR(99), mine VARCHAR(9), \
                 PRIMARY KEY (account, sdk_app_id)); \
                 INSERT INTO p VALUES (1, 'a', NULL, 'old', 'kept'), (1, 'b', NULL, 'old', 'kept')"
            ))
            .await;
        let settings = outside.settings().await;
        let target = crate::open(&format!(
            "{settings}table = 'p'\n[columns]\nsdk_app_id = 'sdk_app_id'\naccount = 'account'\nrevision = 'revision'\nname = 'name'"
        ));
        deliver(&*target, profile("a", 1)).await;
        let gone = profilesync_target::Document {
            status: Status::Destroyed,
            ..profile("b", 2)
        };
        deliver(&*target, gone).await;
        let names = outside
            .texts("SELECT CONCAT(name, ', ', mine) FROM p")
            .await;
        assert_eq!(names, [Some("revision 1 of a, kept".into())]);
    }
}

#[tokio::test]
async fn mysql_keys_that_mix_accounts_up_are_refused() {
    let Some(outside) = Outside::server(Kind::MariaDb) else {
        return;
    };
    let settings = outside.settings().await;
    let columns = "columns = { sdk_app_id = 'sdk_app_id', account = 'account', revision = 'revision', name = 'name' }";
    let target = || crate::open(&format!("{settings}table = 'p'\n{columns}"));
    for (account, keys, text) in [
        (
            "VARCHAR(255) COLLATE utf8mb4_general_ci",
            "PRIMARY KEY (sdk_app_id, account)",
            "collation utf8mb4_general_ci",
        ),
        (
            "VARBINARY(255)",
            "PRIMARY KEY (sdk_app_id, account), UNIQUE one_name (name)",
            "unique index `one_name`",
        ),
        (
            "VARBINARY(255)",
            "UNIQUE part (sdk_app_id, account(10))",
            "unique index `part`",
        ),
        (
            "VARBINARY(255)",
            "INDEX (sdk_app_id, account)",
            "primary key or unique index over",
        ),
    ] {
        let sql = format!(
            "CREATE TABLE p (sdk_app_id BIGINT, account {account}, revision BIGINT, name VARCHAR(99), {keys})"
        );
        outside.run(&sql).await;
        let outcome = deliver(&*target(), profile("a", 1)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains(text), "{outcome:?}");
        assert!(target().probe().await.unwrap_err().contains(text));
        outside.run("DROP TABLE p").await;
    }
    // A number of the table's own is in nobody's way.
    outside
        .run(
            "CREATE TABLE p (id BIGINT AUTO_INCREMENT PRIMARY KEY, sdk_app_id BIGINT, account VARBINARY(255), \
             revision BIGINT, name VARCHAR(99), UNIQUE (account, sdk_app_id))",
        )
        .await;
    let outcome = deliver(&*target(), profile("a", 1)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
}

#[test]
fn what_is_shown_is_what_is_sent() {
    let target = crate::open("url = 'postgres://u:hunter2@h/d'\ntable = 'crm.profiles'");
    let text = target.render(&profile("a\"b", 3)).unwrap();
    let (sql, values) = text.split_once('\n').unwrap();
    assert!(
        sql.starts_with(r#"INSERT INTO "crm"."profiles" AS t ("sdk_app_id", "account","#),
        "{sql}"
    );
    assert!(
        sql.ends_with(r#"WHERE COALESCE(t."revision", 0) <= excluded."revision""#),
        "{sql}"
    );
    let values: serde_json::Value = serde_json::from_str(values).unwrap();
    assert_eq!(values[0]["account"], "a\"b");

    let target = crate::open("url = 'mysql://u@h/d'\ntable = 'p'");
    let gone = profilesync_target::Document {
        status: Status::Destroyed,
        ..profile("a", 3)
    };
    let expected = "DELETE FROM `p` WHERE (`sdk_app_id` = ? AND `account` = ? AND COALESCE(`revision`, 0) <= ?)\n[1,\"a\",3]";
    assert_eq!(target.render(&gone).unwrap(), expected);
}
