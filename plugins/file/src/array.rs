//! A snapshot as one JSON array with an element per line, so that it can be read back without holding all of it.

use std::io::{self, BufRead, BufReader, Read, Write};

use profilesync_target::Document;
use serde::Deserialize;

use crate::{
    merge::{Row, Unreadable},
    snapshot::{BUFFER, Form, Sink},
};

pub(crate) struct Array;

/// The members that a merge looks at.
#[derive(Deserialize)]
struct Head {
    sdk_app_id: u64,
    account: String,
    revision: u64,
}

impl Form for Array {
    type Content = Vec<u8>;

    fn content(&self, document: &Document) -> Vec<u8> {
        serde_json::to_vec(document).expect("a document is JSON")
    }

    fn rows(&self, old: impl Read) -> impl Iterator<Item = Result<Row<Vec<u8>>, Unreadable>> {
        let mut lines = Lines {
            old: BufReader::with_capacity(BUFFER, old),
            number: 0,
        };
        std::iter::from_fn(move || lines.row().transpose())
    }

    fn begin(&self, mut out: impl Write) -> io::Result<impl Sink<Vec<u8>>> {
        out.write_all(b"[\n")?;
        Ok(Writing { out, first: true })
    }
}

struct Lines<R> {
    old: BufReader<R>,
    number: usize,
}

impl<R: Read> Lines<R> {
    /// The next line without its end; `None` after the last.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut line = Vec::new();
        self.old
            .read_until(b'\n', &mut line)
            .map_err(Unreadable::Io)?;
        self.number += 1;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(self.damaged("the file ends in the middle of it"));
        }
        Ok(Some(line))
    }

    fn row(&mut self) -> Result<Option<Row<Vec<u8>>>, Unreadable> {
        if self.number == 0 && self.next()?.as_deref() != Some(b"[") {
            return Err(self.damaged("there is no opening bracket"));
        }
        let Some(mut line) = self.next()? else {
            return Err(self.damaged("there is no closing bracket"));
        };
        if line == b"]" {
            return match self.next()? {
                None => Ok(None),
                Some(_) => Err(self.damaged("something follows the closing bracket")),
            };
        }
        if line.last() == Some(&b',') {
            line.pop();
        }
        let head: Head = serde_json::from_slice(&line)
            .map_err(|error| self.damaged(&format!("no document: {error}")))?;
        Ok(Some(Row {
            key: (head.sdk_app_id, head.account),
            revision: head.revision,
            content: line,
        }))
    }

    fn damaged(&self, how: &str) -> Unreadable {
        Unreadable::Damaged(format!("line {}: {how}", self.number))
    }
}

struct Writing<W> {
    out: W,
    first: bool,
}

impl<W: Write> Sink<Vec<u8>> for Writing<W> {
    fn row(&mut self, content: &Vec<u8>) -> io::Result<()> {
        if !std::mem::take(&mut self.first) {
            self.out.write_all(b",\n")?;
        }
        self.out.write_all(content)
    }

    fn end(mut self) -> io::Result<()> {
        self.out
            .write_all(if self.first { b"]\n" } else { b"\n]\n" })?;
        self.out.flush()
    }
}
