//! What an error means: whose fault it is, and whether its connection can be used again.

use std::fmt::Write as _;

use profilesync_target::{Mask, Outcome};
use sqlx::{mysql::MySqlDatabaseError, postgres::PgDatabaseError, sqlite::SqliteError};

/// Characters of a database's message that a reason quotes.
const MAX_MESSAGE: usize = 300;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// This account's data breaks a rule of the table.
    Account,
    /// The account's data, or a column that can hold nobody's.
    Either,
    /// Whoever writes at the same time.
    Moment,
    /// The database.
    Database,
}

/// Why nothing was done, in a sentence without secrets.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) blame: Blame,
    pub(crate) reason: String,
}

impl Failure {
    pub(crate) fn outcome(self) -> Outcome {
        let reason = self.reason;
        match self.blame {
            Blame::Account => Outcome::Rejected { reason },
            Blame::Either => Outcome::Denied { reason },
            Blame::Moment => Outcome::Retry {
                reason,
                after: None,
            },
            Blame::Database => Outcome::Fault {
                reason,
                after: None,
            },
        }
    }
}

/// Whose fault a statement's error is.
pub(crate) fn blame(error: &sqlx::Error) -> Blame {
    let Some(error) = error.as_database_error() else {
        return Blame::Database;
    };
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        return sqlstate(error.code());
    }
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql(error.number());
    }
    let code = error.code().and_then(|code| code.parse().ok());
    code.map_or(Blame::Database, sqlite)
}

fn sqlstate(code: &str) -> Blame {
    match code {
        // Conversions and ranges: the column's type may be wrong for every account.
        "22003" | "22007" | "22008" | "22018" | "22023" | "22P02" | "22P03" => Blame::Either,
        // A trigger's exception, and a key that is too long for an index.
        "P0001" | "54000" => Blame::Either,
        "40001" | "40P01" | "55P03" => Blame::Moment,
        // A row that a view does not take.
        "44000" => Blame::Account,
        _ if code.starts_with("22") || code.starts_with("23") => Blame::Account,
        _ => Blame::Database,
    }
}

fn mysql(number: u16) -> Blame {
    match number {
        // NULL, duplicate of another key, foreign keys, too long, invalid JSON, CHECK (MySQL, MariaDB).
        1048 | 1062 | 1169 | 1216 | 1217 | 1406 | 1451 | 1452 | 1557 | 1586 | 1761 | 1762
        | 3140 | 3819 | 4025 => Blame::Account,
        // A character that the column's character set has not, or a text for a number; out of range; truncated;
        // no default; a trigger's signal; larger than max_allowed_packet.
        1153 | 1264 | 1265 | 1292 | 1366 | 1367 | 1411 | 1644 | 1690 | 3988 => Blame::Either,
        1205 | 1213 => Blame::Moment,
        _ => Blame::Database,
    }
}

/// By the extended result code.
fn sqlite(code: i32) -> Blame {
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    const CONSTRAINT_DATATYPE: i32 = 3091;
    match code {
        CONSTRAINT_DATATYPE => Blame::Either,
        _ => match code & 0xff {
            TOO_BIG | CONSTRAINT => Blame::Account,
            MISMATCH => Blame::Either,
            _ => Blame::Database,
        },
    }
}

/// Whether an error says that the connection was dead before it was used.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let state = error.code().unwrap_or_default();
            // Ended by an administrator, a crash or a shutdown; closed for being idle or by KILL.
            let ended = matches!(&*state, "57P01" | "57P02" | "57P03" | "57P05");
            let number = error
                .try_downcast_ref::<MySqlDatabaseError>()
                .map(MySqlDatabaseError::number);
            ended || matches!(number, Some(1053 | 1927 | 4031))
        }
        _ => false,
    }
}

/// Whether the table does not exist.
pub(crate) fn is_no_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        return error.code() == "42P01";
    }
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return error.number() == 1146;
    }
    error.try_downcast_ref::<SqliteError>().is_some()
        && error.message().starts_with("no such table")
}

