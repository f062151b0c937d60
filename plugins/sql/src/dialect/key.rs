//! Whether the table tells accounts apart, and newer revisions from older ones. That there is a key at all PostgreSQL and SQLite say when the statement that
//! writes is explained; MySQL must be asked.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Dialect, Table};
use crate::columns::Member;

/// A query, its values, and what its rows must say.
type Check = (
    String,
    Vec<Value>,
    fn(&Table, &[Vec<Option<String>>]) -> Result<(), String>,
);

impl Table {
    /// What must hold of the key beyond what the statements themselves need.
    pub(crate) fn key_checks(&self) -> Vec<Check> {
        match self.dialect {
            Dialect::Postgres => self.postgres_checks(),
            Dialect::Mysql => self.mysql_checks(),
            Dialect::Sqlite => self.sqlite_checks(),
        }
    }

    fn postgres_checks(&self) -> Vec<Check> {
        // A domain is as good as the type it is made of. The modifier of VARCHAR(n) is n + 4.
        let kind = "WITH RECURSIVE made(kind, modifier) AS ( \
                    SELECT a.atttypid, a.atttypmod FROM pg_attribute AS a \
                    WHERE a.attrelid = to_regclass($1) AND a.attname = $2 \
                    UNION ALL SELECT t.typbasetype, t.typtypmod FROM made AS m \
                    JOIN pg_type AS t ON t.oid = m.kind WHERE t.typtype = 'd') \
                    SELECT format_type(m.kind, m.modifier) FROM made AS m JOIN pg_type AS t ON t.oid = m.kind \
                    WHERE t.typtype <> 'd' AND m.kind NOT IN ('text'::regtype, 'varchar'::regtype) \
                    OR m.kind = 'varchar'::regtype AND m.modifier BETWEEN 4 AND 255 + 3";
        // Of the column and of its unique indexes. Before version 12 there are no such collations, nor the member.
        let collation = "SELECT c.collname::text FROM pg_collation AS c, pg_attribute AS a \
                         WHERE to_jsonb(c) ->> 'collisdeterministic' = 'false' \
                         AND a.attrelid = to_regclass($1) AND a.attname = $2 AND (a.attcollation = c.oid \
                         OR EXISTS (SELECT FROM pg_index AS i, \
                         unnest(i.indkey::int2[], i.indcollation::oid[]) AS k(attnum, coll) \
                         WHERE i.indrelid = a.attrelid AND i.indisunique AND k.attnum = a.attnum AND k.coll = c.oid))";
        let values = [self.quoted(), self.column(&Member::Account).to_owned()];
        let values = values.map(Value::from).to_vec();
        vec![
            (kind.into(), values.clone(), apart),
            (collation.into(), values, deterministic),
        ]
    }

    fn mysql_checks(&self) -> Vec<Check> {
        let schema = self.schema.clone().map_or(Value::Null, Value::from);
        let table = Value::from(self.name.as_str());
        let indexes = "SELECT CAST(INDEX_NAME AS CHAR), CAST(COLUMN_NAME AS CHAR), CAST(SUB_PART AS CHAR) \
                       FROM information_schema.STATISTICS \
                       WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND NON_UNIQUE = 0";
        // The length is in characters, and in bytes where a column holds bytes.
        let kind = "SELECT CAST(COLUMN_TYPE AS CHAR) FROM information_schema.COLUMNS \
                    WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND COLUMN_NAME = ? \
                    AND NOT (DATA_TYPE IN ('varchar', 'tinytext', 'text', 'mediumtext', 'longtext', \
                    'varbinary', 'tinyblob', 'blob', 'mediumblob', 'longblob') \
                    AND CHARACTER_MAXIMUM_LENGTH >= 255)";
        let collation = "SELECT CAST(COLLATION_NAME AS CHAR) FROM information_schema.COLUMNS \
                         WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND COLUMN_NAME = ?";
        let texts = "SELECT CAST(COLUMN_TYPE AS CHAR) FROM information_schema.COLUMNS \
                     WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND COLUMN_NAME = ? \
                     AND CHARACTER_MAXIMUM_LENGTH IS NOT NULL";
        let account = Value::from(self.column(&Member::Account));
        let revision = Value::from(self.column(&Member::Revision));
        let column = vec![schema.clone(), table.clone(), account];
        let revision = vec![schema.clone(), table.clone(), revision];
        vec![
            (indexes.into(), vec![schema, table], unique),
            (kind.into(), column.clone(), apart),
            (collation.into(), column, exact),
            (texts.into(), revision, number),
        ]
    }

