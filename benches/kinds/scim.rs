//! `scim`: a lookup and a creation for each document at a scim2-server, by reqwest.

#[path = "../../plugins/scim/tests/it/server.rs"]
mod server;

use profilesync_target::Document;
use reqwest::{
    Client, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, client, compare, escaped, shares, skip},
    report::Report,
};
use server::{Server, TOKEN};

const SCIM: &str = "application/scim+json";
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// A server in Python, which is what limits both.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    if !server::is_there() {
        return skip("scim", report);
    }
    let server = Runtime::new().unwrap().block_on(Server::start());
    compare("scim", server, settings, report);
}

async fn put(client: &Client, users: &Url, document: &Document) {
    let id = format!("{}:{}", document.sdk_app_id, document.account);
    let mut lookup = users.clone();
    lookup
        .query_pairs_mut()
        .append_pair("filter", &format!("externalId eq {}", Value::from(&*id)));
    let found = client
        .get(lookup)
        .bearer_auth(TOKEN)
        .header(ACCEPT, SCIM)
        .send()
        .await
        .unwrap();
    let found: Value = serde_json::from_slice(&found.bytes().await.unwrap()).unwrap();
    assert_eq!(found["totalResults"], 0, "{found}");
    let user = json!({
        "schemas": [USER],
        "externalId": id,
        "userName": format!("{}.{}", document.sdk_app_id, escaped(&document.account)),
        "displayName": document.name,
        "active": true,
        "photos": [{ "type": "photo", "value": document.face_url }],
    });
    let created = client
        .post(users.clone())
        .bearer_auth(TOKEN)
        .header(ACCEPT, SCIM)
        .header(CONTENT_TYPE, SCIM)
        .body(user.to_string())
        .send()
        .await
        .unwrap();
    let status = created.status();
    let body = created.text().await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{body}");
}

impl Side for Server {
    fn target(&self) -> String {
        format!(
            "type = \"scim\"\nurl = {:?}\nauth = {{ type = \"bearer\", token = {TOKEN:?} }}\n",
            self.url()
        )
    }

    /// It keeps everything in memory.
    async fn clear(&mut self) {
        self.process.kill();
        self.restart().await;
    }

    async fn write(&self, documents: Vec<Document>) {
        let client = client();
        let users = Url::parse(&format!("{}/Users", self.url())).unwrap();
        let mut tasks = JoinSet::new();
        for share in shares(&documents, 1, CONCURRENCY) {
            let (client, users) = (client.clone(), users.clone());
            tasks.spawn(async move {
                for document in share.iter().flatten() {
                    put(&client, &users, document).await;
                }
            });
        }
        tasks.join_all().await;
    }
}
