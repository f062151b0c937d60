//! The conformance suite, against scim2-server with an extension that holds all of a document.

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    full_settings,
    gate::{CLIENT_SECRET, Gate},
    oauth2, open, resources, send,
    server::{self, EXTENSION, Server, TOKEN},
    with_all,
};

struct Service {
    server: Mutex<Server>,
    url: String,
    target: Box<dyn Target>,
    secret: &'static str,
}

#[async_trait]
impl World for Service {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let all = resources(&self.url, "Users").await;
        let mut documents = all
            .iter()
            .filter(|resource| resource[EXTENSION]["account"].is_string())
            .map(|resource| document(&resource[EXTENSION]))
            .filter(|document| document.account == account && document.sdk_app_id == sdk_app_id);
        let document = documents.next();
        assert!(documents.next().is_none(), "{account:?} has two users");
        document
    }

    fn compares_revisions(&self) -> bool {
        true
    }

    async fn refuse(&self, sdk_app_id: u64, account: &str) -> bool {
        // Somebody else has its userName, which a service keeps unique.
        let body = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": format!("{sdk_app_id}.{account}"),
        });
        let (status, _) = send(&self.url, "POST", "/Users", Some(&body)).await;
        assert_eq!(status, 201);
        true
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.secret.to_owned()]
    }

    async fn turn(&self, peer: Peer) -> bool {
        let mut server = self.server.lock().await;
        match peer {
            Peer::Dead => server.process.kill(),
            Peer::Slow => server.process.signal("STOP"),
            Peer::Well if server.process.is_running() => server.process.signal("CONT"),
            Peer::Well => server.restart().await,
        }
        true
    }
}

fn document(held: &Value) -> Document {
    let text = |name: &str| held[name].as_str().map(str::to_owned);
    let number = |name: &str| held[name].as_u64().unwrap();
    Document {
        sdk_app_id: number("appId"),
        account: text("account").unwrap(),
        revision: number("revision"),
        status: Status::Active,
        name: text("name"),
        introduction: text("introduction"),
        face_url: text("faceUrl"),
        organization: text("organization"),
        owner: text("owner"),
        operator: text("operator"),
        event_time: number("eventTime"),
        extra: text("extra").map_or_else(serde_json::Map::new, |extra| {
            serde_json::from_str(&extra).unwrap()
        }),
    }
}

async fn keeps_its_promises(more: &str) {
    if !server::is_there() {
        return;
    }
    conformance::check(async || {
        let server = Server::start().await;
        Service {
            target: open(&format!("{more}\n{}", full_settings(&server.url()))),
            url: server.url(),
            server: Mutex::new(server),
            secret: TOKEN,
        }
    })
    .await;
}

#[tokio::test]
async fn scim_keeps_its_promises_by_patch() {
    keeps_its_promises("").await;
}

#[tokio::test]
async fn scim_keeps_its_promises_by_put() {
    keeps_its_promises("update = 'put'").await;
}

#[tokio::test]
async fn scim_keeps_its_promises_with_tokens_that_are_soon_refused() {
    if !server::is_there() {
        return;
    }
    conformance::check(async || {
        let server = Server::start().await;
        let address = oauth2::serve(&Gate::new(server.address, 5)).await;
        Service {
            target: open(&with_all(&Gate::settings(address))),
            url: server.url(),
            server: Mutex::new(server),
            secret: CLIENT_SECRET,
        }
    })
    .await;
}
