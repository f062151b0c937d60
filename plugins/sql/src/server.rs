//! Connections, and statements over them. A connection is kept only when its statement came to an end: one that was
//! given up in the middle is closed.

use std::{
    mem,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, ColumnIndex, ConnectOptions as _, Connection as _, Database, Decode, Encode,
    Executor, IntoArguments, Row, Type,
    mysql::{MySql, MySqlConnection},
    postgres::{PgConnection, Postgres},
    query::Query,
    sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection},
};

use crate::{
    address::{Address, Options},
    dialect::{Dialect, Statement, Table},
    fault::{self, Blame, Failure},
};

/// The database, as one target uses it.
pub(crate) struct Server {
    address: Address,
    create_table: bool,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
    readiness: tokio::sync::Mutex<Readiness>,
}

/// What is known of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// Nothing, at the start.
    Unknown,
    /// It was fit for use once; a table that is gone since then is not created anew, for it would lack what was
    /// delivered before.
    Doubted,
    Ready,
}

enum Connection {
    Postgres(PgConnection),
    Mysql(MySqlConnection),
    /// And the file it has open: one that was replaced must not be written to any longer.
    Sqlite(SqliteConnection, Option<FileId>),
}

/// Device and inode of a file.
type FileId = (u64, u64);

/// Bytes of an answer's texts that are taken in at most.
const MAX_ANSWER: usize = 64 << 20;

/// Rows of texts.
type Rows = Vec<Vec<Option<String>>>;

impl Server {
    pub(crate) fn new(address: Address, create_table: bool, timeout: Duration) -> Self {
        Self {
            address,
            create_table,
            timeout,
            idle: Mutex::default(),
            readiness: tokio::sync::Mutex::new(Readiness::Unknown),
        }
    }

    /// Makes sure that the table can be written, once and again after every fault.
    pub(crate) async fn ready(&self, table: &Table) -> Result<(), Failure> {
        let mut readiness = self.readiness.lock().await;
        if *readiness == Readiness::Ready {
            return Ok(());
        }
        match self.run(&table.explain(), Want::Nothing).await {
            Ok(_) => {}
            Err(Problem::Sql(error))
                if self.creates(&error) && *readiness == Readiness::Unknown =>
            {
                let create = table.create(&self.collation(table).await?);
                let create = Statement {
                    sql: create,
                    values: Vec::new(),
                };
                self.run(&create, Want::Nothing)
                    .await
                    .map_err(|problem| self.unfit(problem))?;
            }
            Err(problem) => return Err(self.unfit(problem)),
        }
        self.check_key(table).await?;
        *readiness = Readiness::Ready;
        Ok(())
    }

    /// Whether the table can be written; changes nothing.
    pub(crate) async fn probe(&self, table: &Table) -> Result<(), String> {
        if let Some(folder) = self.folder_of_new_file() {
            let shown = folder.display();
            return match folder.is_dir() {
                true => Ok(()),
                false => Err(format!(
                    "there is no folder {shown} to create the database in"
                )),
            };
        }
        match self.run(&table.explain(), Want::Nothing).await {
            Ok(_) => {}
            Err(Problem::Sql(error)) if self.creates(&error) => return Ok(()),
            Err(problem) => return Err(self.unfit(problem).reason),
        }
        self.check_key(table)
            .await
            .map_err(|failure| failure.reason)?;
        if let Some(sql) = table.dialect.is_read_only() {
            let rows = self
                .rows(sql, Vec::new())
                .await
                .map_err(|failure| failure.reason)?;
            if rows
                .iter()
                .flatten()
                .flatten()
                .any(|value| value == "on" || value == "1")
            {
                return Err(format!("{} is read-only", self.address.shown));
            }
        }
        Ok(())
    }

    /// Where SQLite's file will be created.
    fn folder_of_new_file(&self) -> Option<PathBuf> {
        match &self.address.options {
            Options::Sqlite(options) if self.create_table && !options.get_filename().exists() => {
                let folder = options.get_filename().parent();
                Some(folder.map_or_else(PathBuf::new, ToOwned::to_owned))
            }
            _ => None,
        }
    }

    /// Whether a table that is missing is to be created.
    fn creates(&self, error: &sqlx::Error) -> bool {
        self.create_table && fault::is_no_table(error)
    }

