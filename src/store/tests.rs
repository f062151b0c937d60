//! The store against a map, through batches and snapshots taken under load.

mod running;
mod sled;

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    ops::ControlFlow,
    sync::Mutex,
};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::{
    Change, Store, Write,
    apply::Changes,
    codec::Meta,
    index::{Batch, Index, IndexError, MemoryIndex, Visit},
    keys,
    open::{self, verify},
    records::{DeliveryState, Next, TargetState, Trouble},
    snapshot::{self, Snapshot},
};
use crate::{
    event::{self, AccountId, Field, Kind},
    journal::{Entry, Record},
    merge::{MAX_EXTRA, Profile},
};

const CHANGED: &str = "OfficialAccount.CallbackAfterOfficialAccountInfoChanged";
const DESTROYED: &str = "OfficialAccount.CallbackAfterOfficialAccountDestroyed";

fn record(seq: u64, account: &str, time: u64, command: &str, name: &str) -> Record {
    let body = json!({
        "CallbackCommand": command, "Official_Account": account, "Name": name,
        "EventTime": event::EARLIEST + time,
    });
    let entry = Entry {
        received: event::EARLIEST + seq,
        app: 7,
        command: command.into(),
        body: Bytes::from(body.to_string()),
    };
    Record { seq, entry }
}

fn id(account: &str) -> AccountId {
    AccountId {
        app: 7,
        account: account.into(),
    }
}

/// Few accounts, times and names, so that stale, repeated and unchanged events are common.
fn any_records(count: usize) -> impl Strategy<Value = Vec<Record>> {
    let one = (0..4_u8, 1..8_u64, prop::bool::weighted(0.15), 0..3_u8);
    prop::collection::vec(one, 1..count).prop_map(|events| {
        let records =
            events
                .into_iter()
                .enumerate()
                .map(|(index, (account, time, destroyed, name))| {
                    let command = if destroyed { DESTROYED } else { CHANGED };
                    record(
                        index as u64 + 1,
                        &format!("@a{account}"),
                        time,
                        command,
                        &format!("n{name}"),
                    )
                });
        records.collect()
    })
}

fn apply(index: &dyn Index, meta: &mut Meta, records: &[Record]) {
    let mut changes = Changes::new(index, meta.clone());
    for record in records {
        changes.record(record, NonZeroU32::MAX).unwrap();
    }
    let (batch, after) = changes.finish();
    index.apply(batch).unwrap();
    *meta = after;
}

/// What design §4 says of some records: per account the profile, the revision and the event that made it.
fn model(records: &[Record]) -> BTreeMap<AccountId, (Profile, u64, u64)> {
    let mut accounts: BTreeMap<AccountId, (Profile, u64, u64)> = BTreeMap::new();
    for Record { seq, entry } in records {
        let kind = Kind::of_command(&entry.command).unwrap();
        let event = event::parse(entry.app, kind, &entry.command, &entry.body).unwrap();
        let (profile, revision, changed) = accounts.entry(event.id.clone()).or_default();
        let before = profile.clone();
        profile.merge(&event);
        if *revision == 0 || !profile.looks_like(&before) {
            *revision += 1;
            *changed = *seq;
        }
    }
    accounts
}

