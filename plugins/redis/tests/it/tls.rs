//! TLS: the server's certificate is checked, and one's own is shown.

use std::{fs, net::TcpListener, path::Path};

use profilesync_target::Outcome;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};

use crate::{PASSWORD, deliver, delivered, document, open, start};

/// Writes a root certificate, and one that it signed.
fn write_certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.signed_by(&key, &root).unwrap();
    fs::write(folder.join("ca.pem"), root.pem()).unwrap();
    fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn both_sides_show_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let (ca, certificate, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
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
