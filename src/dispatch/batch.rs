//! The next call: whether there may be one now, and which accounts are in it.

use std::sync::Arc;

use profilesync_target::Delivery;
use tokio::time::Instant;

use super::{
    breaker::Gate,
    call::{self, Call},
    due::{self, Decision},
    settle::Attempt,
    target::{Loop, earliest},
    work::{Candidate, Source},
};
use crate::{
    clock,
    store::{StoreError, records::Next},
};

/// Accounts looked at in one go before other tasks get their turn.
const LOOKS: usize = 256;
/// Results not yet written beyond which no call is started.
const BACKLOG: usize = 4096;

/// What came of trying to start calls.
enum Started {
    /// One was started.
    Call,
    /// None can be before that time, unless something else happens.
    Wait(Option<Instant>),
}

impl Loop {
    /// Starts as many calls as may be. Returns when to try again though nothing happens.
    pub(super) fn start_calls(&mut self, now: Instant) -> Result<Option<Instant>, StoreError> {
        let mut looks = LOOKS;
        loop {
            match self.start_call(now, &mut looks)? {
                _ if looks == 0 => return Ok(Some(now)),
                Started::Call => {}
                Started::Wait(until) => return Ok(until),
            }
        }
    }

    fn start_call(&mut self, now: Instant, looks: &mut usize) -> Result<Started, StoreError> {
        if !self.may_call() || self.books.backlog() > BACKLOG {
            return Ok(Started::Wait(None));
        }
        if now < self.call_at {
            return Ok(Started::Wait(Some(self.call_at)));
        }
        let gate = self.judge.breaker.gate(now);
        if gate == Gate::Shut {
            return Ok(Started::Wait(self.judge.breaker.probe_at()));
        }
        if let Err(until) = self.pace.ready(now) {
            return Ok(Started::Wait(Some(until)));
        }
        let (batch, again) = self.collect(gate, now, looks)?;
        if batch.is_empty() {
            let fill = self
                .work
                .fill
                .as_ref()
                .and_then(|_| self.fill_pace.ready(now).err());
            let probe = self.judge.breaker.probe_at().filter(|&at| now < at);
            return Ok(Started::Wait(earliest([fill, probe])));
        }
        let probe = gate == Gate::Probe;
        if probe {
            self.judge.breaker.probe_started();
        }
        let (attempts, documents): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        self.call_at = now + self.target.limits.interval;
        self.inflight += attempts.len();
        self.calls_again += usize::from(again);
        let call = Call {
            number: self.judge.call(),
            attempts,
            probe,
            again,
            started: now,
        };
        self.calls
            .spawn(call::make(Arc::clone(&self.target), call, documents));
        Ok(Started::Call)
    }

    fn may_call(&self) -> bool {
        let allowed = !self.state.paused && self.state.held.is_none();
        allowed && self.calls.len() < self.concurrency()
    }

    fn concurrency(&self) -> usize {
        let kind = self.target.limits.concurrency.unwrap_or(usize::MAX);
        self.target.options.concurrency.get().min(kind).max(1)
    }

    /// Gathers the accounts of the next call, and says whether they failed before.
    fn collect(
        &mut self,
        gate: Gate,
        now: Instant,
        looks: &mut usize,
    ) -> Result<(Vec<(Attempt, Delivery)>, bool), StoreError> {
        let limit = if gate == Gate::Open { self.batch() } else { 1 };
        let mut batch = Vec::new();
        if gate != Gate::Others {
            let mut rest = Vec::new();
            for candidate in self.work.part(limit).unwrap_or_default() {
                if batch.is_empty() || self.pace.ready(now).is_ok() {
                    batch.extend(self.look(candidate, gate, now)?);
                } else {
                    rest.push(candidate.id);
                }
            }
            self.work.rejoin(rest);
            if !batch.is_empty() {
                return Ok((batch, false));
            }
        }
        // Accounts that failed before leave one slot to those that did not, which may be slow but not stuck.
        let may_again = self.calls_again < self.concurrency().saturating_sub(1).max(1);
        let again_first = self.again_first && gate == Gate::Open;
        for again in [again_first, !again_first] {
            while batch.len() < limit && *looks > 0 && self.pace.ready(now).is_ok() {
                *looks -= 1;
                let candidate = match again {
                    false => self.first(now)?,
                    true if may_again => self.again(gate)?,
                    true => None,
                };
                let Some(candidate) = candidate else {
                    break;
                };
                batch.extend(self.look(candidate, gate, now)?);
                if self.state.held.is_some() {
                    break;
                }
            }
            if !batch.is_empty() {
                self.again_first = !again;
                return Ok((batch, again));
            }
        }
        Ok((batch, false))
    }

    fn batch(&self) -> usize {
        let options = self
            .target
            .options
            .batch
            .map_or(usize::MAX, |batch| batch.get());
        self.target.limits.batch.min(options).max(1)
    }

    fn first(&mut self, now: Instant) -> Result<Option<Candidate>, StoreError> {
        let fill = self.work.fill.is_some() && self.fill_pace.ready(now).is_ok();
        self.work.first(&*self.ledger, fill)
    }

    fn again(&mut self, gate: Gate) -> Result<Option<Candidate>, StoreError> {
        let judge = &self.judge;
        let skip = |id: &_| gate == Gate::Others && judge.waits(id);
        let candidate = self.work.again(&*self.ledger, clock::now(), skip)?;
        if candidate.is_none() && gate == Gate::Probe {
            // Nothing else to probe with: the account that waits longest does not wait for its own time.
            self.work.force(self.judge.longest_waiting().cloned());
            return self.work.again(&*self.ledger, clock::now(), |_| false);
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
            clock::now(),
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
