//! What a child writes to standard error, on its way to the daemon's log.
//!
//! An output does not log on its own account, and this is none: it hands on another program's lines. Through
//! `tracing`, because the child's own lines between the daemon's would break `--log json` and the journal's
//! priorities, would not name the target, and could hold secrets. The pipe is always read, so that a flood stops
//! nobody; what is too much is counted instead of logged.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use profilesync_target::Mask;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::text;

/// Most bytes of a line that are kept until it ends, and most characters that are logged.
const MAX_LINE: usize = 4096;
const MAX_LOGGED: usize = 2000;

/// Lines that are logged in one second.
const MAX_RATE: u32 = 200;

/// How long the rest of a dead child's lines is waited for.
const DRAIN: Duration = Duration::from_millis(300);

/// The reader of one child's standard error. Ends with the child; dropped, at once.
#[derive(Debug)]
pub(crate) struct Words {
    last: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Words {
    /// Begins to read.
    pub(crate) fn listen(
        stderr: impl AsyncRead + Send + Unpin + 'static,
        target: String,
        mask: Mask,
    ) -> Self {
        let last = Arc::new(Mutex::new(String::new()));
        let log = Log {
            target,
            mask,
            last: Arc::clone(&last),
            window: Instant::now(),
            logged: 0,
            missed: 0,
        };
        Self {
            last,
            reading: tokio::spawn(read(stderr, log)),
        }
    }

    /// The last line of a child that is dead.
    pub(crate) async fn last(mut self) -> Option<String> {
        // Something that outlived the child may hold the pipe.
        let _ = timeout(DRAIN, &mut self.reading).await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Some(last.clone()).filter(|line| !line.is_empty())
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(mut stderr: impl AsyncRead + Unpin, mut log: Log) {
    let mut chunk = [0; 4096];
    let (mut line, mut cut) = (Vec::new(), false);
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        for piece in chunk[..length].split_inclusive(|&byte| byte == b'\n') {
            let room = MAX_LINE - line.len();
            cut |= room < piece.len();
            line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                log.take(&line, cut);
                line.clear();
                cut = false;
            }
        }
    }
    // It may have been killed within a line.
    log.take(&line, true);
    log.tell_missed();
}

struct Log {
    target: String,
    mask: Mask,
    last: Arc<Mutex<String>>,
    window: Instant,
    logged: u32,
    missed: u64,
}

impl Log {
    fn take(&mut self, line: &[u8], cut: bool) {
        let now = Instant::now();
        if Duration::from_secs(1) <= now - self.window {
            self.tell_missed();
            self.window = now;
            self.logged = 0;
        }
        if self.logged == MAX_RATE {
            self.missed += 1;
            return;
        }
        let line = String::from_utf8_lossy(line);
        let masked = match cut {
            true => self.mask.hide_cut(&line),
            false => self.mask.hide(&line),
        };
        let line = text::line(&masked, MAX_LOGGED);
        if line.is_empty() {
            return;
        }
        self.logged += 1;
        tracing::info!(target = self.target, "{line}");
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    fn tell_missed(&mut self) {
        if self.missed > 0 {
            let lines = std::mem::take(&mut self.missed);
            tracing::warn!(target = self.target, lines, "the plugin says too much");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_is_read_to_its_end() {
        let mut flood = vec![b'x'; 10_000_000];
        flood.extend_from_slice(b"\nlast\xff words of hunter2\n");
        let mut mask = Mask::default();
        mask.add("hunter2");
        let words = Words::listen(std::io::Cursor::new(flood), "crm".into(), mask);
        assert_eq!(
            words.last().await.as_deref(),
            Some("last\u{fffd} words of ***")
        );
    }

    #[tokio::test]
    async fn no_cut_leaves_half_a_secret() {
        let secret = "hunter2".repeat(1000);
        let mut mask = Mask::default();
        mask.add(&secret);
        for (said, logged) in [
            (format!("a{secret}\n"), "a***"),
            (format!("{}{secret}\n", "a".repeat(10)), "aaaaaaaaaa***"),
            (format!("a{secret}"), "a***"),
            ("a line, hunter\n".into(), "a line, hunter"),
            ("a line, hunter".into(), "a line, ***"),
        ] {
            let said = std::io::Cursor::new(said.into_bytes());
            let words = Words::listen(said, "crm".into(), mask.clone());
            assert_eq!(words.last().await.as_deref(), Some(logged));
        }
    }
}
