//! TLS against the real server, with a CA of our own and client certificates.

use profilesync_target::{Outcome, free_port, write_certificates};

use crate::{deliver, open, server::Server};

#[tokio::test(flavor = "multi_thread")]
async fn the_named_ca_and_the_client_certificate_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    write_certificates(folder.path(), &["localhost", "client"]);
    let port = free_port();
    let Some(_server) = Server::start(&format!(
        "per_listener_settings true\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
         require_certificate true\nuse_identity_as_username true\n",
        at("ca.pem"),
        at("localhost.pem"),
        at("localhost.key"),
    ))
    .await
    else {
        return;
    };
    let with = |host: &str, ca: &str, certificate: &str| {
        open(&format!(
            "url = 'mqtts://{host}:{port}'\ntls = {{ ca = '{ca}'{certificate} }}"
        ))
    };
    let certificate = format!(
        ", certificate = '{}', private_key = '{}'",
        at("client.pem"),
        at("client.key")
    );
    let good = with("localhost", &at("ca.pem"), &certificate);
    good.probe().await.unwrap();
    let outcomes = deliver(&*good, &["a"]).await;
    assert!(
        matches!(outcomes[0], Outcome::Delivered { .. }),
        "{outcomes:?}"
    );

    // Another name; no client certificate; a stranger's CA.
    let stranger = tempfile::tempdir().unwrap();
    write_certificates(stranger.path(), &[]);
    let stranger = stranger.path().join("ca.pem").display().to_string();
    for bad in [
        with("127.0.0.1", &at("ca.pem"), &certificate),
        with("localhost", &at("ca.pem"), ""),
        with("localhost", &stranger, &certificate),
    ] {
        let outcomes = deliver(&*bad, &["a"]).await;
        assert!(matches!(outcomes[0], Outcome::Fault { .. }), "{outcomes:?}");
    }
}
