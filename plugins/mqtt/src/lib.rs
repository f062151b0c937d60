//! The `mqtt` output: one retained message per account on a server of MQTT 5, so that whoever subscribes gets the newest
//! profile at once.
//!
//! `settings.rs` checks the configuration, `topic.rs` and `message.rs` make the message of a document, `link.rs` is a
//! connection that publishes and waits to be acknowledged, `verdict.rs` says what the server's answers mean.

mod link;
mod message;
mod settings;
mod topic;
mod verdict;

use std::time::Duration;

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, Settings,
    SettingsError, Target,
};
use tokio::sync::Mutex;

use crate::{
    link::{Link, Published, Server, Trouble},
    message::{Form, Message},
};

/// `type = "mqtt"`
pub const KIND: Kind = Kind {
    name: "mqtt",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// Messages that wait to be acknowledged together.
const BATCH: usize = 100;

struct Mqtt {
    server: Server,
    form: Form,
    /// Taken out while a call uses it: a call that is dropped takes its connection along, and no other call meets
    /// its acknowledgements.
    idle: Mutex<Option<Link>>,
    /// Of one delivery; the daemon enforces it.
    timeout: Duration,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(Mqtt {
            server: checked.server,
            form: checked.form,
            idle: Mutex::new(None),
            timeout: context.timeout,
        }),
    })
}

#[async_trait]
impl Target for Mqtt {
    /// One call at a time: a second connection under the same client id would end the first.
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            concurrency: Some(1),
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let made: Vec<_> = batch
            .iter()
            .map(|delivery| self.form.fill(&delivery.document))
            .collect();
        let messages: Vec<_> = made.iter().flatten().collect();
        let published = match self.publish(&messages).await {
            Ok(published) => published,
            Err(trouble) => return Answer::Whole(verdict::of_trouble(&self.server, &trouble)),
        };
        let reasons = published.reasons.iter();
        let refused = reasons.clone().flatten().copied().any(verdict::is_refusal);
        let one_is_left = reasons.filter(|reason| reason.is_none()).count() == 1;
        let unanswered = match &published.trouble {
            // It can be the answer to that one alone.
            Some(trouble @ Trouble::Refused(_)) if one_is_left => {
                verdict::of_trouble(&self.server, trouble)
            }
            Some(trouble) if !refused => {
                return Answer::Whole(verdict::of_trouble(&self.server, trouble));
            }
            _ => verdict::of_bystander(&self.server),
        };
        let mut reasons = published.reasons.into_iter();
        let outcomes = made.iter().map(|made| match made {
            Ok(message) => match reasons.next().flatten() {
                Some(reason) => verdict::of_reason(&self.server, &message.topic, reason),
                None => unanswered.clone(),
            },
            Err(reason) => Outcome::Rejected {
                reason: reason.clone(),
            },
        });
        Answer::Each(outcomes.collect())
    }

    /// Connects, under a client id of its own.
    async fn probe(&self) -> Result<(), String> {
        let probing = async { Link::connect(&self.server, "-probe").await?.close().await };
        match tokio::time::timeout(self.timeout, probing).await {
            Ok(probed) => {
                probed.map_err(|trouble| verdict::of_trouble(&self.server, &trouble).text().into())
            }
            Err(_) => Err(format!("{} did not answer in time", self.server.name)),
        }
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.form.fill(document)?.render())
    }

    async fn close(&self) {
        if let Some(link) = self.idle.lock().await.take() {
            // The server may be gone; then there is nothing to say goodbye to.
            let _ = link.close().await;
        }
    }
}

impl Mqtt {
    async fn publish(&self, messages: &[&Message]) -> Result<Published, Trouble> {
        if messages.is_empty() {
            return Ok(Published::default());
        }
        // Held over the call, so that calls wait for each other even where nobody heeds the limits.
        let mut idle = self.idle.lock().await;
        if let Some(mut link) = idle.take() {
            let published = link.publish(messages).await;
            if published.trouble.is_none() {
                *idle = Some(link);
                return Ok(published);
            }
            // It was closed while nothing was sent, perhaps; that is no fault yet.
        }
        let mut link = Link::connect(&self.server, "").await?;
        let published = link.publish(messages).await;
        if published.trouble.is_none() {
            *idle = Some(link);
        }
        Ok(published)
    }
}
