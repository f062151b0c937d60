//! `format = "csv"` and `"json-array"`: one file of all accounts, sorted by app and account, replaced as a whole.
//!
//! Each batch is merged with the old file while both are read in order, so memory is bounded by the batch.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use profilesync_target::{Delivery, Document, Status};

use crate::{
    Writer,
    disk::{self, Replacement, Trouble},
    merge::{Change, Key, Merged, Row, Unreadable, merge},
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
    /// The target's name.
    target: String,
    clean: AtomicBool,
    /// Whether a snapshot is known to have been written.
    begun: AtomicBool,
}

impl<F: Form> Snapshot<F> {
    pub(crate) fn new(path: PathBuf, form: F, target: &str) -> Self {
        Self {
            path,
            form,
            target: target.to_owned(),
            clean: AtomicBool::new(false),
            begun: AtomicBool::new(false),
        }
    }

    /// Marks the temporary files of this target: another snapshot may be in the same folder, and even at the same path. No
    /// target's name holds a dot.
    fn prefix(&self, path: &Path) -> String {
        format!(".{}.{}-", name(path), self.target)
    }

    fn prepare(&self, path: &Path) -> Result<(), Trouble> {
        let folder = disk::parent(path);
        disk::create_folder(folder)?;
        if !self.clean.swap(true, Ordering::Relaxed) {
            disk::remove_leftovers(folder, &self.prefix(path))?;
        }
        Ok(())
    }

    /// The snapshot as it is; `None` begins one. What is gone is not begun anew: a snapshot of the few accounts at hand
    /// would look like all of them. An empty file is how an operator says to do so, and how one may be made ready.
    fn old(&self, path: &Path) -> Result<Option<File>, Trouble> {
        let Some(old) = disk::open(path)? else {
            if self.begun.load(Ordering::Relaxed) || marker(path).exists() {
                return Err(self.anew(path, "is gone"));
            }
            return Ok(None);
        };
        let metadata = old.metadata().map_err(Trouble::at("read", path))?;
        Ok((metadata.len() > 0).then_some(old))
    }

    /// Leaves a sign, once, that there is a snapshot: a restart must not forget it.
    fn mark(&self, path: &Path) -> Result<(), Trouble> {
        let marker = marker(path);
        if !self.begun.load(Ordering::Relaxed) && !marker.exists() {
            let text = "profilesync wrote a snapshot beside this file, and does not begin it anew by itself when it is gone.\n";
            fs::write(&marker, text).map_err(Trouble::at("write", &marker))?;
            disk::sync_folder(disk::parent(path))?;
        }
        self.begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn anew(&self, path: &Path, what: &str) -> Trouble {
        let (path, target) = (path.display(), &self.target);
        Trouble::new(format!(
            "{path} {what}, and a new one would hold only the accounts that change from now on: make it an empty file \
             (truncate -s 0 {path}), then write all accounts again: profilesync targets backfill {target}"
        ))
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

    /// Writes old rows and changes into the replacement.
    fn merge_into(
        &self,
        new: &File,
        old: Option<File>,
        changes: BTreeMap<Key, Change<F::Content>>,
    ) -> Result<Merged, Failure> {
        let mut sink = self.form.begin(BufWriter::with_capacity(BUFFER, new))?;
        let first = old.is_none();
        let rows = old.into_iter().flat_map(|old| self.form.rows(old));
        let mut merged = merge(rows, changes, |row| sink.row(row).map_err(Failure::Write))?;
        sink.end()?;
        merged.changed |= first;
        Ok(merged)
    }

    fn trouble(&self, path: &Path, failure: Failure) -> Trouble {
        match failure {
            Failure::Write(error) => Trouble::at("write", path)(error),
            Failure::Read(Unreadable::Io(error)) => Trouble::at("read", path)(error),
            Failure::Read(Unreadable::Damaged(how)) => {
                self.anew(path, &format!("is not what was written there ({how})"))
            }
        }
    }
}

fn name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Tells that there was a snapshot.
fn marker(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.profilesync", name(path)))
}

/// What became of a document.
fn answer(document: &Document, merged: &Merged) -> String {
    let key = (document.sdk_app_id, document.account.clone());
    match merged.higher.get(&key) {
        Some(revision) => format!("the file holds revision {revision} already"),
        None if document.status == Status::Destroyed => "removed".into(),
        None if merged.changed => "written".into(),
        None => "the file holds it already".into(),
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
        let path = disk::resolve(&self.path);
        self.prepare(&path)?;
        let old = self.old(&path)?;
        let new = Replacement::new(&path, &self.prefix(&path))?;
        let merged = self
            .merge_into(new.file(), old, self.changes(batch))
            .map_err(|failure| self.trouble(&path, failure))?;
        if merged.changed {
            new.sync()?;
            new.place()?;
        }
        // Also of what an attempt that was cut off has put there.
        disk::sync_folder(disk::parent(&path))?;
        self.mark(&path)?;
        let answers = batch
            .iter()
            .map(|delivery| answer(&delivery.document, &merged));
        Ok(answers.collect())
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
