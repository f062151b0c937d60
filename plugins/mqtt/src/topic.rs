//! Topics: a template over the document, whose values are one level each.

use std::fmt::Write as _;

use profilesync_target::{Document, SettingsError};
use profilesync_template::{Escape, Template, literals, samples};
use toml::Spanned;

/// Bytes of a topic.
const MAX_TOPIC: usize = 65_535;

/// Levels of a topic; mosquitto takes no more.
const MAX_LEVELS: usize = 200;

/// What a document holds beside the account and its app. It changes, or can be missing.
const CHANGING: [&str; 10] = [
    "revision",
    "status",
    "name",
    "introduction",
    "face_url",
    "organization",
    "owner",
    "operator",
    "event_time",
    "extra",
];

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
        match topic.check() {
            Ok(()) => Ok(topic),
            Err(reason) => Err(SettingsError::at(text.span(), reason).help(
                "make it of `sdk_app_id` and `account` alone: \"profiles/{{ sdk_app_id }}/{{ account }}\"",
            )),
        }
    }

    /// An account has one topic for good, and no other account has it: the server holds one message of each topic, and
    /// a topic that is not used any more keeps its last one.
    fn check(&self) -> Result<(), String> {
        let documents = samples().map(|sample| sample.document);
        let mut topics = Vec::new();
        for document in &documents {
            topics.push(self.fill(document)?);
        }
        topics.dedup();
        // A sample need not differ in what is asked of it, such as a member of `extra`.
        if let Some(member) = CHANGING.iter().find(|member| self.uses(member)) {
            return Err(changes(&format!("with `{member}`")));
        }
        if topics.len() > 1 {
            return Err(changes("with the profile"));
        }
        let [document, ..] = documents;
        let account = &document.account;
        for other in [
            "another".to_owned(),
            account.to_uppercase(),
            format!("{account}2"),
            format!("2{account}"),
        ] {
            let other = Document {
                account: other,
                ..document.clone()
            };
            if topics.contains(&self.fill(&other)?) {
                let why = "whose messages would take each other's place";
                return Err(format!("`topic` can be the same for two accounts, {why}"));
            }
        }
        Ok(())
    }

    /// Whether a tag holds this word.
    fn uses(&self, word: &str) -> bool {
        let count = |text: &str| text.matches(word).count();
        count(&self.text) > literals(&self.text).map(count).sum::<usize>()
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

fn changes(how: &str) -> String {
    format!("`topic` changes {how}, and the account's message under its old topic would stay")
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
            (
                "mqn/{{ (organization or \"-\") }}/{{ sdk_app_id }}/{{ account }}",
                "changes with `organization`",
            ),
            (
                "a/{{ extra.region | default(\"x\") }}/{{ account }}",
                "changes with `extra`",
            ),
            (
                "{{ event_time }}/{{ account }}",
                "changes with `event_time`",
            ),
            (
                "{% if status == \"active\" %}a{% else %}d{% endif %}/{{ account }}",
                "changes with `status`",
            ),
            ("mqc/{{ sdk_app_id }}", "same for two accounts"),
            ("constant", "same for two accounts"),
            ("a/{{ account | upper }}", "same for two accounts"),
            ("a/{{ account[:4] }}", "same for two accounts"),
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
        for text in ["{{ account }}", "name/extra/{{ account }}"] {
            assert!(compile(text).is_ok(), "{text}");
        }
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
