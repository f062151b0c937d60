//! The wall clock as a loop sees it: read once a round, so that nothing comes due between two looks at it, and
//! watched for being set back. Pure: both clocks are parameters.

use std::time::Duration;

use tokio::time::Instant;

use super::settle::millis;
use crate::clock::Millis;

/// A clock that loses more than this between two rounds was set back. Less moves no retry by much.
const STEP: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Wall {
    now: Millis,
    read: Instant,
}

impl Wall {
    pub(super) fn new(wall: Millis, now: Instant) -> Self {
        Self {
            now: wall,
            read: now,
        }
    }

    /// The time of this round.
    pub(super) fn now(&self) -> Millis {
        self.now
    }

    /// Begins a round. True when the clock was set back since the last one.
    pub(super) fn read(&mut self, wall: Millis, now: Instant) -> bool {
        let expected = self.now.saturating_add(millis(now - self.read));
        *self = Self::new(wall, now);
        wall.saturating_add(millis(STEP)) < expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_set_back_is_noticed() {
        let start = Instant::now();
        let mut wall = Wall::new(1_000_000, start);
        for (seconds, at, set_back) in [
            (1, 1_001_000, false),
            // Drift.
            (3601, 4_599_000, false),
            (3602, 4_595_001, false),
            (3603, 4_591_000, true),
            (3604, 4_592_000, false),
            // Set forward, or asleep for a while.
            (3605, 9_000_000, false),
            (3606, 0, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(wall.read(at, now), set_back, "{seconds}");
            assert_eq!(wall.now(), at);
        }
    }
}
