//! What errors of the real databases mean.

use profilesync_target::{Answer, Document, Outcome, Status, Target};
use serde_json::{Map, json};

use crate::{
    outside::Outside,
    server::{Kind, PASSWORD},
};

/// A profile with a few texts.
pub(crate) fn profile(account: &str, revision: u64) -> Document {
    Document {
        sdk_app_id: 1,
        account: account.into(),
        revision,
        status: Status::Active,
        name: Some(format!("revision {revision} of {account}")),
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: None,
        event_time: 1_700_000_000_000,
        extra: Map::new(),
    }
}

/// The one outcome of a delivery.
pub(crate) async fn deliver(target: &dyn Target, document: Document) -> Outcome {
    match target.deliver(&[document.into()]).await {
        Answer::Whole(outcome) => outcome,
        Answer::Each(mut outcomes) => outcomes.pop().unwrap(),
    }
}

/// A target of a table that it creates.
async fn target(outside: &Outside, more: &str) -> Box<dyn Target> {
    let settings = outside.settings().await;
    crate::open(&format!("{settings}table = 'profiles'\n{more}"))
}

#[track_caller]
fn is(outcome: &Outcome, variant: &str, text: &str) {
    assert!(
        format!("{outcome:?}").starts_with(variant),
        "{variant} is wanted: {outcome:?}"
    );
    assert!(
        outcome.text().contains(text),
        "{text:?} is not in it: {outcome:?}"
    );
    assert!(!outcome.text().contains("hunter2"), "{outcome:?}");
}

#[tokio::test]
async fn a_table_that_is_missing_or_lacks_something_is_the_targets_fault() {
    for outside in Outside::all() {
        // There is a file, too.
        outside.run("SELECT 1").await;
        let target = target(&outside, "").await;
        let outcome = deliver(&*target, profile("a", 1)).await;
        is(
            &outcome,
            "Fault",
            "create the table, or set `create_table = true`",
        );
        assert!(target.probe().await.unwrap_err().contains("create_table"));
        assert!(
            target
                .read_back()
                .unwrap()
                .held(&[profile("a", 1)])
                .await
                .is_err()
        );

        // MariaDB takes no TEXT without a length into an index.
        let columns = "sdk_app_id BIGINT, account VARCHAR(255), revision BIGINT";
        outside
            .run(&format!("CREATE TABLE profiles ({columns})"))
            .await;
        is(&deliver(&*target, profile("a", 1)).await, "Fault", "status");
        outside.run("DROP TABLE profiles").await;

        let target = crate::open(&format!(
            "{}table = 'profiles'\ncolumns = {{ sdk_app_id = 'sdk_app_id', account = 'account', revision = 'revision' }}",
            outside.settings().await
        ));
        outside
            .run(&format!("CREATE TABLE profiles ({columns})"))
            .await;
        is(
            &deliver(&*target, profile("a", 1)).await,
            "Fault",
            "primary key or unique index over",
        );
        assert!(
            target
                .probe()
                .await
                .unwrap_err()
                .contains("primary key or unique index over")
        );
        outside.run("DROP TABLE profiles").await;
    }
}

