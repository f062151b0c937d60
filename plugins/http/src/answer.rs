//! What an answer means: its status decides, its body is only quoted.

use std::{borrow::Cow, fmt, num::IntErrorKind, ops::RangeInclusive, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use profilesync_target::{Outcome, SettingsError};
use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};
use tokio::time::timeout;

/// Bytes read of a body.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// How long a body may take after the status; then the connection is closed and what came is quoted.
const MAX_BODY_TIME: Duration = Duration::from_secs(1);

/// The longest delay an answer can ask for; the daemon's own bound is far below.
const MAX_RETRY_AFTER: u64 = 7 * 24 * 60 * 60;

/// One status (`409`) or several (`"500-599"`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(RangeInclusive<u16>);

/// What answers mean: the usual, but for the statuses whose meaning the configuration sets.
#[derive(Default)]
pub struct Verdicts {
    success: Vec<Statuses>,
    retry_on: Vec<Statuses>,
    reject_on: Vec<Statuses>,
}

impl Verdicts {
    /// Of the keys `success`, `retry_on` and `reject_on`.
    ///
    /// # Errors
    /// When a status is in two of them.
    pub fn new(
        success: Vec<Statuses>,
        retry_on: Vec<Statuses>,
        reject_on: Vec<Statuses>,
    ) -> Result<Self, SettingsError> {
        let verdicts = Self {
            success,
            retry_on,
            reject_on,
        };
        match verdicts.conflict() {
            Some(code) => Err(SettingsError::whole(format!(
                "the status {code} is in more than one of `success`, `retry_on` and `reject_on`"
            ))),
            None => Ok(verdicts),
        }
    }

    /// Whether the configuration says what this status means.
    #[must_use]
    pub fn names(&self, status: StatusCode) -> bool {
        [&self.success, &self.retry_on, &self.reject_on]
            .iter()
            .any(|list| has(list, status.as_u16()))
    }

    /// The outcome of a delivery that was answered. `quote` gives the body for a reason.
    pub(crate) fn judge(
        &self,
        host: &str,
        status: StatusCode,
        after: Option<Duration>,
        redirects: &str,
        quote: impl FnOnce() -> String,
    ) -> Outcome {
        let code = status.as_u16();
        let retry = has(&self.retry_on, code);
        let reject = has(&self.reject_on, code);
        if has(&self.success, code) || (status.is_success() && !retry && !reject) {
            return Outcome::Delivered {
                answer: status.to_string(),
            };
        }
        let mut reason = format!("{host} answered {status}");
        if status.is_redirection() {
            reason.push_str(redirects);
        }
        let quote = quote();
        if !quote.is_empty() {
            reason = format!("{reason}: {quote}");
        }
        match code {
            _ if retry => Outcome::Retry { reason, after },
            _ if reject => Outcome::Rejected { reason },
            408 | 425 | 429 => Outcome::Retry { reason, after },
            401 | 403 | 404 | 407 => Outcome::Denied { reason },
            400..=499 => Outcome::Rejected { reason },
            _ => Outcome::Fault { reason, after },
        }
    }

    /// A status that is in two of the lists.
    fn conflict(&self) -> Option<u16> {
        let lists = [&self.success, &self.retry_on, &self.reject_on];
        (100..=599).find(|code| {
            let holders = lists.iter().filter(|list| has(list, *code));
            holders.count() > 1
        })
    }
}

fn has(list: &[Statuses], code: u16) -> bool {
    list.iter().any(|statuses| statuses.0.contains(&code))
}

/// The delay an answer asks for: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => MAX_RETRY_AFTER,
        Err(_) => {
            let date = rfc2822::parse(text).ok()?.timestamp();
            u64::try_from(date.as_second() - now.as_second()).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

/// Reads the body, so that its connection can be used again; and whether that is all of it. With `left`, what is left
/// of the delivery's time, only what comes quickly.
pub(crate) async fn read_body(mut response: Response, left: Option<Duration>) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < MAX_BODY {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - body.len())]);
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        matches!(response.chunk().await, Ok(None))
    };
    let whole = match left {
        // Half of the time left: the status is known and must not be lost over the body.
        Some(left) => timeout(MAX_BODY_TIME.min(left / 2), reading)
            .await
            .unwrap_or(false),
        None => reading.await,
    };
    (body, whole)
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusesVisitor)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One HTTP status (409) or several (\"500-599\").",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" },
            ],
        })
    }
}

struct StatusesVisitor;

impl Visitor<'_> for StatusesVisitor {
    type Value = Statuses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an HTTP status such as 409, or a range of them such as "500-599""#)
    }

    fn visit_i64<E: Error>(self, code: i64) -> Result<Statuses, E> {
        match u16::try_from(code) {
            Ok(code) if is_status(code) => Ok(Statuses(code..=code)),
            _ => Err(E::invalid_value(Unexpected::Signed(code), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Statuses, E> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| {
            let code = text.trim().parse().ok();
            code.filter(|code| is_status(*code))
        };
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Statuses(first..=last)),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

fn is_status(code: u16) -> bool {
    (100..=599).contains(&code)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::retry_after;

    fn after(text: &str) -> Option<u64> {
        let now = "2015-10-21T07:27:30Z".parse().unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
        retry_after(&headers, now).map(|delay| delay.as_secs())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(30));
        assert_eq!(after("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        assert_eq!(after("99999999999999"), Some(604_800));
        assert_eq!(after("99999999999999999999"), Some(604_800));
        for nonsense in ["", "-1", "soon", "1.5"] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
        let none = retry_after(&HeaderMap::new(), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(none, None::<Duration>);
    }
}
