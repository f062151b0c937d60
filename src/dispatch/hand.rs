//! The accounts a dispatcher has in hand: at most one delivery of each is under way, and a burst of changes is
//! few deliveries.
//!
//! An account that was just delivered cools for a while before it may be delivered again; the while doubles as
//! long as the account keeps changing. So this is bounded by the calls under way, and by the rate of deliveries
//! times the longest cooling.
//!
//! The life of an account in hand:
//!
//! 1. *Taken*: a source of [`super::work`] comes upon it, with a cause and the change entries that it claims. From now
//!    on whatever else comes upon it only notes that it is to be looked at again, and adds its claims.
//! 2. *Looked at*: there is nothing to do (on to 6), or it becomes part of a call, or its trouble is cleared (on to 4).
//! 3. *Called*. A batch that is refused as a whole comes back in parts, still in hand.
//! 4. *Settled*: its new state is in [`super::books`]. With the write its claims are finished, unless it came up again:
//!    then they stay until it was looked at once more.
//! 5. *Written*, and *cooling* if the target dealt with it.
//! 6. *Left*: it is free, and its claims are finished - or it came up again, and is looked at (2) with that cause.
//!
//! Only what is written changes the store: a loop that is dropped before loses nothing but the knowledge of a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use tokio::time::Instant;

use super::due::Cause;
use crate::event::AccountId;

/// How long an account cools at first.
const COOLING: Duration = Duration::from_millis(50);
/// How long an account cools at most.
const COOLING_MAX: Duration = Duration::from_secs(1);
/// Accounts that may cool at the same time; beyond that they are let go at once.
const COOLING_COUNT: usize = 16 * 1024;

/// The change entries that are finished when an account is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// Its entry in the live feed.
    pub(super) live: Option<u64>,
    /// Its entry in the backfill.
    pub(super) fill: Option<u64>,
}

#[derive(Debug)]
struct Held {
    claims: Claims,
    /// Came up again meanwhile, and why: to be looked at when free.
    again: Option<Cause>,
    /// How long it cooled last.
    cooled: Duration,
}

/// See the module.
#[derive(Default)]
pub(super) struct Hand {
    accounts: BTreeMap<AccountId, Held>,
    cooling: BTreeSet<(Instant, AccountId)>,
}

impl Hand {
    /// Takes an account in hand.
    ///
    /// # Errors
    /// When it is already: then it will be looked at again, and the claims that the new ones replace are to be
    /// finished.
    pub(super) fn take(
        &mut self,
        id: &AccountId,
        cause: Cause,
        claims: Claims,
    ) -> Result<(), Claims> {
        let Some(held) = self.accounts.get_mut(id) else {
            let held = Held {
                claims,
                again: None,
                cooled: Duration::ZERO,
            };
            self.accounts.insert(id.clone(), held);
            return Ok(());
        };
        held.again = held.again.max(Some(cause));
        let replace = |old: &mut Option<u64>, new: Option<u64>| match new {
            Some(_) => mem::replace(old, new),
            None => None,
        };
        Err(Claims {
            live: replace(&mut held.claims.live, claims.live),
            fill: replace(&mut held.claims.fill, claims.fill),
        })
    }

    pub(super) fn holds(&self, id: &AccountId) -> bool {
        self.accounts.contains_key(id)
    }

    /// How many are not merely cooling.
    pub(super) fn busy(&self) -> usize {
        self.accounts.len() - self.cooling.len()
    }

    /// The account's result is about to be written: its claims are finished with that, unless it came up again.
    pub(super) fn settle(&mut self, id: &AccountId) -> Claims {
        match self.accounts.get_mut(id) {
            Some(held) if held.again.is_none() => mem::take(&mut held.claims),
            _ => Claims::default(),
        }
    }

