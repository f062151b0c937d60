//! Which parts of a configuration's text a message may show: no secret, and no text that the message is not about.
//!
//! A key that is mistyped cannot be known to hold a secret. So a line is shown with all its strings masked but the
//! very one a message points at, and that one too is masked when its key says that it is, or may be, a secret, or when
//! it looks like a URL with a user or a query. What is masked always is not quoted by a message either.

use std::{cmp::Reverse, ops::Range};

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

/// Keys below which everything may be secret, though most often it is not.
const HIDDEN: [&str; 6] = ["auth", "command", "env", "headers", "params", "proxy"];

/// Those of them that are tables of names which are free.
const NAMES: [&str; 3] = ["env", "headers", "params"];

/// What `type` in a table `auth` can be.
const AUTH_TYPES: [&str; 3] = ["basic", "bearer", "oauth2"];

/// The longest number, size or duration that is shown of a line that does not parse. Keys in hex are longer.
const LONGEST_NUMBER: usize = 20;

/// All strings of the files, and what stands in the place of a secret one.
#[derive(Default)]
pub(super) struct Masks {
    strings: Vec<Text>,
    /// How messages quote those that are never shown; the longest first.
    quotes: Vec<String>,
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
    /// The same, though it looks like a URL: a pattern of accounts.
    Account,
    /// Shown also when a message is about a part of it: a template, in which nothing is called as secrets are.
    Template,
    /// Says where a secret is kept: always shown.
    Place,
    /// Never shown, though it may hold no secret.
    Hidden,
    /// Never shown.
    Secret,
}

impl Secrecy {
    fn is_never_shown(self) -> bool {
        matches!(self, Self::Hidden | Self::Secret)
    }
}