#[tokio::test]
async fn a_table_that_goes_away_is_not_created_anew_in_the_middle() {
    for outside in Outside::all() {
        let target = target(&outside, "create_table = true").await;
        assert_eq!(target.probe().await, Ok(()));
        is(
            &deliver(&*target, profile("a", 1)).await,
            "Delivered",
            "row written",
        );
        outside.run("DROP TABLE profiles").await;
        for _ in 0..2 {
            is(
                &deliver(&*target, profile("a", 2)).await,
                "Fault",
                "profiles",
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_password_or_database_is_the_targets_fault() {
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Some(outside) = Outside::server(kind) else {
            continue;
        };
        let settings = outside.settings().await;
        let wrong = settings.replace(PASSWORD, "hunter2 is wrong");
        let target = crate::open(&format!("{wrong}table = 'profiles'"));
        is(
            &deliver(&*target, profile("a", 1)).await,
            "Fault",
            "cannot connect to",
        );
        let none = settings
            .replace("/postgres\"", "/none\"")
            .replace("/crm\"", "/none\"");
        let target = crate::open(&format!("{none}table = 'profiles'"));
        is(&deliver(&*target, profile("a", 1)).await, "Fault", "none");
        let error = target.probe().await.unwrap_err();
        assert!(
            error.contains("cannot connect to") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_the_targets_fault() {
    for outside in Outside::all() {
        let target = target(&outside, "create_table = true").await;
        is(
            &deliver(&*target, profile("a", 1)).await,
            "Delivered",
            "row written",
        );
        match outside.kind() {
            Some(Kind::Postgres) => {
                outside
                    .run("ALTER DATABASE postgres SET default_transaction_read_only = on")
                    .await;
            }
            Some(Kind::MariaDb) => {
                let sql = "CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'hunter2 & co'; GRANT SELECT ON crm.* TO reader@'127.0.0.1'";
                outside.run(sql).await;
            }
            // Root may write to any file.
            None => continue,
        }
        let settings = outside.settings().await.replace("root@", "reader@");
        let target = crate::open(&format!("{settings}table = 'profiles'"));
        let outcome = deliver(&*target, profile("a", 2)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(target.probe().await.is_err());
    }
}

#[tokio::test]
async fn a_locked_file_is_the_targets_fault() {
    let outside = Outside::file();
    let target = target(&outside, "create_table = true").await;
    is(
        &deliver(&*target, profile("a", 1)).await,
        "Delivered",
        "row written",
    );
    let lock = outside.lock().await;
    is(&deliver(&*target, profile("a", 2)).await, "Fault", "locked");
    drop(lock);
    is(
        &deliver(&*target, profile("a", 2)).await,
        "Delivered",
        "row written",
    );
}

/// A target of a table that is strict about names and levels.
async fn strict(outside: &Outside) -> Box<dyn Target> {
    let key = match outside.kind() {
        Some(Kind::MariaDb) => "account VARCHAR(255) COLLATE utf8mb4_nopad_bin NOT NULL",
        _ => "account VARCHAR(255) NOT NULL",
    };
    let sql = format!(
        "CREATE TABLE profiles (app BIGINT NOT NULL, {key}, rev BIGINT NOT NULL, name VARCHAR(20) NOT NULL \
         CHECK (LENGTH(name) < 20), level INTEGER, PRIMARY KEY (app, account))"
    );
    outside.run(&sql).await;
    let columns = "columns = { app = 'sdk_app_id', account = 'account', rev = 'revision', name = 'name', \
                   level = 'extra.Level' }";
    target(outside, columns).await
}

#[tokio::test]
async fn data_that_breaks_a_rule_is_refused_and_nothing_is_cut() {
    let long = "x".repeat(21);
    let cases = [
        (None, json!(1), "Rejected"),
        (Some(&*long), json!(1), "Rejected"),
        (Some("nineteen and a bit!!"), json!(1), "Rejected"),
        // The column may be too small for everybody: the daemon finds out.
        (Some("a"), json!(3_000_000_000_u64), "Denied"),
        (Some("a"), json!("high"), "Denied"),
        (Some("a"), json!(7), "Delivered"),
        (Some("a"), json!("8"), "Delivered"),
    ];
    for outside in Outside::all() {
        let target = strict(&outside).await;
        for (name, level, variant) in &cases {
            // SQLite's columns take anything.
            if outside.kind().is_none() && *variant == "Denied" {
                continue;
            }
            let mut document = profile("a", 1);
            document.name = name.map(str::to_owned);
            document.extra.insert("Level".into(), level.clone());
            is(&deliver(&*target, document).await, variant, "");
        }
        let texts = outside
            .texts("SELECT CAST(level AS CHAR(4)) FROM profiles")
            .await;
        assert_eq!(texts.len(), 1);
        assert_eq!(texts[0].as_deref().map(str::trim), Some("8"));
    }
}

#[tokio::test]
async fn a_restarted_server_costs_no_fault() {
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Some(outside) = Outside::server(kind) else {
            continue;
        };
        let target = target(&outside, "create_table = true").await;
        is(
            &deliver(&*target, profile("a", 1)).await,
            "Delivered",
            "row written",
        );
        let Outside::Server(server, _) = &outside else {
            unreachable!("it is a server")
        };
        {
            let mut server = server.lock().await;
            server.stop();
            server.resume();
        }
        is(
            &deliver(&*target, profile("a", 2)).await,
            "Delivered",
            "row written",
        );
        target.close().await;
    }
}
