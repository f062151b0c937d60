//! `mqtt`: retained messages with QoS 1, by rumqttc.

#[path = "../../plugins/mqtt/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use futures_util::future::join_all;
use profilesync_target::Document;
use rumqttc::{AsyncClient, Broker, MqttOptions, PubAckReason, PublishOptions, PublishResult, QoS};
use tokio::runtime::Runtime;

use crate::{
    Settings,
    compare::{Side, compare, skip},
    report::Report,
};
use server::Server;

/// The kind's own: messages that wait together, one batch after another over one connection.
const BATCH: usize = 100;

/// A mosquitto as it comes.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    let start = Server::start("allow_anonymous true");
    match Runtime::new().unwrap().block_on(start) {
        Some(server) => compare("mqtt", server, settings, report),
        None => skip("mqtt", report),
    }
}

async fn publish(client: &AsyncClient, document: &Document) {
    let topic = format!(
        "profiles/{}/{}",
        document.sdk_app_id,
        document.account.replace('#', "%23")
    );
    let payload = serde_json::to_vec(document).unwrap();
    let options = PublishOptions::new(QoS::AtLeastOnce).retained();
    let notice = client.publish_tracked(topic, payload, options).await;
    let published = notice.unwrap().wait_async().await.unwrap();
    let PublishResult::Qos1(answer) = published else {
        panic!("{published:?}");
    };
    let taken = PubAckReason::Success;
    let nobody = PubAckReason::NoMatchingSubscribers;
    assert!(
        answer.reason == taken || answer.reason == nobody,
        "{answer:?}"
    );
}

impl Side for Server {
    fn target(&self) -> String {
        format!("type = \"mqtt\"\nurl = {:?}\n", self.url())
    }

    /// A retained message takes the place of another as it takes an empty one.
    async fn clear(&mut self) {}

    async fn write(&self, documents: Vec<Document>) {
        let options = MqttOptions::new("bare", Broker::tcp("127.0.0.1", self.port));
        let builder = AsyncClient::builder(options);
        let (client, mut events) = builder.capacity(2 * BATCH).build();
        // The first event is the server's consent.
        events.poll().await.unwrap();
        let work = async {
            loop {
                events.poll().await.unwrap();
            }
        };
        let writing = async {
            for chunk in documents.chunks(BATCH) {
                join_all(chunk.iter().map(|document| publish(&client, document))).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = writing => {}
        }
    }
}
