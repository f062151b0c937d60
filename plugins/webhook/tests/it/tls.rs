//! TLS with a CA of our own.

use std::sync::Arc;

use profilesync_target::Outcome;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

use crate::{
    deliver, open,
    server::{Server, answer},
};

/// A CA in PEM form, and a server that it vouches for as `localhost`.
async fn server() -> (String, Server) {
    profilesync_webhook::install_crypto();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    (
        ca.pem(),
        Server::listen(answer("200 OK", "", ""), Some(acceptor)).await,
    )
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
