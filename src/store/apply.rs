//! How records of the journal and writes of dispatchers become one batch for the index.
//!
//! Every record is merged even when its history entry exists already: merging twice changes nothing, and it is what
//! lets a snapshot be taken while the store goes on changing (`snapshot.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    ops::ControlFlow,
};

use crate::{
    clock::Millis,
    event::{self, AccountId, Event, Field, Kind},
    journal::Record,
    merge::{MAX_EXTRA, Profile},
    metrics::EventResult,
    store::{
        Write,
        codec::{Meta, Stored, checksum, encode_history},
        decisions::Decision,
        index::{Batch, Index, IndexError},
        keys,
        records::{Account, DeliveryState, Next, TargetId, TargetState},
    },
};

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

/// A batch in the making, with the checksum of the index after it.
pub(crate) struct Changes<'a> {
    index: &'a dyn Index,
    batch: Batch,
    meta: Meta,
    accounts: HashMap<AccountId, Loaded>,
    /// What became of each event: app and result.
    pub(crate) results: Vec<(u64, EventResult)>,
    /// The newest sequence number that made a revision.
    pub(crate) changed: Option<u64>,
    /// What was decided about targets; `None` about those that are forgotten.
    pub(crate) decided: BTreeMap<String, Option<Decision>>,
}

/// An account of this batch: as it is in the index, and as it will be.
struct Loaded {
    /// Its bytes and its place in the change index.
    stored: Option<(Vec<u8>, u64)>,
    account: Account,
    dirty: bool,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(index: &'a dyn Index, meta: Meta) -> Self {
        let (batch, accounts, results) = (Batch::new(), HashMap::new(), Vec::new());
        Self {
            index,
            batch,
            meta,
            accounts,
            results,
            changed: None,
            decided: BTreeMap::new(),
        }
    }

    /// Takes a record of the journal in.
    pub(crate) fn record(
        &mut self,
        record: &Record,
        history_limit: NonZeroU32,
    ) -> Result<(), IndexError> {
        self.meta.applied = self.meta.applied.max(record.seq);
        let entry = &record.entry;
        let event = Kind::of_command(&entry.command)
            .ok_or_else(|| event::Malformed("the command is unknown".into()))
            .and_then(|kind| event::parse(entry.app, kind, &entry.command, &entry.body));
        match event {
            Ok(event) => {
                let result = self.event(record, &event, history_limit)?;
                self.results.push((entry.app, result));
            }
            // The listener parses before it appends, so this is a record of another version.
            Err(error) => {
                tracing::error!(seq = record.seq, %error, "a record of the journal is no event")
            }
        }
        Ok(())
    }

    fn event(
        &mut self,
        record: &Record,
        event: &Event,
        history_limit: NonZeroU32,
    ) -> Result<EventResult, IndexError> {
        let key = keys::history(&event.id, &event.stamp);
        let duplicate = self.get(&key)?.is_some();
        if !duplicate {
            let Record { seq, entry } = record;
            let value = encode_history(*seq, entry.received, &entry.command, &entry.body);
            self.replace(key, None, Some(value));
        }
        let Loaded { account, dirty, .. } = self.account(&event.id)?;
        let before = account.profile.clone();
        let moved = account.profile.merge(event);
        let visible = account.revision == 0 || !account.profile.looks_like(&before);
        *dirty |= moved || visible;
        if visible {
            revise(account, &before, record);
            self.changed = Some(record.seq);
        }
        if !duplicate {
            self.count_history(&event.id, history_limit)?;
        }
        Ok(match (duplicate, visible, moved) {
            (true, ..) => EventResult::Duplicate,
            (_, true, _) => EventResult::Recorded,
            (_, _, true) => EventResult::Unchanged,
            (_, _, false) => EventResult::Stale,
        })
    }

    /// Counts one more entry, and removes the oldest ones where there are too many.
    fn count_history(&mut self, id: &AccountId, limit: NonZeroU32) -> Result<(), IndexError> {
        let Loaded { account, dirty, .. } = self.account(id)?;
        account.history += 1;
        *dirty = true;
        let excess = account.history.saturating_sub(limit.get());
        for (key, value) in self.oldest(&keys::history_of(id), excess as usize)? {
            self.remove_history(id, key, &value)?;
        }
        Ok(())
    }

    /// Takes a dispatcher's write in. A target is forgotten by the applier, in pieces, not here.
    pub(crate) fn write(&mut self, write: &Write) -> Result<(), IndexError> {
        match write {
            Write::Delivery { target, id, state } => self.delivery(*target, id, Some(state)),
            Write::Target { name, state } => self.target(name, Some(state)),
            Write::Forget { .. } => Ok(()),
        }
    }

    pub(crate) fn target(
        &mut self,
        name: &str,
        state: Option<&TargetState>,
    ) -> Result<(), IndexError> {
        let key = keys::target(name);
        let old = self.get(&key)?;
        let before = old.as_deref().map(TargetState::decode).transpose()?;
        let decision = state.map(Decision::of);
        if before.as_ref().map(Decision::of) != decision {
            self.decided.insert(name.to_owned(), decision);
        }
        self.replace(key, old.as_deref(), state.map(Stored::encode));
        Ok(())
    }

