//! The statements, in the words of each database. Names are quoted, values are bound; nothing else varies.

mod create;
mod key;

use std::fmt::{self, Display, Formatter};

use profilesync_target::{Document, State};
use serde_json::{Map, Value};

use crate::columns::{Column, Member, without_nul};

/// Longest text that is read of a column. A document comes from a request of at most 16 MiB.
const MAX_TEXT: usize = 32 << 20;

/// Whose SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    /// MariaDB too.
    Mysql,
    Sqlite,
}

/// The table, and what its columns hold.
pub(crate) struct Table {
    pub(crate) dialect: Dialect,
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
    /// Those of the key and the revision among them.
    pub(crate) columns: Vec<Column>,
}

/// One statement and its values.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Dialect {
    pub(crate) fn quote(self, name: &str) -> String {
        let mark = if self == Self::Mysql { '`' } else { '"' };
        let doubled = name.replace(mark, &format!("{mark}{mark}"));
        format!("{mark}{doubled}{mark}")
    }

    /// The value as the database can hold it.
    pub(crate) fn holds(self, value: Value) -> Value {
        match self {
            Self::Mysql => value,
            Self::Postgres | Self::Sqlite => without_nul(value),
        }
    }

    /// Longest name of a table or column, in bytes; PostgreSQL would cut longer ones.
    pub(crate) fn max_name(self) -> usize {
        match self {
            Self::Postgres => 63,
            Self::Mysql => 64,
            Self::Sqlite => 255,
        }
    }

    /// A column's expression as text, cut where it is longer than any that is written. (SQLite takes a text to end at
    /// NUL, but not bytes.)
    fn text(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("left(t.{column}::text, {MAX_TEXT})"),
            Self::Mysql => format!("LEFT(CAST(t.{column} AS CHAR), {MAX_TEXT})"),
            Self::Sqlite => {
                format!("CAST(substr(CAST(t.{column} AS BLOB), 1, {MAX_TEXT}) AS TEXT)")
            }
        }
    }
}

impl Table {
    /// The table's quoted name.
    pub(crate) fn quoted(&self) -> String {
        let name = self.dialect.quote(&self.name);
        match &self.schema {
            Some(schema) => format!("{}.{name}", self.dialect.quote(schema)),
            None => name,
        }
    }

    /// The name of the column that holds this member, which must be among them.
    pub(crate) fn column(&self, member: &Member) -> &str {
        let column = self.columns.iter().find(|column| column.member == *member);
        &column.expect("checked to be among the columns").name
    }

    /// The names of the columns of app and account.
    pub(crate) fn key_names(&self) -> [&str; 2] {
        [Member::SdkAppId, Member::Account].map(|member| self.column(&member))
    }

    fn key(&self) -> [String; 2] {
        self.key_names().map(|name| self.dialect.quote(name))
    }

    fn revision(&self) -> String {
        self.dialect.quote(self.column(&Member::Revision))
    }

    /// Writes rows. An older revision changes nothing; an equal one is written again, for the columns may be others
    /// than the last time.
    pub(crate) fn upsert(&self, documents: &[&Document]) -> Statement {
        let values = match self.dialect {
            Dialect::Postgres => self.objects(&self.columns, documents),
            _ => self.rows(&self.columns, documents),
        };
        Statement {
            sql: self.upsert_sql(documents.len()),
            values,
        }
    }

    fn upsert_sql(&self, count: usize) -> String {
        let (table, revision) = (self.quoted(), self.revision());
        let quoted = self
            .columns
            .iter()
            .map(|column| self.dialect.quote(&column.name));
        let names: Vec<_> = quoted.collect();
        let list = names.join(", ");
        let key = self.key();
        let others = names.iter().filter(|name| !key.contains(name));
        match self.dialect {
            Dialect::Postgres | Dialect::Sqlite => {
                let source = if self.dialect == Dialect::Postgres {
                    let from = self.record();
                    let selected: Vec<_> = names.iter().map(|name| format!("r.{name}")).collect();
                    format!("SELECT {} FROM {from}", selected.join(", "))
                } else {
                    format!("VALUES {}", tuples(self.columns.len(), count))
                };
                let set: Vec<_> = others
                    .map(|name| format!("{name} = excluded.{name}"))
                    .collect();
                format!(
                    "INSERT INTO {table} AS t ({list}) {source} ON CONFLICT ({}) DO UPDATE SET {} \
                     WHERE COALESCE(t.{revision}, 0) <= excluded.{revision}",
                    key.join(", "),
                    set.join(", ")
                )
            }
            Dialect::Mysql => {
                // Assignments are made from left to right: the revision goes last.
                let mut set: Vec<_> = others
                    .filter(|name| **name != revision)
                    .map(|name| {
                        format!("{name} = IF(COALESCE({revision}, 0) <= VALUES({revision}), VALUES({name}), {name})")
                    })
                    .collect();
                set.push(format!(
                    "{revision} = GREATEST(COALESCE({revision}, 0), VALUES({revision}))"
                ));
                format!(
                    "INSERT INTO {table} ({list}) VALUES {} ON DUPLICATE KEY UPDATE {}",
                    tuples(self.columns.len(), count),
                    set.join(", ")
                )
            }
        }
    }

