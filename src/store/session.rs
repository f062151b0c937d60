//! An open index in the applier's hands: what it reads from the journal, and what it writes.

use std::{mem, path::PathBuf, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    journal::{Reader, Record},
    store::{
        applier::Options,
        apply::Changes,
        codec::Meta,
        decisions::Decisions,
        index::{Index, IndexError},
        snapshots::Snapshots,
        state_dir::StateDir,
    },
};

/// Records of one batch at most. The further behind, the larger: an account that changed often meanwhile is then
/// written once.
const RECORDS: usize = 1024;

/// An open index, and the place in the journal.
pub(super) struct Session {
    pub(super) index: Arc<Box<dyn Index>>,
    pub(super) meta: Meta,
    reader: Reader,
    decisions: Decisions,
}

impl Session {
    /// Goes on from where the index is. It is told what was decided about targets.
    pub(super) fn open(
        dir: &StateDir,
        index: Box<dyn Index>,
        meta: Meta,
        options: &Options,
    ) -> Result<Self, IndexError> {
        let index = Arc::new(index);
        let decisions = Decisions::load(dir.decisions()).map_err(|error| {
            let path = dir.decisions();
            IndexError(format!("{} cannot be read: {error}", path.display()))
        })?;
        let reader = Reader::open(&dir.journal(), meta.applied, options.metrics.clone())
            .map_err(|error| IndexError(format!("the journal cannot be read: {error}")))?;
        let mut session = Self {
            index: Arc::clone(&index),
            meta,
            reader,
            decisions,
        };
        let mut changes = Changes::new(&**index, session.meta.clone());
        session.decisions.reconcile(&**index, &mut changes)?;
        session.commit(changes, options)?;
        Ok(session)
    }

    pub(super) fn read(&mut self, until: u64) -> Result<Vec<Record>, IndexError> {
        self.reader
            .read(until, RECORDS)
            .map_err(|error| IndexError(format!("the journal cannot be read: {error}")))
    }

    pub(super) fn back_up(&self, path: PathBuf, done: oneshot::Sender<Result<(), String>>) {
        Snapshots::back_up(Arc::clone(&self.index), self.meta.applied, path, done);
    }

    /// Applies a batch. Says which change is the newest.
    pub(super) fn commit(
        &mut self,
        mut changes: Changes<'_>,
        options: &Options,
    ) -> Result<Option<u64>, IndexError> {
        for (app, result) in mem::take(&mut changes.results) {
            options.metrics.event(&(options.app_name)(app), result);
        }
        self.decisions.keep(mem::take(&mut changes.decided))?;
        let changed = changes.changed;
        let (batch, meta) = changes.finish();
        self.index.apply(batch)?;
        self.meta = meta;
        Ok(changed)
    }
}
