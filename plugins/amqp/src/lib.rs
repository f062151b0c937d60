//! The `amqp` output: one persistent message per profile through an exchange of an AMQP 0-9-1 server, RabbitMQ first of all.
//!
//! `settings.rs` checks the configuration, `message.rs` and `key.rs` make the message of a document, `link.rs` is a
//! connection that publishes and waits for the confirms, `verdict.rs` says what the server's answers mean.

mod key;
mod link;
mod message;
mod settings;
mod verdict;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, Settings,
    SettingsError, Target,
};

use crate::{
    link::{Link, Server, Trouble},
    message::Form,
};

/// `type = "amqp"`
pub const KIND: Kind = Kind {
    name: "amqp",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// Messages that wait for their confirms together.
const BATCH: usize = 200;

struct Amqp {
    server: Server,
    form: Form,
    /// Connections that no call uses. Each call has one of its own, so that a call that is dropped takes its
    /// connection along and no other call meets its confirms.
    idle: Mutex<Vec<Link>>,
    /// Of one delivery; the daemon enforces it.
    timeout: Duration,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(Amqp {
            server: checked.server,
            form: checked.form,
            idle: Mutex::new(Vec::new()),
            timeout: context.timeout,
        }),
    })
}

#[async_trait]
impl Target for Amqp {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let made: Vec<_> = batch
            .iter()
            .map(|delivery| self.form.fill(&delivery.document))
            .collect();
        let sent = match self.publish(made.iter().flatten()).await {
            Ok(sent) => sent,
            Err(trouble) => return Answer::Whole(verdict::of_trouble(&self.server, &trouble)),
        };
        let mut sent = sent.into_iter();
        let outcomes = made.iter().map(|made| match made {
            Ok(message) => {
                let fate = sent.next().expect("each message has a fate");
                verdict::of_fate(&self.server, &self.form.exchange, message, fate)
            }
            Err(reason) => Outcome::Rejected {
                reason: reason.clone(),
            },
        });
        Answer::Each(outcomes.collect())
    }

    /// Connects and asks whether the exchange exists.
    async fn probe(&self) -> Result<(), String> {
        let probing = async {
            let mut link = Link::connect(&self.server).await?;
            link.find(&self.form.exchange).await?;
            link.close().await;
            Ok(())
        };
        match tokio::time::timeout(self.timeout, probing).await {
            Ok(found) => {
                found.map_err(|trouble| verdict::of_trouble(&self.server, &trouble).text().into())
            }
            Err(_) => Err(format!("{} did not answer in time", self.server.name)),
        }
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.form.render(&self.form.fill(document)?))
    }

    async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for link in idle {
            link.close().await;
        }
    }
}

impl Amqp {
    async fn publish(
        &self,
        messages: impl Iterator<Item = &message::Message>,
    ) -> Result<Vec<link::Fate>, Trouble> {
        let messages: Vec<_> = messages.collect();
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let idle = std::iter::from_fn(|| self.idle().pop()).find(Link::is_open);
        let mut link = match idle {
            Some(link) => link,
            None => Link::connect(&self.server).await?,
        };
        let fates = link.publish(&self.form, &messages).await?;
        self.idle().push(link);
        Ok(fates)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
