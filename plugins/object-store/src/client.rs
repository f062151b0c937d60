//! The HTTP client beneath the stores: one try per request, and a note of the answer that was no success.
//!
//! The library's errors do not tell a status from another in their types, so the client notes the last bad answer
//! of the task that asked.

use std::{cell::RefCell, future::Future, io, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    },
};
use profilesync_target::SettingsError;
use reqwest::{Certificate, Client, StatusCode, header::CONTENT_TYPE, redirect, retry};

/// A connection that takes longer is a fault of the target; the time limit of a delivery may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are closed by us before servers do it: S3 does after some 5 s, and a request that meets the
/// server's close is a needless fault.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Bytes read of the body of a bad answer.
const MAX_BODY: usize = 16 * 1024;

/// The longest delay an answer can ask for; the daemon's own bound is below.
const MAX_RETRY_AFTER: u64 = 24 * 60 * 60;

tokio::task_local! {
    static NOTED: RefCell<Option<Noted>>;
}

/// An answer that was no success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The service's own name of what is wrong: `NoSuchBucket`. Empty when it gave none.
    pub(crate) code: String,
    /// The service's words.
    pub(crate) message: String,
    /// The delay it asked for.
    pub(crate) after: Option<Duration>,
}

/// Runs requests with room for a note of their last bad answer.
pub(crate) async fn noting<F: Future>(requests: F) -> F::Output {
    NOTED.scope(RefCell::new(None), requests).await
}

/// The last request's answer, if it was no success. `None` outside of [`noting`].
pub(crate) fn noted() -> Option<Noted> {
    NOTED.try_with(|noted| noted.borrow().clone()).ok()?
}

fn note(answer: Option<Noted>) {
    // An error says that nobody wants to know.
    let _ = NOTED.try_with(|noted| noted.replace(answer));
}

/// Gives all clients of a store: to the service itself, and to where its credentials come from.
#[derive(Clone, Debug)]
pub(crate) struct Connector(Client);

impl Connector {
    /// A client that follows no redirect, uses no proxy of the environment and tries nothing twice. With `ca`, it
    /// trusts these roots alone.
    pub(crate) fn new(version: &str, ca: Option<Vec<Certificate>>) -> Result<Self, SettingsError> {
        // An error says that a provider is installed already, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(format!("profilesync/{version}"))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .http1_only()
            .no_proxy();
        if let Some(ca) = ca {
            builder = builder.tls_certs_only(ca);
        }
        builder.build().map(Self).map_err(|error| {
            let cause = root_cause(&error);
            SettingsError::whole(format!("no HTTP client can be made: {cause}")).help(
                "install the system's root certificates (Debian: ca-certificates), or name yours in `tls.ca`",
            )
        })
    }
}

/// The innermost error, which says what happened.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        note(None);
        let response = self.0.call(request).await?;
        let parted = is_parted(&response);
        if response.status().is_success() && !parted {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let mut stream = body.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            bytes.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - bytes.len())]);
            if bytes.len() == MAX_BODY {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        note(match parted {
            true => answer_in(&text)?,
            false => {
                let header = |name: &str| parts.headers.get(name)?.to_str().ok();
                Some(answer(parts.status.as_u16(), header, &text))
            }
        });
        Ok(HttpResponse::from_parts(parts, Bytes::from(bytes).into()))
    }
}

/// Whether the answers are within the body: Azure's to a batch of requests, which is how the library deletes there.
fn is_parted(response: &HttpResponse) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    response.status() == StatusCode::ACCEPTED && kind.starts_with("multipart/mixed")
}

/// What the one answer within a body says, if it is no success. The library takes a body without one for a success.
fn answer_in(body: &str) -> Result<Option<Noted>, HttpError> {
    let part = body.split_once("HTTP/1.1 ").map(|(_, part)| part);
    let status = part.and_then(|part| part.get(..3)?.parse::<u16>().ok());
    let (Some(body), Some(status)) = (part, status) else {
        let error = io::Error::other("the answer to a batch of requests holds none");
        return Err(HttpError::new(HttpErrorKind::Decode, error));
    };
    let head = body.split("\r\n\r\n").next().unwrap_or_default();
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = headers.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
        Some(value.trim())
    };
    Ok((!(200..300).contains(&status)).then(|| answer(status, header, body)))
}

fn answer<'a>(status: u16, header: impl Fn(&str) -> Option<&'a str>, body: &str) -> Noted {
    let code = element(body, "Code");
    Noted {
        status,
        code: code.unwrap_or_else(|| header("x-ms-error-code").unwrap_or_default().to_owned()),
        message: element(body, "Message").unwrap_or_default(),
        after: header("retry-after").and_then(retry_after),
    }
}

/// Seconds; the other form, a date, is used by no object store.
fn retry_after(text: &str) -> Option<Duration> {
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

/// The text of an element of a flat XML answer. Names and words only: what is cut out is shown, never trusted.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{element, noted, noting, retry_after};

    #[test]
    fn code_and_words_are_found() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message> It is\nnot </Message></Error>";
        assert_eq!(element(xml, "Code").unwrap(), "NoSuchBucket");
        assert_eq!(element(xml, "Message").unwrap(), "It is\nnot");
        assert_eq!(element(xml, "Key"), None);
        assert_eq!(element("<Code>cut", "Code"), None);
    }

    #[test]
    fn a_delay_is_a_number_of_seconds() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("9999999999"), Some(Duration::from_hours(24)));
        assert_eq!(retry_after("soon"), None);
    }

    #[tokio::test]
    async fn nothing_is_noted_before_a_request() {
        assert_eq!(noted(), None);
        assert_eq!(noting(async { noted() }).await, None);
    }
}
