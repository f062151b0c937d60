//! Reads a table into a struct and reports every mistake in it.
//!
//! serde stops at the first mistake. So the entry that holds it is taken out and the table is read again, until what
//! is left can be read.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::diagnostics::Diagnostic;

/// The most mistakes that are reported of one table.
pub(super) const MOST: usize = 100;

/// What could be read of a table.
pub(super) struct Read<T> {
    /// The struct, with defaults in place of what was wrong. `None` when it has none for it.
    pub(super) value: Option<T>,
    /// Whether nothing was wrong.
    pub(super) whole: bool,
}

/// Reads `table`, whose name is `name`; the name of the whole configuration is empty.
pub(super) fn read<T: DeserializeOwned>(
    name: &str,
    mut table: Spanned<DeTable<'_>>,
    found: &mut Vec<Diagnostic>,
) -> Read<T> {
    let mut removed: Vec<String> = Vec::new();
    loop {
        let error = match T::deserialize(Deserializer::from(table.clone())) {
            Ok(value) => {
                return Read {
                    value: Some(value),
                    whole: removed.is_empty(),
                };
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| table.span());
        let span = named_key(&table, &span, error.message()).unwrap_or(span);
        let entry = take_entry(table.get_mut(), &span);
        let path = join(name, entry.as_deref().unwrap_or_default());
        // What is missing because it was wrong has been reported, and what is wrong with a table may come of that.
        let is_told = match missing_field(error.message()) {
            Some(field) => removed.contains(&join(&path, field)),
            None => removed.iter().any(|gone| is_inside(gone, &path)),
        };
        if !is_told {
            let diagnostic = explain(error.message(), &path)
                .unwrap_or_else(|| Diagnostic::error(format!("`{path}`: {}", error.message())));
            found.push(diagnostic.at(span));
        }
        if entry.is_none() || removed.len() == MOST {
            return Read {
                value: None,
                whole: false,
            };
        }
        removed.push(path);
    }
}

/// The key that a message of serde's names, where it points at the whole table: it has no more than that when a table
/// is read for what is in it. The nearest table with such a key is meant.
pub(super) fn named_key(
    table: &Spanned<DeTable<'_>>,
    span: &Range<usize>,
    message: &str,
) -> Option<Range<usize>> {
    let key = quoted(message.strip_prefix("unknown field ")?).next()?;
    if table.span() == *span {
        return find_key(table.get_ref(), key);
    }
    let pointed_at = find_table(table.get_ref(), span)?;
    find_key(pointed_at, key)
}

fn find_table<'t, 'a>(table: &'t DeTable<'a>, span: &Range<usize>) -> Option<&'t DeTable<'a>> {
    let mut tables = table
        .iter()
        .filter_map(|(key, value)| Some((key, value, value.get_ref().as_table()?)));
    tables.find_map(|(key, value, inner)| match [key.span(), value.span()] {
        spans if spans.contains(span) => Some(inner),
        _ => find_table(inner, span),
    })
}

fn find_key(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let here = table.get_key_value(key).map(|(key, _)| key.span());
    let mut below = table
        .values()
        .filter_map(|value| value.get_ref().as_table());
    here.or_else(|| below.find_map(|inner| find_key(inner, key)))
}

/// Takes out the entry whose key or value the span is of, or the innermost one around it; returns its path.
pub(super) fn take_entry(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    take_first(table, &|entry| entry == span).or_else(|| {
        take_last(table, &|entry| {
            entry.start <= span.start && span.end <= entry.end
        })
    })
}

type IsIt<'a> = &'a dyn Fn(&Range<usize>) -> bool;

/// The outermost entry; a key of a header is also a part of the tables under it.
fn take_first(table: &mut DeTable<'_>, is_it: IsIt<'_>) -> Option<String> {
    take_here(table, is_it).or_else(|| take_below(table, is_it, take_first))
}

/// The innermost entry.
fn take_last(table: &mut DeTable<'_>, is_it: IsIt<'_>) -> Option<String> {
    take_below(table, is_it, take_last).or_else(|| take_here(table, is_it))
}

fn take_here(table: &mut DeTable<'_>, is_it: IsIt<'_>) -> Option<String> {
    let key = table
        .iter()
        .find(|(key, value)| is_it(&key.span()) || is_it(&value.span()))
        .map(|(key, _)| key.get_ref().to_string())?;
    table.remove(key.as_str());
    Some(key)
}

fn take_below(
    table: &mut DeTable<'_>,
    is_it: IsIt<'_>,
    take: fn(&mut DeTable<'_>, IsIt<'_>) -> Option<String>,
) -> Option<String> {
    table
        .iter_mut()
        .find_map(|(key, value)| match value.get_mut() {
            DeValue::Table(inner) => Some(join(key.get_ref(), &take(inner, is_it)?)),
            _ => None,
        })
}

fn is_inside(path: &str, table: &str) -> bool {
    path.strip_prefix(table)
        .is_some_and(|rest| rest.starts_with('.'))
}

pub(super) fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", key) => key.to_owned(),
        (path, "") => path.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

pub(super) fn missing_field(message: &str) -> Option<&str> {
    quoted(message.strip_prefix("missing field ")?).next()
}

/// Says in the words of the configuration what serde says in its own; `None` if serde did not say it. `path` is of
/// the key that is wrong. What serde says of a text is left out: it could be a secret.
pub(super) fn explain(message: &str, path: &str) -> Option<Diagnostic> {
    if let Some(field) = missing_field(message) {
        return Some(Diagnostic::error(format!(
            "`{}` is missing",
            join(path, field)
        )));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (wrong, known) = wrong_and_known(rest);
        let inside = path != wrong && !path.ends_with(&format!(".{wrong}"));
        let key = if inside {
            join(path, wrong)
        } else {
            path.to_owned()
        };
        return Some(Diagnostic::error(format!("unknown key `{key}`")).suggest(wrong, known));
    }
    // toml's own words for what no variant of an enum can be.
    if message == "wanted string or table" {
        let message = format!("`{path}` must be a string or a table");
        return Some(Diagnostic::error(message).help("`profilesync schema` lists what it can be"));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (wrong, known) = wrong_and_known(rest);
        let choice: Vec<_> = known.iter().map(|name| format!("\"{name}\"")).collect();
        let message = format!("`{path}` must be {}", choice.join(" or "));
        return Some(Diagnostic::error(message).suggest(wrong, known));
    }
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (mut found, expected) = rest.rsplit_once(", expected ")?;
    if expected.starts_with("a secret") {
        // What is found may be one: its value stands between back quotes.
        found = found.split('`').next().unwrap_or_default();
    }
    Some(Diagnostic::error(format!(
        "`{path}` must be {}, but is {}",
        expected_words(expected),
        found_words(found)
    )))
}

/// The name that serde does not know, and those it does.
fn wrong_and_known(message: &str) -> (&str, Vec<&str>) {
    let mut names = quoted(message);
    (names.next().unwrap_or_default(), names.collect())
}

/// The parts of a message between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn expected_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, zero or more",
        "i64" => "a whole number",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number above zero",
        "a sequence" => "an array",
        "a map" => "a table",
        "a boolean" => "true or false",
        "path string" => "a path",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
}

fn found_words(found: &str) -> String {
    let number = quoted(found).next();
    match (found.split([' ', '`']).next(), number) {
        (Some("string"), _) => "a string".into(),
        (Some("integer" | "floating"), Some(number)) => format!("the number {number}"),
        (Some("boolean"), Some(value)) => value.into(),
        (Some("sequence"), _) => "an array".into(),
        (Some("map"), _) => "a table".into(),
        _ => "something else".into(),
    }
}
