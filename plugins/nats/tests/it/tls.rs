//! TLS: the server's certificate is checked, and one's own is shown. And logging in with a credentials file.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
    thread,
};

use profilesync_target::{Outcome, write_certificates};
use serde_json::json;

use crate::{PASSWORD, Server, deliver, delivered, document, open, server::is_installed};

/// A server that wants no TLS is told nothing, not even who is there.
#[tokio::test]
async fn a_connection_without_tls_is_not_gone_on_with() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let info =
                "INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"max_payload\":1048576}\r\n";
            stream.write_all(info.as_bytes()).unwrap();
            let mut first = [0];
            stream.read_exact(&mut first).unwrap();
            sender.send(first[0]).unwrap();
        }
    });
    for settings in [
        format!("url = 'tls://localhost:{port}'"),
        format!("url = 'nats://localhost:{port}'\ntls = {{}}"),
        // In whatever order they are tried.
        format!("url = ['nats://localhost:{port}', 'tls://127.0.0.1:{port}']"),
    ] {
        let target = open(&format!("{settings}\ntoken = 'hunter2'"));
        let outcome = deliver(&*target, document(1)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        let first: Vec<_> = received.try_iter().collect();
        // The first byte of a TLS handshake, not the C of CONNECT.
        assert!(
            !first.is_empty() && first.iter().all(|byte| *byte == 0x16),
            "{settings}: {first:?}"
        );
    }
}

#[tokio::test]
async fn both_sides_show_their_certificates() {
    if !is_installed() {
        eprintln!("skipped: there is no nats-server");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path(), &["127.0.0.1"]);
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (ca, certificate, key) = (path("ca.pem"), path("127.0.0.1.pem"), path("127.0.0.1.key"));
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
    for url in ["nats://127.0.0.1", "tls://127.0.0.1"] {
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
        let outcome = deliver(&*open_with("tls://127.0.0.1", &tls), document(2)).await;
        assert!(
            matches!(outcome, Outcome::Fault { .. }),
            "{tls}: {outcome:?}"
        );
    }
}
