//! What a test's own thread logs.
//!
//! The subscriber is the process's, not the thread's: tracing decides once per line of code whether anybody
//! listens, and a test on a thread without a subscriber may be the one to ask.

use std::{cell::RefCell, io};

use tracing_subscriber::EnvFilter;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// From now on lines are kept.
pub(super) fn capture() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("profilesync=trace"))
        .with_ansi(false)
        .with_writer(|| Lines)
        .try_init();
}

/// All lines of this thread.
pub(super) fn text() -> String {
    LINES.with_borrow(|lines| String::from_utf8(lines.clone()).unwrap())
}

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
