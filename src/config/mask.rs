//! Which parts of a configuration's text a message may show: no secret, and no text that the message is not about.
//!
//! A key that is mistyped cannot be known to hold a secret. So a line is shown with all its strings masked but the
//! very one a message points at, and that one too is masked when its key says that it is a secret, or when it is a URL
//! with a user or a query.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The ends of the names of keys that hold secrets.
const SECRET: [&str; 14] = [
    "token",
    "tokens",
    "secret",
    "secrets",
    "password",
    "bearer",
    "authorization",
    "api_key",
    "api-key",
    "access_key",
    "account_key",
    "credentials",
    "passphrase",
    "cookie",
];

/// All strings of the files, and what stands in the place of a secret one.
#[derive(Default)]
pub(super) struct Masks {
    strings: Vec<Text>,
    /// Whether the strings are known. They are not when a file has syntax errors.
    parsed: bool,
}

/// One string.
struct Text {
    span: Range<usize>,
    secrecy: Secrecy,
}

#[derive(Clone, Copy, PartialEq)]
enum Secrecy {
    /// Shown when a message is about it.
    Ordinary,
    /// Shown also when a message is about a part of it: a template, in which nothing is called as secrets are.
    Template,
    /// Says where a secret is kept: always shown.
    Place,
    /// Never shown, though it may hold no secret.
    Url,
    /// Never shown.
    Secret,
}

impl Masks {
    /// Finds the strings of files that were parsed without errors. Those that are set twice count too.
    pub(super) fn of<'a>(files: impl IntoIterator<Item = &'a DeTable<'a>>) -> Self {
        let mut masks = Self {
            strings: Vec::new(),
            parsed: true,
        };
        for file in files {
            masks.table(file, Secrecy::Ordinary);
        }
        masks
    }

    /// The secrets that are written out.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Range<usize>> {
        self.strings
            .iter()
            .filter(|text| text.secrecy == Secrecy::Secret && !text.span.is_empty())
            .map(|text| text.span.clone())
    }

    fn table(&mut self, table: &DeTable<'_>, secrecy: Secrecy) {
        for (key, value) in table {
            let secrecy = match (secrecy, value.get_ref()) {
                _ if is_secret(key.get_ref()) => Secrecy::Secret,
                (Secrecy::Ordinary, DeValue::String(text))
                    if key.get_ref() == "body" && !names_a_secret(text) =>
                {
                    Secrecy::Template
                }
                _ => secrecy,
            };
            self.value(value, secrecy);
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, secrecy: Secrecy) {
        match value.get_ref() {
            DeValue::String(text) => self.strings.push(Text {
                span: value.span(),
                secrecy: match secrecy {
                    Secrecy::Ordinary | Secrecy::Template if may_hold_a_key(text) => Secrecy::Url,
                    known => known,
                },
            }),
            DeValue::Array(values) => values.iter().for_each(|value| self.value(value, secrecy)),
            DeValue::Table(table) if is_keeper(table) => self.table(table, Secrecy::Place),
            DeValue::Table(table) => self.table(table, secrecy),
            _ if secrecy == Secrecy::Secret => self.strings.push(Text {
                span: value.span(),
                secrecy,
            }),
            _ => {}
        }
    }

    /// The line that begins at the offset `start`, for a message about `about`. As many characters as before.
    pub(super) fn line(&self, line: &str, start: usize, about: &Range<usize>) -> String {
        if !self.parsed {
            return mask_unparsed(line);
        }
        let end = start + line.len();
        let mut shown = String::with_capacity(line.len());
        let mut strings: Vec<_> = self
            .strings
            .iter()
            .filter(|text| text.span.start < end && start < text.span.end)
            .filter(|text| match text.secrecy {
                Secrecy::Ordinary => text.span != *about,
                Secrecy::Template => about.start < text.span.start || text.span.end < about.end,
                Secrecy::Place => false,
                Secrecy::Url | Secrecy::Secret => true,
            })
            .map(|text| text.span.clone())
            .collect();
        strings.sort_by_key(|span| span.start);
        let mut done = start;
        for span in strings {
            let from = span.start.max(done);
            let to = span.end.min(end);
            shown.push_str(&line[done - start..from - start]);
            stars(&mut shown, &line[from - start..to - start]);
            done = to;
        }
        shown.push_str(&line[done - start..]);
        shown
    }
}

