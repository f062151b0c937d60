//! The conformance suite: a receiver that keeps the last document of every account.

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};

use crate::server::{Reply, Server, answer};

struct Receiver {
    server: Server,
    target: Box<dyn Target>,
}

#[async_trait]
impl World for Receiver {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let mut documents = self.server.received().into_iter().filter_map(|request| {
            let envelope: serde_json::Value = serde_json::from_slice(&request.body).ok()?;
            serde_json::from_value::<Document>(envelope["data"].clone()).ok()
        });
        documents
            .rfind(|document| document.sdk_app_id == sdk_app_id && document.account == account)
            .filter(|document| document.status == Status::Active)
    }

    fn compares_revisions(&self) -> bool {
        false
    }

    fn secrets(&self) -> Vec<String> {
        [
            "in-query",
            "in-header",
            "dXNlcjppbi1hdXRo",
            "in-auth",
            "in-signature",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    async fn turn(&self, peer: Peer) -> bool {
        self.server.reply(match peer {
            Peer::Well => answer("200 OK", "", "{\"token\": \"in-auth\"}"),
            Peer::Dead => Reply::BytesAndClose(String::new()),
            Peer::Slow => Reply::Silence,
        });
        true
    }
}

#[tokio::test]
async fn the_webhook_keeps_its_promises() {
    conformance::check(async || {
        let server = Server::start(answer("200 OK", "", "")).await;
        let target = crate::open(&format!(
            "url = 'http://{}/hook?key=in-query'
             headers = {{ x-api-key = 'in-header', x-plain = 'shown' }}
             auth = {{ type = 'basic', username = 'user', password = 'in-auth' }}
             signing_secret = 'in-signature'",
            server.address
        ));
        Receiver { server, target }
    })
    .await;
}
