//! What keeps the store bounded: events that are too old go, and targets that are forgotten go with all of their
//! deliveries, a little in every round.

use std::{collections::VecDeque, ops::ControlFlow, time::Duration};

use crate::{
    clock::Millis,
    store::{
        apply::Changes,
        codec::{Stored, decode_history},
        index::{Index, IndexError},
        keys,
        records::TargetState,
    },
};

/// Entries looked at in one round.
const ROUND: usize = 512;

/// Where the sweep through all histories is.
#[derive(Default)]
pub(crate) struct HistorySweep {
    next: Vec<u8>,
}

impl HistorySweep {
    /// Looks at the next entries, and removes those received before `now - keep`. Begins anew after the last.
    pub(crate) fn round(
        &mut self,
        index: &dyn Index,
        changes: &mut Changes<'_>,
        now: Millis,
        keep: Duration,
    ) -> Result<(), IndexError> {
        let oldest = now.saturating_sub(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        let (first, end) = keys::Table::History.range();
        let from = if self.next.is_empty() {
            first
        } else {
            std::mem::take(&mut self.next)
        };
        let mut expired = Vec::new();
        let mut seen = 0;
        index.scan(&from, &end, &mut |key, value| {
            if seen == ROUND {
                self.next = key.to_vec();
                return ControlFlow::Break(());
            }
            seen += 1;
            if let Some((id, stamp)) = keys::read_history(key)
                && decode_history(stamp, value).is_ok_and(|entry| entry.received < oldest)
            {
                expired.push((id, key.to_vec(), value.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
        for (id, key, value) in expired {
            changes.remove_history(&id, key, &value)?;
        }
        Ok(())
    }
}

/// Targets on their way out.
#[derive(Default)]
pub(crate) struct Forgetting {
    names: VecDeque<String>,
}

impl Forgetting {
    pub(crate) fn begin(&mut self, name: &str) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push_back(name.to_owned());
        }
    }

    /// The target is back.
    pub(crate) fn end(&mut self, name: &str) {
        self.names.retain(|known| known != name);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Removes some deliveries of the first target; the target itself when there are no more.
    pub(crate) fn round(
        &mut self,
        index: &dyn Index,
        changes: &mut Changes<'_>,
    ) -> Result<(), IndexError> {
        let Some(name) = self.names.front() else {
            return Ok(());
        };
        let Some(state) = index.get(&keys::target(name))? else {
            self.names.pop_front();
            return Ok(());
        };
        let target = TargetState::decode(&state)?.id;
        let prefix = keys::deliveries_of(target);
        let mut deliveries = Vec::new();
        index.scan(&prefix, &keys::after(prefix.clone()), &mut |key, _| {
            deliveries.extend(keys::read_delivery(key));
            if deliveries.len() < ROUND {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        for (_, id) in &deliveries {
            changes.delivery(target, id, None)?;
        }
        if deliveries.is_empty() {
            changes.target(name, None)?;
            self.names.pop_front();
        }
        Ok(())
    }
}
