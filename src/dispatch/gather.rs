//! Which accounts go into the next call of a target.

use profilesync_target::Delivery;
use tokio::time::Instant;

use super::{
    breaker::Gate,
    due::{self, Cause, Decision},
    settle::Attempt,
    target::Loop,
    work::{Candidate, Source},
};
use crate::{
    clock,
    store::{StoreError, records::Next},
};

/// Accounts of one call, whatever its kind can take: they are read in one go.
const BATCH: usize = 4096;

impl Loop {
    /// Gathers the accounts of the next call, and says whether they failed before.
    pub(super) fn collect(
        &mut self,
        gate: Gate,
        now: Instant,
        looks: &mut usize,
    ) -> Result<(Vec<(Attempt, Delivery)>, bool), StoreError> {
        let mut limit = if gate == Gate::Open { self.batch() } else { 1 };
        // Parts of refused batches may be many: every second call is another's.
        self.part_first = !self.part_first;
        if self.part_first {
            let part = self.part(limit, gate, now)?;
            if !part.is_empty() {
                return Ok((part, false));
            }
        }
        let mut batch = Vec::new();
        // Accounts that failed before leave one slot to those that did not, which may be slow but not stuck.
        let may_again = self.calls_again < self.concurrency().saturating_sub(1).max(1);
        let again_first = self.again_first && gate == Gate::Open;
        for again in [again_first, !again_first] {
            while batch.len() < limit && *looks > 0 && self.pace.ready(now).is_ok() {
                let candidate = match again {
                    false => self.first(gate, now)?,
                    true if may_again => self.again(gate)?,
                    true => None,
                };
                let Some(candidate) = candidate else {
                    break;
                };
                let cause = candidate.cause;
                match self.look(candidate, gate, now)? {
                    Some(due) => {
                        if cause == Cause::Retry {
                            limit = limit.min(self.company(&due.0));
                        }
                        batch.push(due);
                    }
                    None => *looks -= 1,
                }
                if self.state.held.is_some() {
                    break;
                }
            }
            if !batch.is_empty() {
                self.again_first = !again;
                return Ok((batch, again));
            }
        }
        Ok((self.part(limit, gate, now)?, false))
    }

    /// Gathers the accounts of a part of a batch that was refused as a whole, if there is one with any that are still due.
    fn part(
        &mut self,
        limit: usize,
        gate: Gate,
        now: Instant,
    ) -> Result<Vec<(Attempt, Delivery)>, StoreError> {
        let mut batch = Vec::new();
        if gate == Gate::Others {
            return Ok(batch);
        }
        while batch.is_empty()
            && let Some(part) = self.work.part(limit)
        {
            let mut rest = Vec::new();
            for candidate in part {
                if batch.is_empty() || self.pace.ready(now).is_ok() {
                    batch.extend(self.look(candidate, gate, now)?);
                } else {
                    rest.push(candidate.id);
                }
            }
            self.work.rejoin(rest);
        }
        Ok(batch)
    }

    /// In how large a batch an account is tried again that failed with others. One of them may be why: the more often
    /// they failed, the fewer are tried together. A target that takes calls now and then alone has no time for that.
    fn company(&self, attempt: &Attempt) -> usize {
        if !self.target.target.limits().interval.is_zero() {
            return usize::MAX;
        }
        let attempts = attempt.before.trouble.as_ref();
        let attempts = attempts.map_or(0, |trouble| trouble.attempts);
        (self.batch() >> (2 * attempts).min(usize::BITS - 1)).max(1)
    }

    fn batch(&self) -> usize {
        let options = self
            .target
            .options
            .batch
            .map_or(usize::MAX, |batch| batch.get());
        self.target
            .target
            .limits()
            .batch
            .min(options)
            .clamp(1, BATCH)
    }

    fn first(&mut self, gate: Gate, now: Instant) -> Result<Option<Candidate>, StoreError> {
        // Many accounts that fail for reasons of their own must not be all that a target is judged by.
        if gate == Gate::Probe
            && let Some(candidate) = self.work.proven(&*self.ledger)?
        {
            return Ok(Some(candidate));
        }
        let fill = self.work.fill.is_some() && self.fill_pace.ready(now).is_ok();
        self.work.first(&*self.ledger, fill)
    }

    fn again(&mut self, gate: Gate) -> Result<Option<Candidate>, StoreError> {
        let judge = &self.judge;
        let skip = |id: &_| gate == Gate::Others && judge.waits(id);
        let wall = self.wall.now();
        let candidate = self.work.again(&*self.ledger, wall, skip)?;
        if candidate.is_none() && gate == Gate::Probe {
            // Nothing else to probe with: the account that waits longest does not wait for its own time.
            self.work.force(self.judge.longest_waiting().cloned());
            return self.work.again(&*self.ledger, wall, |_| false);
        }
        Ok(candidate)
    }

    /// Reads an account as it is now, and makes an attempt of it if it is due.
    fn look(
        &mut self,
        candidate: Candidate,
        gate: Gate,
        now: Instant,
    ) -> Result<Option<(Attempt, Delivery)>, StoreError> {
        let id = &candidate.id;
        let Some(account) = self.ledger.account(id)? else {
            self.work.leave(id);
            return Ok(None);
        };
        let before = self.ledger.delivery(self.state.id, id)?.unwrap_or_default();
        let epoch = self.state.epoch;
        let facts = (id, &account, &before);
        let mut decision = due::decide(
            &self.target.options,
            epoch,
            candidate.cause,
            facts,
            self.wall.now(),
        );
        let next = before
            .trouble
            .as_ref()
            .map(|trouble| (trouble.next, trouble.revision));
        if let Some((Next::Retry { at, .. }, _)) = next
            && (decision == Decision::Leave || gate == Gate::Others && self.judge.waits(id))
        {
            decision = Decision::Leave;
            self.work.retry_at(at);
        }
        match decision {
            Decision::Deliver => {}
            Decision::Leave => {
                // It may have been counted among those that wait just before it was delivered.
                self.judge.settled(id, &before);
                self.work.leave(id);
                return Ok(None);
            }
            Decision::Clear => {
                let mut after = before.clone();
                after.trouble = None;
                self.settled(candidate.id, before, after, false);
                return Ok(None);
            }
        }
        let repeated = next.is_some_and(|(_, revision)| revision == account.revision);
        if !repeated
            && candidate.source != Source::Part
            && let Some(guard) = &mut self.guard
            && !guard.admit(account.changed_seq, now)
        {
            self.work.put_back(candidate);
            self.hold();
            return Ok(None);
        }
        self.pace.take();
        if candidate.source == Source::Backfill {
            self.fill_pace.take();
        }
        let revision = account.revision;
        let document = account.profile.document(id, revision);
        let afresh = matches!(next, Some((Next::Parked, _)));
        let attempt = Attempt {
            id: candidate.id,
            revision,
            epoch,
            before,
            afresh,
        };
        Ok(Some((attempt, Delivery { document })))
    }

    fn hold(&mut self) {
        self.state.held = Some(clock::now());
        self.books.state_changed();
        tracing::warn!(
            target = self.target.name,
            "held: more changes than guard.max_changes; see what is due, then approve"
        );
    }
}