/// A line of a file with syntax errors: what follows the first quote can be anything, and so can what follows a key
/// that holds secrets, or a line that is only a part of a value.
fn mask_unparsed(line: &str) -> String {
    if line.trim_start().starts_with(['[', '#']) && !line.contains(['=', '"', '\'']) {
        return line.to_owned();
    }
    let quote = line.find(['"', '\'']).unwrap_or(line.len());
    let shown = match line.find('=') {
        Some(_) => line
            .match_indices('=')
            .map(|(equals, _)| equals)
            .find(|equals| resembles_secret(&line[..*equals]))
            .map_or(quote, |equals| quote.min(equals + 1)),
        None => 0,
    };
    let mut masked = line[..shown].to_owned();
    stars(&mut masked, &line[shown..]);
    masked
}

/// Adds the text with all but quotes and white space replaced.
fn stars(masked: &mut String, text: &str) {
    masked.extend(text.chars().map(|c| match c {
        '"' | '\'' => c,
        c if c.is_whitespace() => c,
        _ => '*',
    }));
}

/// Whether a key's value is a secret, by its name.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET.iter().any(|name| key.ends_with(name))
}

/// The same for the last word before a `=` in a line that does not parse, mistyped names included.
fn resembles_secret(left: &str) -> bool {
    let key = left.trim_end().trim_end_matches(['"', '\'']).to_lowercase();
    let word = key
        .rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
        .next()
        .unwrap_or(&key);
    is_secret(word) || SECRET.iter().any(|name| strsim::jaro(word, name) > 0.8)
}

/// Whether a text is a URL with a user or a query in it.
fn may_hold_a_key(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, rest)| rest.contains(['@', '?']))
}

/// Whether something in a text is called as secrets are.
fn names_a_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    let more = ["key", "pass", "auth", "cookie", "session", "credential"];
    SECRET.iter().chain(&more).any(|name| text.contains(name))
}

/// Whether a table says where a secret is kept. What a command is started with can be secret itself.
fn is_keeper(table: &DeTable<'_>) -> bool {
    table.len() == 1
        && ["env", "file", "credential"]
            .iter()
            .any(|key| table.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, about: &str, shown: &str) {
        let start = text.find(about).unwrap();
        let table = DeTable::parse(text).unwrap();
        let masks = Masks::of([table.get_ref()]);
        assert_eq!(masks.line(text, 0, &(start..start + about.len())), shown);
    }

    #[test]
    fn only_the_string_in_question_is_shown() {
        check(r#"a = "one", "#.trim_end_matches(", "), "a", r#"a = "***""#);
        check(r#"a = "one""#, r#""one""#, r#"a = "one""#);
        check(r#"a = ["one", "two"]"#, r#""two""#, r#"a = ["***", "two"]"#);
        check(
            r#"a = { b = "x y", c = 5 }"#,
            "5",
            r#"a = { b = "* *", c = 5 }"#,
        );
        check(r#""é" = "ü""#, r#""é""#, r#""é" = "*""#);
    }

    #[test]
    fn a_secret_is_never_shown() {
        check(r#"token = "s3cret""#, r#""s3cret""#, r#"token = "******""#);
        check(r#"X-Token = ["a b"]"#, r#""a b""#, r#"X-Token = ["* *"]"#);
        check(
            r#"token = { file = "/a" }"#,
            "token",
            r#"token = { file = "/a" }"#,
        );
        check(
            r#"token = { command = ["curl", "-upw"] }"#,
            r#""-upw""#,
            r#"token = { command = ["****", "****"] }"#,
        );
        check(
            r#"token_url = "https://a""#,
            r#""https://a""#,
            r#"token_url = "https://a""#,
        );
    }

    #[test]
    fn a_template_is_shown_around_its_mistake_unless_it_may_hold_a_secret() {
        let body = r#"body = '{ "id": {{ acount }} }'"#;
        check(body, "acount", body);
        check(body, "body", r#"body = '* "**"* ** ****** ** *'"#);
        check(
            r#"body = '{{ acount }} pass s3cret'"#,
            "acount",
            r#"body = '** ****** ** **** ******'"#,
        );
        check(
            r#"url = 'https://a/{{ acount }}'"#,
            "acount",
            r#"url = '************ ****** **'"#,
        );
    }

    #[test]
    fn a_line_that_does_not_parse_shows_no_string() {
        for (line, shown) in [
            ("max_body = 64KiB", "max_body = 64KiB"),
            ("name = \"s3cret", "name = \"******"),
            ("token = s3cret", "token = ******"),
            ("tokn = s3cret", "tokn = ******"),
            ("[targets.crm", "[targets.crm"),
            ("  s3cret\",", "  ******\"*"),
            ("tokens = [s3cret", "tokens = *******"),
            (
                "a = { max = 5, token = s3cret }",
                "a = { max = 5, token = ****** *",
            ),
            ("'x-token' = s3cret", "'*******' * ******"),
        ] {
            assert_eq!(mask_unparsed(line), shown);
        }
    }
}
