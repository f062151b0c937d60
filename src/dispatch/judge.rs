//! Whom a failure is blamed on: the account or the target. Keeps the breaker, and the evidence about denials.
//!
//! A denial (HTTP 401, 403, 404, 407) counts as the target's fault until a call that began after the account's
//! first denial succeeds: then the target is well, and the next denial is the account's own. The evidence is not
//! kept over a restart, so that a denial then takes two more attempts to settle.

use std::{collections::BTreeMap, time::Duration};

use profilesync_target::Outcome;
use tokio::time::Instant;

use super::{breaker::Breaker, call::Call, settle::Attempt};
use crate::{
    clock::{self, Millis},
    config,
    event::AccountId,
    store::records::{DeliveryState, Next, Trouble},
};

/// Accounts remembered as denied, and as waiting for the target to recover. The breaker keeps both far below
/// this; an account beyond it waits for its own time.
const REMEMBERED: usize = 10_000;

/// Breaker and evidence of one target.
pub(super) struct Judge {
    pub(super) breaker: Breaker,
    /// An outage shorter than this is over before it kept anyone waiting.
    probe: Duration,
    max_delay: Duration,
    /// Number of the newest call.
    calls: u64,
    /// Number of the newest call that delivered something.
    good: u64,
    /// The newest call when an account was first denied.
    denied: BTreeMap<AccountId, u64>,
    /// When something was delivered last.
    good_at: Millis,
    /// Accounts that wait because the target was to blame, and since when.
    blameless: BTreeMap<AccountId, Millis>,
}

/// How a call changed the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not at all.
    None,
    Opened,
    /// `outage`: it was open long enough to keep accounts waiting.
    Closed {
        outage: bool,
    },
}

impl Judge {
    /// `good_at`: when something was delivered last.
    pub(super) fn new(options: &config::TargetOptions, good_at: Option<Millis>) -> Self {
        Self {
            breaker: Breaker::new(options.breaker),
            probe: options.breaker.probe,
            max_delay: options.retry.max_delay,
            calls: 0,
            good: 0,
            denied: BTreeMap::new(),
            good_at: good_at.unwrap_or_default(),
            blameless: BTreeMap::new(),
        }
    }

    /// The number of a call that starts now.
    pub(super) fn call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Replaces a denial by a rejection where there is evidence.
    pub(super) fn outcome(&mut self, id: &AccountId, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Denied { reason } => {
                let room = self.denied.len() < REMEMBERED;
                match self.denied.get(id) {
                    Some(&first) if self.good > first => {
                        self.denied.remove(id);
                        Outcome::Rejected { reason }
                    }
                    Some(_) => Outcome::Denied { reason },
                    None => {
                        if room {
                            self.denied.insert(id.clone(), self.calls);
                        }
                        Outcome::Denied { reason }
                    }
                }
            }
            Outcome::Delivered { .. } | Outcome::Rejected { .. } => {
                self.denied.remove(id);
                outcome
            }
            Outcome::Retry { .. } | Outcome::Fault { .. } => outcome,
        }
    }

    /// Draws the breaker's conclusion from all outcomes of a call: one account dealt with is a success, and a
    /// batch is at most one fault. `outcomes` are as the target gave them.
    pub(super) fn conclude(&mut self, call: &Call, outcomes: &[Outcome], now: Instant) -> Turn {
        let any = |test: fn(&Outcome) -> bool| outcomes.iter().any(test);
        if any(|outcome| matches!(outcome, Outcome::Delivered { .. })) {
            self.good = self.good.max(call.number);
            self.good_at = clock::now();
        }
        if any(|o| matches!(o, Outcome::Delivered { .. } | Outcome::Rejected { .. })) {
            return match self.breaker.success(now) {
                Some(open) => Turn::Closed {
                    outage: self.probe <= open,
                },
                None => Turn::None,
            };
        }
        let mut after = Duration::ZERO;
        let mut fault = false;
        for outcome in outcomes {
            match outcome {
                Outcome::Fault { after: asked, .. } => {
                    fault = true;
                    after = after.max(asked.unwrap_or_default());
                }
                Outcome::Denied { .. } => fault = true,
                _ => {}
            }
        }
        if !fault {
            self.breaker.neutral(call.probe, now);
            return Turn::None;
        }
        // Who was failing while the target served others is no evidence against it.
        let good_at = self.good_at;
        let fresh = |attempt: &&Attempt| blameless(&attempt.before).is_none_or(|at| good_at <= at);
        let ids = call
            .attempts
            .iter()
            .filter(fresh)
            .map(|attempt| &attempt.id);
        let after = after.min(self.max_delay);
        if self.breaker.fault(ids, call.probe, after, now) {
            Turn::Opened
        } else {
            Turn::None
        }
    }

    /// An account's state is so now.
    pub(super) fn settled(&mut self, id: &AccountId, after: &DeliveryState) {
        let room = self.blameless.len() < REMEMBERED || self.blameless.contains_key(id);
        match blameless(after) {
            Some(since) if room => {
                self.blameless.insert(id.clone(), since);
            }
            _ => drop(self.blameless.remove(id)),
        }
    }

    /// Whether an account waits for the target to recover: others are to be tried before it.
    pub(super) fn waits(&self, id: &AccountId) -> bool {
        self.blameless.contains_key(id)
    }

    /// The account that waits longest for the target to recover.
    pub(super) fn longest_waiting(&self) -> Option<&AccountId> {
        let longest = self.blameless.iter().min_by_key(|&(_, since)| since);
        longest.map(|(id, _)| id)
    }

    /// The accounts that wait for the target to recover.
    pub(super) fn waiting(&self) -> impl ExactSizeIterator<Item = AccountId> {
        self.blameless.keys().cloned()
    }
}

/// Since when a delivery waits for the target to recover.
fn blameless(state: &DeliveryState) -> Option<Millis> {
    match state.trouble {
        Some(Trouble {
            since,
            next: Next::Retry { fault: true, .. },
            ..
        }) => Some(since),
        _ => None,
    }
}
