//! `kafka`: records of an idempotent producer to librdkafka's mock cluster, by rdkafka.

#[path = "../../plugins/kafka/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use futures_util::future::join_all;
use profilesync_target::Document;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use crate::{
    Settings,
    compare::{Side, compare},
    report::Report,
};
use server::{Server, TOPIC};

/// The kind's own: records at a time, one delivery after another.
const BATCH: usize = 500;

/// A cluster in this process, of one broker that forgets what is old.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    compare("kafka", Server::start(4), settings, report);
}

impl Side for Server {
    fn target(&self) -> String {
        format!("type = \"kafka\"\n{}", self.settings())
    }

    /// A topic is written on.
    async fn clear(&mut self) {}

    async fn write(&self, documents: Vec<Document>) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2")
            .set("socket.nagle.disable", "true")
            .create()
            .unwrap();
        for chunk in documents.chunks(BATCH) {
            let sent = chunk.iter().map(|document| {
                let key = format!("{}:{}", document.sdk_app_id, document.account);
                let value = serde_json::to_string(document).unwrap();
                let revision = document.revision.to_string();
                let mut headers = OwnedHeaders::new();
                for (key, value) in [
                    ("revision", revision.as_str()),
                    ("type", "profile.updated"),
                    ("content-type", "application/json"),
                ] {
                    let value = Some(value);
                    headers = headers.insert(Header { key, value });
                }
                let record = FutureRecord::to(TOPIC).key(&key).payload(&value);
                producer
                    .send_result(record.headers(headers))
                    .map_err(|(error, _)| error)
                    .unwrap()
            });
            for delivery in join_all(sent.collect::<Vec<_>>()).await {
                delivery.unwrap().unwrap();
            }
        }
    }
}
