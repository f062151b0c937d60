//! The conformance suite, for every database and both ends of a destroyed account.

use std::fs;

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};

use crate::{
    outside::Outside,
    server::{Kind, PASSWORD},
};

struct Database {
    outside: Outside,
    target: Box<dyn Target>,
}

impl Database {
    /// An empty table in a database.
    async fn fresh(outside: &Outside, more: &str) -> Self {
        outside.run("DROP TABLE IF EXISTS profiles").await;
        let settings = outside.settings().await;
        let target = crate::open(&format!(
            "{settings}table = 'profiles'\ncreate_table = true\n{more}"
        ));
        Self {
            outside: outside.clone(),
            target,
        }
    }
}

#[async_trait]
impl World for Database {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let exists = match self.outside.kind() {
            Some(Kind::Postgres) => "SELECT to_regclass('profiles')::text".to_owned(),
            Some(Kind::MariaDb) => {
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME = 'profiles'"
                    .into()
            }
            None => "SELECT name FROM sqlite_master WHERE name = 'profiles'".into(),
        };
        // Before the first delivery there is no table.
        self.outside.texts(&exists).await.pop().flatten()?;
        let rows = self.outside.rows("profiles").await;
        let mut found: Vec<Document> = rows
            .into_iter()
            .map(|row| serde_json::from_value(row).unwrap())
            .filter(|document: &Document| {
                document.sdk_app_id == sdk_app_id && document.account == account
            })
            .collect();
        assert!(found.len() < 2, "{account:?} is there twice");
        found
            .pop()
            .filter(|document| document.status == Status::Active)
    }

    fn compares_revisions(&self) -> bool {
        true
    }

    fn shown(&self, document: &Document) -> Document {
        let clean =
            |text: &Option<String>| text.as_ref().map(|text| text.replace('\0', "\u{fffd}"));
        match self.outside.kind() {
            Some(Kind::MariaDb) => document.clone(),
            // They hold no NUL.
            _ => Document {
                introduction: clean(&document.introduction),
                ..document.clone()
            },
        }
    }

    async fn refuse(&self, _: u64, account: &str) -> bool {
        let condition = format!("account <> '{account}'");
        self.target.probe().await.unwrap();
        // The table is there after the first delivery alone.
        conformance_delivery(&*self.target).await;
        match self.outside {
            Outside::File(_) => {
                let trigger = format!(
                    "CREATE TRIGGER guard BEFORE INSERT ON profiles WHEN NOT (NEW.{condition}) \
                     BEGIN SELECT RAISE(ABORT, 'it is refused'); END"
                );
                self.outside.run(&trigger).await;
            }
            Outside::Server(..) => {
                self.outside
                    .run(&format!(
                        "ALTER TABLE profiles ADD CONSTRAINT guard CHECK ({condition})"
                    ))
                    .await;
            }
        }
        true
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into(), "hunter2".into()]
    }

    async fn turn(&self, peer: Peer) -> bool {
        match &self.outside {
            Outside::Server(server, _) => {
                let mut server = server.lock().await;
                match peer {
                    Peer::Dead => server.stop(),
                    Peer::Slow => server.pause(),
                    Peer::Well if server.is_running() => server.unpause(),
                    Peer::Well => server.resume(),
                }
            }
            Outside::File(dir) => {
                let (file, aside) = (dir.path().join("db"), dir.path().join("aside"));
                match peer {
                    Peer::Slow => return false,
                    // A folder where the file was: it cannot be opened.
                    Peer::Dead => {
                        fs::rename(&file, &aside).unwrap();
                        fs::create_dir(&file).unwrap();
                    }
                    Peer::Well => {
                        fs::remove_dir(&file).unwrap();
                        fs::rename(&aside, &file).unwrap();
                    }
                }
            }
        }
        true
    }
}

/// Any delivery that leaves nothing.
async fn conformance_delivery(target: &dyn Target) {
    let gone = serde_json::json!({
        "sdk_app_id": 9, "account": "nobody", "revision": 1, "status": "destroyed", "event_time": 1, "extra": {},
        "name": null, "introduction": null, "face_url": null, "organization": null, "owner": null, "operator": null,
    });
    let document: Document = serde_json::from_value(gone).unwrap();
    target.deliver(&[document.into()]).await;
}

async fn check(outside: Option<Outside>, more: &str) {
    if let Some(outside) = outside {
        conformance::check(async || Database::fresh(&outside, more).await).await;
    }
}

#[tokio::test]
async fn postgres_keeps_its_promises() {
    check(Outside::server(Kind::Postgres), "").await;
}

#[tokio::test]
async fn postgres_keeps_its_promises_with_flags() {
    check(Outside::server(Kind::Postgres), "destroy = 'flag'").await;
}

#[tokio::test]
async fn mariadb_keeps_its_promises() {
    check(Outside::server(Kind::MariaDb), "").await;
}

#[tokio::test]
async fn mariadb_keeps_its_promises_with_flags() {
    check(Outside::server(Kind::MariaDb), "destroy = 'flag'").await;
}

#[tokio::test]
async fn sqlite_keeps_its_promises() {
    check(Some(Outside::file()), "").await;
}

#[tokio::test]
async fn sqlite_keeps_its_promises_with_flags() {
    check(Some(Outside::file()), "destroy = 'flag'").await;
}
