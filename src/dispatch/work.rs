//! Where a dispatcher's work comes from: retries whose time has come, changes, and a backfill.
//!
//! First attempts and repeated ones are two lanes, so that neither starves the other.

use std::collections::{BTreeSet, VecDeque};

use super::{
    due::Cause,
    feed::Feed,
    hand::{Claims, Hand},
    ledger::Ledger,
};
use crate::{
    clock::Millis,
    event::AccountId,
    store::{
        Change, StoreError,
        records::{Backfill, TargetId, TargetState},
    },
};

/// Retries fetched at once.
const PAGE: usize = 64;

/// An account to look at; it is in hand.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) id: AccountId,
    pub(super) cause: Cause,
    pub(super) source: Source,
}

/// Which account of it must be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The backfill, which has a rate of its own.
    Backfill,
    /// A part of a batch that failed, whose accounts the guard has counted.
    Part,
    /// Anything else.
    Other,
}

impl Candidate {
    fn new(id: AccountId, cause: Cause) -> Self {
        let source = Source::Other;
        Self { id, cause, source }
    }
}

/// All work of one target.
pub(super) struct Work {
    target: TargetId,
    pub(super) hand: Hand,
    /// In hand, and to be looked at again.
    ready: VecDeque<Candidate>,
    /// In hand: parts of batches that failed as a whole. Calls never mix them with others.
    parts: Vec<Vec<AccountId>>,
    pub(super) live: Feed,
    pub(super) fill: Option<Feed>,
    /// Entries of the backfill that were finished and not yet collected by [`Work::save`].
    filled: u64,
    forced: BTreeSet<AccountId>,
    retries: VecDeque<AccountId>,
    /// When the next retry that is not in `retries` is due, as far as is known.
    retry_at: Option<Millis>,
}

impl Work {
    /// Goes on from where the state says.
    pub(super) fn new(state: &TargetState) -> Self {
        Self {
            target: state.id,
            hand: Hand::default(),
            ready: VecDeque::new(),
            parts: Vec::new(),
            live: Feed::new(state.live, u64::MAX),
            fill: state
                .backfill
                .as_ref()
                .map(|fill| Feed::new(fill.next, fill.end)),
            filled: 0,
            forced: BTreeSet::new(),
            retries: VecDeque::new(),
            retry_at: Some(0),
        }
    }

    /// An account to try for the first time since it changed, or since the backfill began (if `fill`).
    pub(super) fn first(
        &mut self,
        ledger: &dyn Ledger,
        fill: bool,
    ) -> Result<Option<Candidate>, StoreError> {
        if let Some(candidate) = self.ready.pop_front() {
            return Ok(Some(candidate));
        }
        while let Some(change) = self.live.next(ledger)? {
            if let Some(candidate) = self.take(change) {
                return Ok(Some(candidate));
            }
        }
        while fill && let Some(feed) = &mut self.fill {
            let Some(change) = feed.next(ledger)? else {
                break;
            };
            let claims = Claims {
                live: None,
                fill: Some(change.seq),
            };
            match self.hand.take(&change.id, Cause::Backfill, claims) {
                Ok(()) => {
                    let (id, cause, source) = (change.id, Cause::Backfill, Source::Backfill);
                    return Ok(Some(Candidate { id, cause, source }));
                }
                Err(replaced) => self.finish(replaced),
            }
        }
        Ok(None)
    }

