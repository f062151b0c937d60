//! The recipes of `config/examples/`, each against a fake of the API that it is for. The fakes answer as the APIs'
//! public pages say, and fail the test on what the API would not take.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use profilesync_target::{Answer, Delivery, Document, Outcome, Status, Target};
use serde_json::{Value, json};

use crate::{
    document, open,
    server::{Received, Reply, Server, answer, percent_decoded},
};

/// Keys of a target that are the daemon's.
const OPTIONS: [&str; 6] = [
    "type",
    "rate_limit",
    "concurrency",
    "fields",
    "mode",
    "batch",
];

/// What a fake holds, by key.
type Records = Arc<Mutex<BTreeMap<String, Value>>>;

/// A fake that handles requests so, and the target of a recipe with its hosts and secrets replaced.
async fn recipe(
    name: &str,
    replaced: &[(&str, &str)],
    handle: impl Fn(&Received, &mut BTreeMap<String, Value>) -> Reply + Send + Sync + 'static,
) -> (Box<dyn Target>, Records, Server) {
    let records = Records::default();
    let held = Arc::clone(&records);
    let server = Server::start(Reply::script(move |request| {
        handle(request, &mut held.lock().unwrap())
    }))
    .await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let targets = config["targets"].as_table().unwrap();
    let mut target = targets.values().next().unwrap().as_table().unwrap().clone();
    assert_eq!(target["type"].as_str(), Some("webhook"));
    for key in OPTIONS {
        target.remove(key);
    }
    let mut settings = target.to_string();
    for (this, that) in replaced {
        assert!(settings.contains(this), "{this} is not in {settings}");
        settings = settings.replace(this, &that.replace("HOST", &server.address.to_string()));
    }
    (open(&settings), records, server)
}

async fn deliver(target: &dyn Target, document: Document) -> Outcome {
    match target.deliver(&[Delivery::from(document)]).await {
        Answer::Each(mut outcomes) => outcomes.remove(0),
        Answer::Whole(outcome) => outcome,
    }
}

async fn delivered(target: &dyn Target, document: Document) {
    let outcome = deliver(target, document).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
}

fn hostile(account: &str) -> Document {
    Document {
        account: account.into(),
        name: Some("\"}, <!channel> & \\ \u{1F980}\n".into()),
        introduction: None,
        ..document()
    }
}

fn destroyed(account: &str) -> Document {
    Document {
        account: account.into(),
        revision: 8,
        status: Status::Destroyed,
        name: None,
        introduction: None,
        face_url: None,
        organization: None,
        operator: None,
        ..document()
    }
}

const HOSTILE: [&str; 5] = [
    "..",
    "../../etc/x",
    "*)(uid=*))(|(uid=*",
    "'; DROP TABLE accounts;--",
    "=cmd|' /C calc'!A0",
];

fn json_answer(status: &str, body: &Value) -> Reply {
    answer(
        status,
        "content-type: application/json\r\n",
        &body.to_string(),
    )
}

/// The one segment behind this path.
fn segment(path: &str, before: &str) -> String {
    let path = path.split('?').next().unwrap();
    let segment = path
        .strip_prefix(before)
        .unwrap_or_else(|| panic!("{path} is not under {before}"));
    assert!(!segment.is_empty() && !segment.contains('/'), "{path}");
    percent_decoded(segment)
}

fn hubspot(request: &Received, companies: &mut BTreeMap<String, Value>) -> Reply {
    const PROPERTIES: [&str; 6] = [
        "profilesync_account",
        "profilesync_status",
        "profilesync_revision",
        "profilesync_owner",
        "name",
        "description",
    ];
    assert_eq!(request.headers["authorization"], "Bearer hunter2");
    assert_eq!(request.headers["content-type"], "application/json");
    let body = request.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let properties = body["properties"].as_object().unwrap();
    for (name, value) in properties {
        assert!(
            PROPERTIES.contains(&name.as_str()),
            "there is no property {name}"
        );
        assert!(value.is_string() || value.is_number(), "{name} is {value}");
    }
    let key = properties["profilesync_account"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({ "id": "512", "properties": properties, "archived": false });
    let (method, path) = request.method_and_path();
    match method {
        "PATCH" => {
            assert!(path.ends_with("?idProperty=profilesync_account"), "{path}");
            assert_eq!(segment(path, "/crm/v3/objects/companies/"), key);
            let Some(company) = companies.get_mut(&key) else {
                let body = json!({ "status": "error", "message": "resource not found", "category": "OBJECT_NOT_FOUND" });
                return json_answer("404 Not Found", &body);
            };
            *company = Value::Object(properties.clone());
            json_answer("200 OK", &body)
        }
        "POST" => {
            assert_eq!(path, "/crm/v3/objects/companies");
            if companies.contains_key(&key) {
                let body = json!({ "status": "error", "message": "already exists", "category": "CONFLICT" });
                return json_answer("409 Conflict", &body);
            }
            companies.insert(key, Value::Object(properties.clone()));
            json_answer("201 Created", &body)
        }
        other => panic!("HubSpot has no {other} here"),
    }
}

#[tokio::test]
async fn hubspot_gets_a_company_for_each_account() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter2").unwrap();
    let token = format!("file = {token:?}");
    let replaced = [
        ("https://api.hubapi.com", "http://HOST"),
        ("credential = \"hubspot-token\"", token.as_str()),
    ];
    let (target, companies, server) = recipe("hubspot.toml", &replaced, hubspot).await;
    for account in HOSTILE {
        delivered(&*target, hostile(account)).await;
        delivered(&*target, hostile(account)).await;
    }
    delivered(&*target, destroyed(HOSTILE[0])).await;
    delivered(&*target, destroyed("never seen")).await;
    let companies = companies.lock().unwrap();
    assert_eq!(companies.len(), HOSTILE.len());
    for account in &HOSTILE[1..] {
        let company = &companies[&format!("1400000000:{account}")];
        assert_eq!(company["name"], hostile(account).name.unwrap());
        assert_eq!(company["description"], "");
        assert_eq!(company["profilesync_status"], "active");
    }
    assert_eq!(
        companies["1400000000:.."]["profilesync_status"],
        "destroyed"
    );
    // Two for a new one, one for each other.
    assert_eq!(server.received().len(), HOSTILE.len() * 3 + 2);
}

