//! TLS: the server's certificate is checked, and one's own is shown.

use std::net::TcpListener;

use profilesync_target::{Outcome, write_certificates};

use crate::{PASSWORD, deliver, delivered, document, open, start};

#[tokio::test]
async fn both_sides_show_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path(), &["localhost"]);
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let (ca, certificate, key) = (path("ca.pem"), path("localhost.pem"), path("localhost.key"));
    let arguments = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ];
    let Some(_server) = start(&arguments).await else {
        return;
    };
    let open_with = |host: &str, tls: &str| {
        open(&format!(
            "url = 'rediss://{host}:{port}'\npassword = '{PASSWORD}'\ntls = {{ {tls} }}"
        ))
    };
    let own = format!("certificate = '{certificate}', private_key = '{key}'");
    let target = open_with("localhost", &format!("ca = '{ca}', {own}"));
    target.probe().await.unwrap();
    delivered(&*target, document(1)).await;
    for (host, tls) in [
        // Signed by nobody whom the system trusts.
        ("localhost", own.clone()),
        // For another name.
        ("127.0.0.1", format!("ca = '{ca}', {own}")),
        // The server wants to see a certificate.
        ("localhost", format!("ca = '{ca}'")),
    ] {
        let outcome = deliver(&*open_with(host, &tls), document(2)).await;
        assert!(
            matches!(outcome, Outcome::Fault { .. }),
            "{tls}: {outcome:?}"
        );
        assert!(outcome.text().contains("ertificate"), "{tls}: {outcome:?}");
    }
}
