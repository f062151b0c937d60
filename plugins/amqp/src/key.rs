//! Routing keys: a template over the document, whose values are one word each.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use profilesync_target::{Document, SettingsError};
use profilesync_template::{Escape, Template};
use sha2::{Digest as _, Sha256};
use toml::Spanned;

/// Bytes of a routing key, as of every short string of AMQP.
pub(crate) const MAX_KEY: usize = 255;

/// Bytes of a word; two of them and what joins them fit in a key.
const MAX_WORD: usize = 120;

/// Bytes that are kept of a longer word before its digest: `%~` and 32 digits.
const KEPT: usize = MAX_WORD - 34;

/// A template of routing keys.
pub(crate) struct Key {
    template: Template,
    text: String,
}

impl Key {
    /// # Errors
    /// What is wrong with the template, pointing at it.
    pub(crate) fn compile(text: &Spanned<String>) -> Result<Self, SettingsError> {
        Ok(Self {
            template: Template::compile("routing_key", text, Escape::With(word))?,
            text: text.get_ref().clone(),
        })
    }

    /// The routing key of a document.
    pub(crate) fn fill(&self, document: &Document) -> Result<String, String> {
        let key = self
            .template
            .render(document)
            .map_err(|error| format!("`routing_key` cannot be made: {error}"))?;
        if key.len() > MAX_KEY {
            return Err(format!(
                "the routing key is {} bytes long, and AMQP allows {MAX_KEY}",
                key.len()
            ));
        }
        Ok(key)
    }

    /// The template as configured.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// A value as one word of a routing key: no two values are the same word, and none holds what topic exchanges
/// take for a separator or a wildcard. A long one ends in a digest.
fn word(value: &str) -> String {
    let mut word = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '.' | '*' | '#' | '%' | ' ' | '\0'..='\x1f' | '\x7f' => {
                write!(word, "%{:02X}", u32::from(c)).expect("a String takes everything");
            }
            _ => word.push(c),
        }
    }
    if word.len() > MAX_WORD {
        let digest = HEXLOWER.encode(&Sha256::digest(value)[..16]);
        word.truncate(word.floor_char_boundary(KEPT));
        // After a percent sign of ours come two digits: no other word looks so.
        word = format!("{word}%~{digest}");
    }
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::Spanned;

    use super::{Key, MAX_WORD, word};
    use crate::message::tests::document;

    #[test]
    fn words_hold_neither_separators_nor_wildcards() {
        assert_eq!(word("@TOA#_test.OA"), "@TOA%23_test%2EOA");
        assert_eq!(word("*)(uid=*))(|(uid=*"), "%2A)(uid=%2A))(|(uid=%2A");
        assert_eq!(word("100% \u{1F980}"), "100%25%20\u{1F980}");
        let (one, two) = (word(&"#".repeat(255)), word(&"#".repeat(254)));
        assert_ne!(one, two);
        assert!(one.len() <= MAX_WORD && one.contains("%~"), "{one}");
    }

    #[test]
    fn keys_are_made_of_words_and_what_joins_them() {
        let fill = |text: &str| {
            let text = Spanned::new(0..0, text.to_owned());
            Key::compile(&text).unwrap().fill(&document("a.b"))
        };
        assert_eq!(
            fill("profile.{{ sdk_app_id }}.{{ account }}").unwrap(),
            "profile.1.a%2Eb"
        );
        assert_eq!(fill("{{ status }}.{{ owner }}.x").unwrap(), "active..x");
        assert!(fill(&"x".repeat(256)).unwrap_err().contains("256 bytes"));
    }

    proptest! {
        #[test]
        fn different_values_are_different_words(one in "[.#%*2a~ ]{0,130}", two in "[.#%*2a~ ]{0,130}") {
            prop_assert_eq!(one == two, word(&one) == word(&two));
            prop_assert!(word(&one).len() <= MAX_WORD);
            prop_assert!(!word(&one).contains(['.', '*', '#', ' ']));
        }
    }
}
