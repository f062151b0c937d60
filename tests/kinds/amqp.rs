//! `amqp` in the whole daemon.

use lapin::{
    ExchangeKind,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::Value;

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/amqp/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use server::Server;

const NAME: &str = "profiles";

struct Outside(Server);

impl outside::Outside for Outside {
    fn target(&self) -> String {
        let url = self.0.url();
        format!("type = \"amqp\"\nurl = {url:?}\nexchange = {NAME:?}\n")
    }

    async fn stop(&mut self) {
        self.0.kill();
    }

    async fn start(&mut self) {
        self.0.run().await;
    }

    /// The newest revision of each account among all messages of the queue, as a consumer keeps it.
    async fn held(&mut self) -> Held {
        let connection = self.0.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let options = BasicGetOptions { no_ack: true };
        let mut newest = std::collections::BTreeMap::new();
        while let Some(message) = channel.basic_get(NAME.into(), options).await.unwrap() {
            let body: Value = serde_json::from_slice(&message.data).unwrap();
            let document = &body["data"];
            let id = (
                document["sdk_app_id"].as_u64().unwrap(),
                document["account"].as_str().unwrap().to_owned(),
            );
            let revision = document["revision"].as_u64().unwrap();
            let name = document["name"].as_str().map(str::to_owned);
            let state = (revision, name, document["status"] == "active");
            let held = newest.entry(id).or_insert_with(|| state.clone());
            if held.0 < revision {
                *held = state;
            }
        }
        connection.close(200, "OK".into()).await.unwrap();
        newest
            .into_iter()
            .filter(|(_, (_, _, active))| *active)
            .map(|(id, (revision, name, _))| (id, (revision, name)))
            .collect()
    }
}

/// A durable exchange, and a durable queue that takes all of its messages.
async fn declare(server: &Server) {
    let connection = server.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let none = FieldTable::default;
    let exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let queue = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .exchange_declare(NAME.into(), ExchangeKind::Topic, exchange, none())
        .await
        .unwrap();
    channel
        .queue_declare(NAME.into(), queue, none())
        .await
        .unwrap();
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(NAME.into(), NAME.into(), "#".into(), bind, none())
        .await
        .unwrap();
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_backfill_loses_nothing() {
    let Some(server) = Server::start("").await else {
        return;
    };
    declare(&server).await;
    survives_a_restart(Outside(server)).await;
}
