//! A rate limit that a loop asks before it looks for work: the permit it got is kept until it is used.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::Clock,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use crate::config::Rate;

/// What a limiter may let through at once at least, as time: long enough that a timer of one millisecond does not cost
/// throughput.
const BURST: Duration = Duration::from_millis(50);

/// A limit of so many accounts per time, or none.
pub(super) struct Pace {
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, TokioClock>>,
    permit: bool,
}

/// governor's clock, on tokio's: paused time must move both.
struct TokioClock;

impl Clock for TokioClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

impl Pace {
    /// `interval` is the least time between two calls: what one of them may take must last until the next.
    pub(super) fn new(rate: Option<Rate>, interval: Duration) -> Self {
        let burst = BURST.max(interval);
        let limiter = |rate| RateLimiter::direct_with_clock(quota(rate, burst), TokioClock);
        Self {
            limiter: rate.map(limiter),
            permit: false,
        }
    }

    /// Gets a permit for one account, or says when to ask again.
    pub(super) fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(limiter) = &self.limiter
            && !self.permit
        {
            let until = |no: NotUntil<_>| now + no.wait_time_from(now.into_std());
            limiter.check().map_err(until)?;
            self.permit = true;
        }
        Ok(())
    }

    /// Uses the permit.
    pub(super) fn take(&mut self) {
        self.permit = false;
    }
}

fn quota(rate: Rate, burst: Duration) -> Quota {
    let each = rate.per / rate.count.get();
    let each = each.max(Duration::from_nanos(1));
    let burst = burst.as_nanos().div_ceil(each.as_nanos());
    let burst = u32::try_from(burst).ok().and_then(NonZeroU32::new);
    Quota::with_period(each)
        .expect("the period is at least a nanosecond")
        .allow_burst(burst.unwrap_or(NonZeroU32::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate {
            count: NonZeroU32::new(count).unwrap(),
            per: Duration::from_secs(seconds),
        }
    }

    /// How many accounts a loop gets through in a minute.
    async fn through(rate: Option<Rate>) -> u64 {
        let mut pace = Pace::new(rate, Duration::ZERO);
        let end = Instant::now() + Duration::from_mins(1);
        let mut count = 0;
        while Instant::now() < end && count < 1_000_000 {
            match pace.ready(Instant::now()) {
                Ok(()) => {
                    pace.take();
                    count += 1;
                }
                Err(until) => {
                    assert!(until > Instant::now());
                    tokio::time::sleep_until(until).await;
                }
            }
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_reached() {
        assert!((3000..=3010).contains(&through(Some(rate(50, 1))).await));
        assert!((59_000..=60_100).contains(&through(Some(rate(1000, 1))).await));
        assert_eq!(through(Some(rate(10, 60))).await, 10);
        assert_eq!(through(None).await, 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_now_and_then_may_take_what_has_gathered() {
        let mut pace = Pace::new(Some(rate(1000, 1)), Duration::from_secs(2));
        for _ in 0..3 {
            let mut count = 0;
            while pace.ready(Instant::now()).is_ok() {
                pace.take();
                count += 1;
            }
            assert_eq!(count, 2000);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}
