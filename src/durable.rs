//! Files that are whole or not there, whatever breaks in between.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Replaces a file by what `write` puts into it: written beside it, synced, renamed, and the rename synced.
///
/// # Errors
/// When any of it fails; the old file, if any, is then untouched.
pub fn replace<T>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let mut file = create(Path::new(&unfinished))?;
    let finish = write(&mut file).and_then(|value| {
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        Ok(value)
    });
    if finish.is_err() {
        // What is left over is overwritten the next time a file of this name is written; the first error is the one to
        // tell of.
        fs::remove_file(&unfinished).ok();
    }
    let value = finish?;
    sync_parent(path)?;
    Ok(value)
}

/// A new file for nobody but its owner. A link that somebody put there is not followed.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the creation, renaming or removal of `path` durable.
///
/// # Errors
/// When the folder cannot be synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Refuses to write on when less than `reserve` bytes are left where `path` is to be: what fills a disk to its end takes
/// others along.
///
/// # Errors
/// Then, and when it cannot be told.
pub fn leave(reserve: u64, path: &Path) -> io::Result<()> {
    if free_bytes(folder(path))? < reserve {
        let what = format!("less than {} MiB would be left on the disk", reserve >> 20);
        return Err(io::Error::new(io::ErrorKind::StorageFull, what));
    }
    Ok(())
}

/// Bytes that the file system of a folder has left for us.
///
/// # Errors
/// When it does not tell.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_file_is_its_owners_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, precious) = (folder.path().join("new"), folder.path().join("precious"));
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, folder.path().join("new.tmp")).unwrap();
        replace(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode, 0o100_600);
    }
}
