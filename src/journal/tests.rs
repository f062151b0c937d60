//! The journal as a whole, in a folder of its own: what is acknowledged is read, whatever the disk does.

mod damage;
mod model;
mod running;

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use tokio::time::timeout;

use super::{
    Entry, Journal, Opened, Options, Reader, Record, SEGMENT_BYTES,
    faults::Faults,
    scan::Scan,
    segment::{self, Segment},
};
use crate::metrics::Metrics;

/// Longer than anything here takes on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 0,
        floor: 0,
        gap: 0,
        metrics: Metrics::new(),
    }
}

fn open(dir: &Path) -> (Journal, Opened) {
    Journal::open(options(dir)).unwrap()
}

fn entry(body: &str) -> Entry {
    Entry {
        received: 1_700_000_000_000,
        app: 1_400_000_000,
        command: "OfficialAccount.CallbackAfterOfficialAccountInfoChanged".into(),
        body: body.to_owned().into(),
    }
}

/// Appends bodies one after another; their numbers.
async fn append(journal: &Journal, bodies: &[&str]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for body in bodies {
        numbers.push(journal.append(entry(body)).await.unwrap());
    }
    numbers
}

/// A closed journal with these bodies, one segment each or all in one.
async fn filled(segment_bytes: u64, bodies: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes,
        ..options(dir.path())
    };
    let (journal, _) = Journal::open(options).unwrap();
    append(&journal, bodies).await;
    journal.stop().await;
    dir
}

/// Reads everything that is synced, and how many records were missed.
fn read_all(dir: &Path, synced: u64) -> (Vec<(u64, String)>, u64) {
    let metrics = Metrics::new();
    let mut reader = Reader::open(dir, 0, metrics.clone()).unwrap();
    let records = read_on(&mut reader, synced);
    (records, metrics.journal_damaged.get())
}

fn read_on(reader: &mut Reader, synced: u64) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    loop {
        let records = reader.read(synced, 7).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records.into_iter().map(brief));
    }
}

fn brief(record: Record) -> (u64, String) {
    assert_eq!(record.entry.app, 1_400_000_000);
    let body = String::from_utf8(record.entry.body.into()).unwrap();
    (record.seq, body)
}

fn numbered(records: &[(u64, &str)]) -> Vec<(u64, String)> {
    let own = |&(seq, body): &(u64, &str)| (seq, body.to_owned());
    records.iter().map(own).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn until_well(journal: &Journal) {
    let mut health = journal.health();
    let well = health.wait_for(Result::is_ok);
    timeout(PATIENCE, well).await.unwrap().unwrap();
}
