//! The guard against a flood of changes: counts account changes in a sliding window. Pure: time is a parameter.
//!
//! A further attempt at the same revision is no change. What was due when an operator approved the flood is not
//! counted again. Count and approval are handed on to the next loop of the same target, but not remembered over a
//! restart, after which the rest is counted anew.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::config;

/// The window is counted in so many steps, each forgotten as a whole: at most one step later than exact.
const STEPS: u32 = 64;

/// The count of one target.
pub(super) struct Guard {
    options: config::Guard,
    /// When each step began and how many changes it saw, oldest first.
    steps: VecDeque<(Instant, u32)>,
    count: u32,
    /// Changes up to this sequence number were approved.
    approved: u64,
}

impl Guard {
    pub(super) fn new(options: config::Guard) -> Self {
        Self {
            options,
            steps: VecDeque::new(),
            count: 0,
            approved: 0,
        }
    }

    /// Counts a change whose place is `seq`. False when it would be one too many, and is not counted.
    pub(super) fn admit(&mut self, seq: u64, now: Instant) -> bool {
        if seq <= self.approved {
            return true;
        }
        let step = self.options.window / STEPS;
        while let Some(&(began, count)) = self.steps.front()
            && began + self.options.window + step <= now
        {
            self.steps.pop_front();
            self.count -= count;
        }
        if self.count >= self.options.max_changes.get() {
            return false;
        }
        self.count += 1;
        match self.steps.back_mut() {
            Some((began, count)) if now < *began + step => *count += 1,
            _ => self.steps.push_back((now, 1)),
        }
        true
    }

    /// Starts a new window, in which the changes up to `newest` do not count.
    pub(super) fn approve(&mut self, newest: u64) {
        self.steps.clear();
        self.count = 0;
        self.approved = newest;
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(64);

    fn guard(max: u32) -> Guard {
        Guard::new(config::Guard {
            max_changes: NonZeroU32::new(max).unwrap(),
            window: WINDOW,
        })
    }

    #[test]
    fn an_approval_lets_through_what_was_due_and_starts_anew() {
        let now = Instant::now();
        let mut guard = guard(2);
        let admitted = [1, 2, 3].map(|seq| guard.admit(seq, now));
        assert_eq!(admitted, [true, true, false]);
        guard.approve(9);
        let admitted = [3, 8, 9, 10, 11, 12].map(|seq| guard.admit(seq, now));
        assert_eq!(admitted, [true, true, true, true, true, false]);
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_limit(
            max in 1..6u32, gaps in proptest::collection::vec(0..40u64, 1..200),
        ) {
            let mut guard = guard(max);
            let mut now = Instant::now();
            let mut admitted: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_secs(gap);
                let within = |width: Duration, at: &&Instant| **at + width > now;
                let exact = admitted.iter().filter(|at| within(WINDOW, at)).count();
                let slack = admitted.iter().filter(|at| within(WINDOW * 66 / 64, at)).count();
                let max = max as usize;
                if guard.admit(1, now) {
                    prop_assert!(exact < max);
                    admitted.push(now);
                } else {
                    prop_assert!(slack >= max);
                }
                prop_assert!(guard.steps.len() <= 66);
                prop_assert_eq!(guard.count, guard.steps.iter().map(|step| step.1).sum::<u32>());
            }
        }
    }
}