/// Salesforce issues a new token after each fetch of one, and the old ones end.
fn salesforce(request: &Received, records: &mut BTreeMap<String, Value>) -> Reply {
    let (method, path) = request.method_and_path();
    if path == "/services/oauth2/token" {
        assert_eq!(method, "POST");
        let form = String::from_utf8(request.body.clone()).unwrap();
        assert_eq!(
            form,
            "grant_type=client_credentials&client_id=the+consumer+key&client_secret=hunter2"
        );
        records.insert("the session".into(), json!("valid"));
        let body = json!({
            "access_token": "00D!session", "instance_url": "https://example.my.salesforce.com",
            "id": "https://login.salesforce.com/id/1", "token_type": "Bearer", "issued_at": "1670574414123",
            "signature": "x",
        });
        return json_answer("200 OK", &body);
    }
    assert_eq!(request.headers["authorization"], "Bearer 00D!session");
    if records["the session"] == "ended" {
        let body =
            json!([{ "message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID" }]);
        return json_answer("401 Unauthorized", &body);
    }
    let key = segment(
        path,
        "/services/data/v61.0/sobjects/Account/Profilesync_Id__c/",
    );
    match method {
        "PATCH" => {
            let body = request.json();
            let fields = body.as_object().unwrap();
            for (name, value) in fields {
                match name.as_str() {
                    "Name" => assert!((1..=255).contains(&value.as_str().unwrap().chars().count())),
                    "Description" => assert!(value.is_string() || value.is_null()),
                    "Profilesync_Owner__c" => {
                        assert!(value.is_null() || value.as_str().unwrap().chars().count() <= 255)
                    }
                    "Profilesync_Revision__c" => assert!(value.is_number()),
                    other => panic!("Account has no field {other}, or not in a body"),
                }
            }
            if key.ends_with("twice") {
                return json_answer(
                    "300 Multiple Choices",
                    &json!(["/services/data/v61.0/sobjects/Account/1"]),
                );
            }
            match records.insert(key, body) {
                Some(_) => answer("204 No Content", "", ""),
                None => json_answer(
                    "201 Created",
                    &json!({ "id": "001x", "success": true, "errors": [], "created": true }),
                ),
            }
        }
        "DELETE" => {
            assert!(request.body.is_empty());
            match records.remove(&key) {
                Some(_) => answer("204 No Content", "", ""),
                None => json_answer(
                    "404 Not Found",
                    &json!([{ "errorCode": "NOT_FOUND", "message": "Provided external ID field does not exist or is not accessible" }]),
                ),
            }
        }
        other => panic!("Salesforce has no {other} here"),
    }
}

#[tokio::test]
async fn salesforce_upserts_by_external_id() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    let secret = format!("file = {secret:?}");
    let replaced = [
        ("https://example.my.salesforce.com", "http://HOST"),
        ("credential = \"salesforce-secret\"", secret.as_str()),
    ];
    let (target, records, server) = recipe("salesforce.toml", &replaced, salesforce).await;
    for account in HOSTILE {
        delivered(&*target, hostile(account)).await;
        delivered(&*target, hostile(account)).await;
    }
    // A session ends when Salesforce likes.
    records
        .lock()
        .unwrap()
        .insert("the session".into(), json!("ended"));
    let long = Document {
        name: Some("\u{1F980}".repeat(300)),
        ..document()
    };
    delivered(&*target, long).await;
    let nameless = Document {
        name: None,
        account: "nameless".into(),
        ..document()
    };
    delivered(&*target, nameless).await;
    delivered(&*target, destroyed(HOSTILE[0])).await;
    delivered(&*target, destroyed(HOSTILE[0])).await;
    let outcome = deliver(&*target, hostile("twice")).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    let fetched = server
        .received()
        .iter()
        .filter(|one| one.line.contains("/oauth2/"))
        .count();
    assert_eq!(fetched, 2);
    let records = records.lock().unwrap();
    assert_eq!(records["1400000000:nameless"]["Name"], "nameless");
    assert!(!records.contains_key("1400000000:.."));
    for account in &HOSTILE[1..] {
        let record = &records[&format!("1400000000:{account}")];
        assert_eq!(record["Name"], hostile(account).name.unwrap());
    }
}

