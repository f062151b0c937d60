//! The exec output with real children: the shipped examples, and programs that misbehave in every way.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod children;
mod ends;
mod examples;
mod secrets;
mod settings;
mod world;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use profilesync_target::{
    Answer, Delivery, Document, OpenContext, Opened, Outcome, Settings, SettingsError, Status,
    Target,
};

/// The bound of every wait; generous, because a loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(30);

fn context(folder: &Path, timeout: Duration) -> OpenContext {
    OpenContext {
        name: "crm".into(),
        version: "1.2.3",
        timeout,
        base: folder.to_owned(),
    }
}

/// Opens a target named `crm` with these settings.
fn try_open(settings: &str, folder: &Path, timeout: Duration) -> Result<Opened, SettingsError> {
    let context = context(folder, timeout);
    (profilesync_exec::KIND.open)(&context, Settings::from_toml(settings)?)
}

/// A target that runs this shell script, in a folder of its own.
struct Script {
    target: Box<dyn Target>,
    folder: tempfile::TempDir,
}

impl Script {
    fn new(script: &str) -> Self {
        Self::with(script, "", LIMIT)
    }

    fn with(script: &str, settings: &str, timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plugin.sh"), script).unwrap();
        let settings = format!("command = ['sh', 'plugin.sh']\n{settings}");
        let target = try_open(&settings, folder.path(), timeout).unwrap().target;
        Self { target, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn deliver(&self) -> Outcome {
        self.deliver_all(&["a"]).await.remove(0)
    }

    async fn deliver_all(&self, accounts: &[&str]) -> Vec<Outcome> {
        let batch: Vec<_> = accounts
            .iter()
            .map(|account| Delivery::from(document(account, 1)))
            .collect();
        match self.target.deliver(&batch).await {
            Answer::Each(outcomes) => outcomes,
            Answer::Whole(outcome) => vec![outcome; batch.len()],
        }
    }
}

fn document(account: &str, revision: u64) -> Document {
    Document {
        sdk_app_id: 1_400_000_000,
        account: account.into(),
        revision,
        status: Status::Active,
        name: Some("NewName".into()),
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: Some("leckie".into()),
        event_time: 1_670_574_414_123,
        extra: serde_json::Map::new(),
    }
}

/// Waits until the condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process with this id runs (and does not merely wait to be forgotten).
fn runs(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    !state.is_empty() && !state.trim_start().starts_with('Z')
}
