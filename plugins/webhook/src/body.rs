//! The shape of a body: the forms that are built in, and templates.

use profilesync_target::Document;
use profilesync_template::{Escape, Template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::sign;

/// The shape of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// `{"type": "profile.updated" | "profile.destroyed", "timestamp": …, "data": <document>}`
    #[default]
    Standard,
    /// The document itself.
    Profile,
    /// A CloudEvent of version 1.0, in structured JSON.
    CloudEvents,
    /// As `body` says.
    Template,
}

/// What makes bodies.
pub(crate) enum Body {
    Standard,
    Profile,
    CloudEvents,
    Template {
        template: Box<Template>,
        /// Whether it must be JSON.
        is_json: bool,
    },
}

/// How the values in a body of this type are escaped, and whether it must be JSON.
pub(crate) fn escape(content_type: &str) -> (Escape, bool) {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => (Escape::Json, true),
        json if json.ends_with("+json") => (Escape::Json, true),
        lines if lines.ends_with("json") => (Escape::Json, false),
        "application/x-www-form-urlencoded" => (Escape::Url, false),
        "text/html" => (Escape::With(xml), false),
        markup if markup.ends_with("xml") => (Escape::With(xml), false),
        _ => (Escape::None, false),
    }
}

/// Text for XML and HTML, in elements and in quoted attributes.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' => escaped.push(c),
            // A parser would make a line feed of it.
            '\r' => escaped.push_str("&#13;"),
            // XML has no way to write these.
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

impl Body {
    /// The type of its content, unless the configuration says another.
    pub(crate) fn content_type(format: Format, is_array: bool) -> &'static str {
        match (format, is_array) {
            (Format::CloudEvents, false) => "application/cloudevents+json",
            (Format::CloudEvents, true) => "application/cloudevents-batch+json",
            _ => "application/json",
        }
    }

    /// The body for a document.
    pub(crate) fn make(&self, document: &Document) -> Result<Vec<u8>, String> {
        let made = match self {
            Self::Profile => serde_json::to_vec(document),
            Self::Standard => serde_json::to_vec(&document.standard()),
            Self::CloudEvents => serde_json::to_vec(&cloud_event(document)),
            Self::Template { template, is_json } => {
                let text = template.render(document)?;
                if *is_json {
                    check_json(&text)?;
                }
                return Ok(text.into_bytes());
            }
        };
        Ok(made.expect("a document is JSON"))
    }

    /// One body of many.
    pub(crate) fn array(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut array = vec![b'['];
        array.extend(bodies.join(&b','));
        array.push(b']');
        array
    }
}

fn check_json(text: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(drop)
        .map_err(|error| format!("the body would be no JSON: {error}"))
}

fn cloud_event(document: &Document) -> impl Serialize {
    #[derive(Serialize)]
    struct CloudEvent<'a> {
        specversion: &'static str,
        id: String,
        source: String,
        r#type: &'static str,
        subject: &'a str,
        time: String,
        datacontenttype: &'static str,
        data: &'a Document,
    }
    CloudEvent {
        specversion: "1.0",
        id: sign::message_id(document),
        source: format!("/profilesync/{}", document.sdk_app_id),
        r#type: document.message_type(),
        subject: &document.account,
        time: document.event_time(),
        datacontenttype: "application/json",
        data: document,
    }
}

#[cfg(test)]
mod tests {
    use super::{escape, xml};

    #[test]
    fn the_type_says_what_must_be_json() {
        for (content_type, is_json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.x+json", true),
            ("application/x-ndjson", false),
            ("text/plain", false),
        ] {
            assert_eq!(escape(content_type).1, is_json, "{content_type}");
        }
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(
            xml("<a b='c'>&\"\0\r\n"),
            "&lt;a b=&#39;c&#39;&gt;&amp;&quot;\u{fffd}&#13;\n"
        );
    }
}