    /// Deletes rows, unless they are of a newer revision.
    pub(crate) fn delete(&self, documents: &[&Document]) -> Statement {
        let columns: Vec<_> = self
            .columns
            .iter()
            .filter(|column| {
                matches!(
                    column.member,
                    Member::SdkAppId | Member::Account | Member::Revision
                )
            })
            .cloned()
            .collect();
        let (table, revision, [app, account]) = (self.quoted(), self.revision(), self.key());
        if self.dialect == Dialect::Postgres {
            let from = self.record();
            return Statement {
                sql: format!(
                    "DELETE FROM {table} AS t USING {from} WHERE t.{app} = r.{app} AND t.{account} = r.{account} \
                     AND COALESCE(t.{revision}, 0) <= r.{revision}"
                ),
                values: self.objects(&columns, documents),
            };
        }
        let conditions = columns.iter().map(|column| {
            let name = self.dialect.quote(&column.name);
            match column.member {
                Member::Revision => format!("COALESCE({name}, 0) <= ?"),
                _ => format!("{name} = ?"),
            }
        });
        let one = format!("({})", conditions.collect::<Vec<_>>().join(" AND "));
        Statement {
            sql: format!(
                "DELETE FROM {table} WHERE {}",
                repeated(&one, " OR ", documents.len())
            ),
            values: self.rows(&columns, documents),
        }
    }

    /// Reads rows: every column as text, in their order. More than was asked for by one are enough to see that an
    /// account has several, as it can without a key; the limit is rounded up, so that there are few statements.
    pub(crate) fn select(&self, documents: &[&Document]) -> Statement {
        let columns: Vec<_> = self
            .columns
            .iter()
            .filter(|column| matches!(column.member, Member::SdkAppId | Member::Account))
            .cloned()
            .collect();
        let (table, limit) = (self.quoted(), documents.len().next_power_of_two() + 1);
        let quoted = self
            .columns
            .iter()
            .map(|column| self.dialect.quote(&column.name));
        let list = quoted
            .map(|name| self.dialect.text(&name))
            .collect::<Vec<_>>()
            .join(", ");
        if self.dialect == Dialect::Postgres {
            let (from, [app, account]) = (self.record(), self.key());
            return Statement {
                sql: format!(
                    "SELECT {list} FROM {table} AS t JOIN {from} ON t.{app} = r.{app} AND t.{account} = r.{account} \
                     LIMIT {limit}"
                ),
                values: self.objects(&columns, documents),
            };
        }
        let conditions = columns
            .iter()
            .map(|column| format!("t.{} = ?", self.dialect.quote(&column.name)));
        let one = format!("({})", conditions.collect::<Vec<_>>().join(" AND "));
        Statement {
            sql: format!(
                "SELECT {list} FROM {table} AS t WHERE {} LIMIT {limit}",
                repeated(&one, " OR ", documents.len())
            ),
            values: self.rows(&columns, documents),
        }
    }

    /// The document's row among those that [`Table::select`] found.
    pub(crate) fn found(&self, rows: &[Vec<Option<String>>], document: &Document) -> Option<State> {
        rows.iter().find_map(|row| {
            let mut state = Map::new();
            for (column, text) in self.columns.iter().zip(row) {
                let wanted = self.dialect.holds(column.member.value(document));
                let value = column.member.read(text.clone(), &wanted);
                if matches!(column.member, Member::SdkAppId | Member::Account) && value != wanted {
                    return None;
                }
                state.insert(column.name.clone(), value);
            }
            Some(state)
        })
    }

    /// Whether every part of writing is possible: the table, its columns, its key, and the right to. Changes nothing.
    pub(crate) fn explain(&self) -> Statement {
        let values = match self.dialect {
            Dialect::Postgres => vec!["[]".into()],
            _ => vec![Value::Null; self.columns.len()],
        };
        let sql = format!("EXPLAIN {}", self.upsert_sql(1));
        Statement { sql, values }
    }

    /// PostgreSQL takes all rows as one value, and reads each member as the column's own type does. The statement is
    /// the same for every number of rows, so that it is prepared once.
    fn record(&self) -> String {
        format!(
            "jsonb_populate_recordset(NULL::{}, $1::jsonb) AS r",
            self.quoted()
        )
    }

    fn objects(&self, columns: &[Column], documents: &[&Document]) -> Vec<Value> {
        let object = |document: &&Document| -> Value {
            let member = |column: &Column| {
                let value = column.member.value(document);
                (column.name.clone(), self.dialect.holds(value))
            };
            columns.iter().map(member).collect::<Map<_, _>>().into()
        };
        let rows: Value = documents.iter().map(object).collect();
        vec![rows.to_string().into()]
    }

    /// The last row is repeated up to the next power of two, so that few statements are prepared; writing a row twice
    /// is as good as once.
    fn rows(&self, columns: &[Column], documents: &[&Document]) -> Vec<Value> {
        let padding = documents.len().next_power_of_two() - documents.len();
        let last = documents.last().into_iter().cycle().take(padding);
        let row = |document: &&Document| {
            let value = |column: &Column| self.dialect.holds(column.member.value(document));
            columns.iter().map(value).collect::<Vec<_>>()
        };
        documents.iter().chain(last).flat_map(row).collect()
    }
}

/// `(?, ?), (?, ?), …`
fn tuples(width: usize, count: usize) -> String {
    repeated(&format!("({})", vec!["?"; width].join(", ")), ", ", count)
}

/// As often as the next power of two.
fn repeated(one: &str, separator: &str, count: usize) -> String {
    vec![one; count.next_power_of_two()].join(separator)
}

/// The statement, and its values on a line of their own.
impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql)?;
        match &self.values[..] {
            [Value::String(rows)] => write!(f, "\n{rows}"),
            values => write!(f, "\n{}", Value::from(values)),
        }
    }
}
