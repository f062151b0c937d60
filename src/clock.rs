//! The wall clock, in milliseconds since 1970, moved by tokio's clock so that a test with paused time moves it too.

use std::{
    cell::Cell,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// Milliseconds since 1970.
pub type Millis = u64;

thread_local! {
    /// By how much a test has set the clock of its thread, milliseconds.
    static SET: Cell<i64> = const { Cell::new(0) };
}

/// Sets the clock by so many milliseconds, as a time server or an operator might.
#[cfg(test)]
pub(crate) fn set(by_ms: i64) {
    SET.set(SET.get() + by_ms);
}

/// The time now. Outside a tokio test with paused time this is the system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn now() -> Millis {
    if cfg!(test) {
        // Runtimes with paused time are ahead of each other by as much as each has slept.
        static START: OnceLock<(Millis, Instant)> = OnceLock::new();
        let (wall, start) = START.get_or_init(|| (system(SystemTime::now()), Instant::now()));
        let now = Instant::now();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let tokio = wall + millis(now - *start) - millis(*start - now);
        return tokio.saturating_add_signed(SET.get());
    }
    system(SystemTime::now())
}

fn system(time: SystemTime) -> Millis {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
