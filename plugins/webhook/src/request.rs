//! The request of a document: headers and body, and the same as text with secrets masked.

use std::fmt::Write as _;

use jiff::Timestamp;
use profilesync_target::{Document, Status};
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sign::{self, Key};

const REVISION: HeaderName = HeaderName::from_static("profilesync-revision");
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The shape of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// `{"type": "profile.updated" | "profile.destroyed", "timestamp": …, "data": <document>}`
    #[default]
    Standard,
    /// The document itself.
    Profile,
}

/// What all requests of a target share.
pub(crate) struct Template {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Secret values are marked sensitive.
    pub(crate) headers: HeaderMap,
    pub(crate) format: Format,
    pub(crate) keys: Vec<Key>,
}

/// What one request adds.
pub(crate) struct Request {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Template {
    pub(crate) fn fill(&self, document: &Document, now: Timestamp) -> Request {
        let body = body(self.format, document);
        let mut headers = self.headers.clone();
        headers.insert(REVISION, HeaderValue::from(document.revision));
        if !self.keys.is_empty() {
            let id = sign::message_id(document);
            let mut signatures = ascii(&sign::signatures(&self.keys, &id, now.as_second(), &body));
            signatures.set_sensitive(true);
            headers.insert(ID, ascii(&id));
            headers.insert(TIMESTAMP, HeaderValue::from(now.as_second()));
            headers.insert(SIGNATURE, signatures);
        }
        Request { headers, body }
    }

    /// The request as text, without secrets: sensitive headers and the values of the query are masked.
    pub(crate) fn render(&self, document: &Document) -> String {
        let mut request = self.fill(document, Timestamp::UNIX_EPOCH);
        if request.headers.contains_key(TIMESTAMP) {
            let when = HeaderValue::from_static("<the time of sending>");
            request.headers.insert(TIMESTAMP, when);
        }
        let mut text = format!("{} {}\n", self.method, masked(&self.url));
        for (name, value) in &request.headers {
            let value = match value.is_sensitive() {
                true => "***".into(),
                false => String::from_utf8_lossy(value.as_bytes()),
            };
            writeln!(text, "{name}: {value}").expect("a String takes everything");
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&request.body));
        text.push('\n');
        text
    }
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hexadecimal and base64 are ASCII")
}

fn masked(url: &Url) -> Url {
    let mut url = url.clone();
    if let Some(query) = url.query() {
        let masked: Vec<_> = query
            .split('&')
            .map(|pair| {
                pair.split_once('=')
                    .map_or("***".into(), |(name, _)| format!("{name}=***"))
            })
            .collect();
        url.set_query(Some(&masked.join("&")));
    }
    url
}

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'static str,
    timestamp: String,
    data: &'a Document,
}

fn body(format: Format, document: &Document) -> Vec<u8> {
    match format {
        Format::Profile => serde_json::to_vec(document),
        Format::Standard => serde_json::to_vec(&Envelope {
            r#type: match document.status {
                Status::Active => "profile.updated",
                Status::Destroyed => "profile.destroyed",
            },
            timestamp: rfc3339(document.event_time),
            data: document,
        }),
    }
    .expect("a document is JSON")
}

/// Milliseconds since 1970 as RFC 3339 in UTC, to the millisecond.
fn rfc3339(millis: u64) -> String {
    let time = i64::try_from(millis)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::{masked, rfc3339};

    #[test]
    fn times_have_three_decimals() {
        assert_eq!(rfc3339(1_670_574_414_123), "2022-12-09T08:26:54.123Z");
        assert_eq!(rfc3339(1_670_574_414_000), "2022-12-09T08:26:54.000Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn the_values_of_a_query_are_masked() {
        let url = "https://crm.example/hook?key=hunter2&plain&x="
            .parse()
            .unwrap();
        assert_eq!(
            masked(&url).as_str(),
            "https://crm.example/hook?key=***&***&x=***"
        );
    }
}
