//! `kafka` in the whole daemon: librdkafka's mock cluster, in this process. It keeps everything in memory, so its
//! broker is not ended but takes no connections.

use serde_json::Value;

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/kafka/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use server::Server;

struct Outside(Server);

impl outside::Outside for Outside {
    fn target(&self) -> String {
        format!("type = \"kafka\"\n{}", self.0.settings())
    }

    async fn stop(&mut self) {
        self.0.stop();
    }

    async fn start(&mut self) {
        self.0.resume();
    }

    async fn held(&mut self) -> Held {
        let compacted = self.0.compacted().into_values();
        let values = compacted.filter_map(|found| found.value);
        values
            .map(|value| {
                let document: Value = serde_json::from_slice(&value).unwrap();
                let id = document["account"].as_str().unwrap().to_owned();
                let name = document["name"].as_str().map(str::to_owned);
                let app = document["sdk_app_id"].as_u64().unwrap();
                ((app, id), (document["revision"].as_u64().unwrap(), name))
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_the_middle_of_a_backfill_loses_nothing() {
    survives_a_restart(Outside(Server::start(4))).await;
}
