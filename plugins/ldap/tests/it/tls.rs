//! Over TLS, with a CA of our own.

use std::path::PathBuf;

use profilesync_target::{Outcome, write_certificates};
use tempfile::TempDir;

use crate::{
    BASE, BIND_DN, PASSWORD, deliver, document, open,
    server::{self, Certificate, Server},
};

/// A CA, and a certificate of `localhost` from it, as files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_certificates(folder.path(), &["localhost"]);
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test]
async fn only_the_named_ca_is_trusted() {
    if !server::is_there() {
        return;
    }
    let files = Files::new();
    let server = Server::with(Some(Certificate {
        certificate: &files.path("localhost.pem"),
        key: &files.path("localhost.key"),
    }))
    .await;
    let plain = server.address.port();
    let encrypted = server.tls_address.port();
    let with = |url: String, ca: &Files, more: &str| {
        let ca = ca.path("ca.pem");
        open(&format!(
            "url = '{url}'\nbind_dn = '{BIND_DN}'\npassword = '{PASSWORD}'\nbase = '{BASE}'\ntls.ca = {ca:?}\n{more}"
        ))
    };
    for (url, more) in [
        (format!("ldaps://localhost:{encrypted}"), ""),
        (format!("ldap://localhost:{plain}"), "start_tls = true"),
    ] {
        let target = with(url.clone(), &files, more);
        target.probe().await.unwrap();
        let outcome = deliver(&*target, document(&url, 1)).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");

        let target = with(url, &Files::new(), more);
        let outcome = deliver(&*target, document("x", 1)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains("certificate"), "{outcome:?}");
    }
    // The certificate is of another name.
    let url = format!("ldaps://127.0.0.1:{encrypted}");
    let outcome = deliver(&*with(url, &files, ""), document("x", 1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("certificate"), "{outcome:?}");

    // A server that has no TLS.
    let server = Server::start().await;
    let url = format!("ldap://localhost:{}", server.address.port());
    let outcome = deliver(&*with(url, &files, "start_tls = true"), document("x", 1)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("TLS"), "{outcome:?}");
}
