//! TLS, with certificates that change.

use std::{fs, path::Path};

use arc_swap::ArcSwap;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::config::ListenerTls;

#[tokio::test]
async fn a_certificate_that_changes_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let files = write_certificate(dir.path());
    let old = files_root(&files);
    let tls: Tls = Arc::new(ArcSwap::from_pointee(tls::load(&files).unwrap()));
    let server = Server::start_with(LIMITS, Some(Arc::clone(&tls)), IDLE_TIMEOUT).await;
    let mut first = connect_tls(&server, &old).await.unwrap();
    assert_eq!(first.ask(post("/", "a")).await.status, 200);

    write_certificate(dir.path());
    let new = files_root(&files);
    assert!(connect_tls(&server, &new).await.is_err());
    tls.store(Arc::new(tls::load(&files).unwrap()));
    let mut second = connect_tls(&server, &new).await.unwrap();
    assert_eq!(second.ask(post("/", "a")).await.status, 200);
    assert_eq!(first.ask(post("/", "a")).await.status, 200);
    assert!(connect_tls(&server, &old).await.is_err());

    // Plain text to a TLS port harms nobody.
    let mut plain = server.connect().await;
    plain.send(post("/", "")).await;
    assert_eq!(second.ask(post("/", "a")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn certificate_files_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let files = write_certificate(dir.path());
    let tls: Tls = Arc::new(ArcSwap::from_pointee(tls::load(&files).unwrap()));
    let stop = CancellationToken::new();
    let named = Arc::new(ArcSwap::from_pointee(files.clone()));
    let names = Arc::clone(&named);
    let names = move || Some(ListenerTls::clone(&names.load()));
    let follow = tokio::spawn(tls::follow(names, Arc::clone(&tls), stop.clone()));
    sleep(Duration::from_secs(1)).await;
    let before = tls.load_full();

    let touch = |path: &Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    fs::write(&files.certificate, "rubbish").unwrap();
    touch(&files.certificate);
    sleep(Duration::from_secs(60)).await;
    assert!(Arc::ptr_eq(&before, &tls.load_full()));

    write_certificate(dir.path());
    sleep(Duration::from_secs(60)).await;
    let renewed = tls.load_full();
    assert!(!Arc::ptr_eq(&before, &renewed));

    // A reload may name others.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = write_certificate(elsewhere.path());
    named.store(Arc::new(other.clone()));
    sleep(Duration::from_secs(60)).await;
    let moved = tls.load_full();
    assert!(!Arc::ptr_eq(&renewed, &moved));
    touch(&files.certificate);
    sleep(Duration::from_secs(60)).await;
    assert!(Arc::ptr_eq(&moved, &tls.load_full()));
    touch(&other.certificate);
    sleep(Duration::from_secs(60)).await;
    assert!(!Arc::ptr_eq(&moved, &tls.load_full()));
    stop.cancel();
    follow.await.unwrap();
}

#[test]
fn certificates_that_do_not_load_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = write_certificate(dir.path());
    let check = |expected: &str| {
        let message = tls::load(&files).unwrap_err().to_string();
        let message = message.replace(&format!("{}/", dir.path().display()), "");
        assert_eq!(message, expected);
    };
    let other = tempfile::tempdir().unwrap();
    let key = write_certificate(other.path()).private_key;
    fs::copy(key, &files.private_key).unwrap();
    check("certificate.pem and key.pem do not make a server certificate");
    fs::remove_file(&files.private_key).unwrap();
    check("key.pem is no PEM file with a private key");
    fs::write(&files.certificate, "").unwrap();
    check("certificate.pem is no PEM file with a certificate");
}

/// Makes a new pair, in the same files.
fn write_certificate(dir: &Path) -> ListenerTls {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = ListenerTls {
        certificate: dir.join("certificate.pem"),
        private_key: dir.join("key.pem"),
    };
    fs::write(&files.certificate, cert.pem()).unwrap();
    fs::write(&files.private_key, signing_key.serialize_pem()).unwrap();
    files
}

fn files_root(files: &ListenerTls) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.certificate).unwrap()
}

async fn connect_tls(
    server: &Server,
    root: &CertificateDer<'static>,
) -> io::Result<Wire<TlsStream<TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map(Wire::new)
}
