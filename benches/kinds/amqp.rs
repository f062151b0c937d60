//! `amqp`: confirmed persistent messages to a durable queue, by lapin.

#[path = "../../plugins/amqp/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use futures_util::future::join_all;
use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
};
use profilesync_target::Document;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, compare, envelope, shares, skip},
    report::Report,
};
use server::Server;

/// The kind's own.
const BATCH: usize = 200;

const NAME: &str = "profiles";
const PERSISTENT: u8 = 2;

/// A durable exchange, and a durable queue that takes all of its messages.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = Server::start("").await?;
        server.declare(NAME).await;
        Some(server)
    });
    match server {
        Some(server) => compare("amqp", server, settings, report),
        None => skip("amqp", report),
    }
}

async fn publish(channel: &Channel, documents: &[Document]) {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let sending = documents.iter().map(|document| {
        let mut headers = FieldTable::default();
        let number = |number: u64| AMQPValue::LongLongInt(i64::try_from(number).unwrap());
        headers.insert("sdk_app_id".into(), number(document.sdk_app_id));
        headers.insert("revision".into(), number(document.revision));
        let account = document.account.as_str();
        headers.insert("account".into(), AMQPValue::LongString(account.into()));
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(format!("msg_{account}").into())
            .with_timestamp(document.event_time / 1000)
            .with_type("profile.updated".into())
            .with_app_id("profilesync".into())
            .with_headers(headers);
        let key = format!("{}.{}", document.sdk_app_id, account.replace('#', "%23"));
        let body = envelope(document);
        async move {
            channel
                .basic_publish(NAME.into(), key.into(), options, &body, properties)
                .await
        }
    });
    for sent in join_all(sending).await {
        let confirmation = sent.unwrap().await.unwrap();
        assert!(confirmation.is_ack(), "{confirmation:?}");
    }
}

impl Side for Server {
    fn target(&self) -> String {
        let url = self.url();
        format!("type = \"amqp\"\nurl = {url:?}\nexchange = {NAME:?}\n")
    }

    async fn clear(&mut self) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let purge = QueuePurgeOptions::default();
        channel.queue_purge(NAME.into(), purge).await.unwrap();
        connection.close(200, "OK".into()).await.unwrap();
    }

    async fn write(&self, documents: Vec<Document>) {
        let mut tasks = JoinSet::new();
        for share in shares(&documents, BATCH, CONCURRENCY) {
            let connection = self.connect().await;
            tasks.spawn(async move {
                let channel = connection.create_channel().await.unwrap();
                let confirms = ConfirmSelectOptions::default();
                channel.confirm_select(confirms).await.unwrap();
                for chunk in share {
                    publish(&channel, &chunk).await;
                }
            });
        }
        tasks.join_all().await;
    }
}
