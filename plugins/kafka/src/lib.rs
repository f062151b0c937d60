//! The kafka output: one record per profile in a topic, keyed by account, so that a compacted topic holds the newest.
//!
//! `settings.rs` checks the keys, `record.rs` makes the record of a document, `link.rs` holds the producer and
//! `verdict.rs` says what its errors mean. librdkafka does the rest on threads of its own.
//!
//! Order: one producer is idempotent and first in, first out, so a record whose delivery was given up can only come
//! before a newer one of its account. It gives up by itself before the daemon does.

mod link;
mod record;
mod settings;
mod verdict;

use async_trait::async_trait;
use futures_util::future::join_all;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, Settings,
    SettingsError, Target,
};
use rdkafka::producer::DeliveryFuture;

use crate::{
    link::{Link, Sender},
    record::Form,
    verdict::Verdict,
};

/// `type = "kafka"`
pub const KIND: Kind = Kind {
    name: "kafka",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// Records in flight at once; librdkafka makes requests of them.
const BATCH: usize = 500;

struct Kafka {
    link: Link,
    form: Form,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(Kafka {
            link: checked.link,
            form: checked.form,
        }),
    })
}

#[async_trait]
impl Target for Kafka {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            // Batches at the same time would share requests, and a record that is sent alone would not be alone.
            concurrency: Some(1),
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let sender = match self.link.sender() {
            Ok(sender) => sender,
            Err(reason) => return Answer::Whole(fault(reason)),
        };
        let queued: Vec<_> = batch
            .iter()
            .map(|delivery| self.queue(&sender, &delivery.document))
            .collect();
        let verdicts = join_all(queued.into_iter().map(|queued| self.wait(&sender, queued))).await;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (delivery, verdict) in batch.iter().zip(verdicts) {
            outcomes.push(match verdict {
                Verdict::Clear(outcome) => outcome,
                // A broker refuses a request as a whole: the innocent are known by being sent alone.
                Verdict::Shared(_) if batch.len() > 1 => {
                    let queued = self.queue(&sender, &delivery.document);
                    self.wait(&sender, queued).await.alone()
                }
                shared => shared.alone(),
            });
        }
        self.link.settle(&sender);
        Answer::Each(outcomes)
    }

    /// Asks for all topics: asking for one could create it.
    async fn probe(&self) -> Result<(), String> {
        self.link.probe().await
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.form.fill(document)?.render(&self.form.topic))
    }

    async fn close(&self) {
        self.link.close().await;
    }
}

impl Kafka {
    /// Puts a document's record into the producer's queue; never waits.
    fn queue(&self, sender: &Sender, document: &Document) -> Result<DeliveryFuture, Verdict> {
        let record = self
            .form
            .fill(document)
            .map_err(|reason| Verdict::Clear(Outcome::Rejected { reason }))?;
        sender
            .queue(&self.form.topic, &record)
            .map_err(|error| self.link.judge(sender, &error, true))
    }

    async fn wait(&self, sender: &Sender, queued: Result<DeliveryFuture, Verdict>) -> Verdict {
        let waiting = match queued {
            Ok(waiting) => waiting,
            Err(verdict) => return verdict,
        };
        match waiting.await {
            Ok(Ok(delivery)) => Verdict::Clear(Outcome::Delivered {
                answer: format!(
                    "partition {}, offset {}",
                    delivery.partition, delivery.offset
                ),
            }),
            Ok(Err((error, _))) => self.link.judge(sender, &error, false),
            Err(_) => Verdict::Clear(fault("the producer was closed".into())),
        }
    }
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}
