//! The nats output: profiles as messages of a JetStream stream, or as the values of a key-value bucket.
//!
//! `settings.rs` checks the configuration, `name.rs` makes subjects and keys that no account can break out of,
//! `messages.rs` and `bucket.rs` say what is sent, `link.rs` holds the connections and `answer.rs` says what an answer
//! means. Streams and buckets are made by their owner.

mod answer;
mod bucket;
mod link;
mod messages;
mod name;
mod settings;

use async_nats::Client;
use async_trait::async_trait;
use futures_util::future::try_join_all;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, ReadBack, Settings,
    SettingsError, State, Status, Target,
};

use crate::{
    bucket::Bucket,
    link::{Link, Trouble},
    messages::Messages,
};

/// `type = "nats"`
pub const KIND: Kind = Kind {
    name: "nats",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// Requests under way on one connection.
const BATCH: usize = 100;

struct Nats {
    link: Link,
    shape: Shape,
}

/// What profiles become.
enum Shape {
    Messages(Messages),
    Bucket(Bucket),
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    let target = Nats {
        link: checked.link,
        shape: checked.shape,
    };
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(target),
    })
}

#[async_trait]
impl Target for Nats {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let work = |client: Client| async move {
            let puts = batch
                .iter()
                .map(|delivery| self.put(&client, &delivery.document));
            try_join_all(puts).await
        };
        let is_well = |outcomes: &Vec<Outcome>| {
            let mut outcomes = outcomes.iter();
            !outcomes.any(|outcome| matches!(outcome, Outcome::Fault { .. }))
        };
        match self.link.run(work, is_well).await {
            Ok(outcomes) => Answer::Each(outcomes),
            Err(Trouble::Denied(reason)) => Answer::Whole(Outcome::Denied { reason }),
            Err(Trouble::Broken(reason)) => Answer::Whole(Outcome::Fault {
                reason,
                after: None,
            }),
        }
    }

    async fn probe(&self) -> Result<(), String> {
        let work = |client: Client| async move {
            Ok(match &self.shape {
                Shape::Messages(messages) => messages.probe(&client, &self.link.place).await,
                Shape::Bucket(bucket) => bucket.probe(&client, &self.link.place).await,
            })
        };
        let probed = self.link.run(work, Result::is_ok).await;
        probed.map_err(Trouble::text)?
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(match &self.shape {
            Shape::Messages(messages) => messages.render(document),
            Shape::Bucket(bucket) => bucket.render(document),
        })
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        match self.shape {
            Shape::Messages(_) => None,
            Shape::Bucket(_) => Some(self),
        }
    }

    async fn close(&self) {
        self.link.clear();
    }
}

impl Nats {
    async fn put(&self, client: &Client, document: &Document) -> Result<Outcome, String> {
        let place = &self.link.place;
        match &self.shape {
            Shape::Messages(messages) => messages.put(client, place, document).await,
            Shape::Bucket(bucket) => bucket.put(client, place, document).await,
        }
    }
}

#[async_trait]
impl ReadBack for Nats {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let Shape::Bucket(bucket) = &self.shape else {
            return Err("messages cannot be read back".into());
        };
        let mut states = Vec::with_capacity(documents.len());
        for chunk in documents.chunks(BATCH) {
            let work = |client: Client| async move {
                let reads = chunk
                    .iter()
                    .map(|document| bucket.state(&client, &self.link.place, document));
                try_join_all(reads).await
            };
            let read = self.link.run(work, |_| true).await;
            states.extend(read.map_err(Trouble::text)?);
        }
        Ok(states)
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        if document.status == Status::Destroyed {
            return None;
        }
        let value = serde_json::from_slice(&body(document));
        Some(value.expect("a document is a JSON object"))
    }
}

/// The document as JSON.
fn body(document: &Document) -> Vec<u8> {
    serde_json::to_vec(document).expect("a document is made of texts and numbers")
}