    pub(crate) fn delivery(
        &mut self,
        target: TargetId,
        id: &AccountId,
        state: Option<&DeliveryState>,
    ) -> Result<(), IndexError> {
        let key = keys::delivery(target, id);
        let old = self.get(&key)?;
        let old_state = old.as_deref().map(DeliveryState::decode).transpose()?;
        let old_retry = old_state.as_ref().and_then(retry_at);
        let new_retry = state.and_then(retry_at);
        if old_retry != new_retry {
            if let Some(at) = old_retry {
                self.replace(keys::retry(target, at, id), Some(&[]), None);
            }
            if let Some(at) = new_retry {
                self.replace(keys::retry(target, at, id), None, Some(Vec::new()));
            }
        }
        self.replace(key, old.as_deref(), state.map(Stored::encode));
        Ok(())
    }

    /// Removes an entry of an account's history that was read before.
    pub(crate) fn remove_history(
        &mut self,
        id: &AccountId,
        key: Vec<u8>,
        value: &[u8],
    ) -> Result<(), IndexError> {
        self.replace(key, Some(value), None);
        let Loaded { account, dirty, .. } = self.account(id)?;
        account.history = account.history.saturating_sub(1);
        *dirty = true;
        Ok(())
    }

    /// Keys of the batch so far.
    pub(crate) fn len(&self) -> usize {
        self.batch.len()
    }

    /// The batch, with the accounts of it and what the index then says of itself.
    pub(crate) fn finish(mut self) -> (Batch, Meta) {
        for (
            id,
            Loaded {
                stored, account, ..
            },
        ) in std::mem::take(&mut self.accounts)
            .into_iter()
            .filter(|(_, loaded)| loaded.dirty)
        {
            let (old, old_seq) =
                stored.map_or((None, None), |(bytes, seq)| (Some(bytes), Some(seq)));
            if old_seq != Some(account.changed_seq) {
                let value = keys::account(&id)[1..].to_vec();
                if let Some(seq) = old_seq {
                    self.replace(keys::change(seq), Some(&value), None);
                }
                self.replace(keys::change(account.changed_seq), None, Some(value));
            }
            self.meta.accounts += u64::from(old.is_none());
            self.replace(keys::account(&id), old.as_deref(), Some(account.encode()));
        }
        self.batch
            .insert(keys::META.to_vec(), Some(self.meta.encode()));
        (self.batch, self.meta)
    }

    fn account(&mut self, id: &AccountId) -> Result<&mut Loaded, IndexError> {
        if !self.accounts.contains_key(id) {
            let bytes = self.index.get(&keys::account(id))?;
            let account = bytes
                .as_deref()
                .map_or_else(|| Ok(Account::default()), Account::decode)?;
            let stored = bytes.map(|bytes| (bytes, account.changed_seq));
            self.accounts.insert(
                id.clone(),
                Loaded {
                    stored,
                    account,
                    dirty: false,
                },
            );
        }
        Ok(self.accounts.get_mut(id).expect("inserted above"))
    }

    /// The value of a key after the batch so far.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        match self.batch.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.index.get(key),
        }
    }

    /// The first entries with a prefix after the batch so far.
    fn oldest(&self, prefix: &[u8], count: usize) -> Result<Vec<Entry>, IndexError> {
        let mut entries = BTreeMap::new();
        if count == 0 {
            return Ok(Vec::new());
        }
        let end = keys::after(prefix.to_vec());
        self.index.scan(prefix, &end, &mut |key, value| {
            if !self.batch.contains_key(key) {
                entries.insert(key.to_vec(), value.to_vec());
            }
            match entries.len() < count {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        for (key, value) in self.batch.range(prefix.to_vec()..end) {
            entries.extend(value.clone().map(|value| (key.clone(), value)));
        }
        Ok(entries.into_iter().take(count).collect())
    }

    /// Sets a key from the value it has to another.
    fn replace(&mut self, key: Vec<u8>, old: Option<&[u8]>, new: Option<Vec<u8>>) {
        if let Some(old) = old {
            self.meta.entries = self.meta.entries.wrapping_sub(1);
            self.meta.checksum = self.meta.checksum.wrapping_sub(checksum(&key, old));
        }
        if let Some(new) = &new {
            self.meta.count(&key, new);
        }
        self.batch.insert(key, new);
    }
}

/// The number, time and fields of a new revision.
fn revise(account: &mut Account, before: &Profile, record: &Record) {
    account.revision += 1;
    account.changed_seq = record.seq;
    account.changed_at = record.entry.received;
    if account.revision == 1 || account.profile.status() != before.status() {
        account.status_revision = account.revision;
    }
    for field in account.profile.changed_fields(before) {
        account
            .field_revisions
            .insert(field.clone(), account.revision);
    }
    forget_gone_members(account);
}

/// Keeps the revisions of no more extra members that are gone than of those that are there.
fn forget_gone_members(account: &mut Account) {
    let fields = &account.profile.fields;
    let gone = account
        .field_revisions
        .iter()
        .filter(|(field, _)| matches!(field, Field::Extra(_)) && !fields.contains_key(field));
    let mut gone: Vec<_> = gone.map(|(field, &at)| (at, field.clone())).collect();
    gone.sort_unstable();
    for (_, field) in &gone[..gone.len().saturating_sub(MAX_EXTRA)] {
        account.field_revisions.remove(field);
    }
}

/// When a delivery that failed is tried again.
pub(super) fn retry_at(state: &DeliveryState) -> Option<Millis> {
    match state.trouble.as_ref()?.next {
        Next::Retry { at, .. } => Some(at),
        Next::Parked => None,
    }
}
