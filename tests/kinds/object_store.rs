//! `object-store` in the whole daemon: a moto server behind a proxy. It keeps everything in memory, so instead of
//! being ended it cannot be reached.

use std::sync::Arc;

use serde_json::Value;

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/object-store/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use server::{Moto, Server};

struct Outside(Server);

impl outside::Outside for Outside {
    fn target(&self) -> String {
        format!("type = \"object-store\"\n{}", self.0.settings())
    }

    async fn stop(&mut self) {
        self.0.close().await;
    }

    async fn start(&mut self) {
        self.0.open().await;
    }

    async fn held(&mut self) -> Held {
        let objects = self.0.objects().await;
        let documents = objects
            .iter()
            .map(|(_, content)| serde_json::from_slice::<Value>(content).unwrap());
        documents
            .map(|document| {
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
    let Some(moto) = Moto::start().await else {
        eprintln!("skipped: there is no moto server (pip install 'moto[server]')");
        return;
    };
    survives_a_restart(Outside(Server::new(&Arc::clone(&moto)).await)).await;
}
