//! The segment being written, and the folder's own durability. After an error a file is never written to again:
//! what a failed sync leaves on the disk is unknown, and a second sync would say that all is well.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::{
    faults::Faults,
    segment::{HEADER_BYTES, Header, Segment},
};
use crate::durable::sync_parent;

/// A segment that takes records.
pub(super) struct SegmentFile {
    segment: Segment,
    file: File,
    bytes: u64,
    faults: Faults,
}

impl SegmentFile {
    /// Makes a segment, durably. Under its name it appears with its whole header or not at all; a file left by a
    /// failure is removed.
    pub(super) fn create(dir: &Path, header: Header, faults: &Faults) -> io::Result<Self> {
        let segment = Segment::new(dir, header.first);
        let unused = segment.unused_path();
        // no record is in what is removed; if it stays, the next start removes it or finds it empty
        let file = write_header(&unused, header, faults)
            .and_then(|file| fs::rename(&unused, &segment.path).map(|()| file))
            .inspect_err(|_| _ = fs::remove_file(&unused))?;
        faults
            .on_dir_sync()
            .and_then(|()| sync_parent(&segment.path))
            .inspect_err(|_| _ = fs::remove_file(&segment.path))?;
        Ok(Self {
            segment,
            file,
            bytes: HEADER_BYTES as u64,
            faults: faults.clone(),
        })
    }

    /// The number of its first record.
    pub(super) fn first(&self) -> u64 {
        self.segment.first
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.segment.path
    }

    /// Whether nothing was written behind its header.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == HEADER_BYTES as u64
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes and syncs.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.faults.on_write(&mut self.file, records)?;
        self.file.write_all(records)?;
        self.faults.on_sync()?;
        self.file.sync_data()?;
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Removes the file, in which nothing is acknowledged. If it stays, readers step over its records all the same.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.segment.path);
    }
}

fn write_header(path: &Path, header: Header, faults: &Faults) -> io::Result<File> {
    faults.on_create()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&header.encode())?;
    file.sync_all()?;
    Ok(file)
}

/// Makes a folder and those above it, durably.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dir(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_parent(dir)
}
