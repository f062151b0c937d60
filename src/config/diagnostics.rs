//! What is wrong with the configuration: all of it, each mistake with its place in the files and the way out.

use std::{
    fmt,
    io::{IsTerminal, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{mask::Masks, sources::Sources};
use crate::exit::{Exit, Failure};

/// Mistakes, or warnings, in the order of their places.
pub struct Diagnostics {
    sources: Sources,
    masks: Masks,
    list: Vec<Diagnostic>,
}

/// One mistake or warning.
#[derive(Debug)]
pub(super) struct Diagnostic {
    severity: Severity,
    message: String,
    place: Place,
    /// Another place the message is about, and what is there.
    other: Option<(Range<usize>, &'static str)>,
    help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Severity {
    Error,
    Warning,
}

#[derive(Debug)]
enum Place {
    /// The message names it.
    InMessage,
    /// Line and column of a file that is no text.
    File(PathBuf, usize, usize),
    /// Bytes of the sources.
    Span(Range<usize>),
}

impl Diagnostic {
    /// A mistake, as yet without a place.
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place: Place::InMessage,
            other: None,
            help: None,
        }
    }

    /// Something that is allowed, and unwise.
    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message)
        }
    }

    pub(super) fn at(mut self, span: Range<usize>) -> Self {
        self.place = Place::Span(span);
        self
    }

    pub(super) fn in_file(mut self, path: &Path, line: usize, column: usize) -> Self {
        self.place = Place::File(path.to_owned(), line, column);
        self
    }

    pub(super) fn and_at(mut self, span: Range<usize>, label: &'static str) -> Self {
        self.other = Some((span, label));
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with help that offers the most similar candidate, or all of them when none is similar.
    pub(super) fn suggest<'a>(
        self,
        wrong: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let candidates: Vec<_> = candidates.into_iter().collect();
        let nearest = candidates
            .iter()
            .map(|candidate| (similarity(wrong, candidate), candidate))
            .filter(|(similarity, _)| *similarity > 0.8)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        match nearest {
            Some((_, nearest)) => self.help(format!("did you mean \"{nearest}\"?")),
            None if candidates.is_empty() => self,
            None => self.help(format!("known here: {}", candidates.join(", "))),
        }
    }

    pub(super) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Diagnostics {
    /// Puts them in the order of their places, and takes out of their messages what is never shown.
    pub(super) fn new(sources: Sources, masks: Masks, mut list: Vec<Diagnostic>) -> Self {
        for diagnostic in &mut list {
            diagnostic.message = masks.message(std::mem::take(&mut diagnostic.message));
        }
        list.sort_by_key(|diagnostic| match &diagnostic.place {
            Place::InMessage | Place::File(..) => 0,
            Place::Span(span) => span.start,
        });
        Self {
            sources,
            masks,
            list,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One line for each, for the log: `file:line:column: message; help`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|diagnostic| {
            let place = match &diagnostic.place {
                Place::InMessage => String::new(),
                Place::File(path, line, column) => format!("{}:{line}:{column}: ", path.display()),
                Place::Span(span) => self
                    .spot(span)
                    .map_or_else(String::new, |spot| format!("{spot}: ")),
            };
            let mut text = format!("{place}{}", diagnostic.message);
            if let Some((span, label)) = &diagnostic.other
                && let Some(spot) = self.spot(span)
            {
                text += &format!(" ({label}: {spot})");
            }
            if let Some(help) = &diagnostic.help {
                text += &format!("; {help}");
            }
            text
        })
    }

    /// `file:line:column` of where a span begins.
    fn spot(&self, span: &Range<usize>) -> Option<String> {
        let place = self.sources.place(span.start)?;
        let path = place.source.path.display();
        Some(format!("{path}:{}:{}", place.line, place.column))
    }

    /// Prints mistakes and makes of them the failure that the program ends with.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        self.print();
        let message = match self.len() {
            1 => "the configuration cannot be used".to_owned(),
            mistakes => format!("the configuration cannot be used: it has {mistakes} mistakes"),
        };
        Failure::new(Exit::Config, message)
    }

    /// Prints them on stderr, in colour if that is a terminal.
    pub fn print(&self) {
        let mut stderr = std::io::stderr();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let renderer = if stderr.is_terminal() && !plain {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        // Nobody is left to tell when stderr is gone.
        let _ = stderr.write_all(self.render(&renderer).as_bytes());
    }

    /// Without colour, as [`Diagnostics::print`] prints them into a file.
    #[must_use]
    pub fn report(&self) -> String {
        self.render(&Renderer::plain())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut text = String::new();
        for diagnostic in &self.list {
            text.push_str(&renderer.render(&[self.group(diagnostic)]));
            text.push_str("\n\n");
        }
        text
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
        match &diagnostic.place {
            Place::InMessage => {}
            Place::File(path, line, column) => {
                let path = path.display().to_string();
                group = group.element(Origin::path(path).line(*line).char_column(*column));
            }
            Place::Span(span) => {
                group = group.elements(self.snippet(span, AnnotationKind::Primary, None));
            }
        }
        if let Some((span, label)) = &diagnostic.other {
            group = group.elements(self.snippet(span, AnnotationKind::Primary, Some(*label)));
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// The line where a span begins, with what it covers of that line marked.
    fn snippet<'a>(
        &self,
        span: &Range<usize>,
        kind: AnnotationKind,
        label: Option<&'a str>,
    ) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let place = self.sources.place(span.start)?;
        let file = place.source;
        let line = &file.padded()[place.span.clone()];
        let shown = self.masks.line(line, place.span.start, span);
        // Masking keeps the number of characters, not of bytes.
        let end = span.end.clamp(place.span.start, place.span.end) - place.span.start;
        let end = line[..line.floor_char_boundary(end)].chars().count();
        let start = byte_at(&shown, place.column - 1);
        let bytes = start..byte_at(&shown, end).max(start);
        Some(
            Snippet::source(shown)
                .path(file.path.display().to_string())
                .line_start(place.line)
                .annotation(kind.span(bytes).label(label)),
        )
    }
}

/// The byte where a text's character number `index` begins, or the text ends.
fn byte_at(text: &str, index: usize) -> usize {
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(byte, _)| byte)
}

/// As [`Diagnostics::lines`].
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Diagnostics {}

/// From 0 to 1. In a short word the one slip weighs too much by itself: `ulr` is `url`.
fn similarity(wrong: &str, candidate: &str) -> f64 {
    match strsim::damerau_levenshtein(wrong, candidate) {
        0 | 1 if candidate.len() > 2 => 1.0,
        _ => strsim::jaro_winkler(wrong, candidate),
    }
}
