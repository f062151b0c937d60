//! The wall clock, in milliseconds since 1970, moved by tokio's clock so that a test with paused time moves it too.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// Milliseconds since 1970.
pub type Millis = u64;

/// The time now. Outside a tokio test with paused time this is the system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn now() -> Millis {
    if cfg!(test) {
        static START: OnceLock<(Millis, Instant)> = OnceLock::new();
        let (wall, start) = START.get_or_init(|| (system(SystemTime::now()), Instant::now()));
        return wall + u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    }
    system(SystemTime::now())
}

fn system(time: SystemTime) -> Millis {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
