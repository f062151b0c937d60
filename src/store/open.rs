//! Getting a good index: opening the one on disk if it can be trusted and proves whole, or building it anew from the
//! newest good snapshot. The journal does the rest.

use std::{
    collections::HashMap,
    fs, io, mem,
    num::NonZero,
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use crate::{
    durable,
    store::{
        apply::{Changes, retry_at},
        codec::{Meta, Stored, checksum},
        index::{Index, IndexError, OpenError},
        keys,
        records::{Account, DeliveryState, TargetId, TargetState},
        sled::SledIndex,
        snapshot::{RESERVE_BYTES, Snapshot},
        state_dir::{LastRun, StateDir},
    },
};

/// Threads that fill an index at most; sled's own locks keep more of them from being of use.
const MOST_THREADS: usize = 4;
/// Entries handed to such a thread at once.
const FILL_ENTRIES: usize = 1024;

/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);
/// Where entries go.
pub(crate) type Put<'a> = &'a mut dyn FnMut(Vec<u8>, Vec<u8>) -> Result<(), IndexError>;

/// An index, and what it says of itself.
pub(crate) struct Opened {
    pub(crate) index: Box<dyn Index>,
    pub(crate) meta: Meta,
    /// Whether there was one before, which is set aside or lost.
    pub(crate) rebuilt: bool,
}

/// What the caller may tell people meanwhile. Its error ends the opening.
pub(crate) type Told<'a> = &'a (dyn Fn(Progress) -> Result<(), IndexError> + Sync);

/// How far an opening is.
pub(crate) enum Progress {
    Checking,
    Rebuilding { entries: u64 },
}

/// Opens the index, or sets it aside and rebuilds it.
pub(crate) fn open(
    dir: &StateDir,
    cache_bytes: u64,
    last_run: LastRun,
    told: Told<'_>,
) -> Result<Opened, IndexError> {
    let mut rebuilt = false;
    if dir.index().symlink_metadata().is_ok() {
        match open_existing(dir, cache_bytes, last_run, told)? {
            Found::Good(index, meta) => {
                return Ok(Opened {
                    index: Box::new(index),
                    meta,
                    rebuilt,
                });
            }
            Found::Unfinished => remove(dir)?,
            Found::Damaged(reason) => {
                let aside = dir
                    .set_index_aside()
                    .map_err(failed("the damaged index cannot be moved aside"))?;
                tracing::error!(%reason, aside = %aside.display(), "the index is set aside and rebuilt");
                rebuilt = true;
            }
        }
    }
    let (index, meta) = rebuild(dir, cache_bytes, told)?;
    rebuilt |= meta.applied > 0;
    Ok(Opened {
        index: Box::new(index),
        meta,
        rebuilt,
    })
}

/// What the index on disk is.
enum Found {
    Good(SledIndex, Meta),
    /// A build that was killed.
    Unfinished,
    /// Not to be trusted.
    Damaged(IndexError),
}

/// # Errors
/// When it cannot be told now.
fn open_existing(
    dir: &StateDir,
    cache_bytes: u64,
    last_run: LastRun,
    told: Told<'_>,
) -> Result<Found, IndexError> {
    told(Progress::Checking)?;
    if dir.is_building() {
        return Ok(Found::Unfinished);
    }
    if last_run == LastRun::Rebooted {
        let reason = "the machine went down without a clean stop";
        return Ok(Found::Damaged(IndexError(reason.into())));
    }
    if !dir.index().is_dir() {
        return Ok(Found::Damaged(IndexError("it is no folder".into())));
    }
    let index = match SledIndex::open(&dir.index(), cache_bytes) {
        Ok(index) => index,
        Err(OpenError::Damaged(reason)) => return Ok(Found::Damaged(reason)),
        Err(OpenError::NotNow(error)) => return Err(error),
    };
    let snapshots = dir
        .snapshots()
        .map_err(failed("the snapshots cannot be listed"))?;
    let oldest = snapshots.last().map(|(oldest, _)| *oldest);
    match good(&index, oldest, told) {
        Ok(meta) => Ok(Found::Good(index, meta)),
        Err(reason) => {
            // A check that was broken off has found nothing.
            told(Progress::Checking)?;
            Ok(Found::Damaged(reason))
        }
    }
}

/// What an index says of itself, if it is true.
pub(crate) fn good(
    index: &dyn Index,
    oldest_snapshot: Option<u64>,
    told: Told<'_>,
) -> Result<Meta, IndexError> {
    let Some(meta) = index.get(keys::META)? else {
        return Err(IndexError("the index lacks what it says of itself".into()));
    };
    let meta = Meta::decode(&meta)?;
    verify(index, &meta, told)?;
    if oldest_snapshot.is_some_and(|oldest| meta.applied < oldest) {
        // Damage can take sled back to an older state, whole in itself; the journal before the oldest snapshot is gone.
        return Err(IndexError("the index is older than the journal".into()));
    }
    Ok(meta)
}

