//! The writer at work: groups, failures and their end, stopping, and readers beside it.

use std::fs;

use futures_util::{FutureExt as _, future::join_all};

use super::{
    Faults, Journal, Options, PATIENCE, Reader, Segment, append, entry, filled, names, numbered,
    open, options, read_all, read_on, segment, timeout, until_well,
};
use crate::{
    journal::{bytes_since, first_seq, remove_before},
    metrics::Metrics,
};

#[tokio::test]
async fn entries_that_wait_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let (journal, _) = Journal::open_with(options(dir.path()), faults.clone()).unwrap();
    let bodies: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    let appended = join_all(bodies.iter().map(|body| journal.append(entry(body)))).await;
    let mut numbers: Vec<_> = appended.into_iter().map(Result::unwrap).collect();
    assert_eq!(*journal.synced().borrow(), 1000);
    let syncs = faults.change(|_| {}).syncs_seen;
    assert!(syncs <= 500, "{syncs} syncs");
    journal.stop().await;
    let (read, _) = read_all(dir.path(), 1000);
    assert_eq!(read.len(), 1000);
    for (number, body) in numbers.iter().zip(&bodies) {
        let at = usize::try_from(*number - 1).unwrap();
        assert_eq!(read[at], (*number, body.clone()));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_handed_over_is_written_without_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let gone = journal.append(entry("gone")).now_or_never();
    assert_eq!(gone, None);
    assert_eq!(append(&journal, &["here"]).await, [2]);
    journal.stop().await;
    let expected = numbered(&[(1, "gone"), (2, "here")]);
    assert_eq!(read_all(dir.path(), 2).0, expected);
}

#[tokio::test]
async fn stopping_answers_everyone() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let bodies: Vec<_> = (0..6000).map(|number| number.to_string()).collect();
    let appends = join_all(bodies.iter().map(|body| journal.append(entry(body))));
    let (answers, ()) = timeout(PATIENCE, async { tokio::join!(appends, journal.stop()) })
        .await
        .unwrap();
    let acknowledged = answers.iter().flatten().count();
    assert!(acknowledged > 0);
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    for refusal in refused {
        assert!(refusal.to_string().contains("is stopped"), "{refusal}");
    }
    let (read, _) = read_all(dir.path(), u64::MAX);
    assert_eq!(read.len(), acknowledged);
    assert!(journal.health().borrow().is_err());
    assert!(journal.append(entry("late")).await.is_err());
}

#[tokio::test]
async fn a_failed_sync_gives_the_entries_new_numbers_in_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let (journal, _) = Journal::open_with(options(dir.path()), faults.clone()).unwrap();
    assert_eq!(append(&journal, &["a"]).await, [1]);
    let metrics = Metrics::new();
    let mut reader = Reader::open(dir.path(), 0, metrics.clone()).unwrap();
    faults.change(|planned| planned.syncs = 1);
    assert_eq!(append(&journal, &["b", "c"]).await, [3, 4]);
    let expected = numbered(&[(1, "a"), (3, "b"), (4, "c")]);
    assert_eq!(read_on(&mut reader, 4), expected);
    journal.stop().await;
    assert_eq!(read_all(dir.path(), 4), (expected, 0));
    assert_eq!(metrics.journal_damaged.get(), 0);
}

#[tokio::test]
async fn a_disk_that_fails_twice_costs_an_answer_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let (journal, _) = Journal::open_with(options(dir.path()), faults.clone()).unwrap();
    assert_eq!(append(&journal, &["a"]).await, [1]);
    faults.change(|planned| (planned.writes, planned.written_bytes) = (2, 30));
    let refused = journal.append(entry("b")).await.unwrap_err();
    assert!(refused.to_string().contains("planned to fail"), "{refused}");
    assert!(refused.to_string().contains("00000000000000000003.journal"));
    until_well(&journal).await;
    assert_eq!(append(&journal, &["c"]).await, [4]);
    journal.stop().await;
    let expected = numbered(&[(1, "a"), (4, "c")]);
    assert_eq!(read_all(dir.path(), 4), (expected, 0));
    let segments = segment::list(dir.path()).unwrap();
    assert_eq!(segments.len(), 2, "segment 3 held nothing and is gone");
}

#[tokio::test]
async fn it_opens_on_a_disk_that_takes_nothing_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    faults.change(|planned| planned.creates = 3);
    let (journal, _) = Journal::open_with(options(dir.path()), faults.clone()).unwrap();
    assert!(journal.health().borrow().is_err());
    assert!(journal.append(entry("a")).await.is_err());
    assert_eq!(names(dir.path()), Vec::<String>::new());
    until_well(&journal).await;
    let seq = append(&journal, &["b"]).await[0];
    journal.stop().await;
    assert_eq!(read_all(dir.path(), seq), (numbered(&[(seq, "b")]), 0));
}

