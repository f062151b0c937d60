//! The whole store state as one file: what the index is rebuilt from, and what a backup is.
//!
//! A snapshot is read from an index that goes on changing, so it is no state the index ever had. It is right all
//! the same: it claims the sequence number that was applied when it began, the journal is replayed from there,
//! and merging an event twice changes nothing. The order of the tables does the rest: a target's cursor is never
//! newer than its deliveries, a delivery is never newer than its account, and an account never newer than its history.
//!
//! Format, little-endian: the magic, the sequence number; blocks of `length u32, CRC-32C u32, entries`, each entry
//! `key length u32, value length u32, key, value`; an empty block; the number of entries.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write as _},
    ops::ControlFlow,
    path::Path,
};

use crate::{
    durable,
    store::{index::Index, keys::Table},
};

const MAGIC: &[u8; 8] = b"PSSNAP1\n";
const BLOCK_BYTES: usize = 256 << 10;
/// A snapshot leaves so much of the disk to the journal and the index.
pub(super) const RESERVE_BYTES: u64 = 16 << 20;

/// What is in a snapshot. The other tables are derived from these.
const TABLES: [Table; 4] = [
    Table::Target,
    Table::Delivery,
    Table::Account,
    Table::History,
];

/// Writes a snapshot to `path`, atomically and durably. `applied` must have been applied before the call.
pub(crate) fn write(index: &dyn Index, applied: u64, path: &Path) -> io::Result<()> {
    durable::replace(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(MAGIC)?;
        out.write_all(&applied.to_le_bytes())?;
        let mut block = Vec::with_capacity(BLOCK_BYTES * 2);
        let mut entries = 0_u64;
        for table in TABLES {
            let mut failed = None;
            let (from, to) = table.range();
            let scanned = index.scan(&from, &to, &mut |key, value| {
                push_entry(&mut block, key, value);
                entries += 1;
                if block.len() >= BLOCK_BYTES {
                    let room = durable::leave(RESERVE_BYTES, path);
                    failed = room.and_then(|()| write_block(&mut out, &mut block)).err();
                }
                if failed.is_some() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            scanned.map_err(io::Error::other)?;
            failed.map_or(Ok(()), Err)?;
        }
        if !block.is_empty() {
            write_block(&mut out, &mut block)?;
        }
        write_block(&mut out, &mut Vec::new())?;
        out.write_all(&entries.to_le_bytes())?;
        out.flush()
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "keys and values are far below 4 GiB"
)]
fn push_entry(block: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    block.extend_from_slice(&(key.len() as u32).to_le_bytes());
    block.extend_from_slice(&(value.len() as u32).to_le_bytes());
    block.extend_from_slice(key);
    block.extend_from_slice(value);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a block is a little over BLOCK_BYTES"
)]
fn write_block(out: &mut impl io::Write, block: &mut Vec<u8>) -> io::Result<()> {
    out.write_all(&(block.len() as u32).to_le_bytes())?;
    out.write_all(&crc32c::crc32c(block).to_le_bytes())?;
    out.write_all(block)?;
    block.clear();
    Ok(())
}

/// A snapshot being read.
pub(crate) struct Snapshot {
    input: BufReader<File>,
    /// Of the file: no block is longer.
    bytes: u64,
    /// Everything up to this sequence number is in it.
    pub(crate) applied: u64,
    entries: u64,
    at_end: bool,
}

impl Snapshot {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut input = BufReader::with_capacity(BLOCK_BYTES, file);
        match read::<8>(&mut input) {
            Ok(magic) if &magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => return Err(damaged("it is no snapshot of this version")),
        }
        let applied = u64::from_le_bytes(read(&mut input)?);
        Ok(Self {
            input,
            bytes,
            applied,
            entries: 0,
            at_end: false,
        })
    }

    /// The entries of the next block; none after the last, when the snapshot proved whole.
    pub(crate) fn next_block(&mut self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.at_end {
            return Ok(Vec::new());
        }
        let length = u32::from_le_bytes(read(&mut self.input)?);
        let crc = u32::from_le_bytes(read(&mut self.input)?);
        if u64::from(length) > self.bytes {
            return Err(damaged("a length is impossible"));
        }
        let mut block = vec![0; length as usize];
        self.input.read_exact(&mut block)?;
        if crc32c::crc32c(&block) != crc {
            return Err(damaged("a checksum is wrong"));
        }
        let entries = split(&block).ok_or_else(|| damaged("an entry is cut"))?;
        self.entries += entries.len() as u64;
        self.at_end = length == 0;
        if self.at_end && u64::from_le_bytes(read(&mut self.input)?) != self.entries {
            return Err(damaged("entries are missing"));
        }
        Ok(entries)
    }
}

fn split(mut block: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut entries = Vec::new();
    while !block.is_empty() {
        let (key_length, rest) = block.split_first_chunk::<4>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
        entries.push((key.to_vec(), value.to_vec()));
        block = rest;
    }
    Some(entries)
}

fn read<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the snapshot is damaged: {what}"),
    )
}
