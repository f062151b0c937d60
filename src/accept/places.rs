//! The places that connections take: how many there are, and who gives way when all are taken.
//!
//! Opening connections and sending nothing costs an attacker nothing. So a connection that has not brought a whole
//! request yet is a newcomer, and the newcomer that has been here longest makes place for the next one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// All places of one [`serve`](super::serve).
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    open: usize,
    /// The number of the next connection.
    next: u64,
    /// By number, so that the oldest is the first.
    newcomers: BTreeMap<u64, CancellationToken>,
}

impl Places {
    /// A place among `limit`, if need be a newcomer's, who is told to leave; there may be one too many until it has
    /// left. Says whether all were taken.
    pub(super) fn take(&self, limit: usize) -> (Option<Place>, bool) {
        let mut taken = self.lock();
        let full = taken.open >= limit;
        if full {
            let Some((_, leave)) = taken.newcomers.pop_first() else {
                return (None, true);
            };
            leave.cancel();
        }
        let place = Place {
            number: taken.next,
            leave: CancellationToken::new(),
            settled: AtomicBool::new(false),
            places: self.clone(),
        };
        taken.open += 1;
        taken.next += 1;
        taken.newcomers.insert(place.number, place.leave.clone());
        (Some(place), full)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place.
pub(super) struct Place {
    number: u64,
    leave: CancellationToken,
    settled: AtomicBool,
    places: Places,
}

impl Place {
    /// A whole request is here: this is no newcomer any more. `false` when it had to leave just before.
    pub(super) fn settle(&self) -> bool {
        if self.settled.load(Ordering::Relaxed) {
            return true;
        }
        let settled = self.places.lock().newcomers.remove(&self.number).is_some();
        self.settled.store(settled, Ordering::Relaxed);
        settled
    }

    /// Resolves when it has to leave.
    pub(super) async fn lost(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.open -= 1;
        taken.newcomers.remove(&self.number);
    }
}
