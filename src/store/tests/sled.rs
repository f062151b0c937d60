//! The index on disk: reopened, rebuilt, damaged.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread, time::Duration};

use super::{CHANGED, apply, id, record};
use crate::{
    journal::Record,
    store::{
        apply::Changes,
        codec::{Meta, Stored},
        index::{Batch, Index, IndexError, MemoryIndex},
        keys, offline,
        open::{self, Load, verify},
        records::{DeliveryState, TargetState},
        sled::SledIndex,
        snapshot,
        state_dir::{LastRun, StateDir},
    },
};

const CACHE: u64 = 16 << 20;

/// A state directory whose index holds some records, and a copy of what is in it.
fn state_with(root: &Path, records: &[Record]) -> (StateDir, Meta) {
    let dir = StateDir::hold(root).unwrap();
    let index = SledIndex::open(&dir.index(), CACHE).unwrap();
    let mut meta = Meta::default();
    for batch in records.chunks(16) {
        apply(&index, &mut meta, batch);
    }
    (dir, meta)
}

fn some_records(count: u64) -> Vec<Record> {
    (1..=count)
        .map(|seq| {
            record(
                seq,
                &format!("@a{}", seq % 50),
                seq,
                CHANGED,
                &format!("n{seq}"),
            )
        })
        .collect()
}

#[test]
fn nobody_else_can_look_into_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lib/state");
    let _held = StateDir::hold(&root).unwrap();
    let mode = fs::metadata(&root).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn sled_reopens_what_was_applied() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, meta) = state_with(folder.path(), &some_records(300));
    let opened = open::open(&dir, CACHE, LastRun::Died, &|_| Ok(())).unwrap();
    assert!(!opened.rebuilt);
    assert_eq!(opened.meta, meta);
}

#[test]
fn an_index_that_is_being_let_go_of_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, meta) = state_with(folder.path(), &some_records(300));
    let held = fs::File::open(dir.index().join("db")).unwrap();
    while held.try_lock().is_err() {
        thread::yield_now();
    }
    let let_go = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(held);
    });
    let opened = open::open(&dir, CACHE, LastRun::Died, &|_| Ok(())).unwrap();
    let_go.join().unwrap();
    assert!(!opened.rebuilt);
    assert_eq!(opened.meta, meta);
}

#[test]
fn an_unfinished_snapshot_of_sled_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, meta) = state_with(folder.path(), &some_records(300));
    fs::write(
        dir.index().join("snap.0000000000000FFF.generating"),
        b"half",
    )
    .unwrap();
    let opened = open::open(&dir, CACHE, LastRun::Died, &|_| Ok(())).unwrap();
    assert!(!opened.rebuilt);
    assert_eq!(opened.meta, meta);
}

#[test]
fn after_a_reboot_the_index_is_rebuilt_from_the_newest_good_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let records = some_records(300);
    let (dir, meta) = state_with(folder.path(), &records);
    {
        let index = SledIndex::open(&dir.index(), CACHE).unwrap();
        snapshot::write(&index, meta.applied, &dir.snapshot(meta.applied)).unwrap();
    }
    fs::write(dir.snapshot(meta.applied + 1), b"PSSNAP1\nnot a snapshot").unwrap();
    let opened = open::open(&dir, CACHE, LastRun::Rebooted, &|_| Ok(())).unwrap();
    assert!(opened.rebuilt);
    assert_eq!(opened.meta, meta);
    assert_eq!(verify(&*opened.index, &opened.meta, &|_| Ok(())), Ok(()));
    let kept: Vec<_> = dir.snapshots().unwrap();
    assert_eq!(
        kept,
        [(meta.applied, dir.snapshot(meta.applied))],
        "the damaged one counts no more"
    );
}

/// A snapshot whose checksums are right and whose entries are not.
#[test]
fn a_snapshot_that_does_not_decode_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, meta) = state_with(folder.path(), &some_records(20));
    {
        let index = SledIndex::open(&dir.index(), CACHE).unwrap();
        snapshot::write(&index, meta.applied, &dir.snapshot(meta.applied)).unwrap();
        let wrong = Batch::from([(keys::account(&id("@a1")), Some(b"wrong".to_vec()))]);
        index.apply(wrong).unwrap();
        let later = meta.applied + 1;
        snapshot::write(&index, later, &dir.snapshot(later)).unwrap();
    }
    let opened = open::open(&dir, CACHE, LastRun::Rebooted, &|_| Ok(())).unwrap();
    assert_eq!(opened.meta, meta);
}

