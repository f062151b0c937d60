//! The segment being written, and the folder's own durability. After an error a file is never written to again:
//! what a failed sync leaves on the disk is unknown, and a second sync would say that all is well.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::{
    faults::Faults,
    segment::{HEADER_BYTES, Header, Segment},
};
use crate::durable::sync_parent;

/// The file is made longer by so much at a time. A sync that has no new length to write costs little more than half.
const ROOM_BYTES: u64 = 256 << 10;

/// A segment that takes records.
pub(super) struct SegmentFile {
    segment: Segment,
    file: File,
    /// Where the next record goes.
    bytes: u64,
    /// How long the file is: behind the records it holds zeros.
    length: u64,
    /// It is not made longer than this for records to come.
    most: u64,
    faults: Faults,
}

impl SegmentFile {
    /// Makes a segment, durably. Under its name it appears with its whole header or not at all; a file left by a
    /// failure is removed. Room for records is made up to a length of `most` bytes.
    pub(super) fn create(
        dir: &Path,
        header: Header,
        most: u64,
        faults: &Faults,
    ) -> io::Result<Self> {
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
            length: HEADER_BYTES as u64,
            most,
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

    /// How much of it is written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes and syncs; where the file becomes longer, with room for more, for which `records` is used.
    pub(super) fn append(&mut self, records: &mut Vec<u8>) -> io::Result<()> {
        let end = self.bytes + records.len() as u64;
        if self.length < end {
            self.length = self.most.min(end + ROOM_BYTES).max(end);
            let room = usize::try_from(self.length - end).expect("it is at most ROOM_BYTES");
            records.resize(records.len() + room, 0);
        }
        self.faults.on_write(&self.file, records, self.bytes)?;
        self.file.write_all_at(records, self.bytes)?;
        self.faults.on_sync()?;
        self.file.sync_data()?;
        self.bytes = end;
        Ok(())
    }

    /// Gives the room back; where that fails, the next start does it.
    pub(super) fn close(self) {
        let _ = self.file.set_len(self.bytes);
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