/// The error in one line, without secrets.
pub(crate) fn text(error: &sqlx::Error, mask: &Mask) -> String {
    let mut text = match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => format!("{} (SQLSTATE {})", error.message(), error.code()),
            None => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => format!("{} (error {})", error.message(), error.number()),
                None => error.message().to_owned(),
            },
        },
        // The cause says more than what the driver was doing.
        sqlx::Error::Io(cause) => cause.to_string(),
        sqlx::Error::Tls(cause) => format!("TLS: {cause}"),
        other => other.to_string(),
    };
    if let Some(hint) = hint(error) {
        let _ = write!(text, "; {hint}");
    }
    let line: String = mask
        .hide(&text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The way out, where the database does not tell it.
fn hint(error: &sqlx::Error) -> Option<&'static str> {
    let database = error.as_database_error()?;
    let is_state = |wanted| {
        let error = database.try_downcast_ref::<PgDatabaseError>();
        error.is_some_and(|error| error.code() == wanted)
    };
    if is_no_table(error) {
        Some(
            "create the table, or set `create_table = true` and restart, then `profilesync targets backfill NAME`",
        )
    } else if is_state("42P10")
        || database
            .message()
            .starts_with("ON CONFLICT clause does not match")
    {
        Some("the columns of app and account need a primary key or unique index over both")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_are_sorted() {
        let check = |blame, codes: &[&str]| {
            for code in codes {
                assert_eq!(sqlstate(code), blame, "{code}");
            }
        };
        check(
            Blame::Account,
            &[
                "22001", "22021", "22P05", "23502", "23503", "23505", "23514", "23P01", "44000",
            ],
        );
        check(
            Blame::Either,
            &["22P02", "22003", "22007", "P0001", "54000"],
        );
        check(Blame::Moment, &["40001", "40P01", "55P03"]);
        // Connections, passwords, rights, missing things, full disks, shutdowns, time limits, read-only servers.
        check(
            Blame::Database,
            &[
                "08006", "28P01", "3D000", "42501", "42P01", "42703", "42P10", "53100", "53300",
                "57P01", "57014", "25006", "58030", "XX000", "",
            ],
        );
    }

    #[test]
    fn error_numbers_are_sorted() {
        for (blame, numbers) in [
            (Blame::Account, &[1048, 1062, 1406, 1452, 3819, 4025][..]),
            (Blame::Either, &[1264, 1265, 1292, 1366, 1644, 1153]),
            (Blame::Moment, &[1205, 1213]),
            (
                Blame::Database,
                &[
                    1045, 1049, 1054, 1114, 1142, 1146, 1290, 1836, 1969, 3024, 1040, 0,
                ],
            ),
        ] {
            for &number in numbers {
                assert_eq!(mysql(number), blame, "{number}");
            }
        }
    }

    #[test]
    fn result_codes_are_sorted() {
        for (blame, codes) in [
            (Blame::Account, &[275, 787, 1299, 1555, 1811, 2067, 18][..]),
            (Blame::Either, &[20, 3091]),
            // Error, permission, busy, locked, read-only, I/O, corrupt, full, cannot open, not a database.
            (Blame::Database, &[1, 3, 5, 261, 6, 8, 10, 11, 13, 14, 26]),
        ] {
            for &code in codes {
                assert_eq!(sqlite(code), blame, "{code}");
            }
        }
    }

    #[test]
    fn a_secret_is_hidden_before_the_text_is_cut() {
        let mut mask = Mask::default();
        mask.add("hunter2");
        let words = "x".repeat(MAX_MESSAGE - 2);
        let error = sqlx::Error::Configuration(format!("{words}hunter2").into());
        let shown = text(&error, &mask);
        assert!(!shown.contains("hu"), "{shown}");
    }
}
