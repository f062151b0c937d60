//! What the outputs that speak HTTP share: a client that goes where it is told alone, credentials, and what answers
//! mean for a delivery.
//!
//! A kind puts [`Tls`], [`Auth`], [`Statuses`] and the other keys of [`Connect`] into its settings, makes an [`Http`]
//! of them in `open`, and sends [`Request`]s. Whose fault it is that there is no answer is decided here; what an answer
//! means is decided by [`Http::judge`], or by the kind where it knows better.

mod answer;
mod auth;
mod client;
mod oauth2;
mod private;
mod secrets;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use profilesync_target::{OpenContext, Outcome, SettingsError};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap},
};
use toml::Spanned;

use crate::{
    auth::Credentials,
    client::cause,
    oauth2::{Issued, Token},
};

pub use answer::{Statuses, Verdicts};
pub use auth::{Auth, ClientAuth};
pub use client::{Connect, Tls, check_url, host, install_crypto};
pub use private::is_private;
pub use secrets::Secrets;

/// A target over HTTP.
pub struct Http {
    client: Client,
    credentials: Option<Credentials>,
    verdicts: Verdicts,
    secrets: Secrets,
    /// What to say of a redirect that was not followed.
    redirects: &'static str,
    /// Of one delivery; the daemon enforces it.
    timeout: Duration,
}

/// One request. May be sent any number of times.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// Its headers, without the credentials.
    pub headers: HeaderMap,
    /// Its body; empty for none.
    pub body: Vec<u8>,
}

/// An answer.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What was read of its body: 64 KiB at most.
    pub body: Vec<u8>,
    /// Whether that is all of the body.
    pub whole: bool,
    host: String,
    token: Option<Arc<Token>>,
}

