//! Certificates, with a server that has one.

use std::fs;

use profilesync_target::Outcome;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};

use crate::{
    faults::{deliver, profile},
    server::{Kind, PASSWORD, Server},
};

#[tokio::test]
async fn a_servers_certificate_is_verified() {
    let Some(mut server) = Server::start(Kind::Postgres) else {
        return;
    };
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &issuer).unwrap();
    server.stop();
    let ca = server.data().with_file_name("ca.pem");
    fs::write(&ca, issuer.pem()).unwrap();
    for (name, pem) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let file = server.data().join(name);
        fs::write(&file, pem).unwrap();
        server.hand_over(&file);
        server.protect(&file);
    }
    server.resume();

    let named = server.url("postgres").replace("127.0.0.1", "localhost");
    let target = |url: &str, tls: &str| {
        crate::open(&format!(
            "url = '{url}'\npassword = '{PASSWORD}'\ntable = 'p'\ncreate_table = true\ntls = {tls}"
        ))
    };
    let trusted = format!("{{ ca = {ca:?} }}");
    let outcome = deliver(&*target(&named, &trusted), profile("a", 1)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let unverified = deliver(&*target(&named, "{ mode = 'unverified' }"), profile("a", 2)).await;
    assert!(
        matches!(unverified, Outcome::Delivered { .. }),
        "{unverified:?}"
    );

    for (url, tls) in [
        // Nobody knows its issuer; its name is another.
        (&named, "{ mode = 'verify' }"),
        (&server.url("postgres"), trusted.as_str()),
    ] {
        let outcome = deliver(&*target(url, tls), profile("a", 3)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(outcome.text().contains("certificate"), "{outcome:?}");
    }

    // Without TLS at the server, nothing is sent in clear.
    server.stop();
    fs::remove_file(server.data().join("server.crt")).unwrap();
    server.resume();
    let outcome = deliver(&*target(&named, &trusted), profile("a", 3)).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
}
