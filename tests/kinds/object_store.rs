//! `object-store` in the whole daemon: emulators behind a proxy. Azurite is ended and started again; the others keep
//! everything in memory, so they cannot be reached instead.

use serde_json::Value;

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/object-store/tests/it/emulator.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod emulator;
#[path = "../../plugins/object-store/tests/it/google.rs"]
mod google;
#[path = "../../plugins/object-store/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use emulator::{Cloud, Emulator};
use server::Server;

struct Outside(Server);

impl outside::Outside for Outside {
    fn target(&self) -> String {
        format!("type = \"object-store\"\n{}", self.0.settings())
    }

    async fn stop(&mut self) {
        self.0.close().await;
    }

    async fn start(&mut self) {
        match self.0.emulator.cloud {
            Cloud::Azure => self.0.restart().await,
            Cloud::Amazon | Cloud::Google => self.0.open().await,
        }
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

async fn an_outage_loses_nothing(cloud: Cloud) {
    let Some(emulator) = Emulator::start(cloud).await else {
        return;
    };
    let server = Server::new(&emulator).await;
    drop(emulator);
    survives_a_restart(Outside(server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_s3_in_the_middle_of_a_backfill_loses_nothing() {
    an_outage_loses_nothing(Cloud::Amazon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_azure_in_the_middle_of_a_backfill_loses_nothing() {
    an_outage_loses_nothing(Cloud::Azure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_google_in_the_middle_of_a_backfill_loses_nothing() {
    an_outage_loses_nothing(Cloud::Google).await;
}
