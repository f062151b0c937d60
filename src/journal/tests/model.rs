//! Random appends, failures and restarts against a list of what was acknowledged.

use std::{collections::HashSet, io::Write as _, path::Path};

use futures_util::future::join_all;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime;

use super::{
    Faults, Journal, Options, Reader, entry, options, read_all, read_on, segment, until_well,
};
use crate::metrics::Metrics;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    FailWrites(usize, usize),
    FailSyncs(usize),
    FailCreates(usize),
    FailDirSyncs(usize),
    AwaitHealth,
    Read,
    Restart { torn: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20_usize).prop_map(Step::Append),
        1 => (1..4_usize, 0..2000_usize).prop_map(|(count, bytes)| Step::FailWrites(count, bytes)),
        1 => (1..4_usize).prop_map(Step::FailSyncs),
        1 => (1..4_usize).prop_map(Step::FailCreates),
        1 => (1..4_usize).prop_map(Step::FailDirSyncs),
        1 => Just(Step::AwaitHealth),
        3 => Just(Step::Read),
        1 => any::<bool>().prop_map(|torn| Step::Restart { torn }),
    ]
}

struct Model {
    dir: TempDir,
    faults: Faults,
    journal: Journal,
    reader: Reader,
    metrics: Metrics,
    appended: usize,
    acknowledged: Vec<(u64, String)>,
    /// What was refused since the last start.
    refused: HashSet<String>,
    read: Vec<(u64, String)>,
}

fn open(dir: &Path, faults: &Faults) -> Journal {
    let options = Options {
        segment_bytes: 1500,
        ..options(dir)
    };
    Journal::open_with(options, faults.clone()).unwrap().0
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let metrics = Metrics::new();
        Self {
            journal: open(dir.path(), &faults),
            reader: Reader::open(dir.path(), 0, metrics.clone()).unwrap(),
            dir,
            faults,
            metrics,
            appended: 0,
            acknowledged: Vec::new(),
            refused: HashSet::new(),
            read: Vec::new(),
        }
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Append(count) => self.append(count).await,
            Step::FailWrites(count, bytes) => {
                self.faults
                    .change(|planned| (planned.writes, planned.written_bytes) = (count, bytes));
            }
            Step::FailSyncs(count) => _ = self.faults.change(|planned| planned.syncs = count),
            Step::FailCreates(count) => _ = self.faults.change(|planned| planned.creates = count),
            Step::FailDirSyncs(count) => {
                self.faults.change(|planned| planned.dir_syncs = count);
            }
            Step::AwaitHealth => until_well(&self.journal).await,
            Step::Read => self.read(),
            Step::Restart { torn } => self.restart(torn).await,
        }
    }

    async fn append(&mut self, count: usize) {
        let bodies: Vec<_> = (self.appended..self.appended + count)
            .map(|number| format!("{number}{}", " ".repeat(number % 7 * 30)))
            .collect();
        self.appended += count;
        let answers = join_all(bodies.iter().map(|body| self.journal.append(entry(body)))).await;
        for (body, answer) in bodies.into_iter().zip(answers) {
            match answer {
                Ok(seq) => self.acknowledged.push((seq, body)),
                Err(_) => _ = self.refused.insert(body),
            }
        }
    }

    fn read(&mut self) {
        let synced = *self.journal.synced().borrow();
        let read = read_on(&mut self.reader, synced);
        for (_, body) in &read {
            assert!(!self.refused.contains(body), "{body} was refused");
        }
        self.read.extend(read);
    }

    async fn restart(&mut self, torn: bool) {
        self.journal.stop().await;
        if torn && let Some(newest) = segment::list(self.dir.path()).unwrap().pop() {
            let mut record = Vec::new();
            segment::encode(&mut record, 1, &entry("never whole"));
            record.pop();
            record.resize(record.len() + 300, 0);
            let file = std::fs::File::options().append(true).open(newest.path);
            file.unwrap().write_all(&record).unwrap();
        }
        self.journal = open(self.dir.path(), &self.faults);
        let last = self.read.last().map_or(0, |&(seq, _)| seq);
        self.reader = Reader::open(self.dir.path(), last, self.metrics.clone()).unwrap();
        self.refused.clear();
    }

    async fn finish(mut self) {
        self.restart(false).await;
        until_well(&self.journal).await;
        self.faults.change(|planned| *planned = Default::default());
        until_well(&self.journal).await;
        self.append(3).await;
        assert_eq!(self.refused.len(), 0);
        self.read();
        self.journal.stop().await;
        let synced = *self.journal.synced().borrow();
        let (reread, missed) = read_all(self.dir.path(), synced);
        assert_eq!(self.read, reread);
        assert!(self.read.is_sorted_by(|(one, _), (next, _)| one < next));
        let read: HashSet<_> = self.read.into_iter().collect();
        for acknowledged in self.acknowledged {
            assert!(read.contains(&acknowledged), "{acknowledged:?} is lost");
        }
        assert_eq!((missed, self.metrics.journal_damaged.get()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_acknowledged_is_read(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new();
            for step in steps {
                model.run(step).await;
            }
            model.finish().await;
        });
    }
}
