//! Texts that stay apart however upper and lower case, spaces and the forms of Unicode are compared.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but small letters, digits, `.`, `_` and `-`: what is left is the same however it is folded.
const ESCAPED: &AsciiSet = &{
    let mut set = NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');
    let mut letter = b'A';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
};

/// A text in small letters, digits and `%.-_`, of any length; different for any two texts.
#[must_use]
pub fn caseless(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED)
        .to_string()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::caseless;

    #[test]
    fn names_are_readable() {
        for (account, name) in [
            ("alice", "alice"),
            ("@TOA#_test", "%40%54%4f%41%23_test"),
            ("%2F", "%252%46"),
            ("%2f", "%252f"),
            (" a ", "%20a%20"),
            ("\u{e9}", "%c3%a9"),
            ("e\u{301}", "e%cc%81"),
        ] {
            assert_eq!(caseless(account), name);
        }
    }
}
