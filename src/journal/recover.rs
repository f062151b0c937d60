//! What a start finds in the journal's folder, and how it goes on. Looks into the newest segment only, so that it is
//! quick however much there is; only what keeps the folder itself from being read is an error.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use tracing::warn;

use super::{
    file,
    scan::Scan,
    segment::{self, MIN_RECORD_BYTES, NoHeader, Segment, UNUSED_SUFFIX},
};

/// Begins the names of files set aside.
const ASIDE_PREFIX: &str = "damaged-";

/// Where the journal goes on.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The last number of what is kept: acknowledged, or whole and now synced.
    pub(super) last: u64,
    /// The number to go on with; higher than any that was ever in use.
    pub(super) next: u64,
    /// What was wrong, in words.
    pub(super) damage: Vec<String>,
}

impl Recovered {
    fn report(&mut self, segment: &Segment, what: &str) {
        let name = name_of(&segment.path);
        warn!(segment = name, "{what}");
        self.damage.push(format!("{name}: {what}"));
    }

    fn use_up_to(&mut self, seq: u64) {
        self.next = self.next.max(seq.saturating_add(1));
    }
}

/// Finds the place to go on, cuts a torn tail, and sets aside what cannot be a segment. Nothing with a number up to
/// `floor` is given out again.
pub(super) fn recover(dir: &Path, floor: u64) -> io::Result<Recovered> {
    let mut recovered = Recovered {
        last: floor,
        next: floor.saturating_add(1),
        damage: Vec::new(),
    };
    file::make_dir(dir)?;
    tidy(dir, &mut recovered)?;
    for segment in segment::list(dir)?.into_iter().rev() {
        recovered.use_up_to(segment.first - 1);
        if examine(segment, &mut recovered)? {
            break;
        }
    }
    Ok(recovered)
}

/// Removes segments that were never used, and sets aside what has a segment's name but is no file.
fn tidy(dir: &Path, recovered: &mut Recovered) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with(ASIDE_PREFIX) {
            continue;
        }
        let Some(first) = segment::first_of_name(&name) else {
            if !name.ends_with(UNUSED_SUFFIX) || fs::remove_file(&path).is_err() {
                let segment = Segment { first: 0, path };
                recovered.report(
                    &segment,
                    "does not belong in the journal's folder, left alone",
                );
            }
            continue;
        };
        if !entry.file_type()?.is_file() {
            set_aside(&Segment { first, path }, "is no file", recovered);
        }
    }
    Ok(())
}

/// Looks into what seems to be the newest segment; whether it is one.
fn examine(segment: Segment, recovered: &mut Recovered) -> io::Result<bool> {
    let Some(mut scan) = Scan::open(segment.clone())? else {
        return Ok(false);
    };
    while let Some(found) = scan.next(u64::MAX)? {
        let (from, bytes) = (found.offset - found.skipped, found.skipped);
        let is_behind_header = from > 0;
        if bytes > 0 && is_behind_header {
            let what = format!("damaged at offset {from}: {bytes} bytes stepped over");
            recovered.report(&segment, &what);
        }
    }
    let tail = scan.tail_bytes()?;
    // each record behind the last whole one had a number, and none of them is given out again
    let used = scan.last() + tail.div_ceil(MIN_RECORD_BYTES as u64);
    let is_empty = scan.last() < segment.first;
    recovered.use_up_to(used);
    match scan.header() {
        _ if scan.unreadable() => {
            recovered.last = recovered.last.max(used);
            recovered.report(&segment, "cannot be read in part or at all, left alone");
        }
        Err(NoHeader::Version(version)) => {
            recovered.last = recovered.last.max(used);
            let what = format!("written by a newer program (version {version}), left alone");
            recovered.report(&segment, &what);
        }
        Err(NoHeader::Damaged) if is_empty => {
            set_aside(&segment, "holds neither a header nor a record", recovered);
            return Ok(false);
        }
        Ok(header) if is_empty => {
            // the segment to come says the same; it gets another name, so that no reader mistakes one for the other
            recovered.last = recovered.last.max(header.after);
            recovered.use_up_to(segment.first);
            if tail > 0 {
                recovered.report(&segment, "removed: holds no whole record");
            }
            let _ = fs::remove_file(&segment.path);
        }
        header => {
            recovered.last = recovered.last.max(scan.last());
            if header.is_err() {
                recovered.report(&segment, "the header is damaged");
            }
            settle(&scan, tail, recovered);
        }
    }
    Ok(true)
}

/// Cuts the room and the torn tail in it, and syncs what stays. A failure is reported, no more: readers stop at the last
/// whole record even when the tail stays, because the next segment says so.
fn settle(scan: &Scan, tail: u64, recovered: &mut Recovered) {
    let (segment, end) = (scan.segment(), scan.position());
    let settled = File::options()
        .write(true)
        .open(&segment.path)
        .and_then(|file| {
            if scan.file_bytes() > end {
                file.set_len(end)?;
            }
            file.sync_all()
        });
    match settled {
        Err(error) => recovered.report(segment, &format!("cannot be cut and synced: {error}")),
        Ok(()) if tail > 0 => {
            let what = format!("cut at offset {end}: {tail} bytes behind it are no whole record");
            recovered.report(segment, &what);
        }
        Ok(()) => {}
    }
}

fn set_aside(segment: &Segment, why: &str, recovered: &mut Recovered) {
    let aside = format!("{ASIDE_PREFIX}{}", name_of(&segment.path));
    // it may have held at least this record; and if it stays, its name is taken
    recovered.use_up_to(segment.first);
    let what = match fs::rename(&segment.path, segment.path.with_file_name(&aside)) {
        Ok(()) => format!("{why}, set aside as {aside}"),
        Err(error) => format!("{why}, and cannot be set aside: {error}"),
    };
    recovered.report(segment, &what);
}

/// A file's name, for people.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
