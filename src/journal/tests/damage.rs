//! Files cut, changed, emptied and gone.

use std::{
    fs::{self, File},
    path::Path,
};

use super::{
    Journal, Options, Scan, Segment, append, filled, names, numbered, open, options, read_all,
    segment,
};

const BODIES: [&str; 4] = [
    r#"{"a":1}"#,
    "{}",
    r#"{"long":"üüüüüüüüüüüüüüüüüüüüüü"}"#,
    r#"{"d":4}"#,
];

/// Where each record of a segment begins, and its end.
fn bounds(bytes: &[u8]) -> Vec<usize> {
    let marks = bytes.iter().enumerate();
    let mut bounds: Vec<_> = marks
        .filter(|&(_, &byte)| byte == segment::MARK)
        .map(|(at, _)| at)
        .collect();
    bounds.push(bytes.len());
    bounds
}

#[tokio::test]
async fn a_tail_torn_anywhere_is_cut() {
    let dir = filled(u64::MAX, &BODIES).await;
    let path = Segment::new(dir.path(), 1).path;
    let whole = fs::read(&path).unwrap();
    let bounds = bounds(&whole);
    // With the room for more behind it, and without.
    for (length, room) in (0..=whole.len()).flat_map(|length| [(length, 0), (length, 5000)]) {
        for name in names(dir.path()) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        let torn = [&whole[..length], &vec![0; room]].concat();
        fs::write(&path, torn).unwrap();
        let kept = bounds[1..].partition_point(|&end| end <= length);
        let (journal, opened) = open(dir.path());
        assert_eq!(opened.last_seq, kept as u64, "{length} bytes");
        assert_eq!(opened.damage.is_empty(), bounds.contains(&length));
        let next = append(&journal, &["{}"]).await[0];
        assert!(next > opened.last_seq);
        journal.stop().await;
        let mut expected: Vec<_> = (1..).zip(BODIES).take(kept).collect();
        expected.push((next, "{}"));
        let (read, missed) = read_all(dir.path(), next);
        assert_eq!((read, missed), (numbered(&expected), 0), "{length} bytes");
    }
}

#[tokio::test]
async fn a_changed_byte_costs_one_record_at_most() {
    let dir = filled(u64::MAX, &BODIES).await;
    let path = Segment::new(dir.path(), 1).path;
    let whole = fs::read(&path).unwrap();
    let bounds = bounds(&whole);
    let all: Vec<_> = (1..).zip(BODIES).collect();
    for (at, change) in (0..whole.len()).flat_map(|at| [0x01, 0x80, 0xFF].map(|by| (at, by))) {
        let mut changed = whole.clone();
        changed[at] ^= change;
        fs::write(&path, &changed).unwrap();
        let hit = bounds.partition_point(|&begin| begin <= at) as u64;
        let mut expected = all.clone();
        expected.retain(|&(seq, _)| seq != hit);
        let (read, missed) = read_all(dir.path(), 4);
        assert_eq!(read, numbered(&expected), "byte {at}");
        let noticed = hit > 0 && hit < 4;
        assert_eq!(missed, u64::from(noticed), "byte {at}");
    }
}

#[tokio::test]
async fn a_journal_with_a_changed_byte_goes_on() {
    let dir = filled(u64::MAX, &BODIES).await;
    let path = Segment::new(dir.path(), 1).path;
    let whole = fs::read(&path).unwrap();
    let bounds = bounds(&whole);
    for at in 0..whole.len() {
        for name in names(dir.path()) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        let mut changed = whole.clone();
        changed[at] ^= 0xFF;
        fs::write(&path, &changed).unwrap();
        let (journal, opened) = open(dir.path());
        assert_eq!(opened.damage.len(), 1, "byte {at}: {:?}", opened.damage);
        let next = append(&journal, &["{}"]).await[0];
        assert!(next > 4, "byte {at}: {next}");
        journal.stop().await;
        let hit = bounds.partition_point(|&begin| begin <= at) as u64;
        let mut expected: Vec<_> = (1..).zip(BODIES).collect();
        expected.push((next, "{}"));
        expected.retain(|&(seq, _)| seq != hit);
        assert_eq!(
            read_all(dir.path(), next).0,
            numbered(&expected),
            "byte {at}"
        );
    }
}