    fn sqlite_checks(&self) -> Vec<Check> {
        let schema = self.schema.clone().map_or(Value::Null, Value::from);
        let table = Value::from(self.name.as_str());
        let name = self.column(&Member::Account);
        let (account, quoted) = (self.dialect.quote(name), self.quoted());
        let kind = "SELECT c.type FROM pragma_table_info(?, ?) AS c WHERE c.name = ? COLLATE NOCASE \
                    AND NOT (upper(c.type) = 'ANY' AND EXISTS \
                    (SELECT 1 FROM pragma_table_list(?) AS t WHERE t.strict))";
        // SQLite tells no column's collation; but a union goes by that of its first column.
        let collation = format!(
            "SELECT 'it has' FROM (SELECT count(*) AS kept FROM (SELECT t.{account} FROM {quoted} AS t WHERE 0 \
             UNION SELECT 'a' UNION SELECT 'A' UNION SELECT 'a ')) WHERE kept < 3"
        );
        // ON CONFLICT takes an index of any collation.
        let indexes = "SELECT '`' || i.name || '` has the collation ' || c.coll \
                       FROM pragma_index_list(?, ?) AS i, pragma_index_xinfo(i.name, ?) AS c \
                       WHERE i.\"unique\" AND c.key AND c.name = ? COLLATE NOCASE AND c.coll <> 'BINARY' COLLATE NOCASE";
        // A type with one of these words in it, unless INT is in it too, keeps numbers as texts.
        let texts = "SELECT c.type FROM pragma_table_info(?, ?) AS c WHERE c.name = ? COLLATE NOCASE \
                     AND upper(c.type) NOT LIKE '%INT%' AND (upper(c.type) LIKE '%CHAR%' \
                     OR upper(c.type) LIKE '%CLOB%' OR upper(c.type) LIKE '%TEXT%')";
        let revision = Value::from(self.column(&Member::Revision));
        let column = Value::from(name);
        vec![
            (
                texts.into(),
                vec![table.clone(), schema.clone(), revision],
                number,
            ),
            (
                kind.into(),
                vec![table.clone(), schema.clone(), column.clone(), table.clone()],
                text,
            ),
            (collation, Vec::new(), binary),
            (
                indexes.into(),
                vec![table, schema.clone(), schema, column],
                binary_index,
            ),
        ]
    }
}

impl Dialect {
    /// A query that says `on` or `1` when nothing can be written.
    pub(crate) fn is_read_only(self) -> Option<&'static str> {
        match self {
            Self::Postgres => Some("SHOW transaction_read_only"),
            Self::Mysql => Some("SELECT CAST(@@global.read_only AS CHAR)"),
            Self::Sqlite => None,
        }
    }
}

/// A part of an index that is no column: what it is of is not known.
const EXPRESSION: &str = "(expression)";

/// Name, column and length of the prefix, of every unique index.
fn unique(table: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    let mut indexes: BTreeMap<&str, (Vec<&str>, bool)> = BTreeMap::new();
    for row in rows {
        if let [Some(index), column, prefix] = &row[..] {
            let (columns, whole) = indexes.entry(index).or_insert((Vec::new(), true));
            columns.push(column.as_deref().unwrap_or(EXPRESSION));
            *whole &= prefix.is_none();
        }
    }
    let key = table.key_names();
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let is_key = |columns: &[&str]| {
        columns.len() == key.len()
            && key
                .iter()
                .all(|name| columns.iter().any(|column| same(column, name)))
    };
    let written = |name: &str| {
        name == EXPRESSION || table.columns.iter().any(|column| same(&column.name, name))
    };
    let mut found = false;
    for (index, (columns, whole)) in indexes {
        if is_key(&columns) && whole {
            found = true;
        } else if columns.iter().any(|column| written(column)) {
            return Err(format!(
                "the unique index `{index}` would let one account's profile replace another's row; \
                 make it an index that is not unique"
            ));
        }
    }
    if found {
        return Ok(());
    }
    let [app, account] = key;
    Err(format!(
        "the table needs a primary key or unique index over `{app}` and `{account}`"
    ))
}