fn rest(request: &Received, contacts: &mut BTreeMap<String, Value>) -> Reply {
    // `profilesync:hunter2`
    assert_eq!(
        request.headers["authorization"],
        "Basic cHJvZmlsZXN5bmM6aHVudGVyMg=="
    );
    let (method, path) = request.method_and_path();
    if method == "DELETE" {
        return match contacts.remove(&segment(path, "/api/v2/contacts/")) {
            Some(_) => answer("204 No Content", "", ""),
            None => answer("404 Not Found", "", ""),
        };
    }
    let contact = request.json();
    let key = contact["id"].as_str().unwrap().to_owned();
    let revision = contact["revision"].as_u64().unwrap();
    let idempotency = percent_decoded(&request.headers["idempotency-key"]);
    assert_eq!(
        idempotency,
        format!("1400000000-{revision}-{}", &key["1400000000:".len()..])
    );
    assert!(contact["labels"].is_array(), "{contact}");
    match method {
        "PUT" => {
            assert_eq!(segment(path, "/api/v2/contacts/"), key);
            match contacts.get_mut(&key) {
                Some(held) => *held = contact,
                None => {
                    return json_answer("404 Not Found", &json!({ "error": "no such contact" }));
                }
            }
            answer("200 OK", "", "")
        }
        "POST" => {
            assert_eq!(path, "/api/v2/contacts");
            assert!(contacts.insert(key, contact).is_none());
            answer("201 Created", "", "")
        }
        other => panic!("the CRM has no {other}"),
    }
}

#[tokio::test]
async fn a_rest_crm_is_kept_by_put_post_and_delete() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    let secret = format!("file = {secret:?}");
    let replaced = [
        ("https://crm.example.com", "http://HOST"),
        ("credential = \"crm-password\"", secret.as_str()),
    ];
    let (target, contacts, _server) = recipe("rest-crm.toml", &replaced, rest).await;
    for account in HOSTILE {
        let mut tagged = hostile(account);
        delivered(&*target, tagged.clone()).await;
        tagged.extra.insert("Tags".into(), json!(["a\"b", null]));
        delivered(&*target, tagged).await;
    }
    delivered(&*target, destroyed(HOSTILE[0])).await;
    delivered(&*target, destroyed("never seen")).await;
    let contacts = contacts.lock().unwrap();
    assert_eq!(contacts.len(), HOSTILE.len() - 1);
    for account in &HOSTILE[1..] {
        let contact = &contacts[&format!("1400000000:{account}")];
        assert_eq!(contact["display_name"], hostile(account).name.unwrap());
        assert_eq!(contact["about"], Value::Null);
        assert_eq!(contact["labels"], json!(["a\"b", null]));
        assert_eq!(contact["changed_by"], "chat user leckie");
    }
}

fn slack(request: &Received, messages: &mut BTreeMap<String, Value>) -> Reply {
    assert_eq!(request.line, "POST /services/T0/B0/hunter2 HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/json");
    let body = request.json();
    let text = body["text"].as_str().unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    assert!(!text.contains(['<', '>']), "a name calls someone: {text}");
    if text.contains("archived") {
        return answer("410 Gone", "", "channel_is_archived");
    }
    messages.insert(format!("{:03}", messages.len()), text.into());
    answer("200 OK", "content-type: text/html\r\n", "ok")
}

#[tokio::test]
async fn slack_is_told_and_nobody_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("url");
    let replaced = format!("file = {secret:?}");
    let server = Server::start(Reply::Silence).await;
    std::fs::write(
        &secret,
        format!("http://{}/services/T0/B0/hunter2", server.address),
    )
    .unwrap();
    let (target, _, _) = recipe(
        "slack.toml",
        &[("credential = \"slack-url\"", replaced.as_str())],
        |_, _| Reply::Silence,
    )
    .await;
    let messages = Records::default();
    let held = Arc::clone(&messages);
    server.reply(Reply::script(move |request| {
        slack(request, &mut held.lock().unwrap())
    }));
    delivered(&*target, hostile("a")).await;
    delivered(
        &*target,
        Document {
            name: None,
            operator: None,
            ..hostile("<!here>")
        },
    )
    .await;
    delivered(&*target, destroyed("<@U1>")).await;
    let told: Vec<_> = messages.lock().unwrap().values().cloned().collect();
    assert_eq!(
        told,
        [
            ":pencil2: \"}, &lt;!channel&gt; &amp; \\ \u{1F980}\n was changed by leckie (revision 7)",
            ":pencil2: &lt;!here&gt; was changed by someone (revision 7)",
            ":wastebasket: &lt;@U1&gt; is gone",
        ]
    );
    let outcome = deliver(
        &*target,
        Document {
            name: Some("archived".into()),
            ..document()
        },
    )
    .await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    for text in [outcome.text(), &target.render(&document()).unwrap()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
