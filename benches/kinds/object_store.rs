//! `object-store`: conditional writes of new objects to a moto server, by object_store.

#[path = "../../plugins/object-store/tests/it/emulator.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod emulator;
#[path = "../../plugins/object-store/tests/it/google.rs"]
mod google;
#[path = "../../plugins/object-store/tests/it/server.rs"]
#[expect(dead_code, reason = "the kind's own tests use the rest")]
mod server;

use std::sync::Arc;

use futures_util::future::join_all;
use object_store::{ObjectStore as _, PutMode, PutOptions, PutPayload, path::Path};
use profilesync_target::Document;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, compare, shares, skip},
    report::Report,
};
use emulator::{Cloud, Emulator};
use server::Server;

/// The kind's own: objects at a time in each delivery.
const BATCH: usize = 32;

/// The proxy before the server must go on running between the calls, so it has a runtime of its own.
struct Bucket {
    server: Server,
    _runtime: Runtime,
}

/// A server in Python, which is what limits both.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    // As the daemon does; an error says that there is a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Runtime::new().unwrap();
    let Some(moto) = runtime.block_on(Emulator::start(Cloud::Amazon)) else {
        return skip("object-store", report);
    };
    let server = runtime.block_on(Server::new(&moto));
    let bucket = Bucket {
        server,
        _runtime: runtime,
    };
    compare("object-store", bucket, settings, report);
}

impl Side for Bucket {
    fn target(&self) -> String {
        format!("type = \"object-store\"\n{}", self.server.settings())
    }

    async fn clear(&mut self) {
        self.server.clear().await;
    }

    async fn write(&self, documents: Vec<Document>) {
        let client = Arc::clone(&self.server.client);
        let mut tasks = JoinSet::new();
        for share in shares(&documents, BATCH, CONCURRENCY) {
            let client = Arc::clone(&client);
            tasks.spawn(async move {
                for chunk in share {
                    let puts = chunk.iter().map(|document| {
                        let app = document.sdk_app_id;
                        let name = document.account.replace('@', "%40").replace('#', "%23");
                        let path = format!("profiles/v1/{app}/{name}.json");
                        let text = serde_json::to_string(document).unwrap() + "\n";
                        let client = &client;
                        async move {
                            let path = Path::parse(path).unwrap();
                            let payload = PutPayload::from(text);
                            let create = PutOptions::from(PutMode::Create);
                            client.put_opts(&path, payload, create).await.unwrap();
                        }
                    });
                    join_all(puts).await;
                }
            });
        }
        tasks.join_all().await;
    }
}