/// Whether a collation compares byte by byte, spaces at the end included.
fn is_exact(collation: &str) -> bool {
    collation == "binary" || collation.ends_with("_nopad_bin") || collation.ends_with("_0900_bin")
}

/// The collation of the account's column; none when it holds bytes. `utf8mb4_bin` is not exact: it pads with spaces, so
/// that `a` and `a ` are the same (MariaDB Knowledge Base, "NO PAD collations"; MySQL manual 10.10.1).
fn exact(_: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    match first(rows) {
        Some(collation) if !is_exact(collation) => Err(format!(
            "the account's column has the collation {collation}, which takes different accounts for the same; \
             give it utf8mb4_nopad_bin (MariaDB) or utf8mb4_0900_bin (MySQL)"
        )),
        _ => Ok(()),
    }
}

/// The type of the account's column in PostgreSQL and MySQL, if it is none of those that keep a text as it is. CITEXT
/// does not regard case, CHAR takes spaces at the end away, a short VARCHAR those that do not fit, in strict mode too;
/// BIGINT turns `007` into 7, BYTEA `\x41` into `A`; BINARY adds zeros, so that a row is not found to be deleted.
fn apart(table: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    let Some(kind) = first(rows) else {
        return Ok(());
    };
    let way_out = match table.dialect {
        Dialect::Mysql => {
            "VARBINARY(255), or VARCHAR(255) with the collation utf8mb4_nopad_bin (MariaDB) or \
             utf8mb4_0900_bin (MySQL)"
        }
        Dialect::Postgres | Dialect::Sqlite => "TEXT, or VARCHAR(255)",
    };
    Err(format!(
        "the account's column `{}` is of the type {kind}, which cannot hold every account, or takes different ones for \
         the same; make it {way_out}",
        table.column(&Member::Account)
    ))
}

/// The type of the revision's column, if it holds texts: as a text 9 is more than 10. PostgreSQL compares no such column with
/// a number at all.
fn number(table: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    match first(rows) {
        Some(kind) => Err(format!(
            "the revision's column `{}` is of the type {kind}, which compares 9 and 10 as texts; make it BIGINT",
            table.column(&Member::Revision)
        )),
        None => Ok(()),
    }
}

/// A collation of the account's column, or of a unique index over it, that PostgreSQL does not compare bytes by.
fn deterministic(table: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    match first(rows) {
        Some(collation) => Err(format!(
            "the account's column `{}`, or a unique index over it, has the collation {collation}, which is not \
             deterministic and takes different accounts for the same; give it the collation \"C\"",
            table.column(&Member::Account)
        )),
        None => Ok(()),
    }
}

/// The declared type of the account's column in SQLite. Numeric ones turn `007` into 7 (sqlite.org/datatype3.html, 3.1).
fn text(table: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    let Some(kind) = first(rows) else {
        return Ok(());
    };
    let upper = kind.to_ascii_uppercase();
    let is_text = ["CHAR", "CLOB", "TEXT", "BLOB"]
        .iter()
        .any(|part| upper.contains(part));
    if upper.is_empty() || is_text && !upper.contains("INT") {
        return Ok(());
    }
    Err(format!(
        "the account's column `{}` is of the type {kind}, which turns accounts of digits into numbers; make it TEXT",
        table.column(&Member::Account)
    ))
}

/// Whether the account's column in SQLite has another collation than its own.
fn binary(table: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    match first(rows) {
        Some(_) => Err(format!(
            "the account's column `{}` has a collation that takes different accounts for the same; make it TEXT \
             without COLLATE",
            table.column(&Member::Account)
        )),
        None => Ok(()),
    }
}

/// A unique index of SQLite that has the account in another collation.
fn binary_index(table: &Table, rows: &[Vec<Option<String>>]) -> Result<(), String> {
    match first(rows) {
        Some(index) => Err(format!(
            "the unique index {index} for `{}`, which takes different accounts for the same; create it without COLLATE",
            table.column(&Member::Account)
        )),
        None => Ok(()),
    }
}

fn first(rows: &[Vec<Option<String>>]) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}