    /// Nothing is to be done about the account now. Returns the claims to be finished, or the cause why it must
    /// be looked at again.
    pub(super) fn leave(&mut self, id: &AccountId) -> Result<Claims, Cause> {
        let Some(held) = self.accounts.get_mut(id) else {
            return Ok(Claims::default());
        };
        if let Some(cause) = held.again.take() {
            return Err(cause);
        }
        let claims = held.claims;
        self.accounts.remove(id);
        Ok(claims)
    }

    /// The account rests before it may be delivered again. False when there is no room for it to rest.
    pub(super) fn cool(&mut self, id: &AccountId, now: Instant) -> bool {
        let room = self.cooling.len() < COOLING_COUNT;
        let Some(held) = self.accounts.get_mut(id).filter(|_| room) else {
            return false;
        };
        held.cooled = (held.cooled * 2).clamp(COOLING, COOLING_MAX);
        self.cooling.insert((now + held.cooled, id.clone()))
    }

    /// When the first account has cooled.
    pub(super) fn cooled_at(&self) -> Option<Instant> {
        self.cooling.first().map(|&(at, _)| at)
    }

    /// Takes an account that has cooled; it is busy again.
    pub(super) fn cooled(&mut self, now: Instant) -> Option<AccountId> {
        self.cooled_at().filter(|&at| at <= now)?;
        let (_, id) = self.cooling.pop_first()?;
        Some(id)
    }

    /// Forgets all claims of an ended backfill.
    pub(super) fn drop_fill(&mut self) {
        for held in self.accounts.values_mut() {
            held.claims.fill = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> AccountId {
        AccountId {
            app: 1,
            account: n.to_string(),
        }
    }

    fn live(seq: u64) -> Claims {
        Claims {
            live: Some(seq),
            fill: None,
        }
    }

    #[test]
    fn an_account_in_hand_is_looked_at_again() {
        let mut hand = Hand::default();
        assert_eq!(hand.take(&id(1), Cause::Change, live(5)), Ok(()));
        assert_eq!(hand.take(&id(1), Cause::Forced, live(7)), Err(live(5)));
        let fill = Claims {
            live: None,
            fill: Some(7),
        };
        assert_eq!(
            hand.take(&id(1), Cause::Backfill, fill),
            Err(Claims::default())
        );
        assert_eq!(
            hand.settle(&id(1)),
            Claims::default(),
            "it is not finished yet"
        );
        assert_eq!(hand.leave(&id(1)), Err(Cause::Forced));
        assert_eq!(
            hand.leave(&id(1)),
            Ok(Claims {
                live: Some(7),
                fill: Some(7)
            })
        );
        assert!(!hand.holds(&id(1)));
    }

    #[test]
    fn cooling_doubles_while_the_account_keeps_changing() {
        let mut hand = Hand::default();
        let mut now = Instant::now();
        hand.take(&id(1), Cause::Change, live(1)).unwrap();
        for pause in [50, 100, 200, 400, 800, 1000, 1000] {
            assert!(hand.cool(&id(1), now));
            assert_eq!((hand.busy(), hand.cooled(now)), (0, None));
            now += Duration::from_millis(pause);
            assert_eq!(hand.cooled_at(), Some(now));
            let _ = hand.take(&id(1), Cause::Change, live(2));
            assert_eq!(hand.cooled(now), Some(id(1)));
            assert_eq!((hand.busy(), hand.leave(&id(1))), (1, Err(Cause::Change)));
        }
        assert!(hand.leave(&id(1)).is_ok());
        hand.take(&id(1), Cause::Change, live(3)).unwrap();
        assert!(hand.cool(&id(1), now));
        assert_eq!(
            hand.cooled_at(),
            Some(now + COOLING),
            "it was quiet for a while"
        );
    }

    #[test]
    fn only_so_many_cool_at_a_time() {
        let mut hand = Hand::default();
        let now = Instant::now();
        for n in 0..=COOLING_COUNT {
            hand.take(&id(n), Cause::Change, live(1)).unwrap();
            assert_eq!(hand.cool(&id(n), now), n < COOLING_COUNT);
        }
    }
}
