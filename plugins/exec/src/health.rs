//! How long to leave a program alone that keeps failing. Pure: time is a parameter.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait before the next start.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// What is known of a program from its children's ends.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Children in a row that ended before they answered anything.
    failures: u32,
    /// When the next may be started, and why not now.
    until: Option<(Instant, String)>,
}

impl Health {
    /// A child answered.
    pub(crate) fn served(&mut self) {
        *self = Self::default();
    }

    /// A child failed before it answered anything. Returns for how long none is to be started.
    pub(crate) fn failed(&mut self, reason: &str, now: Instant) -> Duration {
        let delay = Duration::from_secs(1 << self.failures.min(6)).min(MAX_DELAY);
        self.failures += 1;
        self.until = Some((now + delay, reason.to_owned()));
        delay
    }

    /// Whether a child may be started; if not, how long not, and why.
    pub(crate) fn check(&self, now: Instant) -> Result<(), (Duration, String)> {
        match &self.until {
            Some((until, reason)) if now < *until => Err((*until - now, reason.clone())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute_and_a_success_ends_them() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(health.check(now), Ok(()));
            let delay = health.failed("it ended", now);
            assert_eq!(delay, Duration::from_secs(seconds));
            assert_eq!(health.check(now), Err((delay, "it ended".into())));
            now += delay;
        }
        health.served();
        assert_eq!(health.failed("it ended", now), Duration::from_secs(1));
    }
}
