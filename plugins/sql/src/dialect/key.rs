//! What only MySQL must be asked: whether its table tells accounts apart.

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
        if self.dialect != Dialect::Mysql {
            return Vec::new();
        }
        let schema = self.schema.clone().map_or(Value::Null, Value::from);
        let table = Value::from(self.name.as_str());
        let indexes = "SELECT CAST(INDEX_NAME AS CHAR), CAST(COLUMN_NAME AS CHAR), CAST(SUB_PART AS CHAR) \
                       FROM information_schema.STATISTICS \
                       WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND NON_UNIQUE = 0";
        let collation = "SELECT CAST(COLLATION_NAME AS CHAR) FROM information_schema.COLUMNS \
                         WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND COLUMN_NAME = ?";
        let account = Value::from(self.column(&Member::Account));
        vec![
            (indexes.into(), vec![schema.clone(), table.clone()], unique),
            (collation.into(), vec![schema, table, account], exact),
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
    let key = [Member::SdkAppId, Member::Account].map(|member| table.column(&member));
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
    match rows.first().and_then(|row| row.first()) {
        Some(Some(collation)) if !is_exact(collation) => Err(format!(
            "the account's column has the collation {collation}, which takes different accounts for the same; \
             give it utf8mb4_nopad_bin (MariaDB) or utf8mb4_0900_bin (MySQL)"
        )),
        _ => Ok(()),
    }
}
