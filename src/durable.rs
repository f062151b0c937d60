//! Files that are whole or not there, whatever breaks in between.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Replaces a file by what `write` puts into it: written beside it, synced, renamed, and the rename synced.
///
/// # Errors
/// When any of it fails; the old file, if any, is then untouched.
pub fn replace<T>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let mut file = File::create(&unfinished)?;
    let finish = write(&mut file).and_then(|value| {
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        Ok(value)
    });
    if finish.is_err() {
        // What is left over is overwritten the next time; the first error is the one to tell of.
        fs::remove_file(&unfinished).ok();
    }
    let value = finish?;
    sync_parent(path)?;
    Ok(value)
}

/// Makes the creation, renaming or removal of `path` durable.
///
/// # Errors
/// When the folder cannot be synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
