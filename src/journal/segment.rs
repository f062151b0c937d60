//! The format of a segment: file names, the header, records. Pure but for listing a folder.
//!
//! A segment is a header and records with consecutive sequence numbers. The byte 0xFF begins a record's marker and
//! is nowhere else: bodies and commands are UTF-8, and numbers are written in bytes of seven bits. So whoever looks
//! for the next record behind damage cannot be led astray by what a sender put into a body.
//!
//! ```text
//! header: magic 8 | version 3 | first 10 | after 10 | CRC-32C 5
//! record: marker 4 | length 4 | CRC-32C 5 | seq 10 | received 10 | app 10 | command length 3 | command | body
//! ```
//! A record's length and checksum are of everything after the checksum. Zeros behind the last record are room for more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{Entry, Record};

/// Begins every record.
const MARKER: [u8; 4] = [MARK, b'R', b'E', b'C'];
/// Occurs at the beginning of a record and nowhere else.
pub(super) const MARK: u8 = 0xFF;

const MAGIC: [u8; 8] = *b"PSYNCJNL";
const VERSION: u64 = 1;
/// Where the first record begins.
pub(super) const HEADER_BYTES: usize = 8 + 3 + 10 + 10 + 5;
/// Marker, length and checksum: what the checksum does not cover.
const PREFIX_BYTES: usize = 4 + 4 + 5;
/// The numbers at the beginning of what it covers.
const NUMBERS_BYTES: usize = 10 + 10 + 10 + 3;
/// No record is shorter.
pub(super) const MIN_RECORD_BYTES: usize = PREFIX_BYTES + NUMBERS_BYTES;
/// No body is longer. Above any `listener.max_body` that makes sense; keeps a damaged length from being believed.
pub(super) const MAX_BODY_BYTES: usize = 16 << 20;
const MAX_LENGTH: usize = NUMBERS_BYTES + u16::MAX as usize + MAX_BODY_BYTES;

/// Ends the name of a segment.
const SUFFIX: &str = ".journal";
/// Ends the name of a segment that has not been used yet.
pub(super) const UNUSED_SUFFIX: &str = ".journal.new";

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of its first record.
    pub(super) first: u64,
    /// The last acknowledged number before it. Records of earlier segments with higher numbers were written in
    /// vain: their sync failed.
    pub(super) after: u64,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// It is cut short or was changed.
    Damaged,
    /// It is whole and of a version this program does not know.
    Version(u64),
}

impl Header {
    /// Its bytes.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put::<3>(&mut bytes, VERSION);
        put::<10>(&mut bytes, self.first);
        put::<10>(&mut bytes, self.after);
        let checksum = crc32c::crc32c(&bytes);
        put::<5>(&mut bytes, checksum.into());
        bytes
    }

    /// Reads the header of the segment whose name says `first`.
    pub(super) fn decode(bytes: &[u8], first: u64) -> Result<Self, NoHeader> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(NoHeader::Damaged)?;
        let (covered, checksum) = bytes.split_at(HEADER_BYTES - 5);
        if get(checksum) != Some(crc32c::crc32c(covered).into()) || covered[..8] != MAGIC {
            return Err(NoHeader::Damaged);
        }
        let version = get(&covered[8..11]).ok_or(NoHeader::Damaged)?;
        if version != VERSION {
            return Err(NoHeader::Version(version));
        }
        match (get(&covered[11..21]), get(&covered[21..31])) {
            (Some(own), Some(after)) if own == first && after < first => Ok(Self { first, after }),
            _ => Err(NoHeader::Damaged),
        }
    }
}

/// Why an entry has no place in a segment.
pub(super) fn refusal(entry: &Entry) -> Option<String> {
    if entry.body.contains(&MARK) {
        return Some("its body is not UTF-8".into());
    }
    if entry.body.len() > MAX_BODY_BYTES {
        return Some(format!("its body is longer than {MAX_BODY_BYTES} bytes"));
    }
    if entry.command.len() > usize::from(u16::MAX) {
        return Some(format!("its command is longer than {} bytes", u16::MAX));
    }
    None
}

/// Appends a record to `out`. The entry must have passed [`refusal`].
pub(super) fn encode(out: &mut Vec<u8>, seq: u64, entry: &Entry) {
    let length = NUMBERS_BYTES + entry.command.len() + entry.body.len();
    out.extend_from_slice(&MARKER);
    put::<4>(out, length as u64);
    let checksum_at = out.len();
    put::<5>(out, 0);
    let covered_at = out.len();
    put::<10>(out, seq);
    put::<10>(out, entry.received);
    put::<10>(out, entry.app);
    put::<3>(out, entry.command.len() as u64);
    out.extend_from_slice(entry.command.as_bytes());
    out.extend_from_slice(&entry.body);
    let checksum = crc32c::crc32c(&out[covered_at..]);
    write(&mut out[checksum_at..covered_at], checksum.into());
}

/// What the bytes at some place of a segment are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A whole record, and how many bytes it takes.
    Record(Record, usize),
    /// The beginning of what may be a record, which takes so many bytes.
    Short(usize),
    /// No record.
    Damaged,
}

/// Reads the record at the beginning of `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    if bytes.len() < PREFIX_BYTES {
        return Decoded::Short(PREFIX_BYTES);
    }
    let (prefix, rest) = bytes.split_at(PREFIX_BYTES);
    let length = get(&prefix[4..8]).and_then(|length| usize::try_from(length).ok());
    let (Some(length), Some(checksum)) = (length, get(&prefix[8..])) else {
        return Decoded::Damaged;
    };
    if prefix[..4] != MARKER || !(NUMBERS_BYTES..=MAX_LENGTH).contains(&length) {
        return Decoded::Damaged;
    }
    let Some(covered) = rest.get(..length) else {
        return Decoded::Short(PREFIX_BYTES + length);
    };
    if checksum != u64::from(crc32c::crc32c(covered)) {
        return Decoded::Damaged;
    }
    covered_record(covered).map_or(Decoded::Damaged, |record| {
        Decoded::Record(record, PREFIX_BYTES + length)
    })
}

