//! Getting a good index: opening the one on disk if it can be trusted and proves whole, or building it anew from the
//! newest good snapshot. The journal does the rest.

use std::{fs, io, ops::ControlFlow};

use crate::store::{
    apply::{Changes, checksum},
    codec::{Meta, Stored},
    index::{Index, IndexError},
    keys,
    sled::SledIndex,
    snapshot::Snapshot,
    state_dir::{LastRun, StateDir},
};

/// Entries of a batch while rebuilding.
const REBUILD_BATCH: usize = 2048;

/// An index, and what it says of itself.
pub(crate) struct Opened {
    pub(crate) index: Box<dyn Index>,
    pub(crate) meta: Meta,
    /// Whether an index had to be set aside.
    pub(crate) set_aside: bool,
}

/// What the caller may tell people meanwhile.
pub(crate) enum Progress {
    Checking,
    Rebuilding { entries: u64 },
}

/// Opens the index, or sets it aside and rebuilds it.
pub(crate) fn open(
    dir: &StateDir,
    cache_bytes: u64,
    last_run: LastRun,
    progress: &dyn Fn(Progress),
) -> Result<Opened, IndexError> {
    let mut set_aside = false;
    if dir.index().exists() {
        progress(Progress::Checking);
        match open_existing(dir, cache_bytes, last_run) {
            Ok(Some((index, meta))) => {
                return Ok(Opened {
                    index: Box::new(index),
                    meta,
                    set_aside: false,
                });
            }
            Ok(None) => remove(dir)?,
            Err(reason) => {
                let aside = dir
                    .set_index_aside()
                    .map_err(failed("the damaged index cannot be moved aside"))?;
                tracing::error!(%reason, aside = %aside.display(), "the index is set aside and rebuilt");
                set_aside = true;
            }
        }
    }
    let (index, meta) = rebuild(dir, cache_bytes, progress)?;
    Ok(Opened {
        index: Box::new(index),
        meta,
        set_aside,
    })
}

/// The index on disk if it is whole; `None` if it was never finished.
fn open_existing(
    dir: &StateDir,
    cache_bytes: u64,
    last_run: LastRun,
) -> Result<Option<(SledIndex, Meta)>, IndexError> {
    if last_run == LastRun::Rebooted {
        return Err(IndexError(
            "the machine went down without a clean stop".into(),
        ));
    }
    let index = SledIndex::open(&dir.index(), cache_bytes)?;
    let Some(meta) = index.get(keys::META)? else {
        return Ok(None);
    };
    let meta = Meta::decode(&meta)?;
    verify(&index, &meta)?;
    let snapshots = dir
        .snapshots()
        .map_err(failed("the snapshots cannot be listed"))?;
    if snapshots
        .last()
        .is_some_and(|(oldest, _)| meta.applied < *oldest)
    {
        // Damage can take sled back to an older state, whole in itself; the journal before the oldest snapshot is gone.
        return Err(IndexError("the index is older than the journal".into()));
    }
    Ok(Some((index, meta)))
}

/// Reads everything: sled notices some damage only then, and loses some silently.
pub(crate) fn verify(index: &dyn Index, meta: &Meta) -> Result<(), IndexError> {
    let (mut entries, mut sum) = (0_u64, 0_u64);
    index.scan(&[], &[u8::MAX], &mut |key, value| {
        if key != keys::META {
            entries += 1;
            sum = sum.wrapping_add(checksum(key, value));
        }
        ControlFlow::Continue(())
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

fn rebuild(
    dir: &StateDir,
    cache_bytes: u64,
    progress: &dyn Fn(Progress),
) -> Result<(SledIndex, Meta), IndexError> {
    for (applied, path) in dir
        .snapshots()
        .map_err(failed("the snapshots cannot be listed"))?
    {
        match load(dir, cache_bytes, &path, progress) {
            Ok(loaded) => {
                tracing::info!(
                    applied,
                    entries = loaded.1.entries,
                    "the index is rebuilt from a snapshot"
                );
                return Ok(loaded);
            }
            Err(Load::Snapshot(error)) => {
                tracing::error!(path = %path.display(), %error, "a snapshot is passed over");
                remove(dir)?;
            }
            Err(Load::Index(error)) => return Err(error),
        }
    }
    let index = SledIndex::open(&dir.index(), cache_bytes)?;
    let (batch, meta) = Changes::new(&index, Meta::default()).finish();
    index.apply(batch)?;
    Ok((index, meta))
}

/// Whose fault a failed load is.
enum Load {
    Snapshot(io::Error),
    Index(IndexError),
}

impl From<IndexError> for Load {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

fn load(
    dir: &StateDir,
    cache_bytes: u64,
    path: &std::path::Path,
    progress: &dyn Fn(Progress),
) -> Result<(SledIndex, Meta), Load> {
    let mut snapshot = Snapshot::open(path).map_err(Load::Snapshot)?;
    let index = SledIndex::open(&dir.index(), cache_bytes)?;
    // The index says what it is only when it is whole; until then it counts as never finished.
    let mut meta = Meta::default();
    let mut waiting = Vec::new().into_iter();
    loop {
        let mut changes = Changes::new(&index, meta.clone());
        while changes.len() < REBUILD_BATCH {
            if waiting.len() == 0 {
                waiting = snapshot.next_block().map_err(Load::Snapshot)?.into_iter();
            }
            let Some((key, value)) = waiting.next() else {
                break;
            };
            changes.restore(key, value)?;
        }
        let done = changes.len() == 0;
        let (mut batch, after) = changes.finish();
        meta = after;
        if done {
            meta.applied = snapshot.applied;
            batch.insert(keys::META.to_vec(), Some(meta.encode()));
            index.apply(batch)?;
            return Ok((index, meta));
        }
        batch.remove(keys::META);
        index.apply(batch)?;
        progress(Progress::Rebuilding {
            entries: meta.entries,
        });
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
