//! Durable file work: folders, replacements and removals that survive a power cut, and errors that name the path.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use rustix::fs::Access;
use tempfile::NamedTempFile;

/// What new files may be at most; the process's umask takes its part. Others can read exports.
pub(crate) const MODE: u32 = 0o644;

const TEMPORARY: &str = ".tmp";

/// Letters between the prefix and the end of a temporary name.
const RANDOM: usize = 6;

/// Links that are followed one after the other; as many as Linux does.
const MAX_LINKS: usize = 40;

/// Why a file could not be written. Always the fault of the disk, never of an account.
#[derive(Debug)]
pub(crate) struct Trouble(String);

impl Trouble {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For `map_err`: `doing` is what was to be done with the path.
    pub(crate) fn at(doing: &str, path: &Path) -> impl Fn(io::Error) -> Self {
        let what = format!("cannot {doing} {}", path.display());
        move |error| {
            let hint = match error.kind() {
                ErrorKind::ReadOnlyFilesystem => {
                    "; under systemd, name the folder in ReadWritePaths= of the unit"
                }
                ErrorKind::PermissionDenied => "; give the daemon's user the right to write there",
                ErrorKind::StorageFull => "; it goes on by itself once there is space",
                _ => "",
            };
            Self(format!("{what}: {error}{hint}"))
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Creates a folder and the missing ones above it, durably.
pub(crate) fn create_folder(folder: &Path) -> Result<(), Trouble> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = parent(folder);
    create_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => {
            Err(Trouble::at("create the folder", folder)(error))
        }
        _ => sync_folder(parent),
    }
}

/// The folder of a path; of a bare name it is the current one.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Where a file's symbolic links lead, whether or not there is a file yet: one that is put in its place must not
/// replace the link.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    let mut end = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&end) {
            Ok(to) => end = parent(&end).join(to),
            Err(_) => break,
        }
    }
    end
}

/// Makes new, renamed and removed names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Trouble> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(Trouble::at("sync the folder", folder))
}

/// What a file holds; `None` when there is none.
pub(crate) fn open(path: &Path) -> Result<Option<File>, Trouble> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Trouble::at("read", path)(error)),
    }
}

/// Removes a file, if there is one. Durable with the next [`sync_folder`].
pub(crate) fn remove(path: &Path) -> Result<(), Trouble> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Trouble::at("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// A file under a temporary name, that takes the place of another once it is whole.
pub(crate) struct Replacement {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Replacement {
    /// Begins a file beside `path`. `prefix` marks leftovers for [`remove_leftovers`].
    pub(crate) fn new(path: &Path, prefix: &str) -> Result<Self, Trouble> {
        tempfile::Builder::new()
            .prefix(prefix)
            .rand_bytes(RANDOM)
            .suffix(TEMPORARY)
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(parent(path))
            .and_then(|temporary| {
                keep_readers(temporary.as_file(), path)?;
                let path = path.to_owned();
                Ok(Self { temporary, path })
            })
            .map_err(Trouble::at("write", path))
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Makes the content durable, still under the temporary name.
    pub(crate) fn sync(&self) -> Result<(), Trouble> {
        self.file()
            .sync_all()
            .map_err(Trouble::at("sync", &self.path))
    }

    /// Takes the place. Durable with the next [`sync_folder`].
    pub(crate) fn place(self) -> Result<(), Trouble> {
        self.temporary
            .persist(&self.path)
            .map_err(|error| Trouble::at("replace", &self.path)(error.error))?;
        Ok(())
    }
}

/// Gives a file the mode of the one it is to replace, and its group if the daemon may: who can read it is not ours to
/// change.
pub(crate) fn keep_readers(file: &File, replaced: &Path) -> io::Result<()> {
    let Ok(old) = fs::metadata(replaced) else {
        return Ok(());
    };
    if old.gid() != file.metadata()?.gid() {
        // Only members of a group may give files to it.
        let _ = fchown(file, None, Some(old.gid()));
    }
    file.set_permissions(old.permissions())
}

/// Removes temporary files that a crash left.
pub(crate) fn remove_leftovers(folder: &Path, prefix: &str) -> Result<(), Trouble> {
    for entry in fs::read_dir(folder).map_err(Trouble::at("list", folder))? {
        let entry = entry.map_err(Trouble::at("list", folder))?;
        let name = entry.file_name();
        let bytes = name.as_encoded_bytes();
        // A longer name can be that of a target whose prefix begins with this one.
        if bytes.len() == prefix.len() + RANDOM + TEMPORARY.len()
            && bytes.starts_with(prefix.as_bytes())
            && bytes.ends_with(TEMPORARY.as_bytes())
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether files could be written: in the folder or, while it is missing, in the nearest one above it that exists.
pub(crate) fn may_write(folder: &Path, file: Option<&Path>) -> Result<(), Trouble> {
    if let Some(file) = file.filter(|file| file.is_dir()) {
        return Err(Trouble(format!(
            "{} is a folder, and a file is to be there",
            file.display()
        )));
    }
    let end = file.map(resolve);
    let mut existing = end.as_deref().map_or(folder, parent);
    while !existing.exists() && existing != parent(existing) {
        existing = parent(existing);
    }
    if !existing.is_dir() {
        return Err(Trouble(format!("{} is no folder", existing.display())));
    }
    rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| Trouble::at("write into", existing)(error.into()))
}
