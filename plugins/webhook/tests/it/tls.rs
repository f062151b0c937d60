//! TLS with a CA of our own.

use std::sync::Arc;

use profilesync_target::Outcome;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier},
};

use crate::{
    deliver, open,
    server::{Server, answer},
    try_open,
};

/// A certificate as `openssl x509 -req` makes it when it is given no extension. No library here makes such.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBFDCBuwIUapaOnvZ8PI92kJ82praR/sxY8FEwCgYIKoZIzj0EAwIwDTELMAkG\n\
A1UEAwwCdjEwHhcNMjYxMTI4MDgzNDE0WhcNMzYxMTI1MDgzNDE0WjANMQswCQYD\n\
VQQDDAJ2MTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABG9ALVsYRlq6gVcNEpid\n\
X+tMM4TV6/9GDKqkEHTtgzXo+mFfee+AlQV1yMvBEfLzQw/aDBkTcH0symg/uZN7\n\
v/4wCgYIKoZIzj0EAwIDSAAwRQIgaE1gzyCN7f2ToGnigemw7Y+R+4r2RvKU062C\n\
ns53rmUCIQDIZb03YphgNSEu316NIFoyHgjRUL61w2LyukWNIKz2Cg==\n\
-----END CERTIFICATE-----\n\
";
const VERSION_1_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgrn+iYjeKvw5Tq4ol\n\
JCft+yEik2Oj/lQuGSRbkKc4zNqhRANCAARvQC1bGEZauoFXDRKYnV/rTDOE1ev/\n\
RgyqpBB07YM16PphX3nvgJUFdcjLwRHy80MP2gwZE3B9LMpoP7mTe7/+\n\
-----END PRIVATE KEY-----\n\
";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(name: &str, by: &Issuer) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.signed_by(&key, by).unwrap(), key)
}

/// A server that the CA vouches for as `localhost`, and that asks for certificates of `clients` if there is one.
async fn listen(ca: &Issuer, clients: Option<&Issuer>) -> Server {
    profilesync_webhook::install_crypto();
    let (certificate, key) = issue("localhost", ca);
    let builder = ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::listen(answer("200 OK", "", ""), Some(acceptor)).await
}

/// A CA in PEM form, and a server that it vouches for as `localhost`.
async fn server() -> (String, Server) {
    let ca = authority();
    let server = listen(&ca, None).await;
    (ca.pem(), server)
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let (ca, clients) = (authority(), authority());
    let server = listen(&ca, Some(&clients)).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", ca.pem());
    for (name, by) in [("ours", &clients), ("strange", &ca)] {
        let (certificate, key) = issue(name, by);
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}-key.pem"), key.serialize_pem());
    }
    let try_with = |certificate: &str, key: &str| {
        let (folder, port) = (folder.path().display(), server.address.port());
        try_open(&format!(
            "url = 'https://localhost:{port}/'
             tls.ca = '{folder}/ca.pem'
             tls.certificate = '{folder}/{certificate}.pem'
             tls.private_key = '{folder}/{key}.pem'"
        ))
    };
    let outcome = deliver(&*try_with("ours", "ours-key").unwrap().target).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let outcome = deliver(&*try_with("strange", "strange-key").unwrap().target).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    let error = try_with("ours", "strange-key").err().unwrap();
    assert!(error.help.unwrap().contains("must belong together"));
    write("v1.pem", VERSION_1.into());
    write("v1-key.pem", VERSION_1_KEY.into());
    let error = try_with("v1", "v1-key").err().unwrap();
    assert!(error.message.contains("of version 1"), "{error}");
    assert!(error.help.unwrap().contains("version 3"));
    let without = open(&format!(
        "url = 'https://localhost:{}/'\ntls.ca = '{}/ca.pem'",
        server.address.port(),
        folder.path().display()
    ));
    let outcome = deliver(&*without).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
}

#[tokio::test]
async fn only_the_named_ca_is_trusted() {
    let (pem, server) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let port = server.address.port();
    let with_ca = |host: &str| open(&format!("url = 'https://{host}:{port}/'\ntls.ca = {ca:?}"));

    let outcome = deliver(&*with_ca("localhost")).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    with_ca("localhost").probe().await.unwrap();

    // The certificate is of another name.
    let outcome = deliver(&*with_ca("127.0.0.1")).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("certificate"), "{outcome:?}");

    // A stranger's CA is not trusted.
    let (other, _server) = self::server().await;
    std::fs::write(&ca, other).unwrap();
    let outcome = deliver(&*with_ca("localhost")).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
}
