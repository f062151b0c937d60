//! The conformance suite: receivers that keep the last document of every account, one for each form of request.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};
use serde_json::Value;

use crate::server::{Received, Reply, Server, answer, percent_decoded};

type Account = (u64, String);

/// What a receiver holds and refuses.
#[derive(Default)]
struct Books {
    held: HashMap<Account, Document>,
    refused: HashSet<Account>,
    /// How the documents of a request are found.
    read: Option<fn(&Received) -> Vec<Document>>,
    /// Whether only what is held can be updated, and what is not must be created.
    is_strict: bool,
}

struct Receiver {
    server: Server,
    target: Box<dyn Target>,
    books: Arc<Mutex<Books>>,
}

impl Books {
    fn take(&mut self, request: &Received) -> Reply {
        let (method, path) = request.method_and_path();
        if method == "HEAD" {
            return Reply::Bytes("HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n".into());
        }
        if method == "DELETE" {
            let account = of_path(path);
            return match self.held.remove(&account) {
                Some(_) => answer("204 No Content", "", ""),
                None => answer("404 Not Found", "", ""),
            };
        }
        let documents = self.read.unwrap()(request);
        let account = |document: &Document| (document.sdk_app_id, document.account.clone());
        if documents
            .iter()
            .any(|one| self.refused.contains(&account(one)))
        {
            return answer("422 Unprocessable Entity", "", "{\"token\": \"in-auth\"}");
        }
        for document in documents {
            let account = account(&document);
            if self.is_strict && method == "PUT" {
                assert_eq!(of_path(path), account, "path and body are of two accounts");
                if !self.held.contains_key(&account) {
                    return answer("404 Not Found", "", "");
                }
            }
            match document.status {
                Status::Active => drop(self.held.insert(account, document)),
                Status::Destroyed => drop(self.held.remove(&account)),
            }
        }
        answer("200 OK", "", "{\"token\": \"in-auth\"}")
    }
}

/// The account of `/app/account`.
fn of_path(path: &str) -> Account {
    let path = path.split('?').next().unwrap();
    let segments: Vec<_> = path.split('/').collect();
    let [_, "profiles", app, account] = segments[..] else {
        panic!("an account has changed the path: {path}")
    };
    let account = percent_decoded(account.strip_prefix('@').unwrap());
    (app.parse().unwrap(), account)
}

#[async_trait]
impl World for Receiver {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let key = (sdk_app_id, account.to_owned());
        self.books.lock().unwrap().held.get(&key).cloned()
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

    async fn refuse(&self, sdk_app_id: u64, account: &str) -> bool {
        let key = (sdk_app_id, account.to_owned());
        self.books.lock().unwrap().refused.insert(key)
    }

    async fn turn(&self, peer: Peer) -> bool {
        self.server.reply(match peer {
            Peer::Well => well(&self.books),
            Peer::Dead => Reply::BytesAndClose(String::new()),
            Peer::Slow => Reply::Silence,
        });
        true
    }
}

fn well(books: &Arc<Mutex<Books>>) -> Reply {
    let books = Arc::clone(books);
    Reply::script(move |request| books.lock().unwrap().take(request))
}

/// Runs the suite on a target with these settings; `HOST` in them is the receiver.
async fn check(settings: &str, read: fn(&Received) -> Vec<Document>, is_strict: bool) {
    conformance::check(async || {
        let books = Arc::new(Mutex::new(Books {
            read: Some(read),
            is_strict,
            ..Books::default()
        }));
        let server = Server::start(well(&books)).await;
        let settings = format!(
            "headers = {{ x-api-key = 'in-header', x-plain = 'shown' }}
             auth = {{ type = 'basic', username = 'user', password = 'in-auth' }}
             signing_secret = 'in-signature'
             {settings}"
        );
        let target = crate::open(&settings.replace("HOST", &server.address.to_string()));
        Receiver {
            server,
            target,
            books,
        }
    })
    .await;
}

fn document(value: &Value) -> Document {
    serde_json::from_value(value.clone()).unwrap()
}

fn documents(request: &Received) -> Vec<Document> {
    let body = request.json();
    body.as_array().unwrap().iter().map(document).collect()
}

fn one(request: &Received) -> Vec<Document> {
    vec![document(&request.json())]
}

fn enveloped(request: &Received) -> Vec<Document> {
    vec![document(&request.json()["data"])]
}

/// A body that names every member.
const BODY: &str = r#"
body = '''
{
  "sdk_app_id": {{ sdk_app_id }}, "account": "{{ account }}", "revision": {{ revision | tojson }},
  "status": "{% if status == 'active' %}active{% else %}{{ status }}{% endif %}",
  "name": {{ name }}, "introduction": {{ introduction | tojson }}, "face_url": {{ face_url }},
  "organization": {% if organization %}"{{ organization }}"{% else %}null{% endif %},
  "owner": {{ owner }}, "operator": {{ operator }}, "event_time": {{ event_time }}, "extra": {{ extra }}
}
'''
format = "template"
"#;

#[tokio::test]
async fn the_standard_form_keeps_its_promises() {
    check("url = 'http://HOST/hook?key=in-query'", enveloped, false).await;
}

#[tokio::test]
async fn the_profile_form_keeps_its_promises() {
    let settings = "url = 'http://HOST/hook?key=in-query'\nformat = 'profile'\nmethod = 'PUT'";
    check(settings, one, false).await;
}

#[tokio::test]
async fn the_cloudevents_form_keeps_its_promises() {
    let settings = "url = 'http://HOST/hook?key=in-query'\nformat = 'cloudevents'";
    check(settings, enveloped, false).await;
}

#[tokio::test]
async fn templates_keep_their_promises() {
    let settings = format!("url = 'http://HOST/hook?key=in-query&id={{{{ account }}}}'\n{BODY}");
    check(&settings, one, false).await;
}

#[tokio::test]
async fn an_upsert_of_two_requests_keeps_its_promises() {
    let settings = format!(
        "url = 'http://HOST/profiles/{{{{ sdk_app_id }}}}/@{{{{ account }}}}?key=in-query'
         method = 'PUT'
         on_not_found = {{ url = 'http://HOST/profiles?key=in-query' }}
         delete = {{}}\n{BODY}"
    );
    check(&settings, one, true).await;
}

#[tokio::test]
async fn arrays_keep_their_promises() {
    let settings = "url = 'http://HOST/hook?key=in-query'\nformat = 'profile'\narray = 100";
    check(settings, documents, false).await;
}

#[tokio::test]
async fn arrays_of_templates_keep_their_promises() {
    let settings = format!("url = 'http://HOST/hook?key=in-query'\narray = 7\n{BODY}");
    check(&settings, documents, false).await;
}
