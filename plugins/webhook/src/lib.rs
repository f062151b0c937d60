//! The webhook output: HTTP requests made of profiles, signed by Standard Webhooks if so configured.
//!
//! `settings.rs` checks the configuration; `request.rs` makes the requests of a document out of `place.rs` and
//! `body.rs`, and `sign.rs` signs them. Sending them is profilesync-http's; when and how often is the daemon's.

mod body;
mod headers;
mod place;
mod request;
mod settings;
mod sign;

use std::time::Instant;

use async_trait::async_trait;
use profilesync_http::{Http, Reply, Request};
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, Settings,
    SettingsError, Status, Target,
};
use reqwest::{Method, StatusCode};

use crate::request::Maker;

pub use profilesync_http::install_crypto;

/// `type = "webhook"`
pub const KIND: Kind = Kind {
    name: "webhook",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

struct Webhook {
    http: Http,
    maker: Maker,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(Webhook {
            http: checked.http,
            maker: checked.maker,
        }),
    })
}

#[async_trait]
impl Target for Webhook {
    fn limits(&self) -> Limits {
        Limits {
            batch: self.maker.array.unwrap_or(1),
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let deadline = self.http.deadline();
        if self.maker.array.is_some() {
            return self.send_array(batch, deadline).await;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for delivery in batch {
            outcomes.push(self.send(&delivery.document, deadline).await);
        }
        Answer::Each(outcomes)
    }

    /// Sends `HEAD` with the target's credentials, to the URL as far as it is the same for all accounts.
    async fn probe(&self) -> Result<(), String> {
        let request = Request {
            method: Method::HEAD,
            url: self.maker.update.place.base.clone(),
            headers: self.maker.headers.clone(),
            body: Vec::new(),
        };
        self.http.probe(&request).await
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        self.maker.render(document, self.http.has_credentials())
    }
}

impl Webhook {
    async fn send(&self, document: &Document, deadline: Instant) -> Outcome {
        let action = self.maker.action(document);
        let request = match self.maker.make(action, document, jiff::Timestamp::now()) {
            Ok(request) => request,
            Err(reason) => return Outcome::Rejected { reason },
        };
        let reply = match self.http.send(&request, deadline).await {
            Ok(reply) => reply,
            Err(outcome) => return outcome,
        };
        if self.is_unknown(&reply) {
            match document.status {
                // Nothing is left to destroy.
                Status::Destroyed if self.maker.delete.is_some() || self.maker.create.is_some() => {
                    return Outcome::Delivered {
                        answer: reply.status.to_string(),
                    };
                }
                Status::Active if reply.status == StatusCode::NOT_FOUND => {
                    if let Some(outcome) = self.create(document, deadline).await {
                        return outcome;
                    }
                }
                _ => (),
            }
        }
        self.http.judge(&reply)
    }

    /// Whether the target says that it does not have the account, and the configuration says nothing about that.
    fn is_unknown(&self, reply: &Reply) -> bool {
        matches!(reply.status, StatusCode::NOT_FOUND | StatusCode::GONE)
            && !self.http.verdicts().names(reply.status)
    }

    /// The second half of an upsert; `None` when there is none.
    async fn create(&self, document: &Document, deadline: Instant) -> Option<Outcome> {
        let action = self.maker.create.as_ref()?;
        let request = match self.maker.make(action, document, jiff::Timestamp::now()) {
            Ok(request) => request,
            Err(reason) => return Some(Outcome::Rejected { reason }),
        };
        let reply = match self.http.send(&request, deadline).await {
            Ok(reply) => reply,
            Err(outcome) => return Some(outcome),
        };
        let conflict =
            reply.status == StatusCode::CONFLICT && !self.http.verdicts().names(reply.status);
        match self.http.judge(&reply) {
            // Someone else was first: the next attempt finds it, and updates.
            Outcome::Rejected { reason } if conflict => Some(Outcome::Retry {
                reason,
                after: None,
            }),
            outcome => Some(outcome),
        }
    }

    /// One request for all.
    async fn send_array(&self, batch: &[Delivery], deadline: Instant) -> Answer {
        let made: Vec<_> = batch
            .iter()
            .map(|delivery| self.maker.body.make(&delivery.document))
            .collect();
        let (mut documents, mut bodies) = (Vec::new(), Vec::new());
        for (delivery, made) in batch.iter().zip(&made) {
            if let Ok(body) = made {
                documents.push(&delivery.document);
                bodies.push(body.clone());
            }
        }
        let shared = if documents.is_empty() {
            None
        } else {
            let request = self
                .maker
                .make_array(&documents, &bodies, jiff::Timestamp::now());
            Some(match self.http.send(&request, deadline).await {
                Ok(reply) => self.http.judge(&reply),
                Err(outcome) => outcome,
            })
        };
        let blames_one = matches!(
            shared,
            Some(Outcome::Rejected { .. } | Outcome::Denied { .. })
        );
        match shared {
            // Cut in half until the guilty one stands alone, be it here or at the target.
            Some(outcome) if blames_one || documents.len() == batch.len() => Answer::Whole(outcome),
            shared => Answer::Each(
                made.into_iter()
                    .map(|made| match (made, &shared) {
                        (Err(reason), _) => Outcome::Rejected { reason },
                        (Ok(_), Some(shared)) => shared.clone(),
                        (Ok(_), None) => unreachable!("what was made was sent"),
                    })
                    .collect(),
            ),
        }
    }
}