/// Somebody put it there: a backup perhaps.
#[test]
fn a_snapshot_under_another_number_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, meta) = state_with(folder.path(), &some_records(20));
    {
        let index = SledIndex::open(&dir.index(), CACHE).unwrap();
        for applied in [meta.applied, meta.applied - 1] {
            snapshot::write(&index, applied, &dir.snapshot(applied)).unwrap();
        }
    }
    let snapshots = folder.path().join("snapshots");
    fs::rename(dir.snapshot(meta.applied - 1), dir.snapshot(1 << 40)).unwrap();
    fs::write(snapshots.join("20261128.snapshot"), "a backup").unwrap();
    assert_eq!(dir.snapshots().unwrap().len(), 2);
    let opened = open::open(&dir, CACHE, LastRun::Rebooted, &|_| Ok(())).unwrap();
    assert_eq!(opened.meta, meta);
}

/// A snapshot is of a moving index: it may hold deliveries that are newer than its targets.
#[test]
fn deliveries_that_a_snapshots_targets_do_not_know_say_nothing() {
    let index = MemoryIndex::default();
    let mut changes = Changes::new(&index, Meta::default());
    for (name, id, epoch) in [("crm", 1, 1), ("new", 2, 1)] {
        let state = TargetState {
            id,
            epoch,
            ..TargetState::default()
        };
        changes.target(name, Some(&state)).unwrap();
    }
    for (target, account, epoch) in [(1, "@a", 1), (1, "@b", 2), (2, "@a", 1)] {
        let state = DeliveryState {
            epoch,
            delivered: 3,
            ..DeliveryState::default()
        };
        changes
            .delivery(target, &id(account), Some(&state))
            .unwrap();
    }
    let (mut batch, _) = changes.finish();
    batch.insert(keys::target("new"), None);
    index.apply(batch).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::hold(folder.path()).unwrap();
    snapshot::write(&index, 9, &dir.snapshot(9)).unwrap();
    let opened = open::open(&dir, CACHE, LastRun::Clean, &|_| Ok(())).unwrap();
    let epoch = |target, account| {
        let stored = opened.index.get(&keys::delivery(target, &id(account)));
        let stored = stored.unwrap().map(|bytes| DeliveryState::decode(&bytes));
        stored.map(|state| state.unwrap().epoch)
    };
    assert_eq!(
        [epoch(1, "@a"), epoch(1, "@b"), epoch(2, "@a")],
        [Some(1), Some(0), None]
    );
    assert_eq!(verify(&*opened.index, &opened.meta, &|_| Ok(())), Ok(()));
}

#[test]
fn an_index_that_takes_nothing_ends_the_building() {
    let full = |_| Err(IndexError("the disk is full".into()));
    let filled = open::filled(full, |put| {
        (0..200_000_u32).try_for_each(|n| put(n.to_be_bytes().to_vec(), Vec::new()))?;
        Ok(())
    });
    assert!(matches!(filled, Err(Load::Index(_))), "{filled:?}");
}

#[test]
fn a_rebuild_that_was_killed_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = state_with(folder.path(), &some_records(20));
    dir.begin_building().unwrap();
    let opened = open::open(&dir, CACHE, LastRun::Died, &|_| Ok(())).unwrap();
    assert!(!opened.rebuilt);
    assert_eq!(opened.meta, Meta::default());
    drop(opened);
    let opened = open::open(&dir, CACHE, LastRun::Died, &|_| Ok(())).unwrap();
    assert!(!opened.rebuilt, "it is whole now");
    assert_eq!(dir.damaged().unwrap().len(), 0);
}

