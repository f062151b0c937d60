//! `webhook`: one request per document to a sink in this process, by reqwest.

#[path = "../bars/sink.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod sink;

use profilesync_target::Document;
use reqwest::{Client, header::CONTENT_TYPE};
use tokio::task::JoinSet;

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, client, compare, envelope, shares},
    report::Report,
};
use sink::Sink;

/// A sink that says OK to everything.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    compare("webhook", Sink::start(), settings, report);
}

async fn post(client: &Client, url: &str, document: &Document) {
    let response = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header("profilesync-revision", document.revision)
        .header("profilesync-target", "out")
        .body(envelope(document))
        .send()
        .await
        .unwrap();
    assert!(response.status().is_success(), "{response:?}");
    response.bytes().await.unwrap();
}

impl Side for Sink {
    fn target(&self) -> String {
        format!(
            "type = \"webhook\"\nurl = \"http://{}/hook\"\n",
            self.address
        )
    }

    async fn clear(&mut self) {
        Self::clear(self);
    }

    async fn write(&self, documents: Vec<Document>) {
        let client = client();
        let mut tasks = JoinSet::new();
        for share in shares(&documents, 1, CONCURRENCY) {
            let (client, url) = (client.clone(), format!("http://{}/hook", self.address));
            tasks.spawn(async move {
                for document in share.iter().flatten() {
                    post(&client, &url, document).await;
                }
            });
        }
        tasks.join_all().await;
    }
}
