//! The table, for those who let it be created.

use super::{Dialect, Table};
use crate::columns::Member;

impl Table {
    /// Creates the table. Its key compares bytes. `collation` is of the key in MySQL, where it goes by the server.
    pub(crate) fn create(&self, collation: &str) -> String {
        let column = |column: &crate::columns::Column| {
            let name = self.dialect.quote(&column.name);
            format!(
                "  {name} {}",
                self.dialect.column_type(&column.member, collation)
            )
        };
        let mut lines: Vec<_> = self.columns.iter().map(column).collect();
        lines.push(format!("  PRIMARY KEY ({})", self.key().join(", ")));
        let options = match self.dialect {
            Dialect::Mysql => " DEFAULT CHARACTER SET utf8mb4 ROW_FORMAT = DYNAMIC",
            Dialect::Postgres | Dialect::Sqlite => "",
        };
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n{}\n){options}",
            self.quoted(),
            lines.join(",\n")
        )
    }
}

impl Dialect {
    fn column_type(self, member: &Member, collation: &str) -> String {
        let text = match self {
            Self::Mysql => "MEDIUMTEXT",
            Self::Postgres | Self::Sqlite => "TEXT",
        };
        match member {
            Member::SdkAppId | Member::Revision | Member::EventTime => "BIGINT NOT NULL".into(),
            Member::Account => match self {
                Self::Postgres => "TEXT COLLATE \"C\" NOT NULL".into(),
                Self::Mysql => {
                    format!("VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL")
                }
                Self::Sqlite => "TEXT NOT NULL".into(),
            },
            Member::Status => match self {
                Self::Mysql => "VARCHAR(16) NOT NULL".into(),
                Self::Postgres | Self::Sqlite => "TEXT NOT NULL".into(),
            },
            Member::Extra => match self {
                Self::Postgres => "JSONB NOT NULL".into(),
                Self::Mysql => "JSON NOT NULL".into(),
                Self::Sqlite => "TEXT NOT NULL".into(),
            },
            _ => text.into(),
        }
    }
}