fn dump(index: &dyn Index) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut entries = BTreeMap::new();
    index
        .scan(&[], &[u8::MAX], &mut |key, value| {
            entries.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

proptest! {
    #[test]
    fn accounts_and_changes_equal_the_model(records in any_records(40), cuts in prop::collection::vec(1..9_usize, 1..20)) {
        let store = Store::in_memory();
        let mut rest = &records[..];
        for cut in cuts.iter().cycle() {
            let (batch, after) = rest.split_at((*cut).min(rest.len()));
            store.feed(batch);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let expected = model(&records);
        let stored = store.accounts(None, "", usize::MAX).unwrap();
        let found = stored.into_iter().map(|(id, account)| {
            (id, (account.profile, account.revision, account.changed_seq))
        });
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), expected.clone());
        let mut changes: Vec<_> =
            expected.into_iter().map(|(id, (_, _, seq))| Change { seq, id }).collect();
        changes.sort_by_key(|change| change.seq);
        prop_assert_eq!(store.changes(0, u64::MAX, usize::MAX).unwrap(), changes);
    }

    #[test]
    fn applying_twice_changes_nothing(records in any_records(30), from in any::<prop::sample::Index>()) {
        let index = MemoryIndex::default();
        let mut meta = Meta::default();
        apply(&index, &mut meta, &records);
        let once = dump(&index);
        apply(&index, &mut meta, &records[from.index(records.len())..]);
        prop_assert_eq!(dump(&index), once);
        prop_assert_eq!(verify(&index, &meta, &|_| Ok(())), Ok(()));
    }

    /// The heart of `snapshot.rs`: a snapshot of a moving index, plus the journal from its number on, is the index.
    #[test]
    fn a_snapshot_of_a_moving_index_is_whole(records in any_records(60), before in any::<prop::sample::Index>()) {
        let (first, later) = records.split_at(before.index(records.len()));
        let inner = MemoryIndex::default();
        let mut meta = Meta::default();
        apply(&inner, &mut meta, first);
        let applied = meta.applied;
        let moving = Moving { inner, state: Mutex::new((meta, later.iter().cloned().collect())) };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        snapshot::write(&moving, applied, &path).unwrap();
        moving.finish();

        let restored = MemoryIndex::default();
        let mut snapshot = Snapshot::open(&path).unwrap();
        let mut batch = Batch::new();
        let mut put = |key, value| {
            batch.insert(key, Some(value));
            Ok(())
        };
        let mut meta = open::read(&mut snapshot, &mut put, &|_| Ok(())).unwrap();
        restored.apply(batch).unwrap();
        let missing: Vec<_> = records.iter().filter(|record| record.seq > snapshot.applied).cloned().collect();
        apply(&restored, &mut meta, &missing);
        prop_assert_eq!(verify(&restored, &meta, &|_| Ok(())), Ok(()));
        prop_assert_eq!(without_counts(&restored), without_counts(&moving.inner));
    }
}

/// Everything but the index's own account of itself and the history counts, which may lag until pruning.
fn without_counts(index: &dyn Index) -> BTreeMap<Vec<u8>, String> {
    let entries = dump(index).into_iter().filter(|(key, _)| key != keys::META);
    let entries = entries.map(|(key, value)| {
        let text = if keys::Table::of(&key) == Some(keys::Table::Account) {
            let mut account =
                <super::records::Account as super::codec::Stored>::decode(&value).unwrap();
            account.history = 0;
            format!("{account:?}")
        } else {
            format!("{value:?}")
        };
        (key, text)
    });
    entries.collect()
}

/// An index that takes one more record in after every entry a scan visits.
struct Moving {
    inner: MemoryIndex,
    state: Mutex<(Meta, VecDeque<Record>)>,
}

impl Moving {
    fn step(&self) {
        let (meta, later) = &mut *self.state.lock().unwrap();
        if let Some(record) = later.pop_front() {
            apply(&self.inner, meta, &[record]);
        }
    }

    fn finish(&self) {
        while !self.state.lock().unwrap().1.is_empty() {
            self.step();
        }
    }
}

impl Index for Moving {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let mut next = from.to_vec();
        loop {
            let mut found = None;
            self.inner.scan(&next, to, &mut |key, value| {
                found = Some((key.to_vec(), value.to_vec()));
                ControlFlow::Break(())
            })?;
            let Some((key, value)) = found else {
                return Ok(());
            };
            if visit(&key, &value).is_break() {
                return Ok(());
            }
            self.step();
            next = key;
            next.push(0);
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), IndexError> {
        self.inner.apply(batch)
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }
}

#[test]
fn history_is_bounded_by_number_and_the_newest_stay() {
    let index = MemoryIndex::default();
    let mut meta = Meta::default();
    for seq in 1..=50 {
        let mut changes = Changes::new(&index, meta);
        changes
            .record(
                &record(seq, "@a", seq, CHANGED, "n"),
                NonZeroU32::new(5).unwrap(),
            )
            .unwrap();
        let (batch, after) = changes.finish();
        index.apply(batch).unwrap();
        meta = after;
    }
    let prefix = keys::history_of(&id("@a"));
    let mut times = Vec::new();
    index
        .scan(&prefix, &keys::after(prefix.clone()), &mut |key, _| {
            times.push(keys::read_history(key).unwrap().1.time - event::EARLIEST);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(times, [46, 47, 48, 49, 50]);
    assert_eq!(verify(&index, &meta, &|_| Ok(())), Ok(()));
}

#[test]
fn an_account_does_not_grow_with_made_up_members() {
    let store = Store::in_memory();
    for seq in 1..=100 {
        let mut record = record(seq, "@a", seq, CHANGED, "n");
        let body = String::from_utf8(record.entry.body.to_vec()).unwrap();
        record.entry.body = body.replace("Name", &format!("Name{seq}")).into();
        store.feed(&[record]);
    }
    let account = store.account(&id("@a")).unwrap().unwrap();
    assert_eq!(account.revision, 100);
    assert_eq!(account.profile.fields.len(), MAX_EXTRA);
    assert!(account.field_revisions.len() <= 2 * MAX_EXTRA);
    assert!(
        account
            .field_revisions
            .contains_key(&Field::Extra("Name100".into()))
    );
}

#[test]
fn a_snapshot_holds_values_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.snapshot");
    let index = MemoryIndex::default();
    let key = keys::target("t");
    let value = vec![7; (64 << 20) + 1];
    index
        .apply(Batch::from([(key.clone(), Some(value.clone()))]))
        .unwrap();
    snapshot::write(&index, 1, &path).unwrap();
    let mut read = Snapshot::open(&path).unwrap();
    assert!(read.next_block().unwrap() == [(key, value)]);
    assert!(read.next_block().unwrap().is_empty());
}

#[test]
fn a_damaged_length_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.snapshot");
    snapshot::write(&MemoryIndex::default(), 1, &path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16..20].fill(0xFF);
    std::fs::write(&path, bytes).unwrap();
    let error = Snapshot::open(&path).unwrap().next_block().unwrap_err();
    assert!(error.to_string().contains("length"), "{error}");
}

#[test]
fn names_that_begin_alike_keep_their_histories_apart() {
    let store = Store::in_memory();
    store.feed(&[
        record(1, "@a", 1, CHANGED, "short"),
        record(2, "@ab", 1, CHANGED, "long"),
    ]);
    assert_eq!(store.history(&id("@a"), 9).unwrap().len(), 1);
    assert_eq!(store.history(&id("@ab"), 9).unwrap()[0].seq, 2);
}

fn waiting(at: u64) -> DeliveryState {
    let trouble = Trouble {
        since: 1,
        attempts: 1,
        revision: 1,
        at: 1,
        reason: "no".into(),
        next: Next::Retry { at, fault: false },
    };
    DeliveryState {
        trouble: Some(trouble),
        ..DeliveryState::default()
    }
}

#[test]
fn retries_follow_the_deliveries() {
    let store = Store::in_memory();
    let delivery = |account: &str, state| Write::Delivery {
        target: 1,
        id: id(account),
        state,
    };
    drop(store.write(vec![
        delivery("@late", waiting(20)),
        delivery("@soon", waiting(10)),
    ]));
    assert_eq!(
        store.retries(1, 9).unwrap(),
        [(10, id("@soon")), (20, id("@late"))]
    );
    drop(store.write(vec![
        delivery("@soon", waiting(30)),
        delivery("@late", DeliveryState::default()),
    ]));
    assert_eq!(store.retries(1, 9).unwrap(), [(30, id("@soon"))]);
    assert_eq!(store.retries(2, 9).unwrap(), []);
    assert_eq!(
        store.deliveries(1, Some(&id("@late")), 9).unwrap(),
        [(id("@soon"), waiting(30))]
    );
}

#[test]
fn a_cursor_that_moves_is_no_decision() {
    let index = MemoryIndex::default();
    let mut meta = Meta::default();
    let mut decided = |state: &TargetState| {
        let mut changes = Changes::new(&index, meta.clone());
        changes.target("crm", Some(state)).unwrap();
        let decided = changes.decided.contains_key("crm");
        let (batch, after) = changes.finish();
        index.apply(batch).unwrap();
        meta = after;
        decided
    };
    let mut state = TargetState::default();
    assert!(decided(&state), "it is new");
    state.live = 7;
    assert!(!decided(&state), "its cursor moved");
    state.paused = true;
    assert!(decided(&state), "it was paused");
}

#[test]
fn targets_are_kept_by_name() {
    let store = Store::in_memory();
    let state = TargetState {
        id: 3,
        identity: "x".into(),
        ..TargetState::default()
    };
    drop(store.write(vec![Write::Target {
        name: "crm".into(),
        state: state.clone(),
    }]));
    assert_eq!(
        store.targets().unwrap(),
        BTreeMap::from([("crm".to_owned(), state)])
    );
}