impl Http {
    /// Checks and reads everything, and sends nothing. `urls` are those that will be sent to; `secrets` are the ones
    /// that the kind knows of already.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn open(
        context: &OpenContext,
        urls: &[&Url],
        connect: &Connect,
        auth: Option<Spanned<Auth>>,
        verdicts: Verdicts,
        mut secrets: Secrets,
    ) -> Result<Self, SettingsError> {
        let span = auth.as_ref().map(Spanned::span);
        let credentials = auth
            .map(|auth| Auth::check(auth, &mut secrets))
            .transpose()?;
        let mut plain = urls.iter().all(|url| url.scheme() == "http");
        if let (Some(Credentials::OAuth2(oauth2)), Some(span)) = (&credentials, span) {
            connect.check(&oauth2.url, span.clone())?;
            connect.check_encrypted("auth.token_url", &oauth2.url, span)?;
            plain &= oauth2.url.scheme() == "http";
        }
        let follows = connect
            .redirects
            .as_ref()
            .is_some_and(|most| *most.get_ref() > 0);
        Ok(Self {
            client: connect.client(plain, &mut secrets)?,
            credentials,
            verdicts,
            secrets,
            redirects: match follows {
                false => ", and redirects are not followed: set `url` to where it leads",
                true => {
                    ", and only a few redirects by 307 and 308 to the same scheme, host and port are followed"
                }
            },
            timeout: context.timeout,
        })
    }

    /// When the time of a delivery that begins now is over. All of its requests share it.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends a request and reads the start of the answer's body, as far as it comes quickly: for a kind to whom the
    /// status says all. The deadline is the delivery's: the body is let go of before it.
    ///
    /// # Errors
    /// The outcome of a delivery that got no answer, or no token to ask with.
    pub async fn send(&self, request: &Request, deadline: Instant) -> Result<Reply, Outcome> {
        let (response, token) = self.exchange(request).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let (status, headers) = (response.status(), response.headers().clone());
        let (body, whole) = answer::read_body(response, Some(left)).await;
        Ok(Reply {
            status,
            headers,
            body,
            whole,
            host: host(&request.url),
            token,
        })
    }

    /// Sends a request and reads the whole body of its answer: for a kind that needs to know it.
    ///
    /// # Errors
    /// The outcome of a delivery that got no answer, or not all of it, or no token to ask with.
    pub async fn fetch(&self, request: &Request) -> Result<Reply, Outcome> {
        let (response, token) = self.exchange(request).await?;
        let host = host(&request.url);
        let (status, headers) = (response.status(), response.headers().clone());
        let (body, whole) = answer::read_body(response, None).await;
        if !whole && status.is_success() {
            return Err(Outcome::Fault {
                reason: format!("{host} answered {status}, but its body broke off or is too long"),
                after: None,
            });
        }
        Ok(Reply {
            status,
            headers,
            body,
            whole,
            host,
            token,
        })
    }

    /// What the usual rules, and those of the configuration, make of an answer.
    #[must_use]
    pub fn judge(&self, reply: &Reply) -> Outcome {
        let after = answer::retry_after(&reply.headers, jiff::Timestamp::now());
        // It leads nowhere, though it is one of the 300s.
        let redirects = match reply.status {
            StatusCode::NOT_MODIFIED => "",
            _ => self.redirects,
        };
        self.verdicts
            .judge(&reply.host, reply.status, after, redirects, || {
                self.quote(reply)
            })
    }

    /// The first words of an answer's body, on one line and without secrets.
    #[must_use]
    pub fn quote(&self, reply: &Reply) -> String {
        let token = reply.token.as_ref().map(|token| token.text.as_str());
        self.secrets.quote(&reply.body, reply.whole, token)
    }

    /// The rules by which answers are judged.
    #[must_use]
    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Whether requests get a header `authorization`.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Sends a request that changes nothing, `HEAD` for example. Any answer shows that name, port and TLS are right;
    /// one that refuses the credentials, or comes from a gateway with nobody behind it, is an error.
    ///
    /// # Errors
    /// What is wrong, as a sentence for the operator.
    pub async fn probe(&self, request: &Request) -> Result<(), String> {
        let (host, timeout) = (host(&request.url), self.timeout);
        let exchange = tokio::time::timeout(timeout, self.exchange(request));
        let (response, _) = exchange
            .await
            .map_err(|_| format!("{host} did not answer in time"))?
            .map_err(|outcome| outcome.text().to_owned())?;
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(format!(
                "{host} refuses the credentials: it answered {status}"
            )),
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(format!("{host} answered {status}")),
            _ => Ok(()),
        }
    }

    /// Sends with credentials; with a new token once, when the one at hand is refused.
    async fn exchange(&self, request: &Request) -> Result<(Response, Option<Arc<Token>>), Outcome> {
        let oauth2 = match &self.credentials {
            None => return Ok((self.once(request, None).await?, None)),
            Some(Credentials::Fixed(header)) => {
                return Ok((self.once(request, Some(header)).await?, None));
            }
            Some(Credentials::OAuth2(oauth2)) => oauth2,
        };
        let issued = oauth2.token(&self.client, &self.secrets, None).await?;
        let (Issued::Kept(token) | Issued::New(token)) = &issued;
        let response = self.once(request, Some(&token.header)).await?;
        if response.status() != StatusCode::UNAUTHORIZED || matches!(issued, Issued::New(_)) {
            return Ok((response, Some(Arc::clone(token))));
        }
        drop(response);
        let issued = oauth2
            .token(&self.client, &self.secrets, Some(token))
            .await?;
        let (Issued::Kept(token) | Issued::New(token)) = issued;
        let response = self.once(request, Some(&token.header)).await?;
        Ok((response, Some(token)))
    }

    async fn once(
        &self,
        request: &Request,
        authorization: Option<&reqwest::header::HeaderValue>,
    ) -> Result<Response, Outcome> {
        let mut sent = reqwest::Request::new(request.method.clone(), request.url.clone());
        sent.headers_mut().clone_from(&request.headers);
        if let Some(authorization) = authorization {
            sent.headers_mut()
                .insert(AUTHORIZATION, authorization.clone());
        }
        if !request.body.is_empty() {
            *sent.body_mut() = Some(request.body.clone().into());
        }
        self.client
            .execute(sent)
            .await
            .map_err(|error| Outcome::Fault {
                reason: self.secrets.hide(&transport(&host(&request.url), error)),
                after: None,
            })
    }
}

/// What kept a request from being answered, without the URL.
fn transport(host: &str, error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() && !error.is_connect() {
        return format!("{host} did not answer in time");
    }
    let cause = cause(&error).to_string();
    if error.is_connect() {
        format!("cannot connect to {host}: {}", named_proxy(&cause))
    } else {
        format!("the request to {host} failed: {cause}")
    }
}

/// Why there is no connection, and that it is the proxy's doing where the HTTP client only speaks of a tunnel. Of the
/// statuses, the client tells 407 alone.
fn named_proxy(cause: &str) -> String {
    match cause.strip_prefix("tunnel error: ") {
        None => cause.to_owned(),
        Some("unsuccessful") => {
            "the proxy refused to make a tunnel (CONNECT), and its log may say why".into()
        }
        Some("proxy authorization required") => {
            "the proxy refused the credentials: it answered 407 Proxy Authentication Required"
                .into()
        }
        Some(other) => format!("the proxy made no tunnel (CONNECT): {other}"),
    }
}
