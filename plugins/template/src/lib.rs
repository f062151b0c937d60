//! Templates over a document, for outputs that put profiles into texts: URLs, bodies, topics, names.
//!
//! A template is MiniJinja: strict about what is undefined, bounded in time and memory, and unable to reach
//! anything but the document. Every value that it puts into a text is escaped for that text, whether or not whoever
//! wrote the template thought of it. `sections.rs` does the escaping.

mod caseless;
mod samples;
mod sections;
mod source;

use std::ops::Range;

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, value::Serde};
use profilesync_target::{Document, SettingsError};
use toml::Spanned;

pub use caseless::caseless;
pub use samples::{Sample, samples};
pub use sections::Escape;
pub use source::{OneOrMany, Source};

/// Instructions and data (64 bytes each) that one rendering may use.
const FUEL: u64 = 50_000;

/// Depth of nested expressions.
const RECURSION: usize = 64;

/// The name of the only template of an environment.
const NAME: &str = "template";

/// A template that compiled, and rendered for every sample.
pub struct Template {
    environment: Environment<'static>,
    escape: Escape,
    /// Whether every document gets the same text.
    constant: bool,
}

impl Template {
    /// Compiles the value of `key` and renders it for every sample.
    ///
    /// # Errors
    /// What is wrong with the template, pointing at it.
    pub fn compile(
        key: &str,
        text: &Spanned<String>,
        escape: Escape,
    ) -> Result<Self, SettingsError> {
        let wrong = |what: String, error: &Error| {
            let line = match error.line() {
                Some(line) if text.get_ref().trim_end().contains('\n') => {
                    format!(" (line {line} of the template)")
                }
                _ => String::new(),
            };
            let message = format!("`{key}` {what}: {}{line}", describe(error));
            let wrong = SettingsError::at(position(text, error.range()), message);
            match help(error) {
                Some(help) => wrong.help(help),
                None => wrong,
            }
        };
        let template = Self::new(text.get_ref(), escape)
            .map_err(|error| wrong("is no template".into(), &error))?;
        for sample in samples() {
            let made = template
                .fill_marked(&sample.document)
                .map_err(|error| wrong(format!("fails for {}", sample.what), &error))?;
            // No sample holds the word: MiniJinja's filters take null for it.
            if says_none(&made) && !says_none(text.get_ref()) {
                let message = format!(
                    "`{key}` fails for {}: a value that is not known would become the word None",
                    sample.what
                );
                return Err(SettingsError::at(text.span(), message).help(
                    "before a filter, `~` or `join`, write `(introduction or \"\")`: \
                     `default` is for what is undefined, not for null",
                ));
            }
        }
        Ok(template)
    }

    /// The same of a text that names an account at the other side.
    ///
    /// # Errors
    /// Also when it runs the app's id and the account together, so that two accounts could share the name.
    pub fn compile_name(
        key: &str,
        text: &Spanned<String>,
        escape: Escape,
    ) -> Result<Self, SettingsError> {
        let template = Self::compile(key, text, escape)?;
        if template.joins_accounts() {
            let message = format!("`{key}` can be the same for two accounts");
            return Err(SettingsError::at(text.span(), message)
                .help("put more than digits between `sdk_app_id` and `account`, such as a colon"));
        }
        Ok(template)
    }

    fn new(source: &str, escape: Escape) -> Result<Self, Error> {
        if source.contains(sections::is_mark) {
            let detail = "it contains one of the noncharacters U+FDD0 to U+FDD2";
            return Err(Error::new(ErrorKind::SyntaxError, detail));
        }
        let mut environment = Environment::new();
        environment.set_debug(true);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        sections::set_up(&mut environment, escape);
        environment.add_template_owned(NAME, source.to_owned())?;
        Ok(Self {
            environment,
            escape,
            constant: !is_template(source),
        })
    }

    /// The text for a document.
    ///
    /// # Errors
    /// Why there is none for this document, as a sentence.
    pub fn render(&self, document: &Document) -> Result<String, String> {
        self.fill(document).map_err(|error| describe(&error))
    }

    /// Whether the text can be the same for two accounts of different apps, because it names both with nothing between
    /// them but digits, which an id of an app may hold too: `{{ sdk_app_id }}00{{ account }}`.
    fn joins_accounts(&self) -> bool {
        samples().into_iter().any(|sample| {
            let document = Document {
                sdk_app_id: samples::APP,
                account: samples::ACCOUNT.into(),
                ..sample.document
            };
            let text = self.render(&document).unwrap_or_default();
            let between = samples::between(&text);
            !between.is_empty() && between.concat().bytes().all(|byte| byte.is_ascii_digit())
        })
    }

    fn fill(&self, document: &Document) -> Result<String, Error> {
        Ok(self.escape.finish(&self.fill_marked(document)?))
    }

    /// The text before its values are escaped.
    fn fill_marked(&self, document: &Document) -> Result<String, Error> {
        // Dropped like the marks in other texts, two accounts would share one place.
        if !self.constant && document.account.contains(sections::is_mark) {
            let detail = "the account holds one of the noncharacters U+FDD0 to U+FDD2";
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        }
        let template = self.environment.get_template(NAME)?;
        template.render(Value::from(Serde(document)))
    }
}

/// Whether a text holds anything that a template replaces.
#[must_use]
pub fn is_template(text: &str) -> bool {
    first_tag(text).is_some()
}

/// Where the first tag of a template begins; before it, every document gets this very text.
#[must_use]
pub fn first_tag(text: &str) -> Option<usize> {
    ["{{", "{%", "{#"]
        .iter()
        .filter_map(|tag| text.find(tag))
        .min()
}

/// The texts between the tags of a template, which every document gets.
pub fn literals(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(tag) = first_tag(text) else {
            return rest.take();
        };
        let (literal, tagged) = text.split_at(tag);
        let end = match &tagged[..2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        rest = tagged[2..].split_once(end).map(|(_, rest)| rest);
        Some(literal)
    })
}

/// Whether a text holds the word that null becomes, be it within another: `HiNone`.
fn says_none(text: &str) -> bool {
    text.to_ascii_lowercase().contains("none")
}

fn describe(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
        (kind, None) => kind.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
    }
}

fn help(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::UndefinedError => Some(
            "a document has sdk_app_id, account, revision, status, name, introduction, face_url, organization, \
             owner, operator, event_time and extra; write `extra.x | default(\"\")` where a member may be missing",
        ),
        ErrorKind::InvalidOperation => Some(
            "names and texts are null when they are not known and when the account was destroyed: \
             write `(name or \"\")`, or ask with `{% if %}`",
        ),
        _ => None,
    }
}

/// The part of the configuration that an error in a template is about. The configuration's text is not at hand, so it
/// is exact where the value's length shows that it is written without escapes, and the whole value otherwise.
fn position(text: &Spanned<String>, range: Option<Range<usize>>) -> Range<usize> {
    let whole = text.span();
    let value = text.get_ref();
    let around = whole.len().checked_sub(value.len());
    let before = match around {
        Some(2) => 1,
        // Three quotes each side; a line end after the first three is not part of the value.
        Some(6) if value.contains('\n') && value.is_ascii() => 3,
        Some(7) if value.contains('\n') && value.is_ascii() => 4,
        _ => return whole,
    };
    match range {
        Some(range) if range.start < range.end && range.end <= value.len() => {
            let start = whole.start + before;
            start + range.start..start + range.end
        }
        _ => whole,
    }
}

#[cfg(test)]
mod tests;
