//! `format = "csv"` and `"json-array"`: one file of all accounts, sorted by app and account, replaced as a whole.
//!
//! Each batch is merged with the old file while both are read in order, so memory is bounded by the batch.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use profilesync_target::{Delivery, Document, Status};

use crate::{
    Writer,
    disk::{self, Replacement, Trouble},
    merge::{Change, Key, Row, Unreadable, merge},
};

/// Bytes read and written at once.
pub(crate) const BUFFER: usize = 256 * 1024;

/// How a snapshot is written down.
pub(crate) trait Form: Send + Sync {
    /// A row.
    type Content: PartialEq;

    /// The row of a document.
    fn content(&self, document: &Document) -> Self::Content;

    /// Reads a snapshot back.
    fn rows(&self, old: impl Read) -> impl Iterator<Item = Result<Row<Self::Content>, Unreadable>>;

    /// Begins a snapshot.
    fn begin(&self, out: impl Write) -> io::Result<impl Sink<Self::Content>>;
}

/// A snapshot being written.
pub(crate) trait Sink<C> {
    /// Writes a row.
    fn row(&mut self, content: &C) -> io::Result<()>;

    /// Ends the snapshot.
    fn end(self) -> io::Result<()>;
}

pub(crate) struct Snapshot<F> {
    path: PathBuf,
    form: F,
    /// The target's name, for the way out of damage.
    target: String,
    clean: AtomicBool,
}

impl<F: Form> Snapshot<F> {
    pub(crate) fn new(path: PathBuf, form: F, target: &str) -> Self {
        Self {
            path,
            form,
            target: target.to_owned(),
            clean: AtomicBool::new(false),
        }
    }

    /// Marks the temporary files of this snapshot: another may be in the same folder.
    fn prefix(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!(".{name}-")
    }

    fn prepare(&self) -> Result<(), Trouble> {
        let folder = disk::parent(&self.path);
        disk::create_folder(folder)?;
        if !self.clean.swap(true, Ordering::Relaxed) {
            disk::remove_leftovers(folder, &self.prefix())?;
        }
        Ok(())
    }

    /// What a batch says of each account. Of one that is in it twice, the higher revision counts.
    fn changes(&self, batch: &[Delivery]) -> BTreeMap<Key, Change<F::Content>> {
        let mut changes: BTreeMap<Key, Change<F::Content>> = BTreeMap::new();
        for Delivery { document } in batch {
            let key = (document.sdk_app_id, document.account.clone());
            let known = changes.get(&key).map_or(0, |change| change.revision);
            if known <= document.revision {
                let content =
                    (document.status == Status::Active).then(|| self.form.content(document));
                changes.insert(
                    key,
                    Change {
                        revision: document.revision,
                        content,
                    },
                );
            }
        }
        changes
    }

    /// Writes old rows and changes into the replacement; says whether it differs from the old file.
    fn merge_into(
        &self,
        new: &File,
        old: Option<File>,
        changes: BTreeMap<Key, Change<F::Content>>,
    ) -> Result<bool, Failure> {
        let mut sink = self.form.begin(BufWriter::with_capacity(BUFFER, new))?;
        let first = old.is_none();
        let rows = old.into_iter().flat_map(|old| self.form.rows(old));
        let changed = merge(rows, changes, |row| sink.row(row).map_err(Failure::Write))?;
        sink.end()?;
        Ok(changed || first)
    }

    fn trouble(&self, failure: Failure) -> Trouble {
        let path = self.path.display();
        match failure {
            Failure::Write(error) => Trouble::at("write", &self.path)(error),
            Failure::Read(Unreadable::Io(error)) => Trouble::at("read", &self.path)(error),
            // It is not replaced: a snapshot of the few accounts at hand would look like all of them.
            Failure::Read(Unreadable::Damaged(how)) => Trouble::new(format!(
                "{path} is not what was written there: {how}; move it away, then write all accounts again: \
                 profilesync targets backfill {}",
                self.target
            )),
        }
    }
}

enum Failure {
    Read(Unreadable),
    Write(io::Error),
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Read(unreadable)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl<F: Form> Writer for Snapshot<F> {
    fn write(&self, batch: &[Delivery]) -> Result<Vec<String>, Trouble> {
        self.prepare()?;
        let old = disk::open(&self.path)?;
        let new = Replacement::new(&self.path, &self.prefix())?;
        let changed = self
            .merge_into(new.file(), old, self.changes(batch))
            .map_err(|failure| self.trouble(failure))?;
        if !changed {
            return Ok(vec!["the file holds it already".into(); batch.len()]);
        }
        new.sync()?;
        new.place()?;
        disk::sync_folder(disk::parent(&self.path))?;
        Ok(vec!["written".into(); batch.len()])
    }

    fn render(&self, document: &Document) -> (String, Option<String>) {
        let mut text = Vec::new();
        let written = self.form.begin(&mut text).and_then(|mut sink| {
            sink.row(&self.form.content(document))?;
            sink.end()
        });
        written.expect("a Vec takes everything");
        let content = String::from_utf8_lossy(&text).into_owned();
        let active = document.status == Status::Active;
        (self.path.display().to_string(), active.then_some(content))
    }

    fn place(&self) -> (&Path, Option<&Path>) {
        (disk::parent(&self.path), Some(&self.path))
    }
}
