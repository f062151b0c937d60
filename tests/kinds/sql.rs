//! `sql` in the whole daemon: PostgreSQL, MariaDB, and a SQLite file.

#[path = "../../plugins/sql/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use std::fs;

use sqlx::{
    Connection as _, Executor as _, Row as _, mysql::MySqlConnection, postgres::PgConnection,
    sqlite::SqliteConnection,
};
use tempfile::TempDir;

use crate::outside::{Held, Outside, survives_a_restart};
use server::{Kind, PASSWORD, Server};

const ROWS: &str =
    "SELECT CAST(sdk_app_id AS CHAR(20)), account, CAST(revision AS CHAR(20)), name FROM profiles";

/// Columns of [`ROWS`].
type Columns = (String, String, String, Option<String>);

fn held(rows: impl Iterator<Item = Columns>) -> Held {
    rows.map(|(app, account, revision, name)| {
        let number = |text: String| text.trim().parse().unwrap();
        ((number(app), account), (number(revision), name))
    })
    .collect()
}

macro_rules! columns {
    ($rows:expr) => {
        held(
            $rows
                .iter()
                .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))),
        )
    };
}

impl Outside for Server {
    fn target(&self) -> String {
        let url = self.url(self.database());
        format!(
            "type = \"sql\"\nurl = {url:?}\npassword = {PASSWORD:?}\ntable = \"profiles\"\ncreate_table = true\n"
        )
    }

    async fn stop(&mut self) {
        Self::stop(self);
    }

    async fn start(&mut self) {
        self.resume();
    }

    async fn held(&mut self) -> Held {
        let url = self.open_url(self.database());
        match self.kind {
            Kind::Postgres => {
                let mut client = PgConnection::connect(&url).await.unwrap();
                columns!(client.fetch_all(ROWS).await.unwrap())
            }
            Kind::MariaDb => {
                let mut client = MySqlConnection::connect(&url).await.unwrap();
                columns!(client.fetch_all(ROWS).await.unwrap())
            }
        }
    }
}

/// A file that is replaced by a folder while it is "stopped".
struct Sqlite(TempDir);

impl Outside for Sqlite {
    fn target(&self) -> String {
        let url = format!("sqlite:{}", self.0.path().join("db").display());
        format!("type = \"sql\"\nurl = {url:?}\ntable = \"profiles\"\ncreate_table = true\n")
    }

    async fn stop(&mut self) {
        // Whoever writes has the lock, so that nothing is in the middle.
        let mut client = self.client().await;
        client.execute("BEGIN IMMEDIATE").await.unwrap();
        fs::rename(self.0.path().join("db"), self.0.path().join("aside")).unwrap();
        fs::create_dir(self.0.path().join("db")).unwrap();
        client.execute("ROLLBACK").await.unwrap();
    }

    async fn start(&mut self) {
        fs::remove_dir(self.0.path().join("db")).unwrap();
        fs::rename(self.0.path().join("aside"), self.0.path().join("db")).unwrap();
    }

    async fn held(&mut self) -> Held {
        columns!(self.client().await.fetch_all(ROWS).await.unwrap())
    }
}

impl Sqlite {
    async fn client(&self) -> SqliteConnection {
        let url = format!("sqlite:{}", self.0.path().join("db").display());
        SqliteConnection::connect(&url).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_restarts_in_the_middle_of_a_backfill_loses_nothing() {
    if let Some(server) = Server::start(Kind::Postgres) {
        survives_a_restart(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_that_restarts_in_the_middle_of_a_backfill_loses_nothing() {
    if let Some(server) = Server::start(Kind::MariaDb) {
        survives_a_restart(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_goes_away_in_the_middle_of_a_backfill_loses_nothing() {
    survives_a_restart(Sqlite(TempDir::new().unwrap())).await;
}
