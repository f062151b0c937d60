//! Reads one segment from its beginning, over whatever is damaged in it. Knows nothing of other segments.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

use rustix::io::Errno;

use super::{
    Record,
    segment::{self, Decoded, HEADER_BYTES, Header, MARK, MIN_RECORD_BYTES, NoHeader, Segment},
};

/// Bytes asked of the file at once. Whoever follows the writer reads the room behind the newest record too.
const READ_BYTES: usize = 64 << 10;
/// What a disk fails to read at once.
const BLOCK_BYTES: u64 = 4096;

/// A place in a segment.
pub(super) struct Scan {
    segment: Segment,
    /// `None` when it cannot be opened; then the segment reads as empty.
    file: Option<File>,
    header: Result<Header, NoHeader>,
    /// Whether some of it could not be read at all, rather than being damaged for good.
    unreadable: bool,
    /// The number of the last record given out, or the one before the first.
    last: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    offset: u64,
    /// The place in the buffer.
    at: usize,
}

/// A record found.
pub(super) struct Found {
    /// The record.
    pub(super) record: Record,
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// How many bytes before it are no records.
    pub(super) skipped: u64,
}

impl Scan {
    /// Opens a segment and reads its header; `None` when the file is gone.
    ///
    /// # Errors
    /// When it cannot be opened or read for now. One that is likely unreadable for good reads as empty.
    pub(super) fn open(segment: Segment) -> io::Result<Option<Self>> {
        let (file, unreadable) = match File::open(&segment.path) {
            Ok(file) => (Some(file), false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_damage(&error) => (None, true),
            Err(error) => return Err(error),
        };
        let mut scan = Self {
            last: segment.first - 1,
            segment,
            file,
            header: Err(NoHeader::Damaged),
            unreadable,
            buffer: Vec::new(),
            offset: 0,
            at: 0,
        };
        scan.fill(HEADER_BYTES)?;
        scan.header = Header::decode(&scan.buffer, scan.segment.first);
        if scan.header.is_ok() {
            scan.at = HEADER_BYTES;
        }
        Ok(Some(scan))
    }

    /// The segment's file.
    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The segment's header.
    pub(super) fn header(&self) -> Result<Header, NoHeader> {
        self.header
    }

    /// Whether some of it could not be read at all, so far.
    pub(super) fn unreadable(&self) -> bool {
        self.unreadable
    }

    /// The last acknowledged number before this segment. Without a header it is taken to be all there were: what
    /// is acknowledged is never left out.
    pub(super) fn after(&self) -> u64 {
        self.header
            .map_or(self.segment.first - 1, |header| header.after)
    }

    /// The number of the last record given out, or the one before the first.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Behind the last record given out.
    pub(super) fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// How many bytes behind the last record given out may be of others: those up to the last that is not zero, or all
    /// when some cannot be read.
    pub(super) fn tail_bytes(&mut self) -> io::Result<u64> {
        let start = self.position();
        let mut end = start;
        loop {
            let ahead = &self.buffer[self.at..];
            if let Some(last) = ahead.iter().rposition(|&byte| byte != 0) {
                end = self.position() + last as u64 + 1;
            }
            self.at = self.buffer.len();
            if !self.fill(1)? {
                break;
            }
        }
        self.go_back(start);
        if self.unreadable {
            end = self.file_bytes();
        }
        Ok(end.saturating_sub(start))
    }

    /// The file's length, or more when even that cannot be read.
    pub(super) fn file_bytes(&self) -> u64 {
        fs::metadata(&self.segment.path).map_or(u32::MAX.into(), |metadata| metadata.len())
    }

    /// Forgets what was read ahead: the writer may have been in the midst of writing it.
    pub(super) fn forget_ahead(&mut self) {
        self.offset = self.position();
        self.buffer.clear();
        self.at = 0;
    }

    /// The next record, stepping over damage; `None` when there is none up to `limit` in the file now, and then the
    /// place stays as it is: the next call finds what was appended since.
    ///
    /// # Errors
    /// When the file cannot be read for now.
    pub(super) fn next(&mut self, limit: u64) -> io::Result<Option<Found>> {
        if self.last >= limit || matches!(self.header, Err(NoHeader::Version(_))) {
            return Ok(None);
        }
        let start = self.position();
        loop {
            let offset = self.position();
            if let Some((record, bytes)) = self.record_here()? {
                if record.seq > limit {
                    break;
                }
                self.last = record.seq;
                self.at += bytes;
                let skipped = offset - start;
                return Ok(Some(Found {
                    record,
                    offset,
                    skipped,
                }));
            }
            if !self.skip_to_mark()? {
                break;
            }
        }
        self.go_back(start);
        Ok(None)
    }

    fn record_here(&mut self) -> io::Result<Option<(Record, usize)>> {
        let mut bytes = MIN_RECORD_BYTES;
        while self.fill(bytes)? {
            match segment::decode(&self.buffer[self.at..]) {
                Decoded::Short(needed) => bytes = needed,
                Decoded::Record(record, bytes) if self.is_plausible(record.seq) => {
                    return Ok(Some((record, bytes)));
                }
                Decoded::Record(..) | Decoded::Damaged => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether the record here can have this number: they are consecutive, so no more fit before it than there is
    /// room for. A whole record with another number is a stale block of another file.
    fn is_plausible(&self, seq: u64) -> bool {
        seq > self.last && seq <= self.segment.first + self.position() / MIN_RECORD_BYTES as u64
    }

    /// Goes to the next byte that may begin a record; whether there is one.
    fn skip_to_mark(&mut self) -> io::Result<bool> {
        self.at = self.buffer.len().min(self.at + 1);
        loop {
            let ahead = &self.buffer[self.at..];
            if let Some(distance) = ahead.iter().position(|&byte| byte == MARK) {
                self.at += distance;
                return Ok(true);
            }
            self.at = self.buffer.len();
            if !self.fill(1)? {
                return Ok(false);
            }
        }
    }

    fn go_back(&mut self, position: u64) {
        let at = position.checked_sub(self.offset).map(usize::try_from);
        if let Some(Ok(at)) = at
            && at <= self.buffer.len()
        {
            self.at = at;
        } else {
            self.offset = position;
            self.buffer.clear();
            self.at = 0;
        }
    }

    /// Makes the buffer hold `bytes` from the place on; whether the file has so many.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        if self.buffer.len() - self.at >= bytes {
            return Ok(true);
        }
        self.buffer.drain(..self.at);
        self.offset += self.at as u64;
        self.at = 0;
        while self.buffer.len() < bytes {
            if self.read(READ_BYTES.max(bytes - self.buffer.len()))? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads up to `bytes` behind the buffer's end into it; 0 at the end of the file.
    fn read(&mut self, bytes: usize) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(0) };
        let held = self.buffer.len();
        let end = self.offset + held as u64;
        self.buffer.resize(held + bytes, 0);
        let result = match file.read_at(&mut self.buffer[held..], end) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.buffer.truncate(held);
                return self.read(bytes);
            }
            Err(error) if is_damage(&error) => {
                // a block that cannot be read reads as zeros, in which no record begins
                self.unreadable = true;
                self.buffer[held..].fill(0);
                file.metadata().map(|metadata| {
                    let block = BLOCK_BYTES - end % BLOCK_BYTES;
                    let left = metadata.len().saturating_sub(end);
                    usize::try_from(block.min(left)).unwrap_or(bytes).min(bytes)
                })
            }
            result => result,
        };
        self.buffer.truncate(held + *result.as_ref().unwrap_or(&0));
        result
    }
}

/// Whether an error will be the same next time.
fn is_damage(error: &io::Error) -> bool {
    // Not that it may not be read: then it is whole, and to go on without it would lose it.
    const LASTING: [Errno; 4] = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::ISDIR];
    Errno::from_io_error(error).is_some_and(|errno| LASTING.contains(&errno))
}
