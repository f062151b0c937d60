//! Text for people: aligned tables, ages, and strings from outside made harmless for a terminal.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, stdout},
};

use unicode_width::UnicodeWidthStr as _;

use crate::clock::Millis;

/// The colour of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// As the terminal has it.
    Plain,
    /// All is well.
    Green,
    /// Look at it.
    Yellow,
    /// Someone must act.
    Red,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
        }
    }
}

const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// Whether standard output takes colours: it is a terminal, and `NO_COLOR` is not set.
#[must_use]
pub fn coloured() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One cell.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    colour: Colour,
    right: bool,
}

impl Cell {
    /// Text, aligned left. It may come from outside.
    #[must_use]
    pub fn text(text: impl AsRef<str>) -> Self {
        let text = harmless(text.as_ref());
        Self {
            text: if text.is_empty() { "-".into() } else { text },
            colour: Colour::Plain,
            right: false,
        }
    }

    /// A number, aligned right.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self {
            text: number.to_string(),
            colour: Colour::Plain,
            right: true,
        }
    }

    /// The same cell in a colour.
    #[must_use]
    pub fn colour(mut self, colour: Colour) -> Self {
        self.colour = colour;
        self
    }
}

/// Rows of cells under a header; each column is as wide as its widest cell.
pub struct Table {
    header: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows. Columns of numbers get their header aligned right once a row is there.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(Cell::text).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        for (title, cell) in self.header.iter_mut().zip(&cells) {
            title.right = cell.right;
        }
        self.rows.push(cells);
    }

    /// The table as text, one line per row, without trailing spaces.
    #[must_use]
    pub fn render(&self, coloured: bool) -> String {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let mut widths = vec![0; self.header.len()];
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.text.width().max(*width);
            }
        }
        let mut out = String::new();
        for (index, row) in all().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column > 0 {
                    line.push_str("  ");
                }
                let style = match (coloured, index) {
                    (false, _) => "",
                    (true, 0) => BOLD,
                    (true, _) => cell.colour.code(),
                };
                push(&mut line, cell, *width, style);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn push(line: &mut String, cell: &Cell, width: usize, style: &str) {
    let space = " ".repeat(width.saturating_sub(cell.text.width()));
    if cell.right {
        line.push_str(&space);
    }
    if style.is_empty() {
        line.push_str(&cell.text);
    } else {
        write!(line, "{style}{}{RESET}", cell.text).expect("writing into a string does not fail");
    }
    if !cell.right {
        line.push_str(&space);
    }
}

/// The text with everything that a terminal would obey, or that would reorder a line, written as an escape.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_harmful(char) {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// JSON that means the same and is harmless: such characters stand in its strings only, as `\u009b`; but for white
/// space, which stands between them.
#[must_use]
pub fn harmless_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if matches!(char, '\r' | '\t') {
            out.push(' ');
        } else if is_harmful(char) && char != '\n' {
            write!(out, "\\u{:04x}", u32::from(char)).expect("writing into a string does not fail");
        } else {
            out.push(char);
        }
    }
    out
}

/// Control characters, line separators, and what changes the direction of text.
fn is_harmful(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of things: `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A length of time in its two largest units: `2h 3m`.
#[must_use]
pub fn duration(millis: Millis) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// How long ago a time was.
#[must_use]
pub fn ago(now: Millis, then: Millis) -> String {
    format!("{} ago", duration(now.saturating_sub(then)))
}

/// A time as RFC 3339, in UTC.
#[must_use]
pub fn time(millis: Millis) -> String {
    i64::try_from(millis)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| millis.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "DUE", "STATE"]);
        table.row(vec![
            Cell::text("export"),
            Cell::number(0),
            Cell::text("ok").colour(Colour::Green),
        ]);
        table.row(vec![
            Cell::text("公众号"),
            Cell::number(12345),
            Cell::text(""),
        ]);
        assert_eq!(
            table.render(false),
            "NAME      DUE  STATE\n\
             export      0  ok\n\
             公众号  12345  -\n"
        );
        assert_eq!(
            table.render(true).lines().nth(1),
            Some("export      0  \x1b[32mok\x1b[0m")
        );
    }

    #[test]
    fn a_terminal_obeys_no_cell() {
        assert_eq!(
            harmless("a\x1b[2Jb\u{9b}c\nd\u{202e}e"),
            "a\\u{1b}[2Jb\\u{9b}c\\nd\\u{202e}e"
        );
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"name": "a\u{9b}\u{202e}\n公"});
        let json = format!("\t{value}\r\n");
        let harmless = harmless_json(&json);
        assert_eq!(harmless, " {\"name\":\"a\\u009b\\u202e\\n公\"} \n");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&harmless).unwrap(),
            value
        );
    }

    #[test]
    fn times() {
        assert_eq!(duration(59_999), "59s");
        assert_eq!(duration(7_380_000), "2h 3m");
        assert_eq!(duration(90_000_000), "1d 1h");
        assert_eq!(time(1_670_574_414_123), "2022-12-09T08:26:54.123Z");
    }
}
