//! OAuth 2.0 client credentials against a scripted issuer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use profilesync_target::{Delivery, Outcome, Target};

use crate::{
    deliver, document, open,
    server::{Reply, Server, answer},
};

/// An issuer whose tokens are `token-1`, `token-2`, …
async fn issuer(expires_in: &str) -> Server {
    let issued = AtomicUsize::new(0);
    let expires_in = expires_in.to_owned();
    Server::start(Reply::script(move |_| {
        let number = issued.fetch_add(1, Ordering::Relaxed) + 1;
        let body = format!(
            r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":{expires_in}}}"#
        );
        answer("200 OK", "content-type: application/json\r\n", &body)
    }))
    .await
}

fn target(api: &Server, issuer: &Server, more: &str) -> Box<dyn Target> {
    open(&format!(
        "url = 'http://{}/'
         auth = {{ type = 'oauth2', token_url = 'http://{}/token', client_id = 'my id', client_secret = 's:e/cret'{more} }}",
        api.address, issuer.address
    ))
}

fn tokens(api: &Server) -> Vec<String> {
    let received = api.received();
    let header = |one: &crate::server::Received| one.headers["authorization"].clone();
    received.iter().map(header).collect()
}

#[tokio::test]
async fn a_token_is_fetched_once_and_kept() {
    let (api, issuer) = (
        Server::start(answer("200 OK", "", "")).await,
        issuer("3600").await,
    );
    let target = target(
        &api,
        &issuer,
        ", scope = 'a b', audience = 'crm', params = { resource = 'x&y' }",
    );
    let deliveries: Vec<_> = (0..20).map(|_| deliver(&*target)).collect();
    for outcome in futures_util::future::join_all(deliveries).await {
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    }
    assert_eq!(issuer.received().len(), 1, "one flight for all");
    assert_eq!(tokens(&api), vec!["Bearer token-1"; 20]);
    let request = issuer.received().remove(0);
    assert_eq!(request.line, "POST /token HTTP/1.1");
    assert_eq!(
        request.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    // `my+id:s%3Ae%2Fcret`
    assert_eq!(
        request.headers["authorization"],
        "Basic bXkraWQ6cyUzQWUlMkZjcmV0"
    );
    assert_eq!(
        String::from_utf8(request.body).unwrap(),
        "grant_type=client_credentials&audience=crm&resource=x%26y&scope=a+b"
    );
}

#[tokio::test]
async fn the_client_can_be_named_in_the_form() {
    let (api, issuer) = (
        Server::start(answer("200 OK", "", "")).await,
        issuer("3600").await,
    );
    deliver(&*target(&api, &issuer, ", client_auth = 'post'")).await;
    let request = issuer.received().remove(0);
    assert!(!request.headers.contains_key("authorization"));
    assert_eq!(
        String::from_utf8(request.body).unwrap(),
        "grant_type=client_credentials&client_id=my+id&client_secret=s%3Ae%2Fcret"
    );
}

#[tokio::test]
async fn a_token_ends_before_it_expires() {
    for (expires_in, fetched) in [("30", 3), ("\"30\"", 3), ("31", 1), ("null", 1)] {
        let (api, issuer) = (
            Server::start(answer("200 OK", "", "")).await,
            issuer(expires_in).await,
        );
        let target = target(&api, &issuer, "");
        for _ in 0..3 {
            deliver(&*target).await;
        }
        assert_eq!(issuer.received().len(), fetched, "{expires_in}");
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let good = Arc::new(AtomicUsize::new(1));
    let wanted = Arc::clone(&good);
    let api = Server::start(Reply::script(move |request| {
        let wanted = format!("Bearer token-{}", wanted.load(Ordering::Relaxed));
        match request.headers["authorization"] == wanted {
            true => answer("200 OK", "", ""),
            false => answer(
                "401 Unauthorized",
                "",
                &format!("no good: {}", request.headers["authorization"]),
            ),
        }
    }))
    .await;
    let issuer = issuer("3600").await;
    let target = target(&api, &issuer, "");
    deliver(&*target).await;
    good.store(2, Ordering::Relaxed);
    let outcome = deliver(&*target).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(
        tokens(&api),
        ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    );

    // All are renewed by one fetch.
    good.store(3, Ordering::Relaxed);
    let deliveries: Vec<_> = (0..10).map(|_| deliver(&*target)).collect();
    for outcome in futures_util::future::join_all(deliveries).await {
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    }
    assert_eq!(issuer.received().len(), 3);

    // A target that refuses every token is not asked for ever, and tokens are not shown.
    good.store(0, Ordering::Relaxed);
    let before = (api.received().len(), issuer.received().len());
    let outcome = deliver(&*target).await;
    assert!(matches!(outcome, Outcome::Denied { .. }), "{outcome:?}");
    assert!(
        outcome.text().ends_with("no good: Bearer ***"),
        "{outcome:?}"
    );
    let after = (api.received().len(), issuer.received().len());
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 1));
}

