//! `profilesync store`: the state directory. `backup` asks the daemon if there is one; the others need it stopped.

use std::{
    io::{BufWriter, ErrorKind, Write as _, stdout},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{print, printed};
use crate::{
    admin::view::{BackupReport, BackupRequest},
    client::{Client, ClientError},
    config::peek,
    exit::{Exit, Failure, chain},
    store::{
        offline::{self, OfflineError, Report},
        state_dir::HoldError,
    },
    table::{count, harmless},
};

/// How it is called.
#[derive(Args, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    action: StoreAction,
    /// The state directory, which no daemon may be using [default: store.path of the configuration, else
    /// /var/lib/profilesync]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum StoreAction {
    /// Read journal, snapshots and index, and report damage (daemon stopped)
    Check,
    /// Print the whole state as JSON lines (daemon stopped)
    Dump,
    /// Write a snapshot to a new file; a running daemon does it itself
    Backup {
        /// The new file
        file: PathBuf,
    },
    /// Replace the state by a snapshot (daemon stopped)
    Restore {
        /// The snapshot
        file: PathBuf,
        /// Also forget the events that the journal has beyond the snapshot
        #[arg(long)]
        discard_journal: bool,
    },
    /// Make the index anew of snapshot and journal (daemon stopped)
    Rebuild,
}

/// Does it. Only who asks the daemon needs a `client`: to find the daemon is to read the configuration, which may be
/// what is broken.
///
/// # Errors
/// When it cannot be done; 75 when a running daemon holds the state directory.
pub async fn run(
    client: impl FnOnce() -> Result<Client, Failure>,
    config: &peek::File,
    args: &StoreArgs,
) -> Result<(), Failure> {
    let state = match &args.state_dir {
        Some(state) => state.clone(),
        None => state_of(config)?,
    };
    match &args.action {
        StoreAction::Check => check(&state),
        StoreAction::Dump => dump(&state),
        // The daemon that answers may have another one.
        StoreAction::Backup { file } if args.state_dir.is_some() => backup_of(&state, file),
        StoreAction::Backup { file } => backup(&client()?, &state, file).await,
        StoreAction::Restore {
            file,
            discard_journal,
        } => {
            let aside = offline::restore(&state, file, *discard_journal)?;
            print(&format!(
                "{} is restored; what was there is in {}\n",
                state.display(),
                aside.display()
            ))
        }
        StoreAction::Rebuild => rebuild(&state),
    }
}

fn check(state: &Path) -> Result<(), Failure> {
    let report = offline::check(state)?;
    print(&found(&report))?;
    if report.is_good() {
        return Ok(());
    }
    let message = format!("something in {} is damaged", state.display());
    Err(Failure::new(Exit::Failed, message).help(
        "the daemon repairs what it can when it starts; `profilesync store rebuild` does so now",
    ))
}

fn found(report: &Report) -> String {
    let range = match report.journal_range {
        Some((first, last)) => format!(" ({first} to {last})"),
        None => String::new(),
    };
    let mut text = format!(
        "journal:   {}{range}",
        count(report.journal_records, "event")
    );
    if report.journal_damaged > 0 {
        text += &format!(", {} damaged places", report.journal_damaged);
    }
    for (seq, wrong) in &report.snapshots {
        let state = wrong.as_deref().unwrap_or("good");
        text += &format!("\nsnapshot:  up to event {seq}: {state}");
    }
    text += &match &report.index {
        Some(wrong) => format!("\nindex:     {wrong}"),
        None if !report.built => {
            "\nindex:     not built yet: the daemon makes it of snapshot and journal when it starts"
                .into()
        }
        None => format!(
            "\nindex:     {}, up to event {}",
            count(report.accounts, "account"),
            report.applied
        ),
    };
    for folder in &report.set_aside {
        text += &format!("\nset aside: {}", folder.display());
    }
    text + "\n"
}

fn rebuild(state: &Path) -> Result<(), Failure> {
    let rebuilt = offline::rebuild(state)?;
    print(&format!(
        "the index is made anew: {}, up to event {}\n",
        count(rebuilt.accounts, "account"),
        rebuilt.applied
    ))?;
    if !rebuilt.compared {
        return print("the old index could not be compared\n");
    }
    if rebuilt.different.is_empty() {
        return print("it equals the old one\n");
    }
    for id in &rebuilt.different {
        print(&format!("  {}/{}\n", id.app, harmless(&id.account)))?;
    }
    let count = rebuilt.different.len();
    Err(Failure::new(
        Exit::Failed,
        format!("{count} accounts differ from the old index, which is set aside"),
    ))
}

fn dump(state: &Path) -> Result<(), Failure> {
    let mut out = BufWriter::new(stdout().lock());
    match offline::dump(state, &mut out) {
        Err(OfflineError::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => printed(out.flush()),
    }
}

async fn backup(client: &Client, state: &Path, file: &Path) -> Result<(), Failure> {
    let path = std::path::absolute(file).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} is no path", file.display())).because(error)
    })?;
    let request = BackupRequest { path };
    let answer: Result<BackupReport, ClientError> = client.post("/v1/store/backup", &request).await;
    match answer {
        Ok(BackupReport { path }) => print(&format!("{} is written\n", path.display())),
        Err(error) if error.is_down() => backup_of(state, &request.path),
        Err(error) => Err(error.into()),
    }
}

fn backup_of(state: &Path, file: &Path) -> Result<(), Failure> {
    let accounts = match offline::backup(state, file) {
        Err(OfflineError::Hold(held @ HoldError::Held { .. })) => {
            return Err(Failure::from(held).help(
                "without --state-dir, and with the -c FILE of that daemon, it does it itself",
            ));
        }
        done => done?,
    };
    print(&format!(
        "{} is written: {}\n",
        file.display(),
        count(accounts, "account")
    ))
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Self {
        match error {
            OfflineError::Hold(error) => error.into(),
            OfflineError::NoState(_) => Self::new(Exit::Failed, error.to_string())
                .help("say which with --state-dir DIR, or -c FILE"),
            OfflineError::NotOwner { owner, .. } => Self::new(Exit::Failed, error.to_string()).help(
                format!("be that user: `sudo -u profilesync profilesync store …`, or `sudo -u '#{owner}' …`"),
            ),
            error => Self::new(Exit::Failed, chain(&error)),
        }
    }
}

impl From<HoldError> for Failure {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Held { .. } => Self::new(Exit::TryAgain, error.to_string()),
            HoldError::Io { ref source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Self::new(Exit::Failed, chain(&error)).help(
                    "be the user that owns it (`sudo -u profilesync …`), or set another store.path",
                )
            }
            HoldError::Io { .. } => Self::new(Exit::Failed, chain(&error)),
        }
    }
}

fn state_of(config: &peek::File) -> Result<PathBuf, Failure> {
    let peek = config.peek().map_err(|mistakes| {
        mistakes
            .into_failure()
            .help("to do without it, say --state-dir DIR")
    })?;
    Ok(peek.store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_as_text() {
        let report = Report {
            journal_records: 12,
            journal_range: Some((1, 14)),
            journal_damaged: 2,
            snapshots: vec![(5, None), (9, Some("checksum".into()))],
            accounts: 0,
            applied: 0,
            built: true,
            index: Some("checksum".into()),
            set_aside: vec!["/s/damaged-1".into()],
        };
        let expected = "\
journal:   12 events (1 to 14), 2 damaged places
snapshot:  up to event 5: good
snapshot:  up to event 9: checksum
index:     checksum
set aside: /s/damaged-1
";
        assert_eq!(found(&report), expected);
        assert!(!report.is_good());
    }
}
