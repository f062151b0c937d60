//! The places that connections take: how many there are, and who gives way when all are taken.
//!
//! Opening connections and sending nothing costs an attacker nothing. So a connection that has not brought a whole
//! request yet is a newcomer, and a newcomer makes place for the next one: of the source that has most of them the one
//! that has been here longest. Who opens thousands thus closes their own.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
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
    /// By source, and by number, so that the oldest is the first.
    newcomers: HashMap<Source, BTreeMap<u64, CancellationToken>>,
}

/// Whom connections come from, as far as it is known: an IPv4 address, or the half of an IPv6 address that one customer
/// of a provider has to himself.
type Source = Option<IpAddr>;

fn source(address: Option<IpAddr>) -> Source {
    address.map(|address| match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    })
}

impl Taken {
    fn arrive(&mut self, source: Source) -> (u64, CancellationToken) {
        let (number, leave) = (self.next, CancellationToken::new());
        self.open += 1;
        self.next += 1;
        let newcomers = self.newcomers.entry(source).or_default();
        newcomers.insert(number, leave.clone());
        (number, leave)
    }

    /// Whether it was a newcomer until now.
    fn settle(&mut self, source: Source, number: u64) -> bool {
        let Some(newcomers) = self.newcomers.get_mut(&source) else {
            return false;
        };
        let was_new = newcomers.remove(&number).is_some();
        if newcomers.is_empty() {
            self.newcomers.remove(&source);
        }
        was_new
    }

    /// Tells a newcomer to leave, if there is one.
    fn evict(&mut self) -> bool {
        let oldest = |newcomers: &BTreeMap<u64, _>| newcomers.keys().next().copied();
        let crowd = self
            .newcomers
            .iter()
            .max_by_key(|(_, newcomers)| (newcomers.len(), Reverse(oldest(newcomers))));
        let Some((&source, newcomers)) = crowd else {
            return false;
        };
        if let Some((&number, leave)) = newcomers.first_key_value() {
            leave.cancel();
            self.settle(source, number);
        }
        true
    }
}

impl Places {
    /// A place among `limit`, if need be a newcomer's, who is told to leave; there may be one too many until it has
    /// left. Says whether all were taken.
    pub(super) fn take(&self, limit: usize, address: Option<IpAddr>) -> (Option<Place>, bool) {
        let mut taken = self.lock();
        let full = taken.open >= limit;
        if full && !taken.evict() {
            return (None, true);
        }
        let source = source(address);
        let (number, leave) = taken.arrive(source);
        let place = Place {
            number,
            source,
            leave,
            settled: AtomicBool::new(false),
            places: self.clone(),
        };
        (Some(place), full)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place.
pub(super) struct Place {
    number: u64,
    source: Source,
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
        let settled = self.places.lock().settle(self.source, self.number);
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
        taken.settle(self.source, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_makes_place_by_its_own() {
        let places = Places::default();
        let take = |address: &str| places.take(4, Some(address.parse().unwrap())).0.unwrap();
        let sender = take("192.0.2.1");
        let crowd: Vec<_> = (1..=4)
            .map(|number| take(&format!("2001:db8::{number}")))
            .collect();
        let left = |place: &Place| place.leave.is_cancelled();
        assert!(!left(&sender), "though it was here first");
        assert_eq!(
            crowd.iter().map(left).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        assert!(!crowd[0].settle() && crowd[1].settle() && sender.settle());
        drop(crowd);
        assert!(places.lock().newcomers.is_empty());
        assert_eq!(places.lock().open, 1);
    }
}
