//! What was decided about each target: which number and settings it has, how often it was filled anew, whether it is
//! paused. The journal does not tell, and the index is not synced when whoever decided is told. So this is kept in a small
//! file of its own, synced first. An index that is behind it is brought up to it when the store opens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    ops::ControlFlow,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    durable,
    store::{
        apply::Changes,
        codec::Stored,
        index::{Index, IndexError},
        keys,
        records::{Backfill, TargetId, TargetState},
    },
};

/// The part of a [`TargetState`] that neither events nor deliveries give back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    id: TargetId,
    identity: String,
    epoch: u32,
    paused: bool,
    held: Option<Millis>,
    removed_at: Option<Millis>,
}

impl Decision {
    pub(crate) fn of(state: &TargetState) -> Self {
        Self {
            id: state.id,
            identity: state.identity.clone(),
            epoch: state.epoch,
            paused: state.paused,
            held: state.held,
            removed_at: state.removed_at,
        }
    }

    /// The state with this decision. If the index does not know of the newest backfill, it begins anew: what was delivered
    /// by it is not known either.
    fn upon(&self, before: &TargetState, index: &dyn Index) -> Result<TargetState, IndexError> {
        let mut state = TargetState {
            identity: self.identity.clone(),
            paused: self.paused,
            held: self.held,
            removed_at: self.removed_at,
            ..before.clone()
        };
        if (self.id, self.epoch) != (before.id, before.epoch) {
            state.epoch = self.epoch.max(before.epoch + 1);
            state.backfill = Some(Backfill {
                next: 0,
                end: state.live,
                total: changes_until(index, state.live)?,
                done: 0,
            });
        }
        Ok(state)
    }
}

/// The decisions about all targets, by name, as the file has them.
pub(crate) struct Decisions {
    path: PathBuf,
    known: BTreeMap<String, Decision>,
}

impl Decisions {
    /// Reads the file. One that is missing or damaged says nothing; the index may know as much.
    ///
    /// # Errors
    /// When it is there and cannot be read now.
    pub(crate) fn load(path: PathBuf) -> io::Result<Self> {
        let known = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                let path = path.display();
                tracing::error!(%path, %error, "what was decided about targets cannot be made out; the index is asked");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, known })
    }

    /// Changes what an index says that is behind, and takes in what it alone knows.
    pub(crate) fn reconcile(
        &mut self,
        index: &dyn Index,
        changes: &mut Changes<'_>,
    ) -> Result<(), IndexError> {
        let targets = targets(index)?;
        let mut ids: BTreeSet<_> = targets.values().map(|state| state.id).collect();
        for (name, decision) in &self.known {
            let state = match targets.get(name) {
                Some(state) => decision.upon(state, index)?,
                // It may hold accounts that were destroyed since: every change is one that it may not know.
                None => TargetState {
                    id: free(decision.id, &ids),
                    identity: decision.identity.clone(),
                    epoch: decision.epoch,
                    paused: decision.paused,
                    held: decision.held,
                    removed_at: decision.removed_at,
                    ..TargetState::default()
                },
            };
            ids.insert(state.id);
            changes.target(name, Some(&state))?;
        }
        let known = targets
            .into_iter()
            .map(|(name, state)| (name, Some(Decision::of(&state))));
        let unknown = known.filter(|(name, _)| !self.known.contains_key(name));
        self.keep(unknown.collect())
    }

    /// Notes what was decided anew, `None` for a target that is forgotten. If that makes a difference, the file has it then.
    ///
    /// # Errors
    /// When it cannot be written: nobody may be told then.
    pub(crate) fn keep(
        &mut self,
        decided: BTreeMap<String, Option<Decision>>,
    ) -> Result<(), IndexError> {
        let mut differs = false;
        for (name, decision) in decided {
            differs |= self.known.get(&name) != decision.as_ref();
            match decision {
                Some(decision) => self.known.insert(name, decision),
                None => self.known.remove(&name),
            };
        }
        if !differs {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&self.known).expect("names and numbers serialise");
        durable::replace(&self.path, |file| file.write_all(&text)).map_err(|error| {
            let path = self.path.display();
            IndexError(format!("{path} cannot be written: {error}"))
        })
    }
}

