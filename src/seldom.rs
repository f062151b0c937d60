//! Log lines that others can cause at will, one per kind and interval: they must not fill the disk.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often one kind of line is written at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line per kind and interval through, and counts the others.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<BTreeMap<&'static str, (Instant, u64)>>);

impl Seldom {
    /// Whether to write a line of this kind now; if so, how many were left out since the last.
    pub(crate) fn left_out(&self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some((last, left_out)) if now.duration_since(*last) < INTERVAL => {
                *left_out += 1;
                None
            }
            earlier => {
                let left_out = earlier.map_or(0, |(_, left_out)| *left_out);
                kinds.insert(kind, (now, 0));
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_kind_and_interval() {
        let seldom = Seldom::default();
        assert_eq!(seldom.left_out("a"), Some(0));
        assert_eq!(seldom.left_out("a"), None);
        assert_eq!(seldom.left_out("b"), Some(0));
        assert_eq!(seldom.left_out("a"), None);
        advance(INTERVAL).await;
        assert_eq!(seldom.left_out("a"), Some(2));
        assert_eq!(seldom.left_out("a"), None);
    }
}