#[tokio::test]
async fn an_issuer_that_fails_is_a_fault_of_the_target() {
    let api = Server::start(answer("200 OK", "", "")).await;
    for (reply, part) in [
        (
            answer(
                "401 Unauthorized",
                "",
                r#"{"error":"invalid_client","got":"s:e/cret"}"#,
            ),
            r#"it answered 401 Unauthorized: {"error":"invalid_client","got":"***"}"#,
        ),
        (
            answer("400 Bad Request", "", "bXkraWQ6cyUzQWUlMkZjcmV0"),
            "400 Bad Request: ***",
        ),
        (
            answer("200 OK", "", r#"{"token":"x"}"#),
            "without an access_token",
        ),
        (
            answer("200 OK", "", r#"{"access_token":"","token_type":"Bearer"}"#),
            "without an access_token",
        ),
        (
            answer("200 OK", "", r#"{"access_token":" "}"#),
            "without an access_token",
        ),
        (
            answer(
                "200 OK",
                "",
                r#"{"access_token":"hunter2","token_type":"mac"}"#,
            ),
            "of type mac",
        ),
        (
            answer("200 OK", "", r#"{"access_token":"hunter2\n"}"#),
            "cannot be sent in a header",
        ),
        (
            Reply::BytesAndClose(String::new()),
            "no token from 127.0.0.1:",
        ),
    ] {
        let issuer = Server::start(reply).await;
        let outcome = deliver(&*target(&api, &issuer, "")).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains(part), "{part}: {outcome:?}");
        assert!(!outcome.text().contains("hunter2"), "{outcome:?}");
    }
    let busy = Server::start(answer("429 Too Many Requests", "retry-after: 7\r\n", "")).await;
    match deliver(&*target(&api, &busy, "")).await {
        Outcome::Fault { after, .. } => assert_eq!(after, Some(Duration::from_secs(7))),
        other => panic!("{other:?}"),
    }
    assert!(api.received().is_empty());
}

#[tokio::test]
async fn what_an_answer_quotes_of_the_token_url_and_the_params_is_masked() {
    let quotes = "got in-query/key, in-params key, in-params+key and 2024";
    let api = Server::start(answer("422 Unprocessable Entity", "", quotes)).await;
    let issuer = Server::start(answer("400 Bad Request", "", quotes)).await;
    let target = open(&format!(
        "url = 'http://{}/'
         auth = {{ type = 'oauth2', token_url = 'http://{}/token?key=in-query%2Fkey&v=2024', \
         client_id = 'a', client_secret = 'b', params = {{ subscription = 'in-params key', v = '2024' }} }}",
        api.address, issuer.address
    ));
    let masked = "got ***, ***, *** and 2024";
    let outcome = deliver(&*target).await;
    assert!(outcome.text().ends_with(masked), "{outcome:?}");
    let error = target.probe().await.unwrap_err();
    assert!(error.ends_with(masked), "{error}");
    issuer.reply(answer("200 OK", "", r#"{"access_token":"token"}"#));
    let outcome = deliver(&*target).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert!(outcome.text().ends_with(masked), "{outcome:?}");
}

#[tokio::test]
async fn a_delivery_that_is_dropped_lets_the_next_one_fetch() {
    let api = Server::start(answer("200 OK", "", "")).await;
    let issuer = issuer("3600").await;
    let silent = Reply::Silence;
    let target = target(&api, &issuer, "");
    issuer.reply(silent);
    let batch = [Delivery::from(document())];
    let cut = tokio::time::timeout(Duration::from_millis(200), target.deliver(&batch)).await;
    assert!(cut.is_err());
    issuer.reply(answer("200 OK", "", r#"{"access_token":"later"}"#));
    let outcome = deliver(&*target).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(tokens(&api), ["Bearer later"]);
}

#[tokio::test]
async fn a_probe_needs_a_token_too() {
    let api = Server::start(Reply::Bytes(
        "HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n".into(),
    ))
    .await;
    let good = issuer("3600").await;
    target(&api, &good, "").probe().await.unwrap();
    assert_eq!(tokens(&api), ["Bearer token-1"]);
    let bad = Server::start(answer("400 Bad Request", "", "invalid_client")).await;
    let error = target(&api, &bad, "").probe().await.unwrap_err();
    assert!(error.contains("invalid_client"), "{error}");
}