    /// Runs a statement that writes.
    pub(crate) async fn execute(&self, statement: &Statement) -> Result<(), Failure> {
        let result = self.run(statement, Want::Nothing).await;
        let problem = match result {
            Ok(_) => return Ok(()),
            Err(problem) => problem,
        };
        let failure = self.failure(problem);
        if failure.blame == Blame::Database {
            let mut readiness = self.readiness.lock().await;
            *readiness = Readiness::Doubted;
        }
        Err(failure)
    }

    /// Runs a statement that reads texts. A table that is yet to be created holds nothing.
    pub(crate) async fn fetch(&self, statement: &Statement) -> Result<Rows, String> {
        if self.folder_of_new_file().is_some() {
            return Ok(Rows::new());
        }
        match self.run(statement, Want::Rows).await {
            Err(Problem::Sql(error)) if self.creates(&error) => Ok(Rows::new()),
            Err(problem) => Err(self.failure(problem).reason),
            Ok(rows) => Ok(rows),
        }
    }

    /// Closes what is idle.
    pub(crate) async fn close(&self) {
        for connection in self.take_idle() {
            // The server notices a connection that cannot be closed politely, too.
            let _ = match connection {
                Connection::Postgres(connection) => connection.close().await,
                Connection::Mysql(connection) => connection.close().await,
                Connection::Sqlite(connection, _) => connection.close().await,
            };
        }
    }

    async fn run(&self, statement: &Statement, want: Want) -> Result<Rows, Problem> {
        let kept = self.kept();
        let reused = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut result = connection.run(statement, want).await;
        if let Err(error) = &result
            && reused
            && fault::is_lost(error)
        {
            // A restarted server has closed all of them; that is no fault as long as it takes new ones.
            drop(self.take_idle());
            connection = self.connect().await?;
            result = connection.run(statement, want).await;
        }
        if result
            .as_ref()
            .err()
            .is_none_or(|error| fault::blame(error) != Blame::Database)
        {
            self.idle().push(connection);
        }
        result.map_err(Problem::Sql)
    }

    async fn connect(&self) -> Result<Connection, Problem> {
        let connected = match &self.address.options {
            Options::Postgres(options) => options.connect().await.map(Connection::Postgres),
            Options::Mysql(options) => options.connect().await.map(Connection::Mysql),
            Options::Sqlite(options) => {
                let connected = options.connect().await;
                connected.map(|connection| Connection::Sqlite(connection, file_id(options)))
            }
        };
        let mut connection = connected.map_err(Problem::Connect)?;
        connection
            .set_up(self.timeout)
            .await
            .map_err(Problem::Connect)?;
        Ok(connection)
    }

