//! The applier at work, over a journal and an index on disk.

use std::{
    fs,
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{CHANGED, record};
use crate::{
    journal::{self, Journal},
    metrics::Metrics,
    store::{
        Phase, Store,
        applier::{Applier, Options},
        offline,
        state_dir::{LastRun, StateDir},
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    journal: Journal,
    store: Store,
    applier: Applier,
}

impl Running {
    fn start(root: &Path, app_name: Arc<dyn Fn(u64) -> String + Send + Sync>) -> Self {
        let dir = StateDir::hold(root).unwrap();
        let metrics = Metrics::new();
        let (journal, _) = Journal::open(journal::Options {
            dir: dir.journal(),
            segment_bytes: 1,
            reserve_bytes: 0,
            floor: dir.journal_floor(),
            gap: 0,
            metrics: metrics.clone(),
        })
        .unwrap();
        let options = Options {
            cache_bytes: 16 << 20,
            history: Duration::from_hours(24 * 36_500),
            history_per_account: NonZeroU32::MAX,
            max_lag: 1_000_000,
            journal_max: 0,
            metrics,
            app_name,
        };
        let (store, applier) = Applier::start(Arc::new(dir), LastRun::Clean, &journal, options);
        Self {
            journal,
            store,
            applier,
        }
    }

    async fn change(&self, account: &str) -> u64 {
        let entry = record(0, account, 1, CHANGED, "n").entry;
        self.journal.append(entry).await.unwrap()
    }

    /// Waits until the store is ready and has applied so much.
    async fn applied(&self, seq: u64) {
        let wait = async {
            while *self.store.phase().borrow() != Phase::Ready || self.store.applied() < seq {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    async fn stop(self) {
        self.journal.stop().await;
        self.applier.stop().await;
    }
}

/// The names of the files in a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = files
        .map(|file| file.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn any_name() -> Arc<dyn Fn(u64) -> String + Send + Sync> {
    Arc::new(|app| app.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_newest_change_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), any_name());
    for account in ["@a", "@b"] {
        let seq = running.change(account).await;
        running.applied(seq).await;
    }
    let changes = running.store.changes(0, u64::MAX, 9).unwrap();
    running.stop().await;
    let running = Running::start(folder.path(), any_name());
    running.applied(0).await;
    assert_eq!(running.store.changes(0, u64::MAX, 9).unwrap(), changes);
    let newest = *running.store.changed().borrow();
    assert!(changes[1].seq <= newest, "{newest} {changes:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_made_superfluous_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), any_name());
    let journal = folder.path().join("journal");
    let first = files(&journal).remove(0);
    let snapshots = || {
        let mut names = files(&folder.path().join("snapshots"));
        names.retain(|name| name.ends_with(".snapshot"));
        names
    };
    let mut last = 0;
    for _ in 0..3 {
        let before = snapshots();
        let wait = async {
            // The same event over and over: the journal grows, what a snapshot has does not.
            while snapshots() == before {
                last = running.change("@a").await;
                running.applied(last).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }
    running.stop().await;
    assert!(!files(&journal).contains(&first), "{first} is still there");
    let report = offline::check(folder.path()).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.applied, last);

    // Without snapshots it is.
    fs::remove_dir_all(folder.path().join("snapshots")).unwrap();
    let report = offline::check(folder.path()).unwrap();
    assert!(report.journal_damaged > 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_opened_anew_after_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let panics = AtomicBool::new(true);
    let app_name = move |app: u64| {
        assert!(
            !panics.swap(false, Ordering::Relaxed),
            "as asked for by the test"
        );
        app.to_string()
    };
    let running = Running::start(folder.path(), Arc::new(app_name));
    let seq = running.change("@a").await;
    running.applied(seq).await;
    assert_eq!(running.store.accounts(None, "", 9).unwrap().len(), 1);
    running.stop().await;
}
