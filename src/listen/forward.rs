//! Other commands, passed on to a receiver of the user's own, whose answer goes back to the sender.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response, Url, header::CONTENT_TYPE, redirect::Policy, retry};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

/// The most of an answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// Where other commands go.
pub(super) struct Forward {
    url: Url,
    client: Result<Client, reqwest::Error>,
}

/// Why there is no answer to pass back.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    #[error("no HTTP client: {0}")]
    NoClient(String),
    #[error("no answer in time")]
    TimedOut,
    #[error("request failed")]
    Request(#[source] reqwest::Error),
    #[error("answered {0}")]
    Status(reqwest::StatusCode),
    #[error("answered more than {MAX_ANSWER} bytes")]
    TooLarge,
    #[error("answered something else than JSON")]
    NotJson,
}

impl Forward {
    /// Connects to nothing yet.
    pub(super) fn new(url: Url) -> Self {
        // Building a client panics without one; only the first call of the process has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(Policy::none())
            .retry(retry::never())
            .no_proxy() // one in the environment is not meant for this, and would see `Sign`
            .pool_idle_timeout(Duration::from_secs(30))
            .build();
        Self { url, client }
    }

    /// Sends the same body under the same query, and returns the answer if it is a 200 with JSON.
    pub(super) async fn send(
        &self,
        query: &str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, ForwardError> {
        timeout_at(deadline, self.exchange(query, body))
            .await
            .unwrap_or(Err(ForwardError::TimedOut))
    }

    async fn exchange(&self, query: &str, body: Bytes) -> Result<Bytes, ForwardError> {
        let client = self
            .client
            .as_ref()
            .map_err(|error| ForwardError::NoClient(error.to_string()))?;
        let mut url = self.url.clone();
        url.set_query(Some(&match self.url.query() {
            Some(own) => format!("{own}&{query}"),
            None => query.to_owned(),
        }));
        let response = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(request_error)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(ForwardError::Status(response.status()));
        }
        let answer = read(response).await?;
        match serde_json::from_slice::<IgnoredAny>(&answer) {
            Ok(_) => Ok(answer),
            Err(_) => Err(ForwardError::NotJson),
        }
    }
}

async fn read(mut response: Response) -> Result<Bytes, ForwardError> {
    let mut answer = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(request_error)? {
        if answer.len() + chunk.len() > MAX_ANSWER {
            return Err(ForwardError::TooLarge);
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer.freeze())
}

/// Without the URL: its query holds `Sign`.
fn request_error(error: reqwest::Error) -> ForwardError {
    ForwardError::Request(error.without_url())
}
