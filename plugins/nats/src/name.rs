//! Names that an account gets at the server: its token, its subject, its key. All of them are safe: an account can
//! neither leave its place nor be taken for another.

use std::fmt::Write as _;

use profilesync_target::{Document, Status};
use serde_json::Map;

/// A subject with places for the app and the account.
#[derive(Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    App,
    Account,
}

/// A text as one token of a subject or key. What is not a letter, a digit, `-` or `_` is written as `=` and two
/// hexadecimal digits for each of its bytes, so that no two texts become the same token. These characters alone are
/// valid both in subjects and in the keys of a bucket, where `.` would separate tokens.
pub(crate) fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(char::from(byte));
        } else {
            write!(token, "={byte:02X}").expect("a string takes every text");
        }
    }
    token
}

/// The key of an account in a bucket.
pub(crate) fn key(document: &Document) -> String {
    format!("{}.{}", document.sdk_app_id, token(&document.account))
}

impl Template {
    /// Checks a subject as configured. Nothing else of a profile has a place in it: a subject that changes with the
    /// profile would leave the old one behind.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after
                .split_once("}}")
                .ok_or("has a `{{` without its `}}`")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name.trim() {
                "sdk_app_id" => Part::App,
                "account" => Part::Account,
                other => {
                    return Err(format!(
                        "has no value for `{other}`: there are `sdk_app_id` and `account`"
                    ));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self(parts);
        template.check()?;
        Ok(template)
    }

    fn check(&self) -> Result<(), String> {
        if !self.0.contains(&Part::Account) {
            return Err("has no `{{ account }}`".into());
        }
        for parts in self.0.windows(3) {
            // Between two places there is always a text.
            if let [one, Part::Text(between), other] = parts
                && one != other
                && between.bytes().all(|byte| byte.is_ascii_digit())
            {
                return Err(
                    "can be the same for two accounts: put a dot between `sdk_app_id` and `account`"
                        .into(),
                );
            }
        }
        let subject = self.fill(&sample());
        if subject.split('.').any(str::is_empty) {
            return Err("has an empty token: dots stand between tokens".into());
        }
        let forbidden =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>' | '{' | '}');
        if let Some(c) = subject.chars().find(|&c| forbidden(c)) {
            return Err(format!("holds {c:?}, which no subject can"));
        }
        if subject.starts_with('$') {
            return Err("begins with `$`, as the server's own subjects do".into());
        }
        Ok(())
    }

    pub(crate) fn fill(&self, document: &Document) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::App => document.sdk_app_id.to_string(),
            Part::Account => token(&document.account),
        });
        parts.collect()
    }

    /// A subject with a wildcard in each token that differs between accounts.
    pub(crate) fn pattern(&self) -> String {
        // Neither the sample's account nor its app can be part of what is around them, unless by a strange chance,
        // and then the pattern is only wider.
        let sample = sample();
        let app = sample.sdk_app_id.to_string();
        let subject = self.fill(&sample);
        let tokens = subject.split('.').map(|token| {
            if token.contains(&sample.account) || token.contains(&app) {
                "*"
            } else {
                token
            }
        });
        tokens.collect::<Vec<_>>().join(".")
    }
}

/// A document of no account.
pub(crate) fn sample() -> Document {
    Document {
        sdk_app_id: u64::MAX,
        account: "profilesync-sample".into(),
        revision: 1,
        status: Status::Active,
        name: None,
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: None,
        event_time: 0,
        extra: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use profilesync_target::Document;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::{Template, sample, token};

    /// The inverse of [`token`].
    fn text(token: &str) -> String {
        let mut parts = token.split('=');
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend(part[2..].bytes());
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn tokens_are_safe_and_apart(account in "\\PC{1,80}") {
            let token = token(&account);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=');
            prop_assert!(!token.is_empty() && token.bytes().all(allowed), "{}", token);
            prop_assert_eq!(text(&token), account);
        }

        #[test]
        fn accounts_of_apps_are_apart(
            between in "[01.=-]{0,2}",
            turned: bool,
            one in (1_u64..130, "[0-3.-]{1,3}"),
            two in (1_u64..130, "[0-3.-]{1,3}"),
        ) {
            let [first, last] = match turned {
                false => ["{{ sdk_app_id }}", "{{ account }}"],
                true => ["{{ account }}", "{{ sdk_app_id }}"],
            };
            if let Ok(template) = Template::parse(&format!("{first}{between}{last}")) {
                let fill = |(sdk_app_id, account): &(u64, String)| {
                    template.fill(&Document { sdk_app_id: *sdk_app_id, account: account.clone(), ..sample() })
                };
                prop_assert_eq!(one == two, fill(&one) == fill(&two));
            }
        }
    }

    #[test]
    fn tokens_can_be_read() {
        assert_eq!(token("@TOA#_test-1"), "=40TOA=23_test-1");
        assert_eq!(token("a.b*>c d=é"), "a=2Eb=2A=3Ec=20d=3D=C3=A9");
    }

    #[test]
    fn subjects_have_places_for_app_and_account() {
        let mut document = sample();
        document.sdk_app_id = 14;
        document.account = "a.>".into();
        for (text, subject, pattern) in [
            ("oa.{{ sdk_app_id }}.{{account}}", "oa.14.a=2E=3E", "oa.*.*"),
            ("{{ account }}", "a=2E=3E", "*"),
            (
                "x.{{ account }}-{{ sdk_app_id }}.y",
                "x.a=2E=3E-14.y",
                "x.*.y",
            ),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.fill(&document), subject);
            assert_eq!(template.pattern(), pattern);
        }
        for (text, message) in [
            ("", "{{ account }}"),
            ("oa.fixed", "{{ account }}"),
            ("oa.{{ account", "}}"),
            ("oa.{{ name }}.{{ account }}", "`name`"),
            ("oa..{{ account }}", "empty token"),
            (".{{ account }}", "empty token"),
            ("{{ account }}.", "empty token"),
            ("oa.>.{{ account }}", "'>'"),
            ("oa.*.{{ account }}", "'*'"),
            ("o a.{{ account }}", "' '"),
            ("oa.{account}.{{ account }}", "'{'"),
            ("$KV.b.{{ account }}", "`$`"),
            ("oa.{{ sdk_app_id }}{{ account }}", "a dot between"),
            ("oa.{{ account }}0{{ sdk_app_id }}", "a dot between"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
