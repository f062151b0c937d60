//! A snapshot as CSV: a header, then one row per account with the document's members as columns.

use std::io::{self, Read, Write};

use csv::{ByteRecord, ReaderBuilder, Terminator, WriterBuilder};
use profilesync_target::{Document, Status};

use crate::{
    merge::{Key, Row, Unreadable},
    snapshot::{BUFFER, Form, Sink},
};

/// The document's members. `extra` is JSON text; an absent text is an empty cell.
const COLUMNS: [&str; 12] = [
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
    "extra",
];

/// How every Official Account's id begins. An `@` begins a formula too, but `#` ends it as an error.
const ACCOUNT_PREFIX: &str = "@TOA#_";

pub(crate) struct Csv {
    /// Whether cells that a spreadsheet would take for a formula get an apostrophe.
    pub(crate) escape_formulas: bool,
}

impl Csv {
    fn cell(&self, text: &str) -> String {
        if self.escape_formulas && looks_like_a_formula(text) {
            format!("'{text}")
        } else {
            text.to_owned()
        }
    }

    /// What [`Self::cell`] was made of.
    fn text<'a>(&self, cell: &'a str) -> &'a str {
        match cell.strip_prefix('\'') {
            Some(text) if self.escape_formulas => text,
            _ => cell,
        }
    }

    fn row(&self, record: ByteRecord) -> Result<Row<ByteRecord>, Unreadable> {
        match self.head(&record) {
            Some((key, revision)) => Ok(Row {
                key,
                revision,
                content: record,
            }),
            None => {
                let line = record.position().map_or(0, csv::Position::line);
                Err(Unreadable::Damaged(format!(
                    "line {line}: no row of an account and its revision"
                )))
            }
        }
    }

    fn head(&self, record: &ByteRecord) -> Option<(Key, u64)> {
        let cell = |column: usize| std::str::from_utf8(record.get(column)?).ok();
        let key = (cell(0)?.parse().ok()?, self.text(cell(1)?).to_owned());
        Some((key, cell(2)?.parse().ok()?))
    }
}

/// An apostrophe counts too: so that the one put before a formula can be told from one that was there.
fn looks_like_a_formula(text: &str) -> bool {
    let account = text.strip_prefix(ACCOUNT_PREFIX).is_some_and(|rest| {
        rest.chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '#' | '@'))
    });
    !account && text.starts_with(['=', '+', '-', '@', '\t', '\r', '\''])
}

impl Form for Csv {
    type Content = ByteRecord;

    fn content(&self, document: &Document) -> ByteRecord {
        let text = |text: &Option<String>| self.cell(text.as_deref().unwrap_or_default());
        let status = match document.status {
            Status::Active => "active",
            Status::Destroyed => "destroyed",
        };
        let extra = serde_json::to_string(&document.extra).expect("a map of JSON is JSON");
        let cells: [String; COLUMNS.len()] = [
            document.sdk_app_id.to_string(),
            self.cell(&document.account),
            document.revision.to_string(),
            status.to_owned(),
            text(&document.name),
            text(&document.introduction),
            text(&document.face_url),
            text(&document.organization),
            text(&document.owner),
            text(&document.operator),
            document.event_time.to_string(),
            extra,
        ];
        ByteRecord::from(&cells[..])
    }

    fn rows(&self, old: impl Read) -> impl Iterator<Item = Result<Row<ByteRecord>, Unreadable>> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .buffer_capacity(BUFFER)
            .from_reader(old);
        let mut records = reader
            .into_byte_records()
            .map(|record| record.map_err(unreadable));
        let header = match records.next() {
            Some(Ok(record)) if record == COLUMNS[..] => None,
            Some(Err(error)) => Some(Err(error)),
            _ => Some(Err(Unreadable::Damaged(
                "line 1: not the columns of a document".into(),
            ))),
        };
        header
            .into_iter()
            .chain(records.map(|record| self.row(record?)))
    }

    fn begin(&self, out: impl Write) -> io::Result<impl Sink<ByteRecord>> {
        let mut writer = WriterBuilder::new()
            .terminator(Terminator::Any(b'\n'))
            .from_writer(out);
        writer.write_record(COLUMNS)?;
        Ok(writer)
    }
}

fn unreadable(error: csv::Error) -> Unreadable {
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Unreadable::Io(error),
        _ => Unreadable::Damaged(text),
    }
}

impl<W: Write> Sink<ByteRecord> for csv::Writer<W> {
    fn row(&mut self, content: &ByteRecord) -> io::Result<()> {
        Ok(self.write_byte_record(content)?)
    }

    fn end(mut self) -> io::Result<()> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::Csv;

    const ESCAPING: Csv = Csv {
        escape_formulas: true,
    };

    #[test]
    fn formulas_are_escaped_and_accounts_are_not() {
        for formula in [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "'=1",
            "@TOA#_x|calc'!A0",
        ] {
            assert_eq!(ESCAPING.cell(formula), format!("'{formula}"));
        }
        for plain in ["", "a=1", "@TOA#_test_OA_for_penn", " =1", "1-2"] {
            assert_eq!(ESCAPING.cell(plain), plain);
        }
        let raw = Csv {
            escape_formulas: false,
        };
        assert_eq!((raw.cell("=1").as_str(), raw.text("'x")), ("=1", "'x"));
    }

    proptest! {
        #[test]
        fn every_cell_is_read_back(start in "(|[-=+@'\t\r]|@TOA#_)", rest in any::<String>()) {
            let text = format!("{start}{rest}");
            assert_eq!(ESCAPING.text(&ESCAPING.cell(&text)), text);
        }
    }
}