fn covered_record(covered: &[u8]) -> Option<Record> {
    let (numbers, text) = covered.split_at_checked(NUMBERS_BYTES)?;
    let command_bytes = usize::try_from(get(&numbers[30..])?).ok()?;
    let (command, body) = text.split_at_checked(command_bytes)?;
    Some(Record {
        seq: get(&numbers[..10])?,
        entry: Entry {
            received: get(&numbers[10..20])?,
            app: get(&numbers[20..30])?,
            command: str::from_utf8(command).ok()?.to_owned(),
            body: Bytes::copy_from_slice(body),
        },
    })
}

/// Appends a number in `WIDTH` bytes of seven bits, the lowest first.
fn put<const WIDTH: usize>(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; WIDTH];
    write(&mut bytes, value);
    out.extend_from_slice(&bytes);
}

fn write(bytes: &mut [u8], mut value: u64) {
    for byte in bytes {
        *byte = (value & 0x7F) as u8;
        value >>= 7;
    }
}

/// Reads a number; `None` when a byte has its eighth bit set.
fn get(bytes: &[u8]) -> Option<u64> {
    let mut value = 0;
    for &byte in bytes.iter().rev() {
        if byte > 0x7F {
            return None;
        }
        value = value << 7 | u64::from(byte);
    }
    Some(value)
}

/// A segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The number of its first record, by its name.
    pub(super) first: u64,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Segment {
    /// The segment that begins with `first`.
    pub(super) fn new(dir: &Path, first: u64) -> Self {
        let path = dir.join(format!("{first:020}{SUFFIX}"));
        Self { first, path }
    }

    /// Its name while it is being made.
    pub(super) fn unused_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        path.into()
    }
}

/// The first number by a segment's name; `None` for any other name. Numbers no journal lives to see are foreign
/// too: one such name would leave no numbers to go on with.
pub(super) fn first_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits
        .parse()
        .ok()
        .filter(|first| (1..1 << 62).contains(first))
}

/// The segments of a folder in order; none when there is no folder.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry?;
        let first = entry.file_name().to_str().and_then(first_of_name);
        if let Some(first) = first
            && entry.file_type()?.is_file()
        {
            segments.push(Segment::new(dir, first));
        }
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (any::<u64>(), any::<u64>(), ".{0,20}", ".{0,200}").prop_map(
            |(received, app, command, body)| Entry {
                received,
                app,
                command,
                body: body.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_holds_one_mark(seq: u64, entry in entry()) {
            let mut bytes = Vec::new();
            encode(&mut bytes, seq, &entry);
            prop_assert_eq!(bytes.iter().filter(|&&byte| byte == MARK).count(), 1);
            prop_assert!(bytes.len() >= MIN_RECORD_BYTES);
            let whole = bytes.len();
            bytes.extend_from_slice(b"whatever follows");
            prop_assert_eq!(decode(&bytes), Decoded::Record(Record { seq, entry }, whole));
        }

        #[test]
        fn a_header_reads_back(after in 0..1_u64 << 61, gap in 1..1_u64 << 60) {
            let header = Header { first: after + gap, after };
            let bytes = header.encode();
            prop_assert_eq!(bytes.len(), HEADER_BYTES);
            prop_assert_eq!(Header::decode(&bytes, header.first), Ok(header));
            prop_assert_eq!(Header::decode(&bytes, header.first + 1), Err(NoHeader::Damaged));
        }

        #[test]
        fn any_bytes_decode_to_something(bytes: Vec<u8>) {
            decode(&bytes);
            let mut marked = MARKER.to_vec();
            marked.extend(bytes);
            decode(&marked);
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = MAGIC.to_vec();
        put::<3>(&mut bytes, VERSION + 1);
        bytes.extend_from_slice(&[0; 20]);
        let checksum = crc32c::crc32c(&bytes);
        put::<5>(&mut bytes, checksum.into());
        assert_eq!(Header::decode(&bytes, 1), Err(NoHeader::Version(2)));
    }

    #[test]
    fn names_are_twenty_digits() {
        let check = |name: &str, expected: Option<u64>| assert_eq!(first_of_name(name), expected);
        check("00000000000000000042.journal", Some(42));
        check("00000000000000000000.journal", None);
        check("18446744073709551615.journal", None);
        check("42.journal", None);
        check("+0000000000000000042.journal", None);
        check("00000000000000000042.journal.new", None);
        check("damaged-00000000000000000042.journal", None);
        let segment = Segment::new(Path::new("/j"), 42);
        let unused = segment.unused_path();
        assert!(unused.to_str().unwrap().ends_with(UNUSED_SUFFIX));
        let name = segment.path.file_name().and_then(|name| name.to_str());
        assert_eq!(name.and_then(first_of_name), Some(42));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let entry = |command: &str, body: &'static [u8]| Entry {
            received: 0,
            app: 0,
            command: command.into(),
            body: Bytes::from_static(body),
        };
        assert_eq!(refusal(&entry("x", b"{}")), None);
        assert!(refusal(&entry("x", b"{\xFF}")).is_some());
        assert!(refusal(&entry(&"x".repeat(65_536), b"{}")).is_some());
    }
}
