//! TLS: the server's certificate is checked, and one's own is shown. And logging in with a credentials file.

use std::{fs, path::Path};

use profilesync_target::Outcome;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

use crate::{PASSWORD, Server, deliver, delivered, document, open, server::is_installed};

/// Writes a root certificate, and one that it signed.
fn write_certificates(folder: &Path) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &root)
        .unwrap();
    fs::write(folder.join("ca.pem"), root.pem()).unwrap();
    fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn both_sides_show_their_certificates() {
    if !is_installed() {
        eprintln!("skipped: there is no nats-server");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (ca, certificate, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
    let lines = format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}"
    );
    let server = Server::start_tls(&lines, folder.path()).await;
    server
        .add_stream("PROFILES", &["profilesync.>"], &json!({}))
        .await;
    let open_with = |url: &str, tls: &str| {
        open(&format!(
            "url = '{url}:{}'\nusername = 'root'\npassword = '{PASSWORD}'\ntls = {{ {tls} }}",
            server.port
        ))
    };
    let own = format!("certificate = '{certificate}', private_key = '{key}'");
    for url in ["nats://localhost", "tls://127.0.0.1"] {
        let target = open_with(url, &format!("ca = '{ca}', {own}"));
        target.probe().await.unwrap();
        delivered(&*target, document(1)).await;
    }
    for tls in [
        // Signed by nobody whom the system trusts.
        own,
        // The server wants to see a certificate.
        format!("ca = '{ca}'"),
    ] {
        let outcome = deliver(&*open_with("tls://localhost", &tls), document(2)).await;
        assert!(
            matches!(outcome, Outcome::Fault { .. }),
            "{tls}: {outcome:?}"
        );
    }
}
