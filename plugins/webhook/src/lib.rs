//! The webhook output: one HTTP request per profile, signed by Standard Webhooks if so configured.
//!
//! `settings.rs` checks the configuration, `request.rs` makes the request of a document, `sign.rs` signs it and
//! `answer.rs` says what the answer means. When to send and how often is the daemon's business.

mod answer;
mod client;
mod request;
mod settings;
mod sign;

use std::time::Duration;

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, OpenContext, Opened, Outcome, Settings, SettingsError, Target,
};
use reqwest::{Client, Method, StatusCode};
use tokio::time::Instant;

use crate::{
    answer::{Excerpt, Verdicts},
    request::Template,
};

pub use client::install_crypto;

/// `type = "webhook"`
pub const KIND: Kind = Kind {
    name: "webhook",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

struct Webhook {
    client: Client,
    template: Template,
    verdicts: Verdicts,
    excerpt: Excerpt,
    /// Host and port, for messages: the rest of the URL may hold a key.
    host: String,
    /// Of one delivery; the daemon enforces it.
    timeout: Duration,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    let target = Webhook {
        client: client::build(&checked.template.url, checked.ca)?,
        host: client::host(&checked.template.url),
        template: checked.template,
        verdicts: checked.verdicts,
        excerpt: checked.excerpt,
        timeout: context.timeout,
    };
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(target),
    })
}

#[async_trait]
impl Target for Webhook {
    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let mut outcomes = Vec::with_capacity(batch.len());
        for delivery in batch {
            outcomes.push(self.send(&delivery.document).await);
        }
        Answer::Each(outcomes)
    }

    /// Sends `HEAD` with the target's credentials. Any answer shows that name, port and TLS are right; one that
    /// refuses the credentials, or comes from a gateway with nobody behind it, is an error.
    async fn probe(&self) -> Result<(), String> {
        let status = self
            .client
            .request(Method::HEAD, self.template.url.clone())
            .headers(self.template.headers.clone())
            .timeout(self.timeout)
            .send()
            .await
            .map_err(|error| self.transport(&error))?
            .status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(format!(
                "{} refuses the credentials: it answered {status}",
                self.host
            )),
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(format!("{} answered {status}", self.host)),
            _ => Ok(()),
        }
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.template.render(document))
    }
}

impl Webhook {
    async fn send(&self, document: &Document) -> Outcome {
        let started = Instant::now();
        let request = self.template.fill(document, jiff::Timestamp::now());
        let sent = self
            .client
            .request(self.template.method.clone(), self.template.url.clone())
            .headers(request.headers)
            .body(request.body)
            .send()
            .await;
        match sent {
            Ok(response) => {
                let left = self.timeout.saturating_sub(started.elapsed());
                let status = response.status();
                let after = answer::retry_after(response.headers(), jiff::Timestamp::now());
                let body = answer::read_body(response, left).await;
                self.verdicts
                    .judge(&self.host, status, after, || self.excerpt.quote(&body))
            }
            Err(error) => Outcome::Fault {
                reason: self.transport(&error),
                after: None,
            },
        }
    }

    /// What kept a request from being answered, without the URL.
    fn transport(&self, error: &reqwest::Error) -> String {
        let host = &self.host;
        if error.is_timeout() && !error.is_connect() {
            return format!("{host} did not answer in time");
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if error.is_connect() {
            format!("cannot connect to {host}: {cause}")
        } else {
            format!("the request to {host} failed: {cause}")
        }
    }
}