#[test]
fn an_index_that_lost_what_it_says_of_itself_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = state_with(folder.path(), &some_records(20));
    {
        let index = SledIndex::open(&dir.index(), CACHE).unwrap();
        index
            .apply(Batch::from([(keys::META.to_vec(), None)]))
            .unwrap();
    }
    let opened = open::open(&dir, CACHE, LastRun::Died, &|_| Ok(())).unwrap();
    assert!(opened.rebuilt);
    assert_eq!(dir.damaged().unwrap().len(), 1);
}

#[test]
fn an_index_that_is_not_trusted_stays_so_until_it_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = state_with(folder.path(), &some_records(20));
    assert_eq!(dir.begin_run(), LastRun::Rebooted, "nobody noted a run");
    assert_eq!(
        dir.begin_run(),
        LastRun::Rebooted,
        "killed before the rebuild"
    );
    dir.trust();
    assert_eq!(dir.begin_run(), LastRun::Died);
}

#[test]
fn what_a_killed_snapshot_leaves_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = folder.path().join("snapshots");
    drop(StateDir::hold(folder.path()).unwrap());
    fs::write(snapshots.join("00000000000000000007.snapshot.tmp"), b"half").unwrap();
    let _dir = StateDir::hold(folder.path()).unwrap();
    assert_eq!(fs::read_dir(&snapshots).unwrap().count(), 0);
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let _held = StateDir::hold(folder.path()).unwrap();
    let error = StateDir::hold(folder.path()).err().unwrap().to_string();
    assert!(
        error.contains(&format!("process {}", std::process::id())),
        "{error}"
    );
}

/// A backup that was taken under load knows changes with higher numbers than its own.
#[test]
fn after_a_restore_no_number_of_the_backup_is_given_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let (dir, _) = state_with(&from, &some_records(20));
    let backup = folder.path().join("backup");
    {
        let index = SledIndex::open(&dir.index(), CACHE).unwrap();
        snapshot::write(&index, 10, &backup).unwrap();
    }
    offline::restore(&to, &backup, false).unwrap();
    let dir = StateDir::hold(&to).unwrap();
    assert_eq!(dir.journal_floor(), 10);
    assert_eq!(dir.begin_run(), LastRun::Rebooted, "it leaves a gap then");
}

/// Every file of the index, damaged in some way: the index opens with all entries, or is set aside. Never is
/// something missing.
#[test]
fn no_damage_to_the_index_goes_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, meta) = state_with(folder.path(), &some_records(400));
    let good = folder.path().join("good");
    copy(&dir.index(), &good);
    let mut random = fastrand::Rng::with_seed(7);
    let rounds: usize =
        std::env::var("PROFILESYNC_DAMAGE_ROUNDS").map_or(40, |text| text.parse().unwrap());
    let mut rebuilt = 0;
    for round in 0..rounds {
        fs::remove_dir_all(dir.index()).unwrap();
        copy(&good, &dir.index());
        let what = damage(&dir.index(), &mut random);
        let opened = open::open(&dir, CACHE, LastRun::Died, &|_| Ok(())).unwrap();
        rebuilt += usize::from(opened.rebuilt);
        // All there; or as it was before, which the journal makes good; or told to be built anew.
        let older = 0 < opened.meta.applied && opened.meta.applied < meta.applied;
        assert!(
            opened.meta == meta || older || opened.rebuilt,
            "round {round}: {what}: {:?}",
            opened.meta
        );
        assert_eq!(
            verify(&*opened.index, &opened.meta, &|_| Ok(())),
            Ok(()),
            "round {round}: {what}"
        );
    }
    assert!(rebuilt > 0, "no damage was noticed at all");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found)
        } else {
            found.push(path)
        }
    }
}

fn damage(folder: &Path, random: &mut fastrand::Rng) -> String {
    let mut found = Vec::new();
    files(folder, &mut found);
    let path = &found[random.usize(..found.len())];
    let mut bytes = fs::read(path).unwrap();
    let what = random.u8(..4);
    let at = random.usize(..bytes.len().max(1));
    match what {
        0 => fs::remove_file(path).unwrap(),
        1 => bytes.truncate(at),
        2 if !bytes.is_empty() => bytes[at] ^= 1 << random.u8(..8),
        _ => {
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
        }
    }
    if what != 0 {
        fs::write(path, bytes).unwrap();
    }
    format!("{what} at {at} of {}", path.display())
}
