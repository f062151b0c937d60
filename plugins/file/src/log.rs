//! `format = "jsonl"`: a change log, one document per line, that only grows until it is rotated.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    num::NonZeroU32,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use profilesync_target::{Delivery, Document};

use crate::{
    Writer,
    disk::{self, MODE, Trouble},
};

pub(crate) struct Log {
    path: PathBuf,
    rotation: Option<Rotation>,
    /// Whether the file's name is known to be.
    is_durable: AtomicBool,
}

/// When the log begins a new file, and how many old ones stay: `<path>.1` is the newest of them.
pub(crate) struct Rotation {
    /// A batch that would make the file larger begins a new one.
    pub(crate) bytes: u64,
    pub(crate) keep: NonZeroU32,
}

impl Log {
    pub(crate) fn new(path: PathBuf, rotation: Option<Rotation>) -> Self {
        Self {
            path,
            rotation,
            is_durable: AtomicBool::new(false),
        }
    }

    /// Opens the file for a batch of so many bytes, and tells its length.
    fn open(&self, bytes: u64) -> Result<(File, u64), Trouble> {
        let path = disk::resolve(&self.path);
        disk::create_folder(disk::parent(&path))?;
        let (file, length) = self.open_current(&path)?;
        match &self.rotation {
            Some(rotation) if length > 0 && length.saturating_add(bytes) > rotation.bytes => {
                drop(file);
                rotate(&path, rotation.keep)?;
                self.open_current(&path)
            }
            _ => Ok((file, length)),
        }
    }

    /// The file is opened for every batch, so that it may be moved or removed by others at any time.
    fn open_current(&self, path: &Path) -> Result<(File, u64), Trouble> {
        let is_new = !path.exists();
        if is_new {
            self.is_durable.store(false, Ordering::Relaxed);
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(MODE)
            .open(path)
            .map_err(Trouble::at("open", path))?;
        if is_new && self.rotation.is_some() {
            // Looked for here and not where it is rotated: a crash may have come in between.
            disk::keep_readers(&file, &numbered(path, 1)).map_err(Trouble::at("open", path))?;
        }
        if !self.is_durable.load(Ordering::Relaxed) {
            disk::sync_folder(disk::parent(path))?;
            self.is_durable.store(true, Ordering::Relaxed);
        }
        let length = file.metadata().map_err(Trouble::at("read", path))?.len();
        Ok((file, length))
    }
}

/// Renames `<path>` to `<path>.1`, `<path>.1` to `<path>.2` and so on; the last one is overwritten. A gap that
/// a crash left closes by itself.
fn rotate(path: &Path, keep: NonZeroU32) -> Result<(), Trouble> {
    for number in (0..keep.get()).rev() {
        let from = numbered(path, number);
        match fs::rename(&from, numbered(path, number + 1)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Trouble::at("rotate", &from)(error));
            }
            _ => (),
        }
    }
    disk::sync_folder(disk::parent(path))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    if number > 0 {
        path.push(format!(".{number}"));
    }
    path.into()
}

impl Writer for Log {
    fn write(&self, batch: &[Delivery]) -> Result<Vec<String>, Trouble> {
        let mut lines = Vec::new();
        for delivery in batch {
            lines.extend_from_slice(line(&delivery.document).as_bytes());
        }
        let (mut file, length) = self.open(lines.len() as u64)?;
        if length > 0 {
            let mut last = [0];
            file.read_exact_at(&mut last, length - 1)
                .map_err(Trouble::at("read", &self.path))?;
            if last != *b"\n" {
                // A crash or a full disk tore the last line: it ends here, and its document comes again.
                lines.insert(0, b'\n');
            }
        }
        file.write_all(&lines)
            .map_err(Trouble::at("write", &self.path))?;
        file.sync_data().map_err(Trouble::at("sync", &self.path))?;
        Ok(vec!["appended".into(); batch.len()])
    }

    fn render(&self, document: &Document) -> (String, Option<String>) {
        (self.path.display().to_string(), Some(line(document)))
    }

    fn place(&self) -> (&Path, Option<&Path>) {
        (disk::parent(&self.path), Some(&self.path))
    }
}

fn line(document: &Document) -> String {
    serde_json::to_string(document).expect("a document is JSON") + "\n"
}
