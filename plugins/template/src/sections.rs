//! How values are escaped: rendering marks every value that it puts into the text, and a pass over the whole text
//! then escapes each where it stands.
//!
//! Only that pass can know where a value stands, for example whether within a JSON string. It also sees values that
//! went through a `{% set %}` block exactly once. A text that is marked safe is not escaped.

use std::fmt::Write as _;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, Value,
    value::{Object, ValueKind},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Begins a value that is text.
const TEXT: char = '\u{fdd0}';
/// Begins a value that is given as JSON.
const JSON: char = '\u{fdd1}';
/// Ends a value.
const END: char = '\u{fdd2}';

/// All but RFC 3986's unreserved characters.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What is done to every value that a template puts into its text, unless it is marked `|safe`. An absent value (null)
/// is an empty text, other values than texts are their JSON.
#[derive(Clone, Copy, Debug)]
pub enum Escape {
    /// Nothing.
    None,
    /// By position: within a JSON string the value's text, quoted for there; elsewhere its JSON, quotes included.
    Json,
    /// Percent-encoded but for letters, digits, `-`, `.`, `_` and `~`.
    Url,
    /// By this function.
    With(fn(&str) -> String),
}

/// The noncharacters that delimit values. Taken out of values, which have no use for them.
pub(crate) fn is_mark(c: char) -> bool {
    matches!(c, TEXT | JSON | END)
}

/// JSON, made by `tojson`.
#[derive(Debug)]
struct JsonText(String);

impl Object for JsonText {
    fn render(self: &std::sync::Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes an environment mark the values it puts into texts, and gives it the filters that escape by hand.
pub(crate) fn set_up(environment: &mut Environment<'static>, escape: Escape) {
    // What a `{% set %}` block captures must stay a plain text, to be escaped where it ends up.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(mark);
    environment.add_filter("tojson", move |value: Value| {
        let json = json(&value)?;
        match escape {
            Escape::Json => Ok(Value::from_object(JsonText(json))),
            _ => Ok::<_, Error>(Value::from(json)),
        }
    });
    environment.add_filter("urlencode", move |value: Value| {
        let encoded = component(&plain(&value)?);
        match escape {
            // Or it would be encoded twice.
            Escape::Url => Ok(Value::from_safe_string(encoded)),
            _ => Ok::<_, Error>(Value::from(encoded)),
        }
    });
    // MiniJinja's own would mark what it made of HTML's characters as safe for anything.
    for name in ["e", "escape"] {
        environment.add_filter(name, |value: Value| plain(&value).map(|text| html(&text)));
    }
}

fn mark(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let (begin, text) = match value.kind() {
        ValueKind::String if value.is_safe() => {
            return Ok(out.write_str(value.as_str().unwrap_or_default())?);
        }
        ValueKind::String => (TEXT, plain(value)?),
        _ => (JSON, json(value)?),
    };
    out.write_char(begin)?;
    out.write_str(&text)?;
    Ok(out.write_char(END)?)
}

/// The value as JSON, without marks.
fn json(value: &Value) -> Result<String, Error> {
    if let Some(JsonText(json)) = value.downcast_object_ref::<JsonText>() {
        return Ok(json.clone());
    }
    let failed = |error| {
        Error::new(ErrorKind::BadSerialization, "the value has no JSON form").with_source(error)
    };
    let json = serde_json::to_string(value).map_err(failed)?;
    Ok(json.replace(is_mark, ""))
}

/// The value as text, without marks.
fn plain(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.replace(is_mark, "")),
        None => json(value).map(|json| text_of_json(&json).to_owned()),
    }
}

/// What stands for JSON within a text.
fn text_of_json(json: &str) -> &str {
    match json {
        "null" => "",
        json => json,
    }
}

fn component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

fn html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

impl Escape {
    /// The text with every marked value escaped, and without marks.
    pub(crate) fn finish(self, marked: &str) -> String {
        let mut finished = String::with_capacity(marked.len());
        let mut place = Place::default();
        let mut rest = marked;
        while let Some(at) = rest.find(is_mark) {
            let (literal, marked) = rest.split_at(at);
            place.pass(literal);
            finished.push_str(literal);
            let mut after = marked.chars();
            let mark = after.next();
            rest = after.as_str();
            if mark == Some(END) {
                continue;
            }
            let (value, after) = rest.split_once(END).unwrap_or((rest, ""));
            rest = after;
            // A mark within: of a captured text that was then marked safe.
            let value = value.replace(is_mark, "");
            self.push(&mut finished, &value, mark == Some(JSON), place);
        }
        finished.push_str(rest);
        finished
    }

    fn push(self, to: &mut String, value: &str, is_json: bool, place: Place) {
        let text = if is_json { text_of_json(value) } else { value };
        match self {
            Self::None => to.push_str(text),
            Self::Url => to.push_str(&component(text)),
            Self::With(escape) => to.push_str(&escape(text)),
            Self::Json if place.in_string => {
                let quoted = quoted(text);
                to.push_str(&quoted[1..quoted.len() - 1]);
            }
            Self::Json if is_json => to.push_str(value),
            Self::Json => to.push_str(&quoted(value)),
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    write!(quoted, "{}", serde_json::Value::from(text)).expect("a String takes everything");
    quoted
}

/// Where in JSON a place is.
#[derive(Clone, Copy, Default)]
struct Place {
    in_string: bool,
    after_backslash: bool,
}

impl Place {
    /// Goes on behind this text.
    fn pass(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.after_backslash => self.after_backslash = false,
                b'\\' => self.after_backslash = self.in_string,
                b'"' => self.in_string = !self.in_string,
                _ => (),
            }
        }
    }
}
