//! Names of the files and objects of accounts: safe whatever the account is called, and never the same for two of them.

use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

/// Everything but letters, digits, `.`, `_` and `-`: what every store and every tool takes as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// The same and capital letters, for folders where `A` and `a` may be one name.
const ESCAPED_CAPITALS: &AsciiSet = &{
    let mut set = ESCAPED.add(b'A');
    let mut letter = b'B';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
};

/// A name takes 255 bytes at most, with its extension and what an editor or a copy puts to it.
const MAX: usize = 200;

/// Bytes kept of a longer name, before its hash.
const KEPT: usize = 120;

/// Whether a place tells `A` from `a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Surely.
    Kept,
    /// Maybe not.
    Folded,
}

/// The account percent-encoded, with `.json`. A leading dot is encoded too: nothing is hidden, nothing is `..`.
#[must_use]
pub fn file_name(account: &str, case: Case) -> String {
    let set = match case {
        Case::Kept => ESCAPED,
        Case::Folded => ESCAPED_CAPITALS,
    };
    let mut name = utf8_percent_encode(account, set).to_string();
    if name.starts_with('.') {
        name.replace_range(..1, "%2E");
    }
    if name.len() > MAX {
        // A tilde is always encoded, so no short name looks like this.
        name.truncate(KEPT);
        name = format!("{name}~{}", HEXLOWER.encode(&Sha256::digest(account)));
    }
    name + ".json"
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::proptest;

    use super::{Case, file_name};

    #[test]
    fn names_are_readable_and_safe() {
        for (account, name) in [
            ("@TOA#_test_OA", "%40TOA%23_test_OA.json"),
            ("..", "%2E..json"),
            (".hidden", "%2Ehidden.json"),
            ("../../etc/x", "%2E.%2F..%2Fetc%2Fx.json"),
            ("%00", "%2500.json"),
            ("ü", "%C3%BC.json"),
        ] {
            assert_eq!(file_name(account, Case::Kept), name);
        }
        assert_eq!(file_name("aB", Case::Folded), "a%42.json");
    }

    #[test]
    fn long_names_are_short_and_apart() {
        let long = "#".repeat(254);
        let names: HashSet<_> = ["", "1", "2"]
            .iter()
            .map(|end| file_name(&format!("{long}{end}"), Case::Kept))
            .collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| name.len() < 255));
    }

    proptest! {
        #[test]
        fn no_two_accounts_share_a_name(one in "[aA.%~2e/\u{e9}]{1,3}|.{1,99}", two in "[aA.%~2e/\u{e9}]{1,3}") {
            for case in [Case::Kept, Case::Folded] {
                let (first, second) = (file_name(&one, case), file_name(&two, case));
                assert_eq!(one == two, first == second);
                assert!(!first.contains('/') && !first.starts_with('.') && first.len() <= 255);
            }
            let folded = [&one, &two].map(|name| file_name(name, Case::Folded).to_lowercase());
            assert_eq!(one == two, folded[0] == folded[1]);
        }
    }
}