    /// An idle connection.
    fn kept(&self) -> Option<Connection> {
        let kept = self.idle().pop()?;
        match (&self.address.options, &kept) {
            (Options::Sqlite(options), Connection::Sqlite(_, id)) if *id != file_id(options) => {
                None
            }
            _ => Some(kept),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Vec<Connection> {
        mem::take(&mut *self.idle())
    }

    async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Rows, Failure> {
        let sql = sql.to_owned();
        let rows = self.run(&Statement { sql, values }, Want::Rows).await;
        rows.map_err(|problem| self.unfit(problem))
    }

    /// The collation of MySQL's key that compares bytes, spaces at the end included.
    async fn collation(&self, table: &Table) -> Result<String, Failure> {
        if table.dialect != Dialect::Mysql {
            return Ok(String::new());
        }
        let rows = self
            .rows("SELECT CAST(VERSION() AS CHAR)", Vec::new())
            .await?;
        let version = rows
            .into_iter()
            .flatten()
            .flatten()
            .next()
            .unwrap_or_default();
        let maria = version.contains("MariaDB");
        Ok(if maria {
            "utf8mb4_nopad_bin"
        } else {
            "utf8mb4_0900_bin"
        }
        .into())
    }

    /// A key that is missing, or that mixes accounts up, would double rows, or let one account's replace another's.
    async fn check_key(&self, table: &Table) -> Result<(), Failure> {
        for (sql, values, check) in table.key_checks() {
            let rows = self.rows(&sql, values).await?;
            check(table, &rows).map_err(|reason| Failure {
                blame: Blame::Database,
                reason: format!("{}: {reason}", self.address.shown),
            })?;
        }
        Ok(())
    }

    fn failure(&self, problem: Problem) -> Failure {
        let shown = &self.address.shown;
        let text = |error| fault::text(error, &self.address.mask);
        let (blame, reason) = match problem {
            Problem::Connect(error) => (
                Blame::Database,
                format!("cannot connect to {shown}: {}", text(&error)),
            ),
            Problem::Sql(error) => (fault::blame(&error), format!("{shown}: {}", text(&error))),
        };
        Failure { blame, reason }
    }

    /// A failure before any account's data was sent.
    fn unfit(&self, problem: Problem) -> Failure {
        Failure {
            blame: Blame::Database,
            ..self.failure(problem)
        }
    }
}

/// What a statement is run for.
#[derive(Clone, Copy)]
enum Want {
    Nothing,
    Rows,
}

/// Where a statement failed.
enum Problem {
    Connect(sqlx::Error),
    Sql(sqlx::Error),
}

impl Connection {
    /// Lets the server end what the daemon has given up, and refuse what does not fit instead of cutting it.
    async fn set_up(&mut self, timeout: Duration) -> sqlx::Result<()> {
        match self {
            Self::Postgres(connection) => {
                let sql = format!("SET statement_timeout = {}", timeout.as_millis());
                connection.execute(AssertSqlSafe(sql)).await?;
            }
            Self::Mysql(connection) => {
                let seconds = timeout.as_secs().max(1);
                let sql = format!(
                    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
                     SESSION innodb_lock_wait_timeout = {seconds}, SESSION lock_wait_timeout = {seconds}"
                );
                connection.execute(AssertSqlSafe(sql)).await?;
            }
            // Its time limit is among the options.
            Self::Sqlite(..) => {}
        }
        Ok(())
    }

    async fn run(&mut self, statement: &Statement, want: Want) -> sqlx::Result<Rows> {
        match self {
            Self::Postgres(connection) => run::<Postgres>(connection, statement, want).await,
            Self::Mysql(connection) => run::<MySql>(connection, statement, want).await,
            Self::Sqlite(connection, _) => run::<Sqlite>(connection, statement, want).await,
        }
    }
}

fn file_id(options: &SqliteConnectOptions) -> Option<FileId> {
    let metadata = std::fs::metadata(options.get_filename()).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

async fn run<DB: Database>(
    connection: &mut DB::Connection,
    statement: &Statement,
    want: Want,
) -> sqlx::Result<Rows>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    usize: ColumnIndex<DB::Row>,
    for<'v> Option<String>: Encode<'v, DB> + Decode<'v, DB> + Type<DB>,
    for<'v> i64: Encode<'v, DB> + Type<DB>,
    for<'v> f64: Encode<'v, DB> + Type<DB>,
    for<'v> bool: Encode<'v, DB> + Type<DB>,
{
    let mut query = sqlx::query::<DB>(AssertSqlSafe(statement.sql.clone()));
    for value in &statement.values {
        query = bind(query, value);
    }
    match want {
        Want::Nothing => query.execute(connection).await.map(|_| Vec::new()),
        Want::Rows => {
            let (mut texts, mut size) = (Rows::new(), 0);
            let mut rows = query.fetch(connection);
            while let Some(row) = rows.try_next().await? {
                let row = (0..row.len()).map(|index| row.try_get_unchecked(index));
                let row = row.collect::<sqlx::Result<Vec<Option<String>>>>()?;
                size += row.iter().flatten().map(String::len).sum::<usize>();
                if size > MAX_ANSWER {
                    let reason = format!("it is larger than {} MiB", MAX_ANSWER >> 20);
                    return Err(sqlx::Error::Decode(reason.into()));
                }
                texts.push(row);
            }
            Ok(texts)
        }
    }
}

fn bind<'q, DB: Database>(
    query: Query<'q, DB, DB::Arguments>,
    value: &Value,
) -> Query<'q, DB, DB::Arguments>
where
    for<'v> Option<String>: Encode<'v, DB> + Type<DB>,
    for<'v> i64: Encode<'v, DB> + Type<DB>,
    for<'v> f64: Encode<'v, DB> + Type<DB>,
    for<'v> bool: Encode<'v, DB> + Type<DB>,
{
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Bool(value) => query.bind(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => query.bind(number),
            (None, Some(number)) if !number.is_nan() && value.is_f64() => query.bind(number),
            // Beyond what the database's integers hold; it says so itself if its column cannot take the digits.
            _ => query.bind(Some(number.to_string())),
        },
        Value::String(text) => query.bind(Some(text.clone())),
        Value::Array(_) | Value::Object(_) => query.bind(Some(value.to_string())),
    }
}
