//! What a local folder needs beside the library: it must be there, and removals must last.

use std::{fs::File, io, path::PathBuf};

use object_store::{Error, path::Path};
use rustix::fs::Access;
use tokio::task::spawn_blocking;

/// Makes the removal of an object durable; the library does so for writes only.
pub(crate) async fn sync_parent(object: &Path) -> Result<(), Error> {
    let mut folder = PathBuf::from(format!("/{object}"));
    folder.pop();
    let synced = spawn_blocking(move || File::open(folder)?.sync_all()).await;
    match synced.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::Generic {
            store: "folder",
            source: Box::new(error),
        }),
    }
}

/// Whether objects could be written. A folder that is missing is not made: it may be a mount that is gone.
pub(crate) async fn usable(folder: &std::path::Path) -> Result<(), String> {
    let path = folder.to_owned();
    let checked = spawn_blocking(move || {
        if !std::fs::metadata(&path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(rustix::fs::access(
            &path,
            Access::WRITE_OK | Access::EXEC_OK,
        )?)
    })
    .await;
    let place = folder.display();
    match checked.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "the folder {place} does not exist: create it, or mount what belongs there"
        )),
        Err(error) => Err(format!("cannot write into {place}: {error}")),
    }
}
