//! Tables of other shapes and names, keys that do not tell accounts apart, and what is read back at most.

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

/// Makes tables with these columns of the account, and whatever follows the columns; each must be refused in these words.
async fn refused(outside: &Outside, tables: &[(&str, &str, &str)]) {
    let target = async || crate::open(&format!("{}{NARROW}", outside.settings().await));
    for (account, keys, text) in tables {
        outside.run(&table(account, keys)).await;
        let outcome = deliver(&*target().await, profile("a", 1)).await;
        assert!(
            matches!(outcome, Outcome::Fault { .. }),
            "{account}, {keys}: {outcome:?}"
        );
        assert!(outcome.text().contains(text), "{account}: {outcome:?}");
        let probed = target().await.probe().await.unwrap_err();
        assert!(probed.contains(text), "{account}: {probed}");
        outside.run("DROP TABLE p").await;
    }
}

/// Makes such tables; each must be taken, and tell hostile accounts apart.
async fn taken(outside: &Outside, tables: &[(&str, &str)]) {
    for (account, keys) in tables {
        outside.run(&table(account, keys)).await;
        let target = crate::open(&format!("{}{NARROW}", outside.settings().await));
        target.probe().await.unwrap();
        let documents = ["007", "7", "a", "A", "a ", &"a".repeat(255)].map(|id| profile(id, 1));
        for document in &documents {
            let outcome = deliver(&*target, document.clone()).await;
            assert!(
                matches!(outcome, Outcome::Delivered { .. }),
                "{account}: {outcome:?}"
            );
        }
        let back = target.read_back().unwrap();
        let wanted = documents.each_ref().map(|document| back.wanted(document));
        assert_eq!(back.held(&documents).await.unwrap(), wanted, "{account}");
        outside.run("DROP TABLE p").await;
    }
}

const NARROW: &str = "table = 'p'\ncolumns = { sdk_app_id = 'sdk_app_id', account = 'account', \
                      revision = 'revision', name = 'name' }";

fn table(account: &str, keys: &str) -> String {
    format!(
        "CREATE TABLE p (sdk_app_id BIGINT, account {account}, revision BIGINT, name VARCHAR(999){keys}"
    )
}

const KEY: &str = ", PRIMARY KEY (sdk_app_id, account))";

#[tokio::test]
async fn mysql_keys_that_mix_accounts_up_are_refused() {
    let Some(outside) = Outside::server(Kind::MariaDb) else {
        return;
    };
    let bytes = "VARBINARY(255)";
    // Long texts are kept apart by an index of hashes alone.
    let hashed = ", UNIQUE (sdk_app_id, account))";
    refused(
        &outside,
        &[
            (
                "VARCHAR(254) COLLATE utf8mb4_nopad_bin",
                KEY,
                "`account` is of the type varchar(254)",
            ),
            (
                "CHAR(255) COLLATE utf8mb4_nopad_bin",
                KEY,
                "`account` is of the type char(255)",
            ),
            (
                "TINYTEXT CHARACTER SET utf16 COLLATE utf16_nopad_bin",
                hashed,
                "`account` is of the type tinytext",
            ),
            ("VARBINARY(254)", KEY, "the type varbinary(254)"),
            ("BINARY(64)", KEY, "make it VARBINARY(255), or VARCHAR(255)"),
            ("BIGINT", KEY, "`account` is of the type bigint"),
            (
                "VARCHAR(255) COLLATE utf8mb4_general_ci",
                KEY,
                "collation utf8mb4_general_ci",
            ),
            (
                bytes,
                ", PRIMARY KEY (sdk_app_id, account), UNIQUE one_name (name(99)))",
                "unique index `one_name`",
            ),
            (
                bytes,
                ", UNIQUE part (sdk_app_id, account(10)))",
                "unique index `part`",
            ),
            (
                bytes,
                ", INDEX (sdk_app_id, account))",
                "primary key or unique index over",
            ),
        ],
    )
    .await;
    // A number of the table's own is in nobody's way.
    let number = ", id BIGINT AUTO_INCREMENT PRIMARY KEY, UNIQUE (account, sdk_app_id))";
    taken(
        &outside,
        &[
            (bytes, number),
            ("VARCHAR(255) COLLATE utf8mb4_nopad_bin", KEY),
            ("TINYTEXT COLLATE utf8mb4_nopad_bin", hashed),
            ("TINYBLOB", hashed),
        ],
    )
    .await;
}

