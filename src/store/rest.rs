//! When the applier stands back for those who answer.
//!
//! An OK needs the processor now. Applying can wait, and is cheaper when many events of an account have become one write.

use std::time::Duration;

/// Fewer events in a batch are no burst.
const BURST: u64 = 32;

/// How many times as long as it worked the applier rests.
const RESTS: u32 = 4;

/// The longest rest.
const MOST: Duration = Duration::from_millis(200);

/// What is left of `store.max_lag` must be plenty: a rest must never be why the listener slows down.
const SHARE_OF_LAG: u64 = 4;

/// A batch that was applied.
pub(super) struct Round {
    /// How long it took.
    pub(super) took: Duration,
    /// Events in it.
    pub(super) applied: u64,
    /// Events that arrived meanwhile.
    pub(super) arrived: u64,
    /// Events that are in the journal and not applied.
    pub(super) behind: u64,
}

impl Round {
    /// How long to rest after it: not at all unless more arrived than was applied. Then no work of the applier keeps up,
    /// and the processor is in demand.
    pub(super) fn rest(&self, max_lag: u64) -> Duration {
        let is_burst = BURST <= self.applied && self.applied <= self.arrived;
        match is_burst && self.behind < max_lag / SHARE_OF_LAG {
            true => (RESTS * self.took).min(MOST),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_when_more_arrives_than_is_applied_and_only_so_far_behind() {
        let took = Duration::from_millis(7);
        for (applied, arrived, behind, rests) in [
            (1024, 1024, 5000, true),
            (1024, 1023, 5000, false),
            (1024, 0, 5000, false),
            (1024, 1024, 249_999, true),
            (1024, 1024, 250_000, false),
            (32, 32, 32, true),
            (31, 31, 31, false),
            (0, 1, 1, false),
        ] {
            let round = Round {
                took,
                applied,
                arrived,
                behind,
            };
            let expected = if rests { 4 * took } else { Duration::ZERO };
            assert_eq!(
                round.rest(1_000_000),
                expected,
                "{applied} {arrived} {behind}"
            );
            assert_eq!(
                round.rest(100),
                Duration::ZERO,
                "the listener is about to slow down"
            );
        }
    }

    #[test]
    fn no_rest_is_long() {
        let round = Round {
            took: Duration::from_secs(1),
            applied: 1024,
            arrived: 1024,
            behind: 1,
        };
        assert_eq!(round.rest(1_000_000), MOST);
    }
}
