//! The answers: what the sender is told, and under which name a refusal is counted.

use bytes::Bytes;
use serde::Serialize;
use warp::http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};

use super::sign::Unsigned;
use crate::{event::Malformed, journal::AppendError};

/// The members in the order the sender's pages show them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    action_status: &'a str,
    error_info: &'a str,
    error_code: u32,
}

/// Why a request is not taken. The text is for the sender, and holds nothing secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such path")]
    Path,
    #[error("only POST is taken here")]
    Method,
    #[error("peer address not allowed")]
    Peer,
    #[error("over the rate limit")]
    Rate,
    #[error("SdkAppid must be given once and name a configured app")]
    App,
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    #[error("the body is too large")]
    TooLarge,
    #[error("the request did not arrive in time")]
    TooSlow,
    #[error("CallbackCommand must be given once in the query")]
    Command,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("EventTime is too far in the future")]
    Future,
    #[error("the event cannot be recorded now")]
    Unavailable(#[source] AppendError),
    #[error("the event was not recorded in time")]
    Late,
    #[error("too many events are waiting to be applied")]
    Lag,
}

impl Refusal {
    /// Its label in `refused_total`.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::Peer => "peer",
            Self::Rate => "rate_limit",
            Self::App => "app",
            Self::Unsigned(Unsigned::NotOnce | Unsigned::Wrong) => "sign",
            Self::Unsigned(Unsigned::Stale) => "request_time",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Command => "command",
            Self::Malformed(_) => "malformed",
            Self::Future => "event_time",
            Self::Unavailable(_) => "unavailable",
            Self::Late => "late",
            Self::Lag => "lag",
        }
    }

    /// Whether it says that the request may be anybody's.
    const fn is_of_a_stranger(&self) -> bool {
        matches!(
            self,
            Self::Path | Self::Method | Self::Peer | Self::App | Self::Unsigned(_)
        )
    }

    const fn status_and_code(&self) -> (StatusCode, u32) {
        match self {
            Self::App => (StatusCode::FORBIDDEN, 120_001),
            Self::Unsigned(_) => (StatusCode::FORBIDDEN, 120_002),
            Self::Command | Self::Malformed(_) | Self::Future => (StatusCode::BAD_REQUEST, 120_003),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, 120_003),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 120_004),
            Self::Path => (StatusCode::NOT_FOUND, 120_005),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, 120_005),
            Self::Unavailable(_) | Self::Late | Self::Lag => {
                (StatusCode::SERVICE_UNAVAILABLE, 120_006)
            }
            Self::Rate => (StatusCode::TOO_MANY_REQUESTS, 120_007),
            Self::Peer => (StatusCode::FORBIDDEN, 120_008),
        }
    }

    /// What the sender gets.
    pub(super) fn answer(&self) -> Response<Bytes> {
        let (status, error_code) = self.status_and_code();
        let body = Answer {
            action_status: "FAIL",
            error_info: &self.to_string(),
            error_code,
        };
        let body = serde_json::to_vec(&body).expect("strings and a number serialise");
        let mut response = json(status, body.into());
        let header: Option<(HeaderName, &'static str)> = match self {
            Self::Method => Some((ALLOW, "POST")),
            Self::Rate => Some((RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        if self.is_of_a_stranger() {
            return last(response);
        }
        response
    }
}

/// All is well.
pub(super) fn ok() -> Response<Bytes> {
    let body = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
    json(StatusCode::OK, Bytes::from_static(body.as_bytes()))
}

/// The same answer, and its connection ends with it: strangers are not to hold connections open.
pub(super) fn last(mut response: Response<Bytes>) -> Response<Bytes> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
