//! Errors of the admin API as RFC 9457 problem documents.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use warp::{
    Rejection,
    http::{HeaderValue, Response, StatusCode, header},
    hyper::body::Bytes,
    reject::{InvalidQuery, Reject},
};

use crate::store::StoreError;

/// One problem. Its type is always `about:blank`: the status says it all, `detail` says it to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, in a sentence for the operator.
    pub detail: String,
}

impl Problem {
    /// A problem of a status.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    /// The document as a response.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let body = serde_json::to_vec(self).expect("strings and a number serialise");
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl Reject for Problem {}

/// The path is known; the method is not one of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongMethod(pub(super) &'static str);

impl Reject for WrongMethod {}

/// Answers what no route took.
pub(super) async fn recover(rejection: Rejection) -> Result<Response<Bytes>, Infallible> {
    if let Some(problem) = rejection.find::<Problem>() {
        let mut response = problem.response();
        let headers = response.headers_mut();
        // Whoever is turned away is not to hold one of the few connections.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if problem.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        return Ok(response);
    }
    if let Some(WrongMethod(allowed)) = rejection.find() {
        let detail = format!("this path takes {allowed}");
        let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).response();
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allowed));
        return Ok(response);
    }
    let problem = if rejection.find::<InvalidQuery>().is_some() {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "a query parameter is unknown, repeated or of the wrong type; limit is a number",
        )
    } else if rejection.is_not_found() {
        Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
    } else {
        tracing::error!(?rejection, "an admin request found no answer");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request found no answer; see the daemon's log",
        )
    };
    Ok(problem.response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document() {
        let response = Problem::new(StatusCode::NOT_FOUND, "there is no target \"x\"").response();
        assert_eq!(response.status(), 404);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(
            response.body(),
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no target \"x\""}"#
        );
    }
}