/// Reads everything: sled notices some damage only then, and loses some silently. It takes a while for the processor, so
/// every table has a thread.
pub(crate) fn verify(index: &dyn Index, meta: &Meta, told: Told<'_>) -> Result<(), IndexError> {
    let mut bounds = keys::Table::ALL.map(|table| table.range().1);
    // What is in no table counts too.
    bounds[bounds.len() - 1] = vec![u8::MAX];
    let mut from = Vec::new();
    let (mut entries, mut sum) = (0_u64, 0_u64);
    thread::scope(|scope| -> Result<(), IndexError> {
        let parts = bounds.map(|to| {
            let from = mem::replace(&mut from, to.clone());
            scope.spawn(move || count(index, &from, &to, told))
        });
        parts.into_iter().try_for_each(|part| {
            let panicked = |_| Err(IndexError("checking the index panicked".into()));
            let (part_entries, part_sum) = part.join().unwrap_or_else(panicked)?;
            entries += part_entries;
            sum = sum.wrapping_add(part_sum);
            Ok(())
        })
    })?;
    if entries != meta.entries {
        return Err(IndexError(format!(
            "the index has {entries} entries and should have {}",
            meta.entries
        )));
    }
    if sum != meta.checksum {
        return Err(IndexError("the index has a wrong checksum".into()));
    }
    Ok(())
}

