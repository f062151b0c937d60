//! A target's own switch: open while the target as a whole fails, so that accounts stay due instead of each
//! being tried in vain. Pure: time is a parameter.
//!
//! While it is open one real delivery is made every now and then as a probe. An account that always fails must
//! not shut out the others, so as long as fewer than [`SUSPECTS`] accounts began to fail in a row, any other
//! account may be tried at once.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{config, event::AccountId};

/// So many different accounts must have begun to fail in a row before the target alone is to blame.
const SUSPECTS: usize = 3;

/// The switch of one target.
pub(super) struct Breaker {
    options: config::Breaker,
    /// Target faults since the last success.
    streak: u32,
    /// Some of the accounts they were of, [`SUSPECTS`] at most.
    suspects: BTreeSet<AccountId>,
    open: Option<Open>,
}

struct Open {
    since: Instant,
    probe_at: Instant,
    interval: Duration,
    probing: bool,
}

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Everything.
    Open,
    /// One delivery of any account, as a probe.
    Probe,
    /// One delivery of an account that did not fail.
    Others,
    /// Nothing.
    Shut,
}

impl Breaker {
    pub(super) fn new(options: config::Breaker) -> Self {
        Self {
            options,
            streak: 0,
            suspects: BTreeSet::new(),
            open: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn gate(&self, now: Instant) -> Gate {
        match &self.open {
            None => Gate::Open,
            Some(open) if !open.probing && open.probe_at <= now => Gate::Probe,
            Some(_) if self.suspects.len() < SUSPECTS => Gate::Others,
            Some(_) => Gate::Shut,
        }
    }

    /// When the next probe may start; `None` while the breaker is closed or a probe is under way.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let open = self.open.as_ref().filter(|open| !open.probing)?;
        Some(open.probe_at)
    }

    /// A probe started.
    pub(super) fn probe_started(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// Allows a probe at once: an operator asked.
    pub(super) fn probe_now(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.probe_at = now;
        }
    }

    /// A call failed, and the target is to blame. `suspects` are its accounts that were not failing before; `after`
    /// is the delay the target asked for. True when that opened the breaker.
    pub(super) fn fault<'a>(
        &mut self,
        suspects: impl IntoIterator<Item = &'a AccountId>,
        probe: bool,
        after: Duration,
        now: Instant,
    ) -> bool {
        self.streak = self.streak.saturating_add(1);
        for id in suspects {
            if self.suspects.len() == SUSPECTS {
                break;
            }
            if !self.suspects.contains(id) {
                self.suspects.insert(id.clone());
            }
        }
        match &mut self.open {
            Some(_) if probe => self.next_probe(after, now),
            Some(open) => open.probe_at = open.probe_at.max(now + after),
            None if self.streak >= self.options.failures.get() => {
                self.open = Some(Open {
                    since: now,
                    probe_at: now + self.options.probe.max(after),
                    interval: self.options.probe,
                    probing: false,
                });
                return true;
            }
            None => {}
        }
        false
    }

    /// A call ended in a way that tells nothing about the target, such as "not now".
    pub(super) fn neutral(&mut self, probe: bool, now: Instant) {
        if probe {
            self.next_probe(Duration::ZERO, now);
        }
    }

    /// The target dealt with an account. Returns for how long the breaker was open, if that closed it.
    pub(super) fn success(&mut self, now: Instant) -> Option<Duration> {
        self.streak = 0;
        self.suspects.clear();
        let open = self.open.take()?;
        Some(now - open.since)
    }

    fn next_probe(&mut self, after: Duration, now: Instant) {
        if let Some(open) = &mut self.open {
            open.interval = (open.interval * 2).min(self.options.probe_max.max(open.interval));
            open.probe_at = now + open.interval.max(after);
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const OPTIONS: config::Breaker = config::Breaker {
        failures: NonZeroU32::new(3).unwrap(),
        probe: Duration::from_secs(30),
        probe_max: Duration::from_mins(5),
    };

    fn account(n: u8) -> AccountId {
        AccountId {
            app: 1,
            account: n.to_string(),
        }
    }

    fn opened(accounts: [u8; 3], now: Instant) -> Breaker {
        let mut breaker = Breaker::new(OPTIONS);
        for n in accounts {
            assert_eq!(breaker.gate(now), Gate::Open);
            breaker.fault([&account(n)], false, Duration::ZERO, now);
        }
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn probes_grow_apart_and_a_success_closes() {
        let mut now = Instant::now();
        let mut breaker = opened([1, 2, 3], now);
        assert_eq!(breaker.gate(now), Gate::Shut);
        for wait in [30, 60, 120, 240, 300, 300] {
            now += Duration::from_secs(wait);
            assert_eq!(breaker.probe_at(), Some(now));
            assert_eq!(breaker.gate(now - Duration::from_millis(1)), Gate::Shut);
            assert_eq!(breaker.gate(now), Gate::Probe);
            breaker.probe_started();
            assert_eq!(breaker.gate(now), Gate::Shut);
            breaker.fault([&account(4)], true, Duration::ZERO, now);
        }
        assert_eq!(breaker.success(now), Some(Duration::from_secs(1050)));
        assert_eq!(breaker.gate(now), Gate::Open);
    }

    #[test]
    fn a_delay_the_target_asks_for_is_kept() {
        let now = Instant::now();
        let mut breaker = opened([1, 2, 3], now);
        breaker.fault([&account(1)], false, Duration::from_mins(10), now);
        assert_eq!(breaker.probe_at(), Some(now + Duration::from_mins(10)));
    }

    #[test]
    fn one_failing_account_does_not_shut_out_the_others() {
        let now = Instant::now();
        let mut breaker = opened([1, 1, 1], now);
        assert_eq!(breaker.gate(now), Gate::Others);
        breaker.fault([&account(2)], false, Duration::ZERO, now);
        assert_eq!(breaker.gate(now), Gate::Others);
        breaker.fault([&account(3)], false, Duration::ZERO, now);
        assert_eq!(breaker.gate(now), Gate::Shut);
    }

    proptest! {
        #[test]
        fn it_is_open_only_after_enough_faults_in_a_row(
            calls in proptest::collection::vec((0..3u8, 0..5u8), 0..60),
        ) {
            let now = Instant::now();
            let mut breaker = Breaker::new(OPTIONS);
            let mut streak = 0;
            for (outcome, n) in calls {
                match outcome {
                    0 => { breaker.success(now); streak = 0; }
                    1 => { breaker.fault([&account(n)], false, Duration::ZERO, now); streak += 1; }
                    _ => breaker.neutral(false, now),
                }
                prop_assert_eq!(breaker.is_open(), streak >= 3);
                prop_assert!(breaker.suspects.len() <= SUSPECTS);
            }
        }
    }
}
