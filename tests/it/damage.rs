//! Damage to the store's files between two runs: the daemon takes events at once, and nothing acknowledged is lost.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use profilesync::clock;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, LIMIT, until},
    deliver::{export, exported},
    sender::{OK, change},
};

/// A way to damage a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Delete,
    Empty,
    Halve,
    Flip,
    Append,
}

fn damage(file: &Path, how: Damage) {
    let mut bytes = fs::read(file).unwrap();
    match how {
        Damage::Delete => return fs::remove_file(file).unwrap(),
        Damage::Empty => bytes.clear(),
        Damage::Halve => bytes.truncate(bytes.len() / 2),
        Damage::Flip if bytes.is_empty() => return,
        Damage::Flip => {
            let place = fastrand::usize(..bytes.len());
            bytes[place] ^= fastrand::u8(1..);
            eprintln!("byte {place} of {} in {}", bytes.len(), file.display());
        }
        Damage::Append => bytes.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(1000)),
    }
    fs::write(file, bytes).unwrap();
}

/// Every file below a folder, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(file), target).unwrap();
    }
}

/// A stopped daemon whose store holds events, a copy of that store, and what a target must hold of it.
struct Case {
    daemon: Daemon,
    copy: tempfile::TempDir,
    expected: BTreeMap<String, Value>,
    runs: u32,
}

impl Case {
    async fn prepare(kill: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::start(&export(folder.path())).await;
        let sender = daemon.sender();
        let now = clock::now() - 1_000_000;
        for step in 0..400 {
            let account = format!("account {}", fastrand::u32(..30));
            let members = json!({ "Name": format!("name {step}"), "Introduction": "x".repeat(fastrand::usize(..2000)) });
            sender.send(&change(&account, now + step, &members)).await;
        }
        daemon.settled(&["export"]).await;
        let expected = exported(folder.path());
        match kill {
            true => daemon.kill().await,
            false => assert!(daemon.stop().await.success()),
        }
        let copy_of = tempfile::tempdir().unwrap();
        copy(&daemon.state(), copy_of.path());
        Self {
            daemon,
            copy: copy_of,
            expected,
            runs: 0,
        }
    }

    /// Puts the store back as it was, damages it, starts the daemon and expects everything, in a target that is
    /// new and therefore gets everything. Gives the time from the start to the first acknowledged event.
    async fn run(&mut self, harm: impl FnOnce(&Path)) -> Duration {
        self.runs += 1;
        let state = self.daemon.state();
        fs::remove_dir_all(&state).unwrap();
        copy(self.copy.path(), &state);
        harm(&state);

        let folder = tempfile::tempdir().unwrap();
        let export = export(folder.path())
            .replace("targets.export", &format!("targets.export{}", self.runs));
        self.daemon.reconfigure(&export);
        let start = Instant::now();
        self.daemon.spawn();
        let sender = self.daemon.sender();
        let event = change("the first", clock::now(), &json!({ "Name": "first" }));
        while sender.try_send(&event).await != Some(OK) {
            assert!(
                start.elapsed() < LIMIT,
                "no event is taken:\n{}",
                self.daemon.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = start.elapsed();

        let mut expected = self.expected.clone();
        let held = until("the target holds every account", async || {
            let held = exported(folder.path());
            (held.len() == expected.len() + 1).then_some(held)
        })
        .await;
        expected.insert("the first".to_owned(), held["the first"].clone());
        assert_eq!(held, expected);
        self.daemon.stop().await;
        took
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_the_index_loses_nothing_and_delays_no_event() {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    eprintln!("seed {seed}");
    for kill in [true, false] {
        let mut case = Case::prepare(kill).await;
        // A loaded machine starts any process slowly.
        let limit = case.run(|_| {}).await + Duration::from_secs(1);
        let index = case.copy.path().join("index");
        for file in files(&index) {
            for how in [
                Damage::Delete,
                Damage::Empty,
                Damage::Halve,
                Damage::Flip,
                Damage::Flip,
                Damage::Append,
            ] {
                let took = case
                    .run(|state| damage(&state.join("index").join(&file), how))
                    .await;
                assert!(took < limit, "{how:?} {} took {took:?}", file.display());
            }
        }
        let took = case
            .run(|state| fs::remove_dir_all(state.join("index")).unwrap())
            .await;
        assert!(took < limit, "no index took {took:?}");
        let took = case
            .run(|state| fs::write(state.join("index/snap.0000.generating"), "half").unwrap())
            .await;
        assert!(took < limit, "a snapshot half written took {took:?}");
        let took = case
            .run(|state| fs::write(state.join("boot"), "another boot").unwrap())
            .await;
        assert!(took < limit, "another boot took {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_of_the_journal_loses_nothing() {
    let mut case = Case::prepare(true).await;
    case.run(|state| {
        let journal = state.join("journal");
        let newest = files(&journal).pop().expect("a segment");
        damage(&journal.join(newest), Damage::Append);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_journal_that_lost_its_end_is_applied() {
    let mut daemon = Daemon::start("").await;
    let sender = daemon.sender();
    let named = |account: &str| change(account, clock::now(), &json!({ "Name": "x" }));
    for number in 0..20 {
        sender.send(&named(&format!("a{number}"))).await;
    }
    daemon.settled(&[]).await;
    daemon.stop().await;
    let journal = daemon.state().join("journal");
    for file in files(&journal) {
        damage(&journal.join(file), Damage::Halve);
    }
    daemon.spawn();
    daemon.ready().await;
    daemon.sender().send(&named("later")).await;
    until("it is applied", async || {
        let (status, _) = daemon.get("/v1/accounts/1400000000/later").await?;
        (status == 200).then_some(())
    })
    .await;
}
