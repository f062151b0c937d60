//! What is said to the log once, or seldom: anybody can send requests, and must not fill the disk with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often one kind of line is written at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many names are remembered; further ones are not warned of.
const MAX_NAMES: usize = 1000;

/// How much of a name is remembered and shown.
const MAX_NAME_CHARS: usize = 64;

/// Lets one line per kind and interval through, and counts the others.
#[derive(Default)]
pub(super) struct Seldom(Mutex<BTreeMap<&'static str, (Instant, u64)>>);

impl Seldom {
    /// Whether to write a line of this kind now; if so, how many were left out since the last.
    pub(super) fn left_out(&self, kind: &'static str) -> Option<u64> {
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

/// Names that were warned of.
#[derive(Default)]
pub(super) struct Names(Mutex<BTreeSet<String>>);

impl Names {
    /// The name to show, cut to length, when it is a new one.
    pub(super) fn new_one(&self, name: &str) -> Option<String> {
        let name: String = name.chars().take(MAX_NAME_CHARS).collect();
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (names.len() < MAX_NAMES && names.insert(name.clone())).then_some(name)
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

    #[test]
    fn names_are_cut_and_bounded() {
        let names = Names::default();
        assert_eq!(names.new_one("Type").as_deref(), Some("Type"));
        assert_eq!(names.new_one("Type"), None);
        assert_eq!(names.new_one(&"é".repeat(100)), Some("é".repeat(64)));
        for number in 0..2 * MAX_NAMES {
            names.new_one(&number.to_string());
        }
        assert_eq!(names.new_one("one more"), None);
    }
}
