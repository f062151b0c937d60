//! What `profilesync store …` does without a daemon. Each call holds the state directory, so a running daemon is in
//! the way, and the error says so.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    num::NonZeroU32,
    ops::ControlFlow,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::json;

use crate::{
    clock, durable,
    event::AccountId,
    journal::Reader,
    metrics::Metrics,
    store::{
        apply::Changes,
        codec::{Meta, Stored, decode_history},
        index::{Index, IndexError},
        keys::{self, Table},
        open::{self, Load},
        records::{Account, DeliveryState, TargetState},
        sled::SledIndex,
        snapshot::{self, Snapshot},
        state_dir::{HoldError, LastRun, StateDir, sync_folder},
    },
};

/// sled's cache for these commands.
const CACHE_BYTES: u64 = 64 << 20;
/// Records of one batch of a replay.
const RECORDS: usize = 256;

/// Why a command on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The state directory cannot be held.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// The state directory is none.
    #[error("{} is no state directory: it has no folder `journal`", .0.display())]
    NoState(PathBuf),
    /// The state directory is another user's, whose daemon could not use what is written here.
    #[error(
        "{} belongs to the user with the number {owner}, whose daemon cannot use what others write there",
        path.display()
    )]
    NotOwner {
        /// The state directory.
        path: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// The index cannot be used.
    #[error(
        "the index cannot be used: {0}; `profilesync store rebuild` builds it anew from snapshot and journal"
    )]
    Index(String),
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<IndexError> for OfflineError {
    fn from(error: IndexError) -> Self {
        Self::Index(error.0)
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> OfflineError {
    move |source| OfflineError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What is in a state directory, and what is wrong with it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Records in the journal.
    pub journal_records: u64,
    /// Their first and last sequence numbers.
    pub journal_range: Option<(u64, u64)>,
    /// Damaged places in the journal that reading stepped over.
    pub journal_damaged: u64,
    /// Snapshots by sequence number: `None` for a good one, else what is wrong.
    pub snapshots: Vec<(u64, Option<String>)>,
    /// Accounts in the index.
    pub accounts: u64,
    /// Sequence number applied to the index.
    pub applied: u64,
    /// Whether there is an index. Until the daemon starts there is none in a new state directory, or after a restore.
    pub built: bool,
    /// What is wrong with the index.
    pub index: Option<String>,
    /// Folders that were set aside.
    pub set_aside: Vec<PathBuf>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.journal_damaged == 0
            && self.index.is_none()
            && self.snapshots.iter().all(|(_, wrong)| wrong.is_none())
    }
}

fn hold(root: &Path) -> Result<StateDir, OfflineError> {
    if !root.join("journal").is_dir() {
        return Err(OfflineError::NoState(root.to_owned()));
    }
    be_owner(root)?;
    Ok(StateDir::hold(root)?)
}

/// Root may write anywhere, and would leave files that are root's.
fn be_owner(root: &Path) -> Result<(), OfflineError> {
    let folder = fs::metadata(root.join("journal")).or_else(|_| fs::metadata(root));
    match folder.map(|folder| folder.uid()) {
        Ok(owner) if owner != rustix::process::geteuid().as_raw() => Err(OfflineError::NotOwner {
            path: root.to_owned(),
            owner,
        }),
        _ => Ok(()),
    }
}

/// Opens the index and reads all of it.
fn good_index(dir: &StateDir) -> Result<(SledIndex, Meta), OfflineError> {
    if !dir.index().exists() {
        return Err(OfflineError::Index("there is none".into()));
    }
    if dir.is_building() {
        return Err(OfflineError::Index("it was never finished".into()));
    }
    let index = SledIndex::open(&dir.index(), CACHE_BYTES).map_err(IndexError::from)?;
    let snapshots = dir.snapshots().map_err(io_error(dir.root()))?;
    let meta = open::good(&index, snapshots.last().map(|(oldest, _)| *oldest), &|_| {
        Ok(())
    })?;
    Ok((index, meta))
}

/// Reads everything there is and says what is wrong with it. Changes nothing of value.
///
/// # Errors
/// When the directory cannot be held or listed.
pub fn check(root: &Path) -> Result<Report, OfflineError> {
    let dir = hold(root)?;
    let mut snapshots = Vec::new();
    for (applied, path) in dir.snapshots().map_err(io_error(root))? {
        snapshots.push((applied, prove(&path).err().map(|error| error.to_string())));
    }
    let good = snapshots.iter().filter(|(_, wrong)| wrong.is_none());
    let covered = good.map(|&(applied, _)| applied).max().unwrap_or_default();
    let metrics = Metrics::new();
    let (mut journal_records, mut journal_range) = (0, None);
    let journal = dir.journal();
    let start = Reader::oldest(&journal).map_err(io_error(&journal))?;
    replay(&dir, start.min(covered), &metrics, |records| {
        journal_records += records.len() as u64;
        let first = journal_range.map_or(records[0].seq, |(first, _)| first);
        journal_range = Some((first, records[records.len() - 1].seq));
        Ok(())
    })?;
    let built = dir.index().exists();
    let (meta, index) = match good_index(&dir) {
        _ if !built => (Meta::default(), None),
        Ok((_, meta)) => (meta, None),
        Err(error) => (Meta::default(), Some(error.to_string())),
    };
    Ok(Report {
        journal_records,
        journal_range,
        journal_damaged: metrics.journal_damaged.get(),
        snapshots,
        accounts: meta.accounts,
        applied: meta.applied,
        built,
        index,
        set_aside: dir.damaged().map_err(io_error(root))?,
    })
}

/// Reads a snapshot to its end. Says what is applied in it.
fn prove(path: &Path) -> io::Result<u64> {
    let mut snapshot = Snapshot::open(path)?;
    match open::read(&mut snapshot, &mut |_, _| Ok(()), &|_| Ok(())) {
        Ok(_) => Ok(snapshot.applied),
        Err(Load::Snapshot(error)) => Err(error),
        Err(Load::Index(error)) => Err(io::Error::other(error)),
    }
}

/// Calls `take` with the journal's records after `after`, some at a time.
fn replay(
    dir: &StateDir,
    after: u64,
    metrics: &Metrics,
    mut take: impl FnMut(&[crate::journal::Record]) -> Result<(), OfflineError>,
) -> Result<(), OfflineError> {
    let journal = dir.journal();
    let mut reader = Reader::open(&journal, after, metrics.clone()).map_err(io_error(&journal))?;
    loop {
        let records = reader.read(u64::MAX, RECORDS).map_err(io_error(&journal))?;
        if records.is_empty() {
            return Ok(());
        }
        take(&records)?;
    }
}

/// Writes everything as JSON, one object a line.
///
/// # Errors
/// When the index cannot be read or `out` cannot be written.
pub fn dump(root: &Path, out: &mut dyn Write) -> Result<(), OfflineError> {
    let dir = hold(root)?;
    let (index, _) = good_index(&dir)?;
    for table in [
        Table::Target,
        Table::Account,
        Table::Delivery,
        Table::History,
    ] {
        let (from, to) = table.range();
        let mut failed = None;
        index.scan(&from, &to, &mut |key, value| {
            let written = describe(table, key, value)
                .map_err(OfflineError::from)
                .and_then(|line| {
                    writeln!(out, "{line}").map_err(io_error(Path::new("the output")))
                });
            failed = written.err();
            if failed.is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        failed.map_or(Ok(()), Err)?;
    }
    Ok(())
}

fn describe(table: Table, key: &[u8], value: &[u8]) -> Result<serde_json::Value, IndexError> {
    let broken = || IndexError("a key does not decode".into());
    Ok(match table {
        Table::Account => {
            let id = keys::read_account_key(key).ok_or_else(broken)?;
            let account = Account::decode(value)?;
            json!({"account": account.profile.document(&id, account.revision)})
        }
        Table::Delivery => {
            let (target, id) = keys::read_delivery(key).ok_or_else(broken)?;
            json!({"delivery": {"target": target, "id": id, "state": DeliveryState::decode(value)?}})
        }
        Table::History => {
            let (id, stamp) = keys::read_history(key).ok_or_else(broken)?;
            let entry = decode_history(stamp, value)?;
            json!({"event": {
                "id": id, "seq": entry.seq, "received": entry.received, "command": entry.command,
                "body": String::from_utf8_lossy(&entry.body),
            }})
        }
        _ => {
            let name = String::from_utf8_lossy(&key[1..]);
            json!({"target": {"name": name, "state": TargetState::decode(value)?}})
        }
    })
}

/// Writes a snapshot of the store to a new file. Says how many accounts are in it.
///
/// # Errors
/// When the index is not good, or the file exists or cannot be written.
pub fn backup(root: &Path, to: &Path) -> Result<u64, OfflineError> {
    let dir = hold(root)?;
    let (index, meta) = good_index(&dir)?;
    if to.exists() {
        return Err(io_error(to)(io::Error::other("it exists; name a new file")));
    }
    snapshot::write(&index, meta.applied, to).map_err(io_error(to))?;
    Ok(meta.accounts)
}

/// Puts a backup in the place of the state; what was there is moved into a folder beside it, whose path is returned.
/// The journal stays, and its events after the backup are replayed, unless `discard_journal` moves it away too.
///
/// # Errors
/// When the backup is damaged, or files cannot be moved.
pub fn restore(root: &Path, from: &Path, discard_journal: bool) -> Result<PathBuf, OfflineError> {
    let applied = prove(from).map_err(io_error(from))?;
    be_owner(root)?;
    let dir = StateDir::hold(root)?;
    // First what can fail, so that a full disk changes nothing.
    let copy = root.join("restore");
    let mut backup = fs::File::open(from).map_err(io_error(from))?;
    durable::replace(&copy, |file| io::copy(&mut backup, file)).map_err(io_error(&copy))?;
    let aside = root.join(format!("before-restore-{}", clock::now()));
    fs::create_dir(&aside).map_err(io_error(&aside))?;
    let journal = discard_journal.then_some("journal");
    for name in ["index", "snapshots", "targets.json"]
        .into_iter()
        .chain(journal)
    {
        let old = root.join(name);
        if old.exists() {
            fs::rename(&old, aside.join(name)).map_err(io_error(&old))?;
        }
    }
    for name in ["snapshots", "journal"] {
        fs::create_dir_all(root.join(name)).map_err(io_error(root))?;
    }
    // Taken under load, a backup knows changes beyond its own number, which the journal must not number anew.
    dir.distrust();
    let snapshot = dir.snapshot(applied);
    fs::rename(&copy, &snapshot).map_err(io_error(&snapshot))?;
    for path in [&snapshot, &aside] {
        durable::sync_parent(path).map_err(io_error(path))?;
    }
    Ok(aside)
}

/// What a rebuild found.
#[derive(Debug, Serialize)]
pub struct Rebuilt {
    /// Accounts in the new index.
    pub accounts: u64,
    /// Sequence number applied.
    pub applied: u64,
    /// Whether the old index could be compared.
    pub compared: bool,
    /// Accounts whose revision or profile differ from the old index's.
    pub different: Vec<AccountId>,
}

/// Builds the index anew from snapshot and journal, and compares it with the old one, which is set aside.
///
/// # Errors
/// When the new index cannot be built.
pub fn rebuild(root: &Path) -> Result<Rebuilt, OfflineError> {
    let dir = hold(root)?;
    let old = match good_index(&dir) {
        Ok((index, _)) => Some(all_accounts(&index)?),
        Err(_) => None,
    };
    let aside = match dir.index().exists() {
        true => Some(dir.set_index_aside().map_err(io_error(root))?),
        false => None,
    };
    let opened = open::open(&dir, CACHE_BYTES, LastRun::Clean, &|_| Ok(()))?;
    let mut meta = opened.meta;
    let index = opened.index;
    replay(&dir, meta.applied, &Metrics::new(), |records| {
        let mut changes = Changes::new(&*index, meta.clone());
        for record in records {
            // What is too much goes when the daemon prunes.
            changes.record(record, NonZeroU32::MAX)?;
        }
        let (batch, after) = changes.finish();
        meta = after;
        Ok(index.apply(batch)?)
    })?;
    index.flush()?;
    let different = match &old {
        Some(old) => {
            let new = all_accounts(&*index)?;
            let ids = old
                .keys()
                .chain(new.keys().filter(|id| !old.contains_key(id)));
            ids.filter(|id| old.get(id) != new.get(id))
                .cloned()
                .collect()
        }
        None => Vec::new(),
    };
    drop(index);
    sync_folder(&dir.index()).map_err(io_error(root))?;
    if let Some(aside) = aside.filter(|_| old.is_some() && different.is_empty()) {
        // Nothing is to be learned from it.
        fs::remove_dir_all(&aside).map_err(io_error(&aside))?;
    }
    Ok(Rebuilt {
        accounts: meta.accounts,
        applied: meta.applied,
        compared: old.is_some(),
        different,
    })
}

/// Revision and checksum of the profile of every account.
fn all_accounts(index: &dyn Index) -> Result<BTreeMap<AccountId, (u64, u32)>, IndexError> {
    let (from, to) = Table::Account.range();
    let mut accounts = BTreeMap::new();
    let mut failed = None;
    index.scan(&from, &to, &mut |key, value| match (
        keys::read_account_key(key),
        Account::decode(value),
    ) {
        (Some(id), Ok(account)) => {
            let document = account.profile.document(&id, account.revision);
            let text = serde_json::to_vec(&document).expect("a document serialises");
            accounts.insert(id, (account.revision, crc32c::crc32c(&text)));
            ControlFlow::Continue(())
        }
        (_, decoded) => {
            failed = Some(
                decoded
                    .err()
                    .unwrap_or_else(|| IndexError("a key does not decode".into())),
            );
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(accounts), Err)
}
