//! What is sent.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use profilesync_target::{Delivery, Document, Status};
use sha2::Sha256;

use crate::{
    deliver, document, open,
    server::{Received, Server, answer},
};

/// The request of one delivery under these settings.
async fn request(settings: &str) -> Received {
    let server = Server::start(answer("200 OK", "", "")).await;
    let target = open(&format!(
        "url = 'http://{}/hook?a=1'\n{settings}",
        server.address
    ));
    deliver(&*target).await;
    server.received().remove(0)
}

const DOCUMENT: &str = r##"{"sdk_app_id":1400000000,"account":"@TOA#_test_OA_for_penn","revision":7,"status":"active","name":"NewName","introduction":"NewNotification","face_url":"http://this.is.newface.url","organization":"NewOrganization","owner":null,"operator":"leckie","event_time":1670574414123,"extra":{}}"##;

#[tokio::test]
async fn the_standard_form_is_as_published() {
    let request = request("").await;
    assert_eq!(request.line, "POST /hook?a=1 HTTP/1.1");
    let expected = format!(
        r#"{{"type":"profile.updated","timestamp":"2022-12-09T08:26:54.123Z","data":{DOCUMENT}}}"#
    );
    assert_eq!(String::from_utf8(request.body).unwrap(), expected);
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", "profilesync/1.2.3"),
        ("profilesync-target", "crm"),
        ("profilesync-revision", "7"),
    ] {
        assert_eq!(request.headers[name], value);
    }
    assert!(!request.headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn the_profile_form_is_the_document() {
    let request = request("format = 'profile'\nmethod = 'PUT'").await;
    assert_eq!(request.line, "PUT /hook?a=1 HTTP/1.1");
    assert_eq!(String::from_utf8(request.body).unwrap(), DOCUMENT);
}

#[tokio::test]
async fn a_destroyed_account_is_told_as_such() {
    let server = Server::start(answer("200 OK", "", "")).await;
    let target = open(&format!("url = 'http://{}/'", server.address));
    let gone = Document {
        status: Status::Destroyed,
        name: None,
        ..document()
    };
    target.deliver(&[Delivery::from(gone)]).await;
    let body: serde_json::Value = serde_json::from_slice(&server.received()[0].body).unwrap();
    assert_eq!(body["type"], "profile.destroyed");
    assert_eq!(body["data"]["status"], "destroyed");
}

#[tokio::test]
async fn credentials_and_headers_are_sent() {
    let bearer = request("auth = { type = 'bearer', token = 'sesame' }").await;
    assert_eq!(bearer.headers["authorization"], "Bearer sesame");
    let basic =
        request("auth = { type = 'basic', username = 'Aladdin', password = 'open sesame' }").await;
    assert_eq!(
        basic.headers["authorization"],
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    let own =
        request("headers = { X-Tenant = 'blue', content-type = 'application/vnd.x+json' }").await;
    assert_eq!(own.headers["x-tenant"], "blue");
    assert_eq!(own.headers["content-type"], "application/vnd.x+json");
}

#[tokio::test]
async fn each_secret_signs_id_time_and_body() {
    let secrets = "['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', { command = ['echo', 'plain'] }]";
    let request = request(&format!("signing_secret = {secrets}")).await;
    let headers = &request.headers;
    assert!(headers["webhook-id"].starts_with("msg_"));
    let time: i64 = headers["webhook-timestamp"].parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - time).abs() < 60);
    let keys = [
        BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
        b"plain".to_vec(),
    ];
    let signatures: Vec<_> = headers["webhook-signature"].split(' ').collect();
    assert_eq!(signatures.len(), keys.len());
    for (key, signature) in keys.iter().zip(signatures) {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(format!("{}.{time}.", headers["webhook-id"]).as_bytes());
        mac.update(&request.body);
        let signature = BASE64
            .decode(signature.strip_prefix("v1,").unwrap().as_bytes())
            .unwrap();
        mac.verify_slice(&signature).unwrap();
    }
}

#[tokio::test]
async fn a_message_id_is_of_an_account_and_revision() {
    let server = Server::start(answer("500 Oops", "", "")).await;
    let target = open(&format!(
        "url = 'http://{}/'\nsigning_secret = 's'",
        server.address
    ));
    let other_app = Document {
        sdk_app_id: 14,
        account: "00000000".into(),
        ..document()
    };
    let next = Document {
        revision: 8,
        ..document()
    };
    for document in [document(), document(), next, other_app] {
        target.deliver(&[Delivery::from(document)]).await;
    }
    let ids: Vec<_> = server
        .received()
        .iter()
        .map(|one| one.headers["webhook-id"].clone())
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0] != ids[2] && ids[0] != ids[3]);
    assert_eq!(ids[0].len(), "msg_".len() + 32);
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start(answer("200 OK", "", "a body that must be read to its end")).await;
    let target = open(&format!("url = 'http://{}/'", server.address));
    for _ in 0..20 {
        deliver(&*target).await;
    }
    assert_eq!(server.state.lock().unwrap().connections, 1);
}

#[test]
fn a_rendered_request_shows_everything_but_secrets() {
    let target = open(
        "url = 'https://crm.example.com/hook?key=hunter2'
         format = 'profile'
         headers = { x-plain = 'shown', x-api-key = 'hunter3', x-other = { command = ['echo', 'hunter4'] } }
         auth = { type = 'bearer', token = 'hunter5' }
         signing_secret = 'hunter6'",
    );
    let text = target.render(&document()).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    let (head, body) = text.split_once("\n\n").unwrap();
    assert_eq!(body, format!("{DOCUMENT}\n"));
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST https://crm.example.com/hook?key=***");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "authorization: ***",
            "content-type: application/json",
            "profilesync-revision: 7",
            "profilesync-target: crm",
            "user-agent: profilesync/1.2.3",
            "webhook-id: msg_3d1b1ef000b102a2e86492af2503c521",
            "webhook-signature: ***",
            "webhook-timestamp: <the time of sending>",
            "x-api-key: ***",
            "x-other: ***",
            "x-plain: shown",
        ]
    );
}