impl Masks {
    /// Finds the strings of files that were parsed without errors. Those that are set twice count too.
    pub(super) fn of<'a>(files: impl IntoIterator<Item = &'a DeTable<'a>>) -> Self {
        let mut masks = Self {
            parsed: true,
            ..Self::default()
        };
        for file in files {
            masks.table(file, Secrecy::Ordinary);
        }
        masks.quotes.sort_by_key(|quote| Reverse(quote.len()));
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
            let key = &**key.get_ref();
            let secrecy = secrecy_below(key, value.get_ref(), secrecy);
            match value.get_ref() {
                // One of the names may be that of a keeper.
                DeValue::Table(names) if NAMES.contains(&key) => self.table(names, secrecy),
                _ => self.value(value, secrecy),
            }
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, secrecy: Secrecy) {
        match value.get_ref() {
            DeValue::String(text) => {
                let looks_secret = may_hold_a_key(text);
                let secrecy = match secrecy {
                    Secrecy::Ordinary | Secrecy::Template if looks_secret => Secrecy::Hidden,
                    known => known,
                };
                // A single word can be a program's name, or one that a message has of itself.
                let is_word = !looks_secret && !text.contains(char::is_whitespace);
                if secrecy.is_never_shown() && !is_word {
                    self.quotes.push(format!("{text:?}"));
                }
                self.strings.push(Text {
                    span: value.span(),
                    secrecy,
                });
            }
            DeValue::Array(values) => {
                let texts: Vec<_> = values
                    .iter()
                    .filter_map(|value| value.get_ref().as_str())
                    .collect();
                if secrecy.is_never_shown() && texts.len() > 1 {
                    self.quotes.push(format!("{texts:?}"));
                }
                values.iter().for_each(|value| self.value(value, secrecy));
            }
            DeValue::Table(table) if is_keeper(table) => self.table(table, Secrecy::Place),
            DeValue::Table(table) => self.table(table, secrecy),
            _ if secrecy.is_never_shown() => self.strings.push(Text {
                span: value.span(),
                secrecy,
            }),
            _ => {}
        }
    }

    /// A message without what is never shown, where it quotes that.
    pub(super) fn message(&self, message: String) -> String {
        self.quotes
            .iter()
            .fold(message, |message, quote| message.replace(quote, "\"***\""))
    }

    /// The line that begins at the offset `start`, for a message about `about`. As many characters as before.
    pub(super) fn line(&self, line: &str, start: usize, about: &Range<usize>) -> String {
        if !self.parsed {
            return mask_unparsed(line);
        }
        let comment = self.comment(line, start);
        let end = start + comment;
        let mut shown = String::with_capacity(line.len());
        let mut strings: Vec<_> = self
            .strings
            .iter()
            .filter(|text| text.span.start < end && start < text.span.end)
            .filter(|text| match text.secrecy {
                Secrecy::Ordinary | Secrecy::Account => text.span != *about,
                Secrecy::Template => about.start < text.span.start || text.span.end < about.end,
                Secrecy::Place => false,
                Secrecy::Hidden | Secrecy::Secret => true,
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
        shown.push_str(&line[done - start..comment]);
        stars(&mut shown, &line[comment..]);
        shown
    }

    /// Where the text of a line's comment begins, or the line ends. It may be what was set before, and no message is
    /// about it.
    fn comment(&self, line: &str, start: usize) -> usize {
        let is_in_string = |at: &usize| {
            self.strings
                .iter()
                .any(|text| text.span.contains(&(start + at)))
        };
        line.match_indices('#')
            .map(|(at, _)| at)
            .find(|at| !is_in_string(at))
            .map_or(line.len(), |at| at + 1)
    }
}

/// What holds for the value of `key`, in a table for which `around` holds.
fn secrecy_below(key: &str, value: &DeValue<'_>, around: Secrecy) -> Secrecy {
    match (around, value) {
        // It prints the secret, and is none itself.
        (Secrecy::Secret, DeValue::Array(_)) if key == "command" => Secrecy::Hidden,
        (Secrecy::Place | Secrecy::Secret, _) => around,
        _ if is_secret(key) => Secrecy::Secret,
        (Secrecy::Hidden, DeValue::String(text))
            if key == "type" && AUTH_TYPES.contains(&&**text) =>
        {
            Secrecy::Ordinary
        }
        _ if HIDDEN.contains(&key) => Secrecy::Hidden,
        (Secrecy::Ordinary, DeValue::String(text)) if key == "body" && !names_a_secret(text) => {
            Secrecy::Template
        }
        (Secrecy::Ordinary, DeValue::String(_) | DeValue::Array(_)) if key == "accounts" => {
            Secrecy::Account
        }
        _ => around,
    }
}

/// A line of a file with syntax errors. What is no key can be a value, and a value anything: of those only numbers and
/// the like are shown, up to the first quote or comment, or the first key that may hold secrets.
fn mask_unparsed(line: &str) -> String {
    let is_heading = line.trim_start().starts_with(['[', '#']);
    if is_heading && !line.contains(['=', '"', '\'']) && !may_hold_a_key(line) {
        return line.to_owned();
    }
    let mut masked = String::with_capacity(line.len());
    let Some(start) = value_start(line) else {
        stars(&mut masked, line);
        return masked;
    };
    let end = line.find(['"', '\'', '#']).unwrap_or(line.len());
    let end = line
        .match_indices('=')
        .map(|(equals, _)| equals)
        .find(|equals| resembles_secret(&line[..*equals]))
        .map_or(end, |equals| end.min(equals + 1))
        .max(start);
    masked.push_str(&line[..start]);
    for piece in line[start..end].split_inclusive(separates) {
        let word = piece.trim_end_matches(separates);
        if is_plain(word) {
            masked.push_str(word);
        } else {
            stars(&mut masked, word);
        }
        stars(&mut masked, &piece[word.len()..]);
    }
    stars(&mut masked, &line[end..]);
    masked
}

/// Where the value begins in a line that does not parse, if it has a key. Base64 can end in `=`, so that a key with
/// nothing behind it may be none.
fn value_start(line: &str) -> Option<usize> {
    let (key, value) = line.split_once('=')?;
    let name = key.trim_start_matches(['#', ' ', '\t']).trim_end();
    let is_key = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let is_set = !value.trim().trim_matches('=').is_empty();
    (is_key && is_set).then_some(key.len() + 1)
}

/// What stands between values and keys.
fn separates(c: char) -> bool {
    c.is_whitespace() || matches!(c, '[' | ']' | '{' | '}' | ',' | '=')
}

/// Whether a word is a number, a size, a duration, true or false.
fn is_plain(word: &str) -> bool {
    let is_number = word.starts_with(|c: char| c.is_ascii_digit())
        && word.len() <= LONGEST_NUMBER
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    is_number || matches!(word, "true" | "false")
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
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET.iter().any(|name| key.ends_with(name))
}

/// Whether what follows a `=` may be secret, by what stands before it in a line that does not parse, mistyped names
/// included.
fn resembles_secret(left: &str) -> bool {
    let left = left.trim_end().to_lowercase();
    let word = left
        .rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
        .next()
        .unwrap_or(&left);
    names_a_secret(&left)
        || HIDDEN.iter().any(|key| left.contains(key))
        || SECRET.iter().any(|name| strsim::jaro(word, name) > 0.8)
}

/// Whether a text looks as if it held a secret: a URL, or what was meant as one, with a user or a query, or settings
/// such as `host=db password=…`.
fn may_hold_a_key(text: &str) -> bool {
    text.contains(['@', '?']) || text.contains('=') && names_a_secret(text)
}

/// Whether something in a text is called as secrets are.
fn names_a_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    let more = [
        "key",
        "pass",
        "pwd",
        "auth",
        "cookie",
        "session",
        "credential",
    ];
    SECRET.iter().chain(&more).any(|name| text.contains(name))
}

/// Whether a table says where a secret is kept. What a command is started with can be secret itself.
fn is_keeper(table: &DeTable<'_>) -> bool {
    table.len() == 1
        && ["env", "file", "credential"]
            .iter()
            .filter_map(|key| table.get(*key))
            .any(|place| place.get_ref().is_str())
}

#[cfg(test)]
mod tests;
