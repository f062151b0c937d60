//! A client of the tests' own, for all three databases.

use std::sync::Arc;

use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, Row as _, mysql::MySqlConnection,
    postgres::PgConnection, sqlite::SqliteConnection,
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::server::{Kind, PASSWORD, Server};

/// A database and a way to it.
#[derive(Clone)]
pub(crate) enum Outside {
    Server(Arc<Mutex<Server>>, String),
    File(Arc<TempDir>),
}

impl Outside {
    /// A database of a server; `None` when there is none on this machine.
    pub(crate) fn server(kind: Kind) -> Option<Self> {
        let server = Server::start(kind)?;
        let database = server.database().to_owned();
        Some(Self::Server(Arc::new(Mutex::new(server)), database))
    }

    pub(crate) fn file() -> Self {
        Self::File(Arc::new(TempDir::new().unwrap()))
    }

    /// All there are on this machine.
    pub(crate) fn all() -> Vec<Self> {
        let servers = [Kind::Postgres, Kind::MariaDb]
            .into_iter()
            .filter_map(Self::server);
        servers.chain([Self::file()]).collect()
    }

    /// The lines of the settings that say where it is.
    pub(crate) async fn settings(&self) -> String {
        match self {
            Self::Server(server, database) => {
                let url = server.lock().await.url(database);
                format!("url = {url:?}\npassword = {PASSWORD:?}\n")
            }
            Self::File(dir) => format!("url = \"sqlite:{}\"\n", dir.path().join("db").display()),
        }
    }

    /// Runs statements as they are.
    pub(crate) async fn run(&self, sql: &str) {
        self.try_run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn try_run(&self, sql: &str) -> sqlx::Result<()> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::File(_) => {
                let mut client = self.file_client().await?;
                client.execute(sqlx::raw_sql(sql)).await?;
            }
            Self::Server(server, database) => {
                let (kind, url) = {
                    let server = server.lock().await;
                    (server.kind, server.open_url(database))
                };
                match kind {
                    Kind::Postgres => {
                        let mut client = PgConnection::connect(&url).await?;
                        client.execute(sqlx::raw_sql(sql)).await?;
                    }
                    Kind::MariaDb => {
                        let mut client = MySqlConnection::connect(&url).await?;
                        client.execute(sqlx::raw_sql(sql)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The only column of all rows; texts.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        let query = AssertSqlSafe(sql.to_owned());
        match self {
            Self::File(_) => {
                let rows = self
                    .file_client()
                    .await
                    .unwrap()
                    .fetch_all(query)
                    .await
                    .unwrap();
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
            Self::Server(server, database) => {
                let (kind, url) = {
                    let server = server.lock().await;
                    (server.kind, server.open_url(database))
                };
                match kind {
                    Kind::Postgres => {
                        let mut client = PgConnection::connect(&url).await.unwrap();
                        let rows = client.fetch_all(query).await.unwrap();
                        rows.iter().map(|row| row.get_unchecked(0)).collect()
                    }
                    Kind::MariaDb => {
                        let mut client = MySqlConnection::connect(&url).await.unwrap();
                        let rows = client.fetch_all(query).await.unwrap();
                        rows.iter().map(|row| row.get_unchecked(0)).collect()
                    }
                }
            }
        }
    }

    /// All rows of a table that has the default columns, as JSON.
    pub(crate) async fn rows(&self, table: &str) -> Vec<Value> {
        let sql = match self.kind() {
            Some(Kind::Postgres) => format!("SELECT row_to_json(t)::text FROM {table} t"),
            Some(Kind::MariaDb) => format!(
                "SELECT CAST(JSON_OBJECT({}) AS CHAR) FROM {table}",
                self.pairs()
            ),
            None => format!("SELECT json_object({}) FROM {table}", self.pairs()),
        };
        let texts = self.texts(&sql).await;
        texts
            .into_iter()
            .map(|text| serde_json::from_str(&text.unwrap()).unwrap())
            .collect()
    }

    fn pairs(&self) -> String {
        let columns = [
            "sdk_app_id",
            "account",
            "revision",
            "status",
            "name",
            "introduction",
            "face_url",
            "organization",
            "owner",
            "operator",
            "event_time",
        ];
        let extra = match self.kind() {
            Some(_) => "JSON_COMPACT(extra)",
            None => "json(extra)",
        };
        let pair = |column| match (column, self.kind()) {
            // Otherwise its collation is in the others' way.
            ("account", Some(_)) => "'account', account COLLATE utf8mb4_bin".to_owned(),
            _ => format!("'{column}', {column}"),
        };
        let pairs: Vec<_> = columns
            .map(pair)
            .into_iter()
            .chain([format!("'extra', {extra}")])
            .collect();
        pairs.join(", ")
    }

    /// Which server; `None` for a file.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Server(server, _) => Some(server.try_lock().expect("nobody else uses it").kind),
            Self::File(_) => None,
        }
    }

    /// Keeps everybody else from writing to a file, until it is dropped.
    pub(crate) async fn lock(&self) -> SqliteConnection {
        let mut client = self.file_client().await.unwrap();
        client.execute("BEGIN EXCLUSIVE").await.unwrap();
        client
    }

    async fn file_client(&self) -> sqlx::Result<SqliteConnection> {
        let Self::File(dir) = self else {
            unreachable!("asked of files alone")
        };
        SqliteConnection::connect(&format!(
            "sqlite:{}?mode=rwc",
            dir.path().join("db").display()
        ))
        .await
    }
}
