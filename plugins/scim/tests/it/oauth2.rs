//! Client credentials, with a service that refuses tokens sooner than their issuer said.

use std::net::SocketAddr;

use futures_util::future::join_all;
use profilesync_target::Outcome;
use tokio::net::TcpListener;

use crate::{
    deliver, destroyed, document,
    gate::Gate,
    open, resources,
    server::{self, Server},
};

/// Opens a gate, for as long as the test runs.
pub(crate) async fn serve(gate: &Gate) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = gate.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(gate.clone().serve(stream));
        }
    });
    address
}

#[tokio::test]
async fn a_token_that_is_refused_midway_is_renewed_once_for_all() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    // Each delivery is a lookup and a write: the token is refused in the middle of some.
    let gate = Gate::new(server.address, 25);
    let target = open(&Gate::settings(serve(&gate).await));
    target.probe().await.unwrap();
    for revision in 1..4 {
        let deliveries = (0..20).map(|number| {
            let document = document(&format!("account {number}"), revision);
            deliver(&*target, document)
        });
        for outcome in join_all(deliveries).await {
            assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
        }
    }
    let tokens = gate.tokens();
    // A probe, and three times twenty lookups and writes.
    assert_eq!(tokens.revoked, 121 / 25);
    assert_eq!(tokens.issued, tokens.revoked + 1, "one flight for all");
    assert!(tokens.refused >= tokens.revoked, "{}", tokens.refused);
    assert_eq!(resources(&server.url(), "Users").await.len(), 20);

    let removed = join_all((0..20).map(|number| {
        let document = destroyed(&format!("account {number}"), 4);
        deliver(&*target, document)
    }));
    for outcome in removed.await {
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    }
    assert_eq!(resources(&server.url(), "Users").await.len(), 0);
    let tokens = gate.tokens();
    assert_eq!(tokens.issued, tokens.revoked + 1, "one flight for all");
}

#[tokio::test]
async fn a_service_that_refuses_every_token_says_nothing_of_accounts() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let gate = Gate::new(server.address, 0);
    // The issuer is another one than the service's.
    let (issuer, service) = (
        serve(&Gate::new(server.address, 1)).await,
        serve(&gate).await,
    );
    let url = format!("url = 'http://{issuer}/v2'");
    let settings = Gate::settings(issuer).replace(&url, &format!("url = 'http://{service}/v2'"));
    let target = open(&settings);
    for _ in 0..3 {
        let outcome = deliver(&*target, document("a", 1)).await;
        assert!(matches!(outcome, Outcome::Denied { .. }), "{outcome:?}");
        assert!(outcome.text().contains("401"), "{outcome:?}");
        assert!(!outcome.text().contains("of-the-gate"), "{outcome:?}");
    }
    let error = target.probe().await.unwrap_err();
    assert!(error.contains("401"), "{error}");
}