    /// A changed account that the target took before. When it fails, that says more of the target than when a new one does.
    pub(super) fn proven(&mut self, ledger: &dyn Ledger) -> Result<Option<Candidate>, StoreError> {
        let target = self.target;
        let is_proven = |id: &AccountId| {
            let state = ledger.delivery(target, id)?;
            Ok(state.is_some_and(|state| state.delivered > 0 && state.trouble.is_none()))
        };
        while let Some(change) = self.live.pick(ledger, is_proven)? {
            if let Some(candidate) = self.take(change) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// A changed account, unless it is in hand: then it is looked at again.
    fn take(&mut self, change: Change) -> Option<Candidate> {
        let claims = Claims {
            live: Some(change.seq),
            fill: None,
        };
        match self.hand.take(&change.id, Cause::Change, claims) {
            Ok(()) => Some(Candidate::new(change.id, Cause::Change)),
            Err(replaced) => {
                self.finish(replaced);
                None
            }
        }
    }

    /// An account to try again, unless it is one of those to `skip`.
    pub(super) fn again(
        &mut self,
        ledger: &dyn Ledger,
        now: Millis,
        skip: impl Fn(&AccountId) -> bool,
    ) -> Result<Option<Candidate>, StoreError> {
        while let Some(id) = self.forced.iter().find(|id| !skip(id)).cloned() {
            self.forced.remove(&id);
            if self
                .hand
                .take(&id, Cause::Forced, Claims::default())
                .is_ok()
            {
                return Ok(Some(Candidate::new(id, Cause::Forced)));
            }
        }
        while self.retry_at.is_some_and(|at| at <= now)
            && self.retries.iter().all(&skip)
            && self.load_retries(ledger, now)?
        {}
        while let Some(at) = self.retries.iter().position(|id| !skip(id))
            && let Some(id) = self.retries.remove(at)
        {
            if !self.hand.holds(&id) {
                // Free, so taking it cannot fail.
                let _ = self.hand.take(&id, Cause::Retry, Claims::default());
                return Ok(Some(Candidate::new(id, Cause::Retry)));
            }
        }
        Ok(None)
    }

    /// Loads retries that are due, from the first: those that were loaded and are all to be skipped, and more than as
    /// many again. Entries of accounts that are busy are old: what follows for them is being written. False when
    /// there are no more.
    fn load_retries(&mut self, ledger: &dyn Ledger, now: Millis) -> Result<bool, StoreError> {
        let known = self.retries.len();
        let limit = PAGE + self.hand.busy() + 2 * known;
        let rows = ledger.retries(self.target, limit)?;
        self.retry_at = (rows.len() == limit).then_some(now);
        self.retries.clear();
        for (at, id) in rows {
            if at > now {
                self.retry_at = Some(at);
                break;
            }
            if !self.hand.holds(&id) {
                self.retries.push_back(id);
            }
        }
        Ok(known < self.retries.len())
    }

    /// A part of a batch that failed as a whole: at most `limit` accounts.
    pub(super) fn part(&mut self, limit: usize) -> Option<Vec<Candidate>> {
        let part = self.parts.last_mut()?;
        let rest = part.split_off(limit.min(part.len()));
        let ids = std::mem::replace(part, rest);
        if part.is_empty() {
            self.parts.pop();
        }
        // That they are due was decided when they were first called.
        let (cause, source) = (Cause::Forced, Source::Part);
        let candidates = ids.into_iter().map(|id| Candidate { id, cause, source });
        Some(candidates.collect())
    }

    /// Accounts of a part for which there was no room in the call.
    pub(super) fn rejoin(&mut self, ids: Vec<AccountId>) {
        if !ids.is_empty() {
            self.parts.push(ids);
        }
    }

    /// Cuts a failed batch in half, to be called next.
    pub(super) fn split(&mut self, mut ids: Vec<AccountId>) {
        let second = ids.split_off(ids.len() / 2);
        self.rejoin(second);
        self.rejoin(ids);
    }

    /// The account is to be looked at again at once.
    pub(super) fn put_back(&mut self, candidate: Candidate) {
        self.ready.push_front(candidate);
    }

    /// There is a retry at that time.
    pub(super) fn retry_at(&mut self, at: Millis) {
        self.retry_at = Some(self.retry_at.map_or(at, |known| known.min(at)));
    }

    /// When the next retry is due, as far as is known.
    pub(super) fn next_retry(&self) -> Option<Millis> {
        self.retry_at
    }

    /// These are to be tried whatever their backoff says.
    pub(super) fn force(&mut self, ids: impl IntoIterator<Item = AccountId>) {
        self.forced.extend(ids);
    }

    /// Nothing is to be done about the account now.
    pub(super) fn leave(&mut self, id: &AccountId) {
        match self.hand.leave(id) {
            Ok(claims) => self.finish(claims),
            Err(cause) => self.ready.push_back(Candidate::new(id.clone(), cause)),
        }
    }

    /// The account's result is about to be written.
    pub(super) fn settle(&mut self, id: &AccountId) {
        let claims = self.hand.settle(id);
        self.finish(claims);
    }

    /// Lets go of the accounts that have cooled.
    pub(super) fn tick(&mut self, now: tokio::time::Instant) {
        while let Some(id) = self.hand.cooled(now) {
            self.leave(&id);
        }
    }

    fn finish(&mut self, claims: Claims) {
        if let Some(seq) = claims.live {
            self.live.finish(seq);
        }
        if let (Some(seq), Some(fill)) = (claims.fill, &mut self.fill) {
            fill.finish(seq);
            self.filled += 1;
        }
    }

    /// Walks again over every account whose change was fetched. Those in hand are among them: what is under way
    /// counts for the epoch before.
    pub(super) fn backfill(&mut self, total: u64) -> Backfill {
        let end = self.live.position();
        self.hand.drop_fill();
        self.filled = 0;
        self.fill = Some(Feed::new(0, end));
        Backfill {
            next: 0,
            end,
            total,
            done: 0,
        }
    }

    /// Brings the cursors of a state up to date. Says whether that changed any, and whether the backfill is done.
    pub(super) fn save(&mut self, state: &mut TargetState) -> Saved {
        let before = (state.live, state.backfill.as_ref().map(|fill| fill.next));
        state.live = self.live.cursor();
        let mut backfilled = false;
        if let (Some(fill), Some(saved)) = (&self.fill, &mut state.backfill) {
            saved.next = fill.cursor();
            saved.done += std::mem::take(&mut self.filled);
            if fill.at_end() && fill.open() == 0 {
                backfilled = true;
                self.fill = None;
                state.backfill = None;
            }
        }
        let after = (state.live, state.backfill.as_ref().map(|fill| fill.next));
        Saved {
            moved: before != after,
            backfilled,
        }
    }
}

/// What [`Work::save`] found.
pub(super) struct Saved {
    pub(super) moved: bool,
    pub(super) backfilled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Store, Write,
        records::{DeliveryState, Next, Trouble},
    };

    #[test]
    fn a_retry_is_found_behind_any_number_of_those_to_skip() {
        let store = Store::in_memory();
        let id = |account: &str, n| AccountId {
            app: 1,
            account: format!("{account} {n}"),
        };
        let write = |id, at| {
            let fault = false;
            let trouble = Trouble {
                since: 1,
                attempts: 1,
                revision: 1,
                at: 1,
                reason: String::new(),
                next: Next::Retry { at, fault },
            };
            let trouble = Some(trouble);
            let (target, state) = (
                1,
                DeliveryState {
                    trouble,
                    ..Default::default()
                },
            );
            drop(store.write(vec![Write::Delivery { target, id, state }]));
        };
        (0..1000).for_each(|n| write(id("skipped", n), 10));
        (0..2).for_each(|n| write(id("wanted", n), 20 + n));
        let state = TargetState {
            id: 1,
            ..Default::default()
        };
        let mut work = Work::new(&state);
        let mut again = |now| {
            let skip = |id: &AccountId| id.account.starts_with("skipped");
            work.again(&store, now, skip)
                .unwrap()
                .map(|candidate| candidate.id)
        };
        assert_eq!(again(20), Some(id("wanted", 0)));
        assert_eq!(again(20), None);
        assert_eq!(work.next_retry(), Some(21));
        let mut left = 0;
        while work.again(&store, 20, |_| false).unwrap().is_some() {
            left += 1;
        }
        assert_eq!(left, 1000);
    }

    #[test]
    fn an_account_is_forced_once_however_often_it_is_asked_for() {
        let store = Store::in_memory();
        let mut work = Work::new(&TargetState::default());
        let ids = ["a", "b"].map(|account| AccountId {
            app: 1,
            account: account.into(),
        });
        for _ in 0..3 {
            work.force(ids.clone());
        }
        for id in ids {
            let candidate = work.again(&store, 0, |_| false).unwrap().unwrap();
            assert_eq!((&candidate.id, candidate.cause), (&id, Cause::Forced));
            work.leave(&id);
        }
        assert!(work.again(&store, 0, |_| false).unwrap().is_none());
    }
}
