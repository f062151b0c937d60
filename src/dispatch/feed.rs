//! A walk over the change index: what was fetched, what of it is unfinished, and the cursor that follows.
//!
//! The index holds one entry per account, at its newest change. So an entry that is fetched and unfinished need
//! not be remembered for long: when the account changes again its entry moves behind the walk, and is met anew.

use std::collections::{BTreeSet, VecDeque};

use super::ledger::Ledger;
use crate::{
    event::AccountId,
    store::{Change, StoreError},
};

/// Entries fetched at once. An account that changes again and again moves to the end of the index; once it is fetched, it
/// has its place.
const PAGE: usize = 1024;

/// A walk over the entries in `(cursor, end]`.
pub(super) struct Feed {
    /// Fetched up to here.
    position: u64,
    end: u64,
    /// Fetched and not looked at.
    page: VecDeque<Change>,
    /// Fetched and not finished, by sequence number; those of the page among them.
    open: BTreeSet<u64>,
    /// Whether there may be entries behind the position.
    more: bool,
}

impl Feed {
    pub(super) fn new(cursor: u64, end: u64) -> Self {
        Self {
            position: cursor,
            end,
            page: VecDeque::new(),
            open: BTreeSet::new(),
            more: true,
        }
    }

    /// The index has grown.
    pub(super) fn wake(&mut self) {
        self.more = true;
    }

    /// The next entry. It is unfinished until [`Feed::finish`].
    pub(super) fn next(&mut self, ledger: &dyn Ledger) -> Result<Option<Change>, StoreError> {
        self.fetch(ledger, 1)?;
        Ok(self.page.pop_front())
    }

    /// The newest of the next entries for which `test` holds, out of its turn.
    pub(super) fn pick(
        &mut self,
        ledger: &dyn Ledger,
        test: impl Fn(&AccountId) -> Result<bool, StoreError>,
    ) -> Result<Option<Change>, StoreError> {
        self.fetch(ledger, PAGE)?;
        for at in (0..self.page.len()).rev() {
            if test(&self.page[at].id)? {
                return Ok(self.page.remove(at));
            }
        }
        Ok(None)
    }

    /// Fills the page if it holds less than `least`.
    fn fetch(&mut self, ledger: &dyn Ledger, least: usize) -> Result<(), StoreError> {
        if self.page.len() < least && self.more {
            let room = PAGE - self.page.len();
            let page = ledger.changes(self.position, self.end, room)?;
            self.more = page.len() == room;
            if let Some(last) = page.last() {
                self.position = last.seq;
            }
            self.open.extend(page.iter().map(|change| change.seq));
            self.page.extend(page);
        }
        Ok(())
    }

    /// An entry needs no more attention, even after a restart.
    pub(super) fn finish(&mut self, seq: u64) {
        self.open.remove(&seq);
    }

    /// Every entry up to here is finished.
    pub(super) fn cursor(&self) -> u64 {
        self.open.first().map_or(self.position, |seq| seq - 1)
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether an entry of the index, fetched or not, is not finished.
    pub(super) fn awaits(&self, seq: u64) -> bool {
        seq > self.position || self.open.contains(&seq)
    }

    /// How many entries were fetched and are not finished.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether everything in the index up to now was fetched.
    pub(super) fn at_end(&self) -> bool {
        !self.more
    }
}
