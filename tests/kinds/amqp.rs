//! `amqp` in the whole daemon.

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
        self.0.process.kill();
    }

    async fn start(&mut self) {
        self.0.run().await;
    }

    /// The newest revision of each account among all messages of the queue, as a consumer keeps it.
    async fn held(&mut self) -> Held {
        let mut newest = std::collections::BTreeMap::new();
        for (_, body) in self.0.drain(NAME).await {
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
        newest
            .into_iter()
            .filter(|(_, (_, _, active))| *active)
            .map(|(id, (revision, name, _))| (id, (revision, name)))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_backfill_loses_nothing() {
    let Some(server) = Server::start("").await else {
        return;
    };
    server.declare(NAME).await;
    survives_a_restart(Outside(server)).await;
}
