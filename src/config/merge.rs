//! Parses the files and puts their tables together into one tree, whose spans are offsets of the common space.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{diagnostics::Diagnostic, mask::Masks, sources::Sources};

/// All files as one tree.
#[derive(Default)]
pub(super) struct Parsed<'a> {
    /// What a file with syntax errors means is not certain.
    pub(super) tree: DeTable<'a>,
    pub(super) syntax: Vec<Diagnostic>,
    /// What messages about the files may show.
    pub(super) masks: Masks,
    /// Keys that are set twice; the first one is in the tree.
    pub(super) conflicts: Vec<Diagnostic>,
}

pub(super) fn parse(sources: &Sources) -> Parsed<'_> {
    let mut parsed = Parsed::default();
    let mut tables = Vec::new();
    for source in &sources.files {
        let (table, errors) = DeTable::parse_recoverable(source.padded());
        parsed.syntax.extend(syntax_errors(sources, errors));
        tables.push(table.into_inner());
    }
    if parsed.syntax.is_empty() {
        parsed.masks = Masks::of(&tables);
    }
    for table in tables {
        let path = &mut String::new();
        add(&mut parsed.tree, table, path, &mut parsed.conflicts);
    }
    parsed
}

/// The first error of each line; those behind it are most often its echo.
fn syntax_errors(sources: &Sources, mut errors: Vec<toml::de::Error>) -> Vec<Diagnostic> {
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    let mut lines = Vec::new();
    let mut found = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or_default();
        let line = sources.place(span.start).map(|place| place.span.start);
        if !lines.contains(&line) {
            lines.push(line);
            let message = format!("syntax error: {}", error.message());
            found.push(Diagnostic::error(message).at(span));
        }
    }
    found
}

/// Adds the keys of `from` to `into`; `path` is the name of the table, for messages.
fn add<'a>(
    into: &mut DeTable<'a>,
    from: DeTable<'a>,
    path: &mut String,
    conflicts: &mut Vec<Diagnostic>,
) {
    for (key, value) in from {
        let length = path.len();
        if length > 0 {
            path.push('.');
        }
        path.push_str(key.get_ref());
        match (into.get_mut(&**key.get_ref()).map(Spanned::get_mut), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(DeValue::Table(into)), value) if value.get_ref().is_table() => {
                if let DeValue::Table(from) = value.into_inner() {
                    add(into, from, path, conflicts);
                }
            }
            (Some(_), _) => {
                let first = into.get_key_value(&**key.get_ref());
                conflicts.push(conflict(path, &key, first.map(|(key, _)| key)));
            }
        }
        path.truncate(length);
    }
}

fn conflict<T>(path: &str, second: &Spanned<T>, first: Option<&Spanned<T>>) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("`{path}` is set twice"))
        .at(second.span())
        .help("files in conf.d add keys and tables; leave this one out of one of the files");
    match first {
        Some(first) => diagnostic.and_at(first.span(), "set here first"),
        None => diagnostic,
    }
}