#[tokio::test]
async fn postgres_keys_that_mix_accounts_up_are_refused() {
    let Some(outside) = Outside::server(Kind::Postgres) else {
        return;
    };
    outside
        .run(
            "CREATE EXTENSION citext; CREATE DOMAIN handle AS citext; \
             CREATE DOMAIN short AS VARCHAR(9); CREATE DOMAIN whole AS TEXT; \
             CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        )
        .await;
    let index = "); CREATE UNIQUE INDEX i ON p (sdk_app_id, account COLLATE nocase)";
    refused(
        &outside,
        &[
            ("CITEXT", KEY, "`account` is of the type citext"),
            ("handle", KEY, "`account` is of the type citext"),
            ("CHAR(255)", KEY, "`account` is of the type character(255)"),
            ("VARCHAR(254)", KEY, "the type character varying(254)"),
            ("VARCHAR(9)", KEY, "make it TEXT, or VARCHAR(255)"),
            ("short", KEY, "the type character varying(9)"),
            ("NAME", KEY, "`account` is of the type name"),
            ("BIGINT", KEY, "`account` is of the type bigint"),
            ("NUMERIC", KEY, "`account` is of the type numeric"),
            ("BYTEA", KEY, "`account` is of the type bytea"),
            ("UUID", KEY, "`account` is of the type uuid"),
            (
                "TEXT COLLATE nocase",
                KEY,
                "`account`, or a unique index over it, has the collation nocase",
            ),
            ("TEXT", index, "give it the collation \"C\""),
            (
                "TEXT",
                "); CREATE INDEX ON p (sdk_app_id, account)",
                "need a primary key or unique index over both",
            ),
            (
                "TEXT",
                ", UNIQUE (sdk_app_id, account, revision))",
                "need a primary key or unique index over both",
            ),
        ],
    )
    .await;
    // Beside the account an index may compare as it likes.
    let other =
        ", UNIQUE (account, sdk_app_id)); CREATE UNIQUE INDEX ON p (name COLLATE nocase, account)";
    taken(
        &outside,
        &[
            ("TEXT", KEY),
            ("TEXT COLLATE \"C\"", other),
            ("VARCHAR(255)", KEY),
            ("VARCHAR", KEY),
            ("whole", KEY),
        ],
    )
    .await;
}

#[tokio::test]
async fn sqlite_keys_that_mix_accounts_up_are_refused() {
    let outside = Outside::file();
    let index = "); CREATE UNIQUE INDEX i ON p (sdk_app_id, account COLLATE NOCASE)";
    refused(
        &outside,
        &[
            (
                "TEXT COLLATE NOCASE",
                KEY,
                "`account` has a collation that takes different",
            ),
            ("TEXT COLLATE RTRIM", KEY, "make it TEXT without COLLATE"),
            (
                "TEXT",
                index,
                "unique index `i` has the collation NOCASE for `account`",
            ),
            ("INTEGER", KEY, "`account` is of the type INTEGER"),
            ("NUMERIC", KEY, "`account` is of the type NUMERIC"),
            ("STRING", KEY, "make it TEXT"),
            (
                "TEXT",
                "); CREATE INDEX i ON p (sdk_app_id, account)",
                "need a primary key or unique index over both",
            ),
            (
                "TEXT",
                ", UNIQUE (sdk_app_id, account, revision))",
                "need a primary key or unique index over both",
            ),
        ],
    )
    .await;
    let loose = "); CREATE UNIQUE INDEX i ON p (account, sdk_app_id)";
    taken(
        &outside,
        &[
            ("TEXT", KEY),
            ("varchar(9)", loose),
            ("BLOB", KEY),
            ("", KEY),
        ],
    )
    .await;
    let strict = "CREATE TABLE p (sdk_app_id ANY, account ANY, revision INT, name TEXT, \
                  PRIMARY KEY (sdk_app_id, account)) STRICT, WITHOUT ROWID";
    outside.run(strict).await;
    let target = crate::open(&format!("{}{NARROW}", outside.settings().await));
    target.probe().await.unwrap();
}

#[tokio::test]
async fn what_is_read_back_is_bounded() {
    for outside in Outside::all() {
        let (series, long) = match outside.kind() {
            Some(Kind::Postgres) => ("generate_series(1, 3)", "repeat('x', 41943040)"),
            Some(Kind::MariaDb) => ("seq_1_to_3", ""),
            None => ("json_each('[1, 2, 3]')", "printf('%.*c', 41943040, 'x')"),
        };
        let account = match outside.kind() {
            Some(Kind::MariaDb) => "VARBINARY(255)",
            _ => "TEXT",
        };
        outside
            .run(&format!(
                "CREATE TABLE p (sdk_app_id BIGINT, account {account}, revision BIGINT, name TEXT); \
                 INSERT INTO p SELECT 1, 'many', 1, NULL FROM {series}"
            ))
            .await;
        let target = crate::open(&format!("{}{NARROW}", outside.settings().await));
        let back = target.read_back().unwrap();
        let held = async |ids: &[&str]| {
            let documents: Vec<_> = ids.iter().map(|id| profile(id, 1)).collect();
            back.held(&documents).await
        };
        let error = held(&["many"]).await.unwrap_err();
        assert!(error.contains("several rows of one account"), "{error}");

        if outside.kind() == Some(Kind::MariaDb) {
            // It sends no more than `max_allowed_packet` in one answer.
            continue;
        }
        for id in ["a", "b", "c"] {
            outside
                .run(&format!("INSERT INTO p VALUES (1, '{id}', 1, {long})"))
                .await;
        }
        let name = held(&["a"]).await.unwrap()[0].as_ref().unwrap()["name"].clone();
        assert_eq!(name.as_str().unwrap().len(), 32 << 20);
        let error = held(&["a", "b", "c"]).await.unwrap_err();
        assert!(error.contains("larger than 64 MiB"), "{error}");
        // The connection that was left in the middle is not used again.
        assert_eq!(held(&["d"]).await.unwrap(), [None]);
    }
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

#[tokio::test]
async fn a_revision_that_is_kept_as_a_text_is_refused() {
    for outside in Outside::all() {
        let account = match outside.kind() {
            Some(Kind::MariaDb) => "VARBINARY(255)",
            _ => "VARCHAR(255)",
        };
        outside
            .run(&format!(
                "CREATE TABLE p (sdk_app_id BIGINT, account {account}, revision VARCHAR(20), name VARCHAR(99){KEY}"
            ))
            .await;
        let target = crate::open(&format!("{}{NARROW}", outside.settings().await));
        let outcome = deliver(&*target, profile("a", 1)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        let probed = target.probe().await.unwrap_err();
        let expected = match outside.kind() {
            Some(Kind::Postgres) => "cannot be matched",
            _ => "`revision` is of the type",
        };
        for text in [outcome.text(), &probed] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
