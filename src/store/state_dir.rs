//! The state directory: what lies where, who holds it, and whether the index in it can be trusted.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Seek, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{clock, durable, journal};

/// A state directory that this process holds.
pub struct StateDir {
    root: PathBuf,
    /// The lock is held as long as this is open.
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Another process has it: exit 75.
    #[error(
        "the state directory {} is held by {holder}; stop that process, or give this one another store.path",
        path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who, as it says itself.
        holder: String,
    },
    /// It cannot be made or locked.
    #[error("the state directory cannot be used because of {}", path.display())]
    Io {
        /// The directory, or what of it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How the last process that held the directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// It closed everything, or there was none.
    Clean,
    /// It died, but the kernel lived on, and with it what was written.
    Died,
    /// The kernel went down with it: what was not synced may be lost.
    Rebooted,
}

impl StateDir {
    /// Makes the directory where it is missing, and locks it.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be made or locked.
    pub fn hold(root: &Path) -> Result<Self, HoldError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| HoldError::Io { path, source }
        };
        for folder in [
            root.to_owned(),
            root.join("journal"),
            root.join("snapshots"),
        ] {
            // Profiles are nobody else's business.
            let mut private = DirBuilder::new();
            private.recursive(true).mode(0o700);
            private.create(&folder).map_err(io(&folder))?;
        }
        let path = root.join("lock");
        // Who can read it can hold it.
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.read_to_string(&mut holder).map_err(io(&path))?;
                return Err(HoldError::Held {
                    path: root.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
        }
        let snapshots = root.join("snapshots");
        remove_unfinished(&snapshots).map_err(io(&snapshots))?;
        // Only informs a second process; a full disk must not keep the daemon from starting.
        let note = format!("process {}\n", std::process::id());
        if lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(note.as_bytes()))
            .is_err()
        {
            tracing::warn!(path = %root.display(), "cannot note the process id in the lock file");
        }
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The journal's segments.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// A sequence number that is not below any in use, as far as can be told without the journal.
    #[must_use]
    pub fn journal_floor(&self) -> u64 {
        let newest = self
            .snapshots()
            .ok()
            .and_then(|found| found.first().map(|(applied, _)| *applied));
        let lost = self.index().exists()
            && matches!(journal::first_seq(&self.journal()), Ok(None) | Err(_));
        // Microseconds since 1970 are above whatever a lost journal gave out.
        newest.unwrap_or(0).max(if lost {
            clock::now().saturating_mul(1000)
        } else {
            0
        })
    }

    pub(crate) fn snapshot(&self, applied: u64) -> PathBuf {
        self.root
            .join("snapshots")
            .join(format!("{applied:020}.snapshot"))
    }

    /// The sequence numbers and paths of all snapshots, the newest first.
    pub(crate) fn snapshots(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join("snapshots"))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".snapshot"));
            if let Some(applied) = name.and_then(number) {
                found.push((applied, path));
            }
        }
        found.sort_unstable_by(|left, right| right.cmp(left));
        Ok(found)
    }

    /// Moves a damaged snapshot aside: it must not count among those that are kept. It goes when there are new ones.
    pub(crate) fn set_snapshot_aside(&self, path: &Path) -> io::Result<()> {
        fs::rename(path, path.with_extension(DAMAGED))?;
        durable::sync_parent(path)
    }

    /// Removes the snapshots that were set aside.
    pub(crate) fn remove_damaged_snapshots(&self) -> io::Result<()> {
        remove_all(&self.root.join("snapshots"), DAMAGED)
    }

    /// What was decided about targets.
    pub(crate) fn decisions(&self) -> PathBuf {
        self.root.join("targets.json")
    }

    /// sled's folder.
    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Notes that the index is being built, until [`StateDir::end_building`]. What a kill leaves of it is no damage.
    pub(crate) fn begin_building(&self) -> io::Result<()> {
        File::create(self.building_note()).map(drop)
    }

    /// The index is whole.
    pub(crate) fn end_building(&self) {
        if let Err(error) = fs::remove_file(self.building_note()) {
            tracing::warn!(%error, "cannot note that the index is whole; it will be built anew");
        }
    }

    /// Whether a build was begun and not ended.
    pub(crate) fn is_building(&self) -> bool {
        self.building_note().exists()
    }

    fn building_note(&self) -> PathBuf {
        self.root.join("building")
    }

    /// Moves the index aside, and removes what was moved aside before: one copy is enough to look into, and disk is
    /// bounded.
    pub(crate) fn set_index_aside(&self) -> io::Result<PathBuf> {
        self.remove_damaged()?;
        let aside = self.root.join(format!("damaged-{}", clock::now()));
        fs::rename(self.index(), &aside)?;
        durable::sync_parent(&aside)?;
        Ok(aside)
    }

    /// Removes what was set aside; whether there was anything.
    pub(crate) fn remove_damaged(&self) -> io::Result<bool> {
        let damaged = self.damaged()?;
        for old in &damaged {
            match old.is_dir() {
                true => fs::remove_dir_all(old)?,
                false => fs::remove_file(old)?,
            }
        }
        Ok(!damaged.is_empty())
    }

    /// What was set aside.
    pub(crate) fn damaged(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("damaged-") {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Tells how the last run ended, and notes that this one began. Unless the last one ended cleanly on this boot of
    /// the kernel or any other, sled's files are only as good as the page cache they were written to.
    #[must_use]
    pub fn begin_run(&self) -> LastRun {
        let boot = boot_id();
        let last = match fs::read_to_string(self.run_note()) {
            Ok(note) => match note.trim().split_once(' ') {
                Some((_, "clean")) => LastRun::Clean,
                Some((then, _)) if boot.as_deref() == Some(then) => LastRun::Died,
                _ => LastRun::Rebooted,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.index().exists() => {
                LastRun::Clean
            }
            Err(_) => LastRun::Rebooted,
        };
        // Until it is rebuilt, an index that is not trusted must not be trusted by the next run either.
        let boot = boot.filter(|_| last != LastRun::Rebooted);
        self.note_run(boot.as_deref(), "running");
        last
    }

    /// Notes that the index is this run's own.
    pub(crate) fn trust(&self) {
        self.note_run(boot_id().as_deref(), "running");
    }

    /// Notes that everything is closed and synced.
    pub(crate) fn end_run(&self) {
        self.note_run(boot_id().as_deref(), "clean");
    }

    /// Notes that the index is not what the last run left: the next one trusts nothing, and leaves out numbers.
    pub(crate) fn distrust(&self) {
        self.note_run(None, "replaced");
    }

    fn run_note(&self) -> PathBuf {
        self.root.join("boot")
    }

    fn note_run(&self, boot: Option<&str>, how: &str) {
        let note = format!("{} {how}\n", boot.unwrap_or("unknown"));
        let path = self.run_note();
        if let Err(error) = durable::replace(&path, |file| file.write_all(note.as_bytes())) {
            tracing::warn!(path = %path.display(), %error, "cannot note how this run stands");
            // Without a note the index is rebuilt, which is safe; with a wrong one it would be trusted.
            fs::remove_file(&path).ok();
        }
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        folder_bytes(&self.root)
    }
}

/// The number in a snapshot's name, if it is one that this program gives.
fn number(name: &str) -> Option<u64> {
    let digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = name.parse().ok().filter(|_| digits)?;
    // The journal gives out none beyond, and must be able to go on from it.
    (number < 1 << 62).then_some(number)
}

/// The extension of a snapshot that was set aside.
const DAMAGED: &str = "damaged";

/// Removes what [`durable::replace`] left unfinished when it was killed.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    remove_all(folder, "tmp")
}

fn remove_all(folder: &Path, extension: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Syncs every file of a folder, and the folder.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folder(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    // A file that vanishes while we look has no bytes.
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// The kernel's id of this boot; `None` where `/proc/sys` is hidden.
fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
