//! What each answer, or the lack of one, makes of a delivery.

use std::time::Duration;

use profilesync_target::{Outcome, Settings, conformance::context};
use tokio::time::Instant;

use crate::{
    deliver, open,
    server::{Reply, Server, answer},
};

/// The outcome of one delivery that is answered so, under further settings.
async fn outcome(reply: Reply, settings: &str) -> Outcome {
    let server = Server::start(reply).await;
    let target = open(&format!(
        "url = 'http://{}/hook?key=hunter2'\n{settings}",
        server.address
    ));
    let outcome = deliver(&*target).await;
    assert!(!outcome.text().contains("hunter2"), "{outcome:?}");
    assert_eq!(server.received().len(), 1, "one delivery is one request");
    outcome
}

fn variant(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered { .. } => "delivered",
        Outcome::Retry { .. } => "retry",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Denied { .. } => "denied",
        Outcome::Fault { .. } => "fault",
    }
}

async fn check(status: &str, settings: &str, expected: &str) {
    let outcome = outcome(answer(status, "", ""), settings).await;
    assert_eq!(variant(&outcome), expected, "{status}: {outcome:?}");
}

#[tokio::test]
async fn the_status_decides() {
    for status in [
        "200 OK",
        "201 Created",
        "202 Accepted",
        "204 No Content",
        "299 Odd",
    ] {
        check(status, "", "delivered").await;
    }
    for status in [
        "408 Request Timeout",
        "425 Too Early",
        "429 Too Many Requests",
    ] {
        check(status, "", "retry").await;
    }
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "407 Proxy",
    ] {
        check(status, "", "denied").await;
    }
    for status in [
        "400 Bad Request",
        "409 Conflict",
        "410 Gone",
        "422 No",
        "451 No",
    ] {
        check(status, "", "rejected").await;
    }
    for status in [
        "500 Oops",
        "502 Bad Gateway",
        "503 Busy",
        "599 Odd",
        "304 Not Modified",
        "999 Odd",
    ] {
        check(status, "", "fault").await;
    }
}