fn delete(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn empty(path: &Path) {
    File::create(path).unwrap();
}

fn cut(path: &Path) {
    let half = fs::metadata(path).unwrap().len() / 2;
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(half)
        .unwrap();
}

fn zero(path: &Path) {
    let length = fs::read(path).unwrap().len();
    fs::write(path, vec![0; length]).unwrap();
}

fn ones(path: &Path) {
    let length = fs::read(path).unwrap().len();
    fs::write(path, vec![0xFF; length * 9]).unwrap();
}

fn folder(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

#[tokio::test]
async fn a_lost_segment_costs_its_own_records_and_is_noticed() {
    for harm in [delete, empty, cut, zero, ones, folder] {
        for lost in 1..=4 {
            let dir = filled(1, &BODIES).await;
            harm(&Segment::new(dir.path(), lost).path);
            let options = Options {
                floor: 4,
                ..options(dir.path())
            };
            let (journal, opened) = Journal::open(options).unwrap();
            assert!(opened.last_seq >= 4);
            let next = append(&journal, &["{}"]).await[0];
            assert!(next > 4);
            journal.stop().await;
            let mut expected: Vec<_> = (1..).zip(BODIES).collect();
            expected.push((next, "{}"));
            expected.retain(|&(seq, _)| seq != lost);
            let (read, missed) = read_all(dir.path(), next);
            assert_eq!(read, numbered(&expected), "segment {lost}");
            assert_eq!(missed, 1, "segment {lost}");
        }
    }
}

#[tokio::test]
async fn numbers_of_a_damaged_newest_segment_are_not_given_out_again() {
    for harm in [empty, zero, ones, folder] {
        let dir = filled(1, &BODIES).await;
        harm(&Segment::new(dir.path(), 4).path);
        let (journal, opened) = open(dir.path());
        assert_eq!(opened.damage.len(), 1, "{:?}", opened.damage);
        let aside = "damaged-00000000000000000004.journal".to_owned();
        assert!(names(dir.path()).contains(&aside));
        assert!(append(&journal, &["{}"]).await[0] > 4);
        journal.stop().await;
    }
}

#[tokio::test]
async fn foreign_files_are_left_alone() {
    let dir = filled(u64::MAX, &BODIES[..1]).await;
    let foreign = ["18446744073709551615.journal", "notes.txt"];
    for name in foreign {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    let unused = dir.path().join("00000000000000000009.journal.new");
    fs::write(&unused, "half a header").unwrap();
    let (journal, opened) = open(dir.path());
    assert_eq!((opened.last_seq, opened.damage.len()), (1, 2));
    assert_eq!(append(&journal, &["{}"]).await, [2]);
    journal.stop().await;
    for name in foreign {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"mine");
    }
    assert!(!unused.exists());
}

#[tokio::test]
async fn a_segment_of_a_newer_program_is_left_alone() {
    let dir = filled(u64::MAX, &BODIES).await;
    let path = Segment::new(dir.path(), 1).path;
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..31]);
    for (place, byte) in bytes[31..36].iter_mut().enumerate() {
        *byte = (checksum >> (7 * place) & 0x7F) as u8;
    }
    fs::write(&path, &bytes).unwrap();
    let (journal, opened) = open(dir.path());
    assert!(
        opened.damage[0].contains("newer program"),
        "{:?}",
        opened.damage
    );
    let next = append(&journal, &["{}"]).await[0];
    assert!(next > 4);
    journal.stop().await;
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(read_all(dir.path(), next).0, numbered(&[(next, "{}")]));
}

#[tokio::test]
async fn a_whole_record_in_the_wrong_place_is_no_record() {
    let dir = filled(u64::MAX, &BODIES).await;
    let path = Segment::new(dir.path(), 1).path;
    let mut bytes = fs::read(&path).unwrap();
    let bounds = bounds(&bytes);
    let stale = bytes[bounds[0]..bounds[1]].to_vec();
    bytes.splice(bounds[2]..bounds[2], stale);
    fs::write(&path, &bytes).unwrap();
    let all: Vec<_> = (1..).zip(BODIES).collect();
    assert_eq!(read_all(dir.path(), 4), (numbered(&all), 0));
}

#[tokio::test]
async fn damage_larger_than_what_is_read_at_once_is_stepped_over() {
    let body = format!("\"{}\"", "x".repeat(300_000));
    let dir = filled(u64::MAX, &[&body, &body, &body]).await;
    let path = Segment::new(dir.path(), 1).path;
    let mut bytes = fs::read(&path).unwrap();
    let bounds = bounds(&bytes);
    bytes[bounds[1]..bounds[2]].fill(0);
    fs::write(&path, &bytes).unwrap();
    let (read, missed) = read_all(dir.path(), 3);
    assert_eq!(read, numbered(&[(1, &body), (3, &body)]));
    assert_eq!(missed, 1);
}

#[tokio::test]
async fn what_cannot_be_read_reads_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    let segment = Segment {
        first: 1,
        path: dir.path().to_owned(), // opens, and fails to read
    };
    let mut scan = Scan::open(segment).unwrap().unwrap();
    assert!(scan.next(u64::MAX).unwrap().is_none());
    assert!(scan.unreadable());
}
