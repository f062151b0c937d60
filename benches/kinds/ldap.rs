//! `ldap`: a search and an addition for each document at slapd, several under way on a connection, by ldap3.

#[path = "../../plugins/ldap/tests/it/server.rs"]
mod server;

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use ldap3::{Ldap, Scope, SearchEntry};
use profilesync_target::Document;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Settings,
    compare::{CONCURRENCY, Side, compare, escaped, shares, skip},
    report::Report,
};
use server::{BASE, BIND_DN, PASSWORD, Server};

/// The kind's own: documents of a delivery, and operations under way at once for them.
const BATCH: usize = 50;
const PIPELINE: usize = 8;

const NO_SUCH_OBJECT: u32 = 32;
const ATTRIBUTES: [&str; 7] = [
    "objectClass",
    "labeledURI",
    "cn",
    "sn",
    "displayName",
    "description",
    "o",
];

/// A slapd that syncs every write.
pub(crate) fn run(settings: &Settings, report: &mut Report) {
    if !server::is_there() {
        return skip("ldap", report);
    }
    let server = Runtime::new().unwrap().block_on(Server::start());
    compare("ldap", server, settings, report);
}

async fn put(mut ldap: Ldap, document: &Document) {
    let (app, account) = (document.sdk_app_id, escaped(&document.account));
    let uid = format!("{app}.{account}");
    let dn = format!("uid={uid},{BASE}");
    let found = ldap.search(&dn, Scope::Base, "(objectClass=*)", ATTRIBUTES);
    let held = found.await.unwrap().1;
    assert_eq!(held.rc, NO_SUCH_OBJECT, "{held}");
    let text = |text: &Option<String>| HashSet::from([text.clone().unwrap()]);
    let name = text(&document.name);
    let mark = format!("profilesync:{app}/{account}");
    let attributes = vec![
        ("objectClass", HashSet::from(["inetOrgPerson".to_owned()])),
        ("uid", HashSet::from([uid])),
        ("labeledURI", HashSet::from([mark])),
        ("cn", name.clone()),
        ("sn", name.clone()),
        ("displayName", name),
        ("description", text(&document.introduction)),
        ("o", text(&document.organization)),
    ];
    let attributes = attributes
        .into_iter()
        .map(|(name, values)| (name.to_owned(), values))
        .collect();
    ldap.add(&dn, attributes).await.unwrap().success().unwrap();
}

impl Side for Server {
    fn target(&self) -> String {
        format!(
            "type = \"ldap\"\nurl = \"ldap://{}\"\nbind_dn = {BIND_DN:?}\npassword = {PASSWORD:?}\nbase = {BASE:?}\n",
            self.address
        )
    }

    async fn clear(&mut self) {
        let mut ldap = self.admin().await;
        let found = ldap.search(BASE, Scope::OneLevel, "(objectClass=*)", ["1.1"]);
        let (entries, _) = found.await.unwrap().success().unwrap();
        let removals = entries.into_iter().map(|entry| {
            let mut ldap = ldap.clone();
            async move {
                let dn = SearchEntry::construct(entry).dn;
                ldap.delete(&dn).await.unwrap().success().unwrap();
            }
        });
        stream::iter(removals)
            .buffer_unordered(PIPELINE)
            .collect::<Vec<_>>()
            .await;
    }

    async fn write(&self, documents: Vec<Document>) {
        let mut tasks = JoinSet::new();
        for share in shares(&documents, BATCH, CONCURRENCY) {
            let ldap = self.admin().await;
            tasks.spawn(async move {
                for chunk in share {
                    let puts: Vec<_> = chunk
                        .iter()
                        .map(|document| put(ldap.clone(), document))
                        .collect();
                    stream::iter(puts)
                        .buffered(PIPELINE)
                        .collect::<Vec<_>>()
                        .await;
                }
            });
        }
        tasks.join_all().await;
    }
}