#[tokio::test]
async fn lists_override_the_status() {
    let lists = "success = [409, '300-399']\nretry_on = ['401-404']\nreject_on = ['500-502']";
    check("409 Conflict", lists, "delivered").await;
    check("302 Found", lists, "delivered").await;
    check("403 Forbidden", lists, "retry").await;
    check("501 No", lists, "rejected").await;
    check("503 Busy", lists, "fault").await;
    check("200 OK", lists, "delivered").await;
    check("200 OK", "retry_on = [200]", "retry").await;
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    for (status, text, seconds) in [
        ("429 Too Many Requests", "7", 7),
        ("503 Busy", "120", 120),
        ("429 Too Many Requests", "Thu, 01 Jan 2015 00:00:00 GMT", 0),
    ] {
        let headers = format!("retry-after: {text}\r\n");
        match outcome(answer(status, &headers, ""), "").await {
            Outcome::Retry { after, .. } | Outcome::Fault { after, .. } => {
                assert_eq!(after, Some(Duration::from_secs(seconds)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(answer("200 OK", "", "")).await;
    let location = format!("location: http://{}/\r\n", elsewhere.address);
    let outcome = outcome(answer("307 Temporary Redirect", &location, ""), "").await;
    assert_eq!(variant(&outcome), "fault");
    assert!(
        outcome.text().contains("redirects are not followed"),
        "{outcome:?}"
    );
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn an_answer_of_not_modified_leads_nowhere() {
    let outcome = outcome(answer("304 Not Modified", "", ""), "").await;
    assert_eq!(variant(&outcome), "fault");
    assert!(outcome.text().ends_with("304 Not Modified"), "{outcome:?}");
}

#[tokio::test]
async fn a_reason_quotes_the_answer_without_secrets() {
    let settings = "auth = { type = 'bearer', token = 'sesame' }";
    let reply = answer(
        "422 Unprocessable Entity",
        "",
        "no\r\nsuch \u{7}field; got Bearer sesame",
    );
    let outcome = outcome(reply, settings).await;
    let reason = outcome.text();
    assert!(
        reason.ends_with("answered 422 Unprocessable Entity: no such field; got Bearer ***"),
        "{reason}"
    );
    assert!(reason.starts_with("127.0.0.1:"), "{reason}");
}

/// The reason of a target whose URL and header are secrets, or are not, when an answer quotes this.
async fn quoted(body: &str, settings: impl Fn(&str) -> String) -> String {
    let server = Server::start(answer("422 No", "", body)).await;
    let outcome = deliver(&*open(&settings(&server.address.to_string()))).await;
    let (_, quote) = outcome
        .text()
        .rsplit_once("422 Unprocessable Entity: ")
        .unwrap();
    quote.to_owned()
}

#[tokio::test]
async fn the_parts_of_a_secret_url_are_hidden() {
    let body =
        "no hook c2VjcmV0 of T0; the key is a b/c, or a%20b%2Fc, not k; see /hooks/T0/c2VjcmV0";
    for tail in ["", "&by={{ account }}"] {
        let quote = quoted(body, |address| {
            let url = format!("http://{address}/hooks/T0/c2VjcmV0?k=a%20b%2Fc{tail}");
            format!("url = {{ command = ['printf', '%s', '{url}'] }}")
        });
        assert_eq!(
            quote.await,
            "no hook *** of T0; the key is ***, or ***, not k; see ***"
        );
    }
    // Of a URL that is none, what is masked where it is shown.
    let quote = quoted("the key is longer than hooks", |address| {
        format!("url = 'http://{address}/hooks/notsecret?k=the+key&v=hooks'")
    });
    assert_eq!(quote.await, "the key is longer than hooks");
    let quote = quoted("no such key: hunter2hunter3, by notsecret", |address| {
        format!("url = 'http://{address}/hooks/notsecret?k=hunter2hunter3&by={{{{ account }}}}'")
    });
    assert_eq!(quote.await, "no such key: ***, by notsecret");
}

#[tokio::test]
async fn the_parts_of_a_secret_header_are_hidden() {
    for (header, body, shown) in [
        (
            "Bearer s3cret",
            "token s3cret is no good",
            "token *** is no good",
        ),
        ("{{ account }}/s3cret", "no s3cret", "no ***"),
        // `user1:hunter2`
        (
            "Basic dXNlcjE6aHVudGVyMg==",
            "user1 has not the password hunter2",
            "*** has not the password ***",
        ),
        (
            "id=1; session=0123456789",
            "0123456789 expired",
            "*** expired",
        ),
        (
            "Bearer a\"b/c",
            r#"{"error": "a\"b\/c"}"#,
            r#"{"error": "***"}"#,
        ),
    ] {
        let quote = quoted(body, |address| {
            format!("url = 'http://{address}/'\nheaders = {{ authorization = '{header}' }}")
        });
        assert_eq!(quote.await, shown, "{header}");
    }
}

#[tokio::test]
async fn a_body_without_end_does_not_hold_the_delivery() {
    let started = Instant::now();
    for (status, expected) in [("200 OK", "delivered"), ("422 No", "rejected")] {
        for pause in [0, 20] {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 99999999999\r\n\r\n");
            let outcome = outcome(Reply::Drip(head, Duration::from_millis(pause)), "").await;
            assert_eq!(variant(&outcome), expected);
            assert!(outcome.text().chars().count() < 300, "{outcome:?}");
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn two_bodies_without_end_do_not_hold_the_delivery() {
    let server = Server::start(Reply::script(|request| {
        let status = match request.method_and_path().0 {
            "PUT" => "404 Not Found",
            _ => "201 Created",
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 99999999999\r\n\r\n");
        Reply::Drip(head, Duration::from_millis(20))
    }))
    .await;
    let settings = format!(
        "url = 'http://{0}/accounts/{{{{ account }}}}'
         method = 'PUT'
         format = 'profile'
         on_not_found = {{ url = 'http://{0}/accounts' }}",
        server.address
    );
    // Time for the longest look at one body, and as long again.
    let limit = Duration::from_secs(2);
    let settings = Settings::from_toml(&settings).unwrap();
    let target = (profilesync_webhook::KIND.open)(&context("crm", limit), settings)
        .unwrap()
        .target;
    let outcome = tokio::time::timeout(limit, deliver(&*target)).await;
    assert_eq!(
        outcome.expect("the status is known in time"),
        Outcome::Delivered {
            answer: "201 Created".into()
        }
    );
}

#[tokio::test]
async fn a_body_cut_short_leaves_the_status() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort";
    assert_eq!(
        variant(&outcome(Reply::BytesAndClose(head.into()), "").await),
        "delivered"
    );
}

#[tokio::test]
async fn no_answer_is_a_fault() {
    for reply in [
        "",
        "HTTP/1.1 200",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbroken",
    ] {
        let outcome = outcome(Reply::BytesAndClose(reply.into()), "").await;
        assert_eq!(variant(&outcome), "fault", "{reply:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_closed_port_is_a_fault_that_names_it() {
    let server = Server::start(Reply::Silence).await;
    let address = server.address;
    drop(server);
    tokio::task::yield_now().await;
    let outcome = deliver(&*open(&format!("url = 'http://{address}/?key=hunter2'"))).await;
    assert_eq!(variant(&outcome), "fault");
    let reason = outcome.text();
    assert!(
        reason.starts_with(&format!("cannot connect to {address}: ")),
        "{reason}"
    );
    assert!(!reason.contains("hunter2"), "{reason}");
}

#[tokio::test]
async fn a_probe_fails_on_refused_credentials_and_empty_gateways_only() {
    for (status, well) in [
        ("200 OK", true),
        ("404 Not Found", true),
        ("405 Method Not Allowed", true),
        ("501 Not Implemented", true),
        ("401 Unauthorized", false),
        ("502 Bad Gateway", false),
    ] {
        let server = Server::start(Reply::Bytes(format!(
            "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"
        )))
        .await;
        let probed = open(&format!("url = 'http://{}/x'", server.address))
            .probe()
            .await;
        assert_eq!(probed.is_ok(), well, "{status}: {probed:?}");
        assert_eq!(server.received()[0].line, "HEAD /x HTTP/1.1");
    }
}
