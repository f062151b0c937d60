//! CloudEvents, templates, arrays, and requests that depend on the account.

use profilesync_target::{Answer, Delivery, Document, Outcome, Status};
use serde_json::{Value, json};

use crate::{
    deliver, document, open,
    server::{Received, Reply, Server, answer},
    try_open,
};

/// The outcome of a delivery, and the requests that it made, of which each is answered so.
async fn sent(settings: &str, document: Document, reply: Reply) -> (Outcome, Vec<Received>) {
    let server = Server::start(reply).await;
    let target = open(&settings.replace("HOST", &server.address.to_string()));
    let Answer::Each(mut outcomes) = target.deliver(&[Delivery::from(document)]).await else {
        panic!("one document is no batch");
    };
    (outcomes.remove(0), server.received())
}

async fn request(settings: &str, document: Document) -> Received {
    let (outcome, mut requests) = sent(settings, document, answer("200 OK", "", "")).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    requests.remove(0)
}

fn named(account: &str) -> Document {
    Document {
        account: account.into(),
        ..document()
    }
}

fn destroyed() -> Document {
    Document {
        status: Status::Destroyed,
        name: None,
        introduction: None,
        face_url: None,
        organization: None,
        operator: None,
        ..document()
    }
}

#[tokio::test]
async fn a_cloud_event_is_as_specified() {
    let settings = "url = 'http://HOST/'\nformat = 'cloudevents'";
    let event = request(settings, document()).await;
    assert_eq!(
        event.headers["content-type"],
        "application/cloudevents+json"
    );
    let body = event.json();
    assert_eq!(
        body,
        json!({
            "specversion": "1.0",
            "id": "msg_3d1b1ef000b102a2e86492af2503c521",
            "source": "/profilesync/1400000000",
            "type": "profile.updated",
            "subject": "@TOA#_test_OA_for_penn",
            "time": "2022-12-09T08:26:54.123Z",
            "datacontenttype": "application/json",
            "data": document(),
        })
    );
    let text = String::from_utf8(event.body.clone()).unwrap();
    let data = serde_json::to_string(&document()).unwrap();
    assert!(
        text.ends_with(&format!(r#""data":{data}}}"#)),
        "the document's order is kept: {text}"
    );
    let again = request(settings, document()).await.json();
    assert_eq!(again["id"], body["id"], "the id is the revision's");
    let next = Document {
        revision: 8,
        ..document()
    };
    assert_ne!(request(settings, next).await.json()["id"], body["id"]);
    let gone = request(settings, destroyed()).await.json();
    assert_eq!(gone["type"], "profile.destroyed");
}

#[tokio::test]
async fn url_headers_and_body_are_made_of_the_document() {
    let request = request(
        r#"
        url = 'http://HOST/apps/{{ sdk_app_id }}/accounts/{{ account | urlencode }}?by={{ operator }}'
        method = 'PATCH'
        format = 'template'
        headers = { if-match = '"{{ revision - 1 }}"', x-account = '{{ account | urlencode }}' }
        body = '{"display": {{ name }}, "note": "{{ introduction }} ({{ revision }})", "tags": {{ extra.tags | default([]) }}}'
        "#,
        named("a/b c\"d"),
    )
    .await;
    assert_eq!(
        request.line,
        "PATCH /apps/1400000000/accounts/a%2Fb%20c%22d?by=leckie HTTP/1.1"
    );
    assert_eq!(request.headers["if-match"], "\"6\"");
    assert_eq!(request.headers["x-account"], "a%2Fb%20c%22d");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(
        request.json(),
        json!({ "display": "NewName", "note": "NewNotification (7)", "tags": [] })
    );
}

#[tokio::test]
async fn the_content_type_decides_how_values_are_escaped() {
    let settings = |content_type: &str, body: &str| {
        format!(
            "url = 'http://HOST/'\nformat = 'template'\nheaders.content-type = '{content_type}'\nbody = '{body}'"
        )
    };
    for (content_type, body, expected) in [
        (
            "application/x-www-form-urlencoded",
            "a={{ account }}&b={{ revision }}",
            "a=x%26%3D%3C%22&b=7",
        ),
        (
            "application/xml",
            "<a>{{ account }}</a>",
            "<a>x&amp;=&lt;&quot;</a>",
        ),
        ("text/plain", "{{ account }}{{ owner }}", "x&=<\""),
        ("application/vnd.x+json", "[{{ account }}]", r#"["x&=<\""]"#),
    ] {
        let request = request(&settings(content_type, body), named("x&=<\"")).await;
        assert_eq!(String::from_utf8(request.body).unwrap(), expected);
        assert_eq!(request.headers["content-type"], content_type);
    }
}

#[tokio::test]
async fn what_would_lead_elsewhere_is_rejected_and_not_sent() {
    let settings = "url = 'http://HOST/v1/{{ account }}'\nformat = 'profile'";
    for account in [".", ".."] {
        let (outcome, requests) = sent(settings, named(account), answer("200 OK", "", "")).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
        assert!(requests.is_empty(), "{requests:?}");
    }
    let raw = "url = 'http://HOST/v1/{{ (name or \"\") | safe }}'\nformat = 'profile'";
    for name in ["%2e%2e", "a/../../b", "x\\..\\..", "a#b"] {
        let document = Document {
            name: Some(name.into()),
            ..document()
        };
        let (outcome, requests) = sent(raw, document, answer("200 OK", "", "")).await;
        assert!(
            matches!(outcome, Outcome::Rejected { .. }),
            "{name}: {outcome:?}"
        );
        assert!(requests.is_empty(), "{requests:?}");
    }
    let headers = "url = 'http://HOST/'\nheaders.x-name = '{{ name }}'";
    for name in ["a\nx-admin: yes", "a\rb", "a\u{0}b", "a\u{7f}b"] {
        let document = Document {
            name: Some(name.into()),
            ..document()
        };
        let (outcome, requests) = sent(headers, document, answer("200 OK", "", "")).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
        assert!(requests.is_empty(), "{requests:?}");
    }
}

#[tokio::test]
async fn an_account_that_is_not_found_is_created() {
    let settings = r#"
        url = 'http://HOST/accounts/{{ account }}'
        method = 'PUT'
        format = 'profile'
        on_not_found = { method = 'POST', url = 'http://HOST/accounts?of={{ sdk_app_id }}' }
    "#;
    let by_method = |put: &'static str, post: &'static str| {
        Reply::script(move |request| match request.method_and_path().0 {
            "PUT" => answer(put, "", ""),
            _ => answer(post, "", ""),
        })
    };
    let (outcome, requests) = sent(
        settings,
        document(),
        by_method("404 Not Found", "201 Created"),
    )
    .await;
    assert_eq!(
        outcome,
        Outcome::Delivered {
            answer: "201 Created".into()
        }
    );
    let lines: Vec<_> = requests
        .iter()
        .map(|request| request.line.as_str())
        .collect();
    assert_eq!(
        lines,
        [
            "PUT /accounts/%40TOA%23_test_OA_for_penn HTTP/1.1",
            "POST /accounts?of=1400000000 HTTP/1.1",
        ]
    );
    assert_eq!(requests[0].body, requests[1].body);

    for (put, post, requests, variant) in [
        ("200 OK", "500 Oops", 1, "Delivered"),
        ("410 Gone", "201 Created", 1, "Rejected"),
        // Someone else was first.
        ("404 Not Found", "409 Conflict", 2, "Retry"),
        ("404 Not Found", "422 No", 2, "Rejected"),
        ("404 Not Found", "404 Not Found", 2, "Denied"),
        ("404 Not Found", "503 Busy", 2, "Fault"),
    ] {
        let (outcome, got) = sent(settings, document(), by_method(put, post)).await;
        assert!(
            format!("{outcome:?}").starts_with(variant),
            "{put}, {post}: {outcome:?}"
        );
        assert_eq!(got.len(), requests, "{put}, {post}");
    }
    // What is gone anyway is not created to be destroyed.
    let (outcome, got) = sent(
        settings,
        destroyed(),
        by_method("404 Not Found", "201 Created"),
    )
    .await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(got.len(), 1);
    // The configuration's word on a status is the last.
    let told = format!("{settings}\nreject_on = [404]");
    let (outcome, got) = sent(&told, document(), by_method("404 Not Found", "201 Created")).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert_eq!(got.len(), 1);
}

#[tokio::test]
async fn a_destroyed_account_is_deleted() {
    let settings = "url = 'http://HOST/accounts/{{ account }}'\nmethod = 'PUT'\ndelete = {}\nsigning_secret = 's'";
    for status in ["204 No Content", "404 Not Found", "410 Gone"] {
        let (outcome, requests) = sent(settings, destroyed(), answer(status, "", "")).await;
        assert!(
            matches!(outcome, Outcome::Delivered { .. }),
            "{status}: {outcome:?}"
        );
        assert_eq!(requests.len(), 1);
        assert_eq!(
            requests[0].line,
            "DELETE /accounts/%40TOA%23_test_OA_for_penn HTTP/1.1"
        );
        assert!(requests[0].body.is_empty());
        assert!(!requests[0].headers.contains_key("content-type"));
        assert!(requests[0].headers.contains_key("webhook-signature"));
    }
    let (outcome, _) = sent(settings, destroyed(), answer("403 Forbidden", "", "")).await;
    assert!(matches!(outcome, Outcome::Denied { .. }), "{outcome:?}");
    let (_, requests) = sent(settings, document(), answer("200 OK", "", "")).await;
    assert!(requests[0].line.starts_with("PUT "));
    let other = "url = 'http://HOST/a'\ndelete = { method = 'POST', url = 'http://HOST/gone/{{ account }}' }";
    let request = request(other, destroyed()).await;
    assert_eq!(
        request.line,
        "POST /gone/%40TOA%23_test_OA_for_penn HTTP/1.1"
    );
    assert_eq!(request.json()["type"], "profile.destroyed");
}

async fn array(settings: &str, documents: &[Document], reply: Reply) -> (Answer, Vec<Received>) {
    let server = Server::start(reply).await;
    let target = open(&settings.replace("HOST", &server.address.to_string()));
    let batch: Vec<_> = documents.iter().cloned().map(Delivery::from).collect();
    (target.deliver(&batch).await, server.received())
}

#[tokio::test]
async fn an_array_is_one_request() {
    let documents = [named("a"), named("b"), destroyed()];
    let settings = "url = 'http://HOST/'\narray = 50\nsigning_secret = 's'";
    let (answer_of, requests) = array(settings, &documents, answer("200 OK", "", "")).await;
    assert_eq!(
        answer_of,
        Answer::Whole(Outcome::Delivered {
            answer: "200 OK".into()
        })
    );
    assert_eq!(requests.len(), 1);
    let body = requests[0].json();
    let types: Vec<_> = body
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["type"])
        .collect();
    assert_eq!(
        types,
        ["profile.updated", "profile.updated", "profile.destroyed"]
    );
    assert!(!requests[0].headers.contains_key("profilesync-revision"));
    let (_, again) = array(settings, &documents, answer("200 OK", "", "")).await;
    assert_eq!(
        requests[0].headers["webhook-id"],
        again[0].headers["webhook-id"]
    );
    let (_, other) = array(settings, &documents[1..], answer("200 OK", "", "")).await;
    assert_ne!(
        requests[0].headers["webhook-id"],
        other[0].headers["webhook-id"]
    );
    assert_eq!(open(&settings.replace("HOST", "x")).limits().batch, 50);

    let events = "url = 'http://HOST/'\narray = 50\nformat = 'cloudevents'";
    let (_, requests) = array(events, &documents, answer("200 OK", "", "")).await;
    assert_eq!(
        requests[0].headers["content-type"],
        "application/cloudevents-batch+json"
    );
    assert_eq!(requests[0].json()[1]["specversion"], "1.0");
}

#[tokio::test]
async fn an_array_shares_its_fate() {
    let documents = [named("a"), named("b")];
    for (status, variant) in [
        ("422 No", "Rejected"),
        ("413 Too Large", "Rejected"),
        ("404 Not Found", "Denied"),
        ("429 Too Many Requests", "Retry"),
        ("503 Busy", "Fault"),
    ] {
        let settings = "url = 'http://HOST/'\narray = 50";
        let (answer, _) = array(settings, &documents, answer(status, "", "")).await;
        let text = format!("{answer:?}");
        assert!(text.starts_with(&format!("Whole({variant}")), "{text}");
    }
}

#[tokio::test]
async fn a_document_without_a_body_takes_no_other_along() {
    let broken = Document {
        name: Some("broken".into()),
        ..document()
    };
    let documents = [named("a"), broken, named("b")];
    let settings = "url = 'http://HOST/'\narray = 50\nformat = 'template'
                    body = '{\"n\": {% if name == \"broken\" %}oops{% else %}{{ account }}{% endif %}}'";
    let (answer_of, requests) = array(settings, &documents, answer("200 OK", "", "")).await;
    let Answer::Each(outcomes) = answer_of else {
        panic!("{answer_of:?}")
    };
    assert!(
        matches!(outcomes[0], Outcome::Delivered { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[2], Outcome::Delivered { .. }),
        "{outcomes:?}"
    );
    assert_eq!(requests[0].json(), json!([{ "n": "a" }, { "n": "b" }]));
    // Who of the others is guilty is found by cutting in half.
    let (answer_of, _) = array(settings, &documents, answer("422 No", "", "")).await;
    assert!(
        matches!(answer_of, Answer::Whole(Outcome::Rejected { .. })),
        "{answer_of:?}"
    );
    let (answer_of, requests) = array(settings, &documents[1..2], answer("422 No", "", "")).await;
    assert!(
        matches!(&answer_of, Answer::Each(one) if matches!(one[..], [Outcome::Rejected { .. }]))
    );
    assert!(requests.is_empty());
}

#[tokio::test]
async fn a_url_can_be_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let server = Server::start(answer(
        "403 Forbidden",
        "",
        "no hunter2 /services/hunter2?x=hunter3",
    ))
    .await;
    std::fs::write(
        &file,
        format!("http://{}/services/hunter2?x=hunter3\n", server.address),
    )
    .unwrap();
    let settings = format!("url = {{ file = {file:?} }}");
    let target = open(&settings);
    let rendered = target.render(&document()).unwrap();
    let first = rendered.lines().next().unwrap();
    assert_eq!(first, format!("POST http://{}/***", server.address));
    let outcome = deliver(&*target).await;
    assert_eq!(
        server.received()[0].line,
        "POST /services/hunter2?x=hunter3 HTTP/1.1"
    );
    assert!(!outcome.text().contains("/services/hunter2"), "{outcome:?}");
    let identity = try_open(&settings).unwrap().identity;
    assert_eq!(
        identity["url"],
        Value::from(format!("http://{}", server.address))
    );
}

#[test]
fn what_is_made_of_a_document_is_shown() {
    let target = open(
        r#"
        url = 'https://crm.example/v1/{{ account }}?key=hunter2'
        method = 'PUT'
        headers = { x-name = '{{ name }}', x-token = '{{ name }}hunter3' }
        format = 'template'
        body = '{"id": {{ account }}}'
        on_not_found = { url = 'https://crm.example/v1?key=hunter2' }
        delete = {}
        auth = { type = 'oauth2', token_url = 'https://id.example/', client_id = 'x', client_secret = 'hunter4' }
        "#,
    );
    let text = target.render(&document()).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    assert!(
        text.starts_with("PUT https://crm.example/v1/%40TOA%23_test_OA_for_penn?key=***\n"),
        "{text}"
    );
    for line in [
        "x-name: NewName",
        "x-token: ***",
        "authorization: ***",
        r#"{"id": "@TOA#_test_OA_for_penn"}"#,
    ] {
        assert!(
            text.lines().any(|one| one == line),
            "{line} is not in {text}"
        );
    }
    assert!(
        text.ends_with("\nWhen that is answered 404:\nPOST https://crm.example/v1?key=***\n"),
        "{text}"
    );
    let text = target.render(&destroyed()).unwrap();
    assert!(
        text.starts_with("DELETE https://crm.example/v1/%40TOA%23"),
        "{text}"
    );
    assert!(!text.contains("404"), "{text}");
    let error = target.render(&named("..")).unwrap_err();
    assert!(error.contains("dots"), "{error}");
}
