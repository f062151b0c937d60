//! `profilesync init`: a starter configuration.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use super::print;
use crate::exit::{Exit, Failure};

/// Every key with its default, and comments.
const STARTER: &str = include_str!("../../config/profilesync.toml");

/// How it is called.
#[derive(clap::Args, Debug)]
pub struct InitArgs {
    /// Where to write it
    #[arg(value_name = "DIR", default_value = "/etc/profilesync")]
    folder: PathBuf,
}

/// Writes `profilesync.toml` into the folder, to be read by its group, and says what to do next. A file that is there stays as it is.
///
/// # Errors
/// When the file is there, or cannot be written.
pub fn run(args: &InitArgs) -> Result<(), Failure> {
    let file = args.folder.join("profilesync.toml");
    write(&args.folder, &file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(
            Exit::Failed,
            format!("{} exists, and is left as it is", file.display()),
        )
        .help("name another folder: `profilesync init DIR`"),
        _ => Failure::new(
            Exit::Failed,
            format!("{} cannot be written", file.display()),
        )
        .because(error)
        .help("name another folder, `profilesync init DIR`, or run it with sudo"),
    })?;
    let shown = file.display();
    print(&format!(
        "{shown} is written. Next:\n  \
         edit {shown}: your app's SDKAppID and token, and your targets\n  \
         profilesync check -c {shown}\n  \
         profilesync run -c {shown}      or: systemctl enable --now profilesync\n"
    ))
}

fn write(folder: &Path, file: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(file)?;
    // The daemon's user reads it as one of the folder's group. Who may not give it to that group is that user, or will
    // see what is wrong from the daemon's error.
    let _ = fchown(&file, None, Some(fs::metadata(folder)?.gid()));
    file.write_all(STARTER.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("etc/profilesync");
        let file = folder.join("profilesync.toml");
        let args = InitArgs { folder };
        run(&args).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), STARTER);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        fs::write(&file, "mine").unwrap();
        assert_eq!(run(&args).unwrap_err().exit, Exit::Failed);
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }
}
