//! Topics: a template over the document, whose values are one level each.

use std::fmt::Write as _;

use profilesync_target::{Document, SettingsError};
use profilesync_template::{Escape, Template};
use toml::Spanned;

/// Bytes of a topic.
const MAX_TOPIC: usize = 65_535;

/// Levels of a topic; mosquitto takes no more.
const MAX_LEVELS: usize = 200;

/// A template of topics.
pub(crate) struct Topic {
    template: Template,
    text: String,
}

impl Topic {
    /// # Errors
    /// What is wrong with the template, pointing at it.
    pub(crate) fn compile(text: &Spanned<String>) -> Result<Self, SettingsError> {
        let topic = Self {
            template: Template::compile_name("topic", text, Escape::With(level))?,
            text: text.get_ref().clone(),
        };
        for sample in profilesync_template::samples() {
            topic.fill(&sample.document).map_err(|reason| {
                SettingsError::at(text.span(), reason)
                    .help("write it as \"profiles/{{ sdk_app_id }}/{{ account }}\"")
            })?;
        }
        Ok(topic)
    }

    /// The topic of a document.
    pub(crate) fn fill(&self, document: &Document) -> Result<String, String> {
        let topic = self
            .template
            .render(document)
            .map_err(|error| format!("`topic` cannot be made: {error}"))?;
        let wrong = if topic.is_empty() {
            "is empty".into()
        } else if topic.len() > MAX_TOPIC {
            format!("is {} bytes long, and MQTT allows {MAX_TOPIC}", topic.len())
        } else if topic.split('/').count() > MAX_LEVELS {
            format!("has more than {MAX_LEVELS} levels")
        } else if topic.starts_with('$') {
            "begins with `$`, which is the server's own".into()
        } else if topic.contains(['+', '#']) {
            "holds a wildcard (`+` or `#`), and no message can be published to one".into()
        } else if topic.contains(is_unfit) {
            "holds a character that MQTT does not allow".into()
        } else {
            return Ok(topic);
        };
        Err(format!("the topic {wrong}"))
    }

    /// The template as configured.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Control characters and noncharacters, for which a server may hang up.
fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

/// A value as one level of a topic: no two values are the same level, and none holds what MQTT takes for a separator,
/// a wildcard or a name of its own.
fn level(value: &str) -> String {
    let mut level = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '/' | '+' | '#' | '$' | '%') || is_unfit(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(level, "%{byte:02X}").expect("a String takes everything");
            }
        } else {
            level.push(c);
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::Spanned;

    use super::{Topic, is_unfit, level};
    use crate::message::tests::document;

    #[test]
    fn levels_hold_neither_separators_nor_wildcards() {
        assert_eq!(level("@TOA#_test/OA"), "@TOA%23_test%2FOA");
        assert_eq!(level("$SYS+100%"), "%24SYS%2B100%25");
        assert_eq!(level("\u{1F980}\u{85}\u{ffff}"), "\u{1F980}%C2%85%EF%BF%BF");
    }

    #[test]
    fn a_topic_is_made_of_levels() {
        let compile = |text: &str| Topic::compile(&Spanned::new(0..0, text.to_owned()));
        let fill = |text: &str| compile(text).unwrap().fill(&document("../a"));
        assert_eq!(
            fill("p/{{ sdk_app_id }}/{{ account }}").unwrap(),
            "p/1/..%2Fa"
        );
        for (text, reason) in [
            ("$SYS/{{ account }}", "begins with `$`"),
            ("a/#", "wildcard"),
            ("{{ owner }}", "is empty"),
            ("a\0{{ account }}", "does not allow"),
            ("{{ sdk_app_id }}00{{ account }}", "same for two accounts"),
        ] {
            let error = compile(text).err().unwrap();
            assert!(error.message.contains(reason), "{text}: {}", error.message);
        }
        assert!(
            compile(&"/".repeat(200))
                .err()
                .unwrap()
                .message
                .contains("levels")
        );
        let marked = compile("{{ account }}")
            .unwrap()
            .fill(&document("a\u{fdd1}"));
        assert!(marked.unwrap_err().contains("U+FDD0"));
    }

    proptest! {
        #[test]
        fn different_values_are_different_levels(one in "[/+#$%2f\u{1}\u{fdd0}\u{85}]{0,6}", two in "[/+#$%2f\u{1}\u{fdd0}\u{85}]{0,6}") {
            prop_assert_eq!(one == two, level(&one) == level(&two));
            prop_assert!(!level(&one).contains(['/', '+', '#', '$']));
            prop_assert!(!level(&one).contains(is_unfit));
        }
    }
}
