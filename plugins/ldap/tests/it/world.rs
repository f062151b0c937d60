//! The conformance suite, against slapd with a class that holds all of a document.

use async_trait::async_trait;
use ldap3::{Ldap, Scope, SearchEntry};
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use tokio::sync::Mutex;

use crate::{
    full_settings, open,
    server::{self, BASE, PASSWORD, Server},
};

struct Slapd {
    server: Mutex<Server>,
    target: Box<dyn Target>,
    /// Where the entries are looked at.
    admin: Mutex<Option<Ldap>>,
}

#[async_trait]
impl World for Slapd {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let mut admin = self.admin.lock().await;
        let ldap = match &mut *admin {
            Some(ldap) => ldap,
            none => none.insert(self.server.lock().await.admin().await),
        };
        let filter = format!("(profilesyncAppId={sdk_app_id})");
        let found = ldap.search(BASE, Scope::OneLevel, &filter, ["*"]).await;
        let (entries, _) = found.unwrap().success().unwrap();
        let mut documents = entries
            .into_iter()
            .map(|entry| document(&SearchEntry::construct(entry)))
            .filter(|document| document.account == account);
        let document = documents.next();
        assert!(documents.next().is_none(), "{account:?} has two entries");
        document
    }

    fn compares_revisions(&self) -> bool {
        true
    }

    fn shown(&self, document: &Document) -> Document {
        let without = |text: &Option<String>| {
            let text = text.as_ref().map(|text| text.replace('\0', ""));
            text.filter(|text| !text.is_empty())
        };
        Document {
            name: without(&document.name),
            introduction: without(&document.introduction),
            ..document.clone()
        }
    }

    async fn refuse(&self, _sdk_app_id: u64, account: &str) -> bool {
        // The rule is in the server's configuration.
        account == "guilty"
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    async fn turn(&self, peer: Peer) -> bool {
        *self.admin.lock().await = None;
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

fn document(entry: &SearchEntry) -> Document {
    let text = |name: &str| {
        let values = entry.attrs.get(&format!("profilesync{name}"))?;
        assert_eq!(values.len(), 1, "{name} has several values");
        values.first().cloned()
    };
    let number = |name| text(name).unwrap().parse().unwrap();
    Document {
        sdk_app_id: number("AppId"),
        account: text("Account").unwrap(),
        revision: number("Revision"),
        status: Status::Active,
        name: text("Name"),
        introduction: text("Introduction"),
        face_url: text("FaceUrl"),
        organization: text("Organization"),
        owner: text("Owner"),
        operator: text("Operator"),
        event_time: number("EventTime"),
        extra: text("Extra").map_or_else(serde_json::Map::new, |extra| {
            serde_json::from_str(&extra).unwrap()
        }),
    }
}

#[tokio::test]
async fn ldap_keeps_its_promises() {
    if !server::is_there() {
        return;
    }
    conformance::check(async || {
        let server = Server::start().await;
        let target = open(&full_settings(&server));
        Slapd {
            server: Mutex::new(server),
            target,
            admin: Mutex::default(),
        }
    })
    .await;
}
