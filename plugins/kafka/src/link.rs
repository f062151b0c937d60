//! The producer: made when first needed, kept between deliveries, and made anew after an error that ends it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{
        DeliveryFuture, DeliveryResult, FutureProducer, FutureRecord, Producer as _,
        ProducerContext,
    },
    statistics::Statistics,
};
use tokio::task::spawn_blocking;

use crate::{
    record::Record,
    verdict::{Verdict, judge},
};

/// How a target reaches its cluster.
pub(crate) struct Link {
    pub(crate) config: ClientConfig,
    pub(crate) topic: String,
    /// How long a record may take; shorter than the daemon waits.
    pub(crate) patience: Duration,
    sender: Mutex<Option<Sender>>,
}

/// A producer that can be shared; the last one to let it go waits for its threads.
#[derive(Clone)]
pub(crate) struct Sender {
    producer: FutureProducer<Words>,
    words: Words,
}

/// Keeps librdkafka's last complaint for messages, and lets nothing of its log out.
#[derive(Clone, Default)]
pub(crate) struct Words(Arc<Mutex<String>>);

impl Words {
    fn keep(&self, text: &str) {
        text.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn last(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ClientContext for Words {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn stats(&self, _statistics: Statistics) {}

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down follows what is wrong with the last of them, and says less.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.keep(reason);
        }
    }
}

/// For the producer that only checks a configuration.
impl ProducerContext for Words {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}

impl Link {
    pub(crate) fn new(config: ClientConfig, topic: String, patience: Duration) -> Self {
        Self {
            config,
            topic,
            patience,
            sender: Mutex::new(None),
        }
    }

    /// The producer there is, or a new one. Connecting is done by its threads.
    pub(crate) fn sender(&self) -> Result<Sender, String> {
        let mut kept = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*kept {
            return Ok(sender.clone());
        }
        let words = Words::default();
        let producer = self
            .config
            .create_with_context(words.clone())
            .map_err(|error| format!("no producer can be made: {error}"))?;
        let sender = Sender { producer, words };
        *kept = Some(sender.clone());
        Ok(sender)
    }

    /// What an error of the producer means. `local` ones are told before a request was made.
    pub(crate) fn judge(&self, sender: &Sender, error: &KafkaError, local: bool) -> Verdict {
        judge(
            &self.topic,
            error,
            local,
            self.patience,
            &sender.words.last(),
        )
    }

    /// Lets a producer go whose errors are for good: the next delivery makes another.
    pub(crate) fn settle(&self, sender: &Sender) {
        if sender.producer.client().fatal_error().is_none() {
            return;
        }
        let mut kept = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = kept.take();
        drop(kept);
        // Waits for threads.
        spawn_blocking(move || drop(ended));
    }

    pub(crate) async fn probe(&self) -> Result<(), String> {
        let sender = self.sender()?;
        let (topic, patience) = (self.topic.clone(), self.patience);
        spawn_blocking(move || sender.probe(&topic, patience))
            .await
            .map_err(|_| "the probe ended in a panic".to_owned())?
    }

    /// Throws away what was not sent, and ends the producer's threads.
    pub(crate) async fn close(&self) {
        let ended = self
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Only a panic in it could fail, and there is nobody to tell.
        let _ = spawn_blocking(move || drop(ended)).await;
    }
}

impl Sender {
    pub(crate) fn queue(&self, topic: &str, record: &Record) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut message = FutureRecord::to(topic).key(&record.key).headers(headers);
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        self.producer
            .send_result(message)
            .map_err(|(error, _)| error)
    }

    fn probe(&self, topic: &str, patience: Duration) -> Result<(), String> {
        let metadata = self
            .producer
            .client()
            .fetch_metadata(None, patience)
            .map_err(|error| {
                let last = self.words.last();
                let code = error.rdkafka_error_code();
                match code {
                    _ if !last.is_empty() => format!("no broker answers: {last}"),
                    Some(code) => format!("no broker answers: {code}"),
                    None => format!("no broker answers: {error}"),
                }
            })?;
        let found = metadata.topics().iter().find(|it| it.name() == topic);
        let Some(found) = found.filter(|found| !found.partitions().is_empty()) else {
            return Err(format!(
                "the topic {topic} does not exist, or may not be described: create it"
            ));
        };
        match found.partitions().iter().find(|it| it.leader() < 0) {
            Some(partition) => Err(format!(
                "partition {} of the topic {topic} has no leader",
                partition.id()
            )),
            None => Ok(()),
        }
    }
}
