//! Reads the journal in order, over all segments, behind a writer or without one.
//!
//! What is given out depends on the files alone: a reader that follows the writer and one that begins later see the
//! same records. What is missing is noticed by the numbers, reported once, and stepped over.

use std::{
    io,
    path::{Path, PathBuf},
};

use tracing::error;

use super::{
    Record,
    recover::name_of,
    scan::{Found, Scan},
    segment::{self, NoHeader, Segment},
};
use crate::metrics::Metrics;

/// Bodies given out at once, bytes, give or take one.
const READ_BYTES: usize = 8 << 20;

/// A place in the journal.
pub struct Reader {
    dir: PathBuf,
    metrics: Metrics,
    /// Everything up to this number was given out, reported as missing, or never acknowledged.
    after: u64,
    current: Option<Current>,
}

/// The segment being read.
struct Current {
    scan: Scan,
    /// The one behind it; while there is none, the writer may append to this one.
    next: Option<Scan>,
}

impl Reader {
    /// Begins behind the record `after`. An empty or missing folder is no error: segments may yet appear.
    ///
    /// # Errors
    /// When the folder or the segment to begin with cannot be read for now.
    pub fn open(dir: &Path, after: u64, metrics: Metrics) -> io::Result<Self> {
        let mut reader = Self {
            dir: dir.to_owned(),
            metrics,
            after,
            current: None,
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// The number before the oldest record that is there: what was before it is gone, or never was.
    ///
    /// # Errors
    /// When the folder or its first segment cannot be read.
    pub fn oldest(dir: &Path) -> io::Result<u64> {
        let oldest = first_of(segment::list(dir)?)?;
        Ok(oldest.map_or(0, |scan| scan.after()))
    }

    /// The next records up to number `until`, at most `max` of them and not much more than 8 MiB; empty only when there
    /// are no more. Damage is logged, counted and stepped over. Beside a writer `until` must be synced; without one it
    /// may be anything.
    ///
    /// # Errors
    /// When files cannot be read for now. The place is kept.
    pub fn read(&mut self, until: u64, max: usize) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut is_fresh = false;
        while self.after < until && records.len() < max && bytes < READ_BYTES {
            if !is_fresh {
                self.refresh()?;
                is_fresh = true;
            }
            let Some(current) = &mut self.current else {
                break;
            };
            let sealed_at = current.next.as_ref().map(Scan::after);
            let limit = sealed_at.map_or(until, |sealed_at| sealed_at.min(until));
            let found = if self.after < limit {
                current.scan.next(limit)?
            } else {
                None
            };
            match found {
                Some(found) => {
                    let record = self.pass(found);
                    bytes += record.as_ref().map_or(0, |record| record.entry.body.len());
                    records.extend(record);
                }
                None if sealed_at.is_none_or(|sealed_at| sealed_at > until) => break,
                None => {
                    self.leave();
                    is_fresh = false;
                }
            }
        }
        Ok(records)
    }

    /// Finds the segment to read and the one behind it. A segment with a successor does not change any more.
    fn refresh(&mut self) -> io::Result<()> {
        if self.current.is_none() {
            let mut segments = segment::list(&self.dir)?;
            let begun =
                segments.partition_point(|segment| segment.first <= self.after.saturating_add(1));
            segments.drain(..begun.saturating_sub(1));
            if let Some(scan) = first_of(segments)? {
                self.enter(scan);
            }
        }
        if let Some(current) = &mut self.current
            && current.next.is_none()
        {
            current.scan.forget_ahead();
            let mut segments = segment::list(&self.dir)?;
            segments.retain(|segment| segment.first > current.scan.segment().first);
            current.next = first_of(segments)?;
        }
        Ok(())
    }

    fn enter(&mut self, mut scan: Scan) {
        scan.forget_ahead();
        let segment = name_of(&scan.segment().path);
        match scan.header() {
            Ok(_) => {}
            Err(NoHeader::Version(version)) => {
                error!(segment, version, "journal segment of a newer program");
            }
            Err(NoHeader::Damaged) => error!(segment, "journal segment without a readable header"),
        }
        if scan.after() > self.after {
            let missing = scan.after() - self.after;
            error!(before = segment, missing, "journal records are missing");
            self.metrics.journal_damaged.inc_by(missing);
        }
        self.after = self.after.max(scan.segment().first - 1);
        self.current = Some(Current { scan, next: None });
    }

    fn leave(&mut self) {
        if let Some(next) = self.current.take().and_then(|current| current.next) {
            self.enter(next);
        }
    }

    /// Goes behind a record; `None` when it was given out before.
    fn pass(&mut self, found: Found) -> Option<Record> {
        let seq = found.record.seq;
        let missing = seq.checked_sub(self.after)?.checked_sub(1)?;
        if missing > 0 || found.skipped > 0 {
            let current = self.current.as_ref()?;
            let segment = name_of(&current.scan.segment().path);
            let (offset, bytes) = (found.offset - found.skipped, found.skipped);
            error!(
                segment,
                offset, bytes, missing, "damaged journal records stepped over"
            );
            self.metrics.journal_damaged.inc_by(missing);
        }
        self.after = seq;
        Some(found.record)
    }
}

/// Opens the first of the segments that is not gone meanwhile.
fn first_of(segments: Vec<Segment>) -> io::Result<Option<Scan>> {
    for segment in segments {
        if let Some(scan) = Scan::open(segment)? {
            return Ok(Some(scan));
        }
    }
    Ok(None)
}
