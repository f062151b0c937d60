//! `mqtt` in the whole daemon: mosquitto, and what a new subscriber gets. It saves what it retains when it is ended, and
//! not when it is killed; so it is ended.

use serde_json::Value;

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/mqtt/tests/it/server.rs"]
mod server;

use server::Server;

struct Outside(Server);

impl outside::Outside for Outside {
    fn target(&self) -> String {
        format!("type = \"mqtt\"\nurl = {:?}\n", self.0.url())
    }

    async fn stop(&mut self) {
        self.0.process.end().await;
    }

    async fn start(&mut self) {
        self.0.run().await;
    }

    async fn held(&mut self) -> Held {
        let retained = self.0.retained(None).await.into_values();
        retained
            .map(|payload| {
                let document: Value = serde_json::from_slice(&payload).unwrap();
                let id = document["account"].as_str().unwrap().to_owned();
                let name = document["name"].as_str().map(str::to_owned);
                let app = document["sdk_app_id"].as_u64().unwrap();
                ((app, id), (document["revision"].as_u64().unwrap(), name))
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_backfill_loses_nothing() {
    let Some(server) = Server::start("allow_anonymous true").await else {
        return;
    };
    survives_a_restart(Outside(server)).await;
}