/// How many entries a range has, and their checksum.
fn count(
    index: &dyn Index,
    from: &[u8],
    to: &[u8],
    told: Told<'_>,
) -> Result<(u64, u64), IndexError> {
    let (mut entries, mut sum) = (0, 0_u64);
    let mut go_on = Ok(());
    index.scan(from, to, &mut |key, value| {
        if key != keys::META {
            entries += 1;
            sum = sum.wrapping_add(checksum(key, value));
        }
        if entries % FILL_ENTRIES as u64 == 0 {
            go_on = told(Progress::Checking);
        }
        match go_on {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    go_on.map(|()| (entries, sum))
}

fn rebuild(
    dir: &StateDir,
    cache_bytes: u64,
    told: Told<'_>,
) -> Result<(SledIndex, Meta), IndexError> {
    let snapshots = dir
        .snapshots()
        .map_err(failed("the snapshots cannot be listed"))?;
    dir.begin_building()
        .map_err(failed("a new index cannot be begun"))?;
    for (applied, path) in snapshots {
        match load(dir, cache_bytes, (applied, &path), told) {
            Ok(loaded) => {
                dir.end_building();
                tracing::info!(
                    applied,
                    entries = loaded.1.entries,
                    "the index is rebuilt from a snapshot"
                );
                return Ok(loaded);
            }
            // It is whole, for all that is known: an older one in its place would lose what only this one has.
            Err(Load::Snapshot(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                remove(dir)?;
                let path = path.display();
                return Err(IndexError(format!(
                    "the snapshot {path} cannot be read: {error}"
                )));
            }
            Err(Load::Snapshot(error)) => {
                tracing::error!(path = %path.display(), %error, "a snapshot is passed over");
                if is_damage(&error) {
                    dir.set_snapshot_aside(&path)
                        .map_err(failed("a damaged snapshot cannot be moved aside"))?;
                }
                remove(dir)?;
            }
            Err(Load::Index(error)) => return Err(error),
        }
    }
    let index = SledIndex::open(&dir.index(), cache_bytes)?;
    let (batch, meta) = Changes::new(&index, Meta::default()).finish();
    index.apply(batch)?;
    dir.end_building();
    Ok((index, meta))
}

/// Whether a snapshot that could not be read will never be read.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Whose fault a failed load is.
#[derive(Debug)]
pub(crate) enum Load {
    Snapshot(io::Error),
    Index(IndexError),
}

impl From<IndexError> for Load {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// Builds the index on disk from a snapshot.
fn load(
    dir: &StateDir,
    cache_bytes: u64,
    (applied, path): (u64, &Path),
    told: Told<'_>,
) -> Result<(SledIndex, Meta), Load> {
    let mut snapshot = Snapshot::open(path).map_err(Load::Snapshot)?;
    if snapshot.applied != applied {
        let what = format!("it is that of {} under another name", snapshot.applied);
        return Err(Load::Snapshot(io::Error::new(
            io::ErrorKind::InvalidData,
            what,
        )));
    }
    let index = SledIndex::open(&dir.index(), cache_bytes).map_err(IndexError::from)?;
    let fill = |entries| index.fill(entries);
    let leave_room = |progress| {
        told(progress)?;
        leave_room(dir)
    };
    let mut meta = filled(fill, |put| read(&mut snapshot, put, &leave_room))?;
    meta.applied = snapshot.applied;
    index.apply([(keys::META.to_vec(), Some(meta.encode()))].into())?;
    Ok((index, meta))
}

/// Puts everything that an index of the snapshot has, but what it says of itself: that is returned.
pub(crate) fn read(snapshot: &mut Snapshot, put: Put<'_>, told: Told<'_>) -> Result<Meta, Load> {
    let mut meta = Meta::default();
    let mut epochs = HashMap::new();
    loop {
        let block = snapshot.next_block().map_err(Load::Snapshot)?;
        if block.is_empty() {
            return Ok(meta);
        }
        for (key, value) in block {
            let undecodable = |IndexError(reason)| {
                Load::Snapshot(io::Error::new(io::ErrorKind::InvalidData, reason))
            };
            let entries = restored(key, value, &mut epochs, &mut meta).map_err(undecodable)?;
            for (key, value) in entries {
                meta.count(&key, &value);
                put(key, value)?;
            }
        }
        let entries = meta.entries;
        told(Progress::Rebuilding { entries })?;
    }
}

/// Hands what `read` puts to threads that fill the index: sled takes one entry after the other on each of them, and a
/// core for it.
pub(crate) fn filled<T>(
    fill: impl Fn(Vec<Entry>) -> Result<(), IndexError> + Sync,
    read: impl FnOnce(Put<'_>) -> Result<T, Load>,
) -> Result<T, Load> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(MOST_THREADS);
    let (sender, receiver) = mpsc::sync_channel::<Vec<Entry>>(2 * threads);
    // The workers' alone: when all of them have failed, nobody must wait for one to take more.
    let receiver = Arc::new(Mutex::new(receiver));
    let fill = |receiver: Arc<Mutex<mpsc::Receiver<_>>>| loop {
        // The lock is free while the entries are put.
        let entries = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        match entries {
            Ok(entries) => fill(entries)?,
            Err(mpsc::RecvError) => return Ok(()),
        }
    };
    thread::scope(|scope| {
        let fill = &fill;
        let workers: Vec<_> = (0..threads)
            .map(|_| Arc::clone(&receiver))
            .map(|receiver| scope.spawn(move || fill(receiver)))
            .collect();
        drop(receiver);
        let mut waiting = Vec::new();
        let read = read(&mut |key, value| {
            waiting.push((key, value));
            if waiting.len() < FILL_ENTRIES {
                return Ok(());
            }
            let gone = |_| IndexError("the index takes no entries".into());
            sender.send(mem::take(&mut waiting)).map_err(gone)
        });
        if read.is_ok() {
            // Refused only when every worker has failed, which says why below.
            sender.send(waiting).ok();
        }
        drop(sender);
        for worker in workers {
            let panicked = |_| Err(IndexError("filling the index panicked".into()));
            worker.join().unwrap_or_else(panicked)?;
        }
        read
    })
}

/// An entry of a snapshot, and what is derived from it. Targets come first: a delivery that was written after them, by a
/// target they do not have, or in a later epoch, says nothing: its target's number and epoch will be given out again.
fn restored(
    key: Vec<u8>,
    mut value: Vec<u8>,
    epochs: &mut HashMap<TargetId, u32>,
    meta: &mut Meta,
) -> Result<Vec<Entry>, IndexError> {
    let broken = || IndexError("a key of the snapshot does not decode".into());
    let mut entries = Vec::with_capacity(2);
    match keys::Table::of(&key).ok_or_else(broken)? {
        keys::Table::Account => {
            let account = Account::decode(&value)?;
            entries.push((keys::change(account.changed_seq), key[1..].to_vec()));
            meta.accounts += 1;
        }
        keys::Table::Delivery => {
            let (target, id) = keys::read_delivery(&key).ok_or_else(broken)?;
            let mut state = DeliveryState::decode(&value)?;
            let Some(&epoch) = epochs.get(&target) else {
                return Ok(entries);
            };
            if state.epoch > epoch {
                state.epoch = 0;
                value = state.encode();
            }
            if let Some(at) = retry_at(&state) {
                entries.push((keys::retry(target, at, &id), Vec::new()));
            }
        }
        keys::Table::Target => {
            let state = TargetState::decode(&value)?;
            epochs.insert(state.id, state.epoch);
        }
        keys::Table::History => {}
        keys::Table::Meta | keys::Table::Change | keys::Table::Retry => return Err(broken()),
    }
    entries.push((key, value));
    Ok(entries)
}

/// An index that fills the disk would keep the journal from taking events. What was set aside goes first.
fn leave_room(dir: &StateDir) -> Result<(), IndexError> {
    let room = || durable::leave(RESERVE_BYTES, &dir.index());
    match room() {
        Err(_) if dir.remove_damaged().unwrap_or(false) => room(),
        room => room,
    }
    .map_err(failed("the index cannot be rebuilt"))
}

/// Removes an index whose building was cut off.
pub(crate) fn remove_unfinished(dir: &StateDir) -> Result<(), IndexError> {
    match dir.is_building() {
        true => remove(dir),
        false => Ok(()),
    }
}

fn remove(dir: &StateDir) -> Result<(), IndexError> {
    match fs::remove_dir_all(dir.index()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("the unfinished index cannot be removed")(error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> IndexError {
    move |error| IndexError(format!("{what}: {error}"))
}