#[tokio::test]
async fn it_opens_without_its_folder_and_finds_it_later() {
    let dir = filled(u64::MAX, &["a", "b"]).await;
    let (hidden, folder) = (dir.path().join("hidden"), dir.path().join("journal"));
    fs::create_dir(&hidden).unwrap();
    let name = "00000000000000000001.journal";
    fs::rename(dir.path().join(name), hidden.join(name)).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let (journal, opened) = open(&folder);
    assert_eq!((opened.last_seq, opened.damage.len()), (0, 1));
    assert!(journal.append(entry("c")).await.is_err());
    fs::remove_file(&folder).unwrap();
    fs::rename(&hidden, &folder).unwrap();
    until_well(&journal).await;
    assert_eq!(*journal.synced().borrow(), 2);
    assert_eq!(append(&journal, &["c"]).await, [3]);
    journal.stop().await;
    let expected = numbered(&[(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(read_all(&folder, 3).0, expected);
}

#[tokio::test]
async fn nothing_is_written_below_the_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        reserve_bytes: u64::MAX,
        ..options(dir.path())
    };
    let (journal, _) = Journal::open(options).unwrap();
    let refused = journal.append(entry("a")).await.unwrap_err();
    assert!(refused.to_string().contains("reserve"), "{refused}");
    assert!(journal.health().borrow().is_err());
    journal.stop().await;
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_segment_that_cannot_be_kept_is_not_mistaken_for_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let options = Options {
        segment_bytes: 1,
        ..options(dir.path())
    };
    let (journal, _) = Journal::open_with(options, faults.clone()).unwrap();
    assert_eq!(append(&journal, &["a", "b"]).await, [1, 2]);
    faults.change(|planned| planned.dir_syncs = 1);
    assert!(journal.append(entry("c")).await.is_err());
    until_well(&journal).await;
    assert_eq!(append(&journal, &["d"]).await, [4]);
    journal.stop().await;
    let first = |segment: &Segment| segment.first;
    let segments = segment::list(dir.path()).unwrap();
    assert_eq!(segments.iter().map(first).collect::<Vec<_>>(), [1, 2, 4]);
    let expected = numbered(&[(1, "a"), (2, "b"), (4, "d")]);
    assert_eq!(read_all(dir.path(), 4), (expected, 0));
}

#[tokio::test]
async fn a_reader_stops_at_what_is_synced_and_follows_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 400,
        ..options(dir.path())
    };
    let (journal, _) = Journal::open(options).unwrap();
    let mut reader = Reader::open(dir.path(), 0, Metrics::new()).unwrap();
    let mut expected = Vec::new();
    for number in 1..=50 {
        let body = number.to_string();
        assert_eq!(append(&journal, &[&body]).await, [number]);
        expected.push((number, body));
        let before = read_on(&mut reader, number - 1);
        assert!(before.is_empty());
        assert_eq!(read_on(&mut reader, number), expected[expected.len() - 1..]);
    }
    journal.stop().await;
    let mut late = Reader::open(dir.path(), 20, Metrics::new()).unwrap();
    assert_eq!(read_on(&mut late, 30), expected[20..30]);
    assert_eq!(read_on(&mut late, 50), expected[30..]);
}

#[tokio::test]
async fn a_reader_beside_the_writer_misses_nothing() {
    const ENTRIES: u64 = 5000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 20_000,
        ..options(dir.path())
    };
    let (journal, _) = Journal::open(options).unwrap();
    let metrics = Metrics::new();
    let mut reader = Reader::open(dir.path(), 0, metrics.clone()).unwrap();
    let synced = journal.synced();
    let reading = std::thread::spawn(move || {
        let mut read = Vec::new();
        while read.len() < usize::try_from(ENTRIES).unwrap() && synced.has_changed().is_ok() {
            let until = *synced.borrow();
            read.extend(read_on(&mut reader, until));
            assert_eq!(read.len() as u64, until);
        }
        read
    });
    let append = async |lane: u64| {
        for _ in 0..ENTRIES / 50 {
            journal.append(entry(&lane.to_string())).await.unwrap();
        }
    };
    join_all((0..50).map(append)).await;
    let read = reading.join().unwrap();
    assert!(read.iter().map(|(seq, _)| *seq).eq(1..=ENTRIES));
    assert_eq!(metrics.journal_damaged.get(), 0);
    journal.stop().await;
}

#[tokio::test]
async fn restarts_without_entries_leave_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let (journal, opened) = open(dir.path());
        assert_eq!((opened.last_seq, opened.damage.len()), (0, 0));
        journal.stop().await;
    }
    assert_eq!(names(dir.path()), ["00000000000000000003.journal"]);
}

#[tokio::test]
async fn a_lost_journal_goes_on_above_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        floor: 1000,
        ..options(&dir.path().join("state/journal"))
    };
    let (journal, opened) = Journal::open(options.clone()).unwrap();
    assert_eq!(opened.last_seq, 1000);
    assert_eq!(append(&journal, &["a"]).await, [1001]);
    journal.stop().await;
    let expected = numbered(&[(1001, "a")]);
    assert_eq!(read_all(&options.dir, 1001), (expected, 1000));
}

#[tokio::test]
async fn segments_behind_a_snapshot_are_removed() {
    let dir = filled(1, &["a", "b", "c"]).await;
    let path = dir.path();
    let each = fs::metadata(Segment::new(path, 1).path).unwrap().len();
    assert_eq!(first_seq(path).unwrap(), Some(1));
    assert_eq!(bytes_since(path, 0), 3 * each);
    assert_eq!(bytes_since(path, 1), 2 * each);
    remove_before(path, 0).unwrap();
    assert_eq!(first_seq(path).unwrap(), Some(1));
    remove_before(path, 2).unwrap();
    assert_eq!(first_seq(path).unwrap(), Some(3));
    assert_eq!(bytes_since(path, 2), each);
    remove_before(path, u64::MAX).unwrap();
    assert_eq!(first_seq(path).unwrap(), Some(3));
    let nowhere = path.join("nowhere");
    assert_eq!(first_seq(&nowhere).unwrap(), None);
    assert_eq!(bytes_since(&nowhere, 0), 0);
}