/// The number, or one that nobody has.
fn free(id: TargetId, taken: &BTreeSet<TargetId>) -> TargetId {
    match taken.contains(&id) {
        true => taken.last().map_or(id, |last| last + 1),
        false => id,
    }
}

fn targets(index: &dyn Index) -> Result<BTreeMap<String, TargetState>, IndexError> {
    let (from, to) = keys::Table::Target.range();
    let mut found = Ok(BTreeMap::new());
    index.scan(&from, &to, &mut |key, value| {
        let name = String::from_utf8_lossy(&key[1..]).into_owned();
        match (&mut found, TargetState::decode(value)) {
            (Ok(found), Ok(state)) => drop(found.insert(name, state)),
            (_, Err(error)) => found = Err(error),
            (Err(_), _) => {}
        }
        ControlFlow::Continue(())
    })?;
    found
}

fn changes_until(index: &dyn Index, seq: u64) -> Result<u64, IndexError> {
    let mut count = 0;
    let end = keys::change(seq.saturating_add(1));
    index.scan(&keys::change(0), &end, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{codec::Meta, index::MemoryIndex};

    fn state(id: TargetId, epoch: u32) -> TargetState {
        TargetState {
            id,
            epoch,
            live: 7,
            ..TargetState::default()
        }
    }

    fn put(index: &MemoryIndex, targets: &[(&str, TargetState)]) {
        let mut changes = Changes::new(index, Meta::default());
        for (name, state) in targets {
            changes.target(name, Some(state)).unwrap();
        }
        index.apply(changes.finish().0).unwrap();
    }

    /// What an index holds after it was brought up to `decided`, and what the file says then.
    fn reconciled(
        index: &[(&str, TargetState)],
        decided: &[(&str, TargetState)],
    ) -> BTreeMap<String, TargetState> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("targets.json");
        let decided = decided
            .iter()
            .map(|(name, state)| ((*name).to_owned(), Some(Decision::of(state))));
        Decisions::load(path.clone())
            .unwrap()
            .keep(decided.collect())
            .unwrap();
        let behind = MemoryIndex::default();
        put(&behind, index);
        let mut decisions = Decisions::load(path.clone()).unwrap();
        let mut changes = Changes::new(&behind, Meta::default());
        decisions.reconcile(&behind, &mut changes).unwrap();
        decisions
            .keep(std::mem::take(&mut changes.decided))
            .unwrap();
        behind.apply(changes.finish().0).unwrap();
        let found = targets(&behind).unwrap();
        let known = Decisions::load(path).unwrap().known;
        for (name, state) in &found {
            assert_eq!(known[name], Decision::of(state), "{name}");
        }
        found
    }

    #[test]
    fn an_index_that_is_behind_is_told() {
        let paused = TargetState {
            paused: true,
            ..state(1, 1)
        };
        let known = [("crm", state(1, 1)), ("export", state(2, 1))];
        let found = reconciled(&known, &[("crm", paused.clone())]);
        assert_eq!(found["crm"], paused, "with its cursor");
        assert_eq!(found["export"], state(2, 1), "nothing was decided since");
    }

    #[test]
    fn a_backfill_that_the_index_does_not_know_of_begins_anew() {
        let found = reconciled(&[("crm", state(1, 2))], &[("crm", state(1, 5))]);
        let crm = &found["crm"];
        assert_eq!((crm.id, crm.epoch, crm.live), (1, 5, 7));
        assert_eq!(crm.backfill.as_ref().map(|fill| fill.end), Some(7));
        // It was forgotten, and came back under another number: what the index has of the old one says nothing.
        let found = reconciled(&[("crm", state(1, 2))], &[("crm", state(3, 1))]);
        assert_eq!((found["crm"].id, found["crm"].epoch), (1, 3));
        assert!(found["crm"].backfill.is_some());
    }

    #[test]
    fn a_target_that_a_snapshot_does_not_know_hears_of_every_change() {
        let decided = [("crm", state(1, 2))];
        let found = reconciled(&[("export", state(1, 1))], &decided);
        let crm = &found["crm"];
        assert_eq!((crm.id, crm.epoch, crm.live), (2, 2, 0), "1 is taken");
    }

    #[test]
    fn a_damaged_file_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("targets.json");
        fs::write(&path, "{").unwrap();
        assert!(Decisions::load(path).unwrap().known.is_empty());
    }
}
