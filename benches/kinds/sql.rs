//! `sql`: upserts of many rows in one statement, by sqlx.

#[path = "../../plugins/sql/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use profilesync_target::Document;
use serde_json::Value;
use sqlx::{
    Connection as _, Executor as _, MySql, Postgres, QueryBuilder, Sqlite, mysql::MySqlConnection,
    postgres::PgConnection, sqlite::SqliteConnection,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, compare, shares, skip},
    report::Report,
};
use server::{Kind, PASSWORD, Server};

/// The kind's default.
const BATCH: usize = 100;

const COLUMNS: &str = "sdk_app_id, account, revision, status, name, introduction, face_url, organization, owner, \
                       operator, event_time, extra";
const OTHERS: [&str; 9] = [
    "status",
    "name",
    "introduction",
    "face_url",
    "organization",
    "owner",
    "operator",
    "event_time",
    "extra",
];

/// All databases.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    for (what, kind) in [
        ("sql, PostgreSQL", Kind::Postgres),
        ("sql, MariaDB", Kind::MariaDb),
    ] {
        match Server::start(kind) {
            Some(server) => compare(what, server, settings, report),
            None => skip(what, report),
        }
    }
    compare(
        "sql, SQLite",
        File(TempDir::new().unwrap()),
        settings,
        report,
    );
}

/// What follows the rows.
fn guard(kind: Option<Kind>) -> String {
    match kind {
        Some(Kind::MariaDb) => {
            let set = OTHERS.map(|name| {
                format!("{name} = IF(revision <= VALUES(revision), VALUES({name}), {name})")
            });
            let revision = "revision = GREATEST(revision, VALUES(revision))";
            format!(" ON DUPLICATE KEY UPDATE {}, {revision}", set.join(", "))
        }
        _ => {
            let set = OTHERS.map(|name| format!("{name} = excluded.{name}"));
            format!(
                " ON CONFLICT (sdk_app_id, account) DO UPDATE SET revision = excluded.revision, {} \
                 WHERE profiles.revision <= excluded.revision",
                set.join(", ")
            )
        }
    }
}

/// Writes some documents over a connection, in the words of one driver.
macro_rules! upsert {
    ($database:ty, $connection:expr, $kind:expr, $documents:expr) => {{
        let mut query =
            QueryBuilder::<$database>::new(format!("INSERT INTO profiles ({COLUMNS}) "));
        query.push_values($documents, |mut row, document: Document| {
            row.push_bind(i64::try_from(document.sdk_app_id).unwrap());
            row.push_bind(document.account)
                .push_bind(i64::try_from(document.revision).unwrap());
            row.push_bind("active")
                .push_bind(document.name)
                .push_bind(document.introduction);
            row.push_bind(document.face_url)
                .push_bind(document.organization)
                .push_bind(document.owner);
            row.push_bind(document.operator)
                .push_bind(i64::try_from(document.event_time).unwrap());
            row.push_bind(sqlx::types::Json(Value::from(document.extra)));
        });
        query.push(guard($kind));
        query.build().execute(&mut $connection).await.unwrap();
    }};
}

impl Side for Server {
    fn target(&self) -> String {
        let url = self.url(self.database());
        format!(
            "type = \"sql\"\nurl = {url:?}\npassword = {PASSWORD:?}\ntable = \"profiles\"\ncreate_table = true\n"
        )
    }

    async fn clear(&mut self) {
        let url = self.open_url(self.database());
        match self.kind {
            Kind::Postgres => {
                let mut client = PgConnection::connect(&url).await.unwrap();
                client.execute("TRUNCATE profiles").await.unwrap();
            }
            Kind::MariaDb => {
                let mut client = MySqlConnection::connect(&url).await.unwrap();
                client.execute("TRUNCATE profiles").await.unwrap();
            }
        }
    }

    async fn write(&self, documents: Vec<Document>) {
        let mut tasks = JoinSet::new();
        for share in shares(&documents, BATCH, CONCURRENCY) {
            let (url, kind) = (self.open_url(self.database()), self.kind);
            tasks.spawn(async move {
                match kind {
                    Kind::Postgres => {
                        let mut client = PgConnection::connect(&url).await.unwrap();
                        for chunk in share {
                            upsert!(Postgres, client, Some(kind), chunk);
                        }
                    }
                    Kind::MariaDb => {
                        let mut client = MySqlConnection::connect(&url).await.unwrap();
                        for chunk in share {
                            upsert!(MySql, client, Some(kind), chunk);
                        }
                    }
                }
            });
        }
        tasks.join_all().await;
    }
}

/// SQLite, which has one writer at a time.
struct File(TempDir);

impl File {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0.path().join("db").display())
    }

    async fn client(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.url()).await.unwrap()
    }
}

impl Side for File {
    fn target(&self) -> String {
        format!(
            "type = \"sql\"\nurl = {:?}\ntable = \"profiles\"\ncreate_table = true\n",
            self.url()
        )
    }

    async fn clear(&mut self) {
        self.client()
            .await
            .execute("DELETE FROM profiles")
            .await
            .unwrap();
    }

    async fn write(&self, documents: Vec<Document>) {
        let mut client = self.client().await;
        for chunk in documents.chunks(BATCH) {
            upsert!(Sqlite, client, None, chunk.to_vec());
        }
    }
}
