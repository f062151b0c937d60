//! How long a failed delivery waits: exponential with full jitter. Pure.

use std::time::Duration;

use crate::config::Retry;

/// The delay before the next attempt, `attempts` having failed. `draw` is uniform in `[0, 1)`. A delay the target
/// asked for is a lower bound, honoured up to `retry.max_delay`.
pub(super) fn delay(retry: &Retry, attempts: u32, after: Option<Duration>, draw: f64) -> Duration {
    let jittered = bound(retry, attempts).mul_f64(draw);
    let asked = after.unwrap_or_default().min(retry.max_delay);
    jittered.max(asked)
}

/// The longest any delay can be.
pub(super) fn longest(retry: &Retry) -> Duration {
    retry.max.max(retry.max_delay)
}

/// The longest the delay can be by itself: `initial` doubled with every further attempt, up to `max`.
fn bound(retry: &Retry, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    retry.initial.saturating_mul(1 << doublings).min(retry.max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    const RETRY: Retry = Retry {
        initial: Duration::from_secs(1),
        max: Duration::from_mins(5),
        max_delay: Duration::from_hours(1),
        give_up_after: Duration::from_hours(24),
    };

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bounds = [0, 1, 2, 3, 9, 10, 11, u32::MAX].map(|n| bound(&RETRY, n).as_secs());
        assert_eq!(bounds, [1, 1, 2, 4, 256, 300, 300, 300]);
    }

    proptest! {
        #[test]
        fn a_delay_is_within_its_bounds(
            attempts: u32, after in any::<Option<u32>>(), draw in 0.0..1.0f64,
        ) {
            let after = after.map(|seconds| Duration::from_secs(seconds.into()));
            let delay = delay(&RETRY, attempts, after, draw);
            let asked = after.unwrap_or_default().min(RETRY.max_delay);
            prop_assert!(delay >= asked);
            prop_assert!(delay <= RETRY.max.max(asked));
            prop_assert!(delay <= longest(&RETRY));
        }
    }
}
