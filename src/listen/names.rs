//! Names that were warned of: anybody can send new ones, and must not fill memory or the log with them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// How many names are remembered; further ones are not warned of.
const MAX_NAMES: usize = 1000;

/// How much of a name is remembered and shown.
const MAX_NAME_CHARS: usize = 64;

/// Names that were warned of.
#[derive(Default)]
pub(super) struct Names(Mutex<BTreeSet<String>>);

impl Names {
    /// The name to show, cut to length, when it is a new one.
    pub(super) fn new_one(&self, name: &str) -> Option<String> {
        let name = shortened(name);
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (names.len() < MAX_NAMES && names.insert(name.clone())).then_some(name)
    }
}

/// As much of a name as is shown.
pub(super) fn shortened(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
