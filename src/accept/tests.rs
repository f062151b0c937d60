//! The loop over real sockets, with limits short enough to wait for.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    wire::{Wire, post, post_chunked},
    *,
};
use crate::config::ListenerTls;

const REQUEST_TIMEOUT: Duration = Duration::from_millis(300);
const IDLE_TIMEOUT: Duration = Duration::from_millis(1500);
const LIMITS: Limits = Limits {
    max_connections: 8,
    max_body: 10,
    request_timeout: REQUEST_TIMEOUT,
    idle_timeout: IDLE_TIMEOUT,
};

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<usize>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::start_with(limits, None, Duration::from_secs(5)).await
    }

    async fn start_with(limits: Limits, tls: Option<Tls>, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let sockets = vec![Socket::Tcp(listener)];
        let serve = serve(
            sockets,
            tls,
            move || limits,
            routes(),
            stop.clone(),
            move || grace,
        );
        Self {
            address,
            stop,
            ended: tokio::spawn(serve),
        }
    }

    async fn connect(&self) -> Wire<TcpStream> {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }
}

/// `/` tells what it was given, `/slow` takes longer than [`REQUEST_TIMEOUT`], `/huge` answers more than sockets
/// hold, `/panic` panics.
fn routes() -> impl Filter<Extract: Reply, Error = Infallible> + Clone {
    let tell = warp::path::end()
        .and(warp::ext::get::<Peer>())
        .and(warp::ext::get::<Body>())
        .map(|peer: Peer, body| format!("{:?} {body:?}", peer.address));
    let slow = warp::path!("slow").then(async || {
        sleep(2 * REQUEST_TIMEOUT).await;
        "slow".to_owned()
    });
    let huge = warp::path!("huge").map(|| "x".repeat(64 * 1024 * 1024));
    let panic = warp::path!("panic").map(|| -> String { panic!("on request") });
    tell.or(slow)
        .unify()
        .or(huge)
        .unify()
        .or(panic)
        .unify()
        .recover(async |_| Ok::<_, Infallible>("no such path"))
}

#[tokio::test]
async fn a_request_arrives_with_its_peer_and_body() {
    let server = Server::start(LIMITS).await;
    let mut wire = server.connect().await;
    for request in [
        post("/", "0123456789"),
        post_chunked("/", &["01234", "56789"]),
    ] {
        let answer = wire.ask(request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, r#"Some(127.0.0.1) Whole(b"0123456789")"#);
        assert_eq!(answer.header("connection"), None);
    }
    let answer = wire.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.body, r#"Some(127.0.0.1) Whole(b"")"#);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_kept_however_it_is_sent() {
    let server = Server::start(LIMITS).await;
    let mut wire = server.connect().await;
    let large = "x".repeat(300_000);
    for request in [
        post("/", "0123456789a"),
        post_chunked("/", &["01234", "56789a"]),
        post("/", &large),
        post_chunked("/", &[&large, &large]),
    ] {
        assert_eq!(wire.ask(request).await.body, "Some(127.0.0.1) TooLarge");
    }
    // A client need not send more to be told.
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        .await;
    assert_eq!(wire.answer().await.body, "Some(127.0.0.1) TooLarge");
    wire.closed().await;
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_is_told() {
    let server = Server::start(Limits {
        request_timeout: Duration::from_secs(60),
        ..LIMITS
    })
    .await;
    let large = "x".repeat(30_000_000);
    for request in [post("/", &large), post_chunked("/", &[&large])] {
        let mut wire = server.connect().await;
        let answer = wire.ask(request).await;
        assert_eq!(answer.body, "Some(127.0.0.1) TooLarge");
        wire.closed().await;
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_too_slow() {
    let server = Server::start(LIMITS).await;
    let mut wire = server.connect().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
        .await;
    assert_eq!(wire.answer().await.body, "Some(127.0.0.1) TooSlow");
    wire.closed().await;
}

#[tokio::test]
async fn half_a_head_ends_the_connection_in_time() {
    let server = Server::start(LIMITS).await;
    for sent in ["", "POST / HT", "POST / HTTP/1.1\r\nHost: x\r\n"] {
        let mut wire = server.connect().await;
        let started = Instant::now();
        wire.send(sent).await;
        wire.closed().await;
        let took = started.elapsed();
        assert!(
            took >= REQUEST_TIMEOUT - Duration::from_millis(50),
            "{took:?}"
        );
        assert!(took < IDLE_TIMEOUT, "{took:?}");
    }
}

#[tokio::test]
async fn a_head_that_trickles_in_ends_the_connection_in_time() {
    let server = Server::start(LIMITS).await;
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(post("/", "")).await.status, 200);
    let trickle = async {
        loop {
            wire.send("x").await;
            sleep(REQUEST_TIMEOUT / 5).await;
            if timeout(Duration::from_millis(1), wire.closed())
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(IDLE_TIMEOUT, trickle).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_outlives_the_request_timeout_but_not_its_own() {
    let server = Server::start(LIMITS).await;
    let mut wire = server.connect().await;
    for _ in 0..2 {
        assert_eq!(wire.ask(post("/", "")).await.status, 200);
        sleep(2 * REQUEST_TIMEOUT).await;
    }
    assert_eq!(wire.ask(post("/", "")).await.status, 200);
    let started = Instant::now();
    wire.closed().await;
    assert!(started.elapsed() >= IDLE_TIMEOUT - Duration::from_millis(50));
}

#[tokio::test]
async fn a_handler_may_take_longer_than_the_request() {
    let server = Server::start(LIMITS).await;
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(post("/slow", "")).await.body, "slow");
    assert_eq!(wire.ask(post("/", "")).await.status, 200);
}

#[tokio::test]
async fn a_client_that_has_closed_its_half_gets_its_answer() {
    let server = Server::start(LIMITS).await;
    let mut wire = server.connect().await;
    wire.send(post("/slow", "")).await;
    wire.finish().await;
    assert_eq!(wire.answer().await.body, "slow");
    wire.closed().await;
}

#[tokio::test]
async fn connections_over_the_limit_harm_no_other() {
    let max_connections = 1;
    let server = Server::start(Limits {
        max_connections,
        ..LIMITS
    })
    .await;
    let mut first = server.connect().await;
    assert_eq!(first.ask(post("/", "")).await.status, 200);
    server.connect().await.closed().await;
    assert_eq!(first.ask(post("/", "")).await.status, 200);
    drop(first);
    // The place is free once the loop has seen the end.
    timeout(Duration::from_secs(5), async {
        while !taken(&server).await {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn idle_newcomers_give_way_and_those_who_sent_a_request_stay() {
    let server = Server::start(Limits {
        max_connections: 3,
        request_timeout: Duration::from_secs(60),
        ..LIMITS
    })
    .await;
    let mut old = server.connect().await;
    assert_eq!(old.ask(post("/", "")).await.status, 200);
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.send("POST / HT").await;
    let mut new = server.connect().await;
    assert_eq!(new.ask(post("/", "")).await.status, 200);
    silent.closed().await;
    let mut newest = server.connect().await;
    assert_eq!(newest.ask(post("/", "")).await.status, 200);
    slow.closed().await;
    server.connect().await.closed().await;
    for wire in [&mut old, &mut new, &mut newest] {
        assert_eq!(wire.ask(post("/", "")).await.status, 200);
    }
}

async fn taken(server: &Server) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let sent = stream.write_all(post("/", "").as_bytes()).await;
    sent.is_ok() && matches!(stream.read(&mut [0; 64]).await, Ok(1..))
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let max_connections = 1;
    let server = Server::start(Limits {
        max_connections,
        ..LIMITS
    })
    .await;
    let mut wire = server.connect().await;
    wire.send(post("/huge", "")).await;
    timeout(Duration::from_secs(5), async {
        while !taken(&server).await {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only() {
    let server = Server::start(LIMITS).await;
    let mut other = server.connect().await;
    assert_eq!(other.ask(post("/", "")).await.status, 200);
    let mut wire = server.connect().await;
    wire.send(post("/panic", "")).await;
    wire.closed().await;
    assert_eq!(other.ask(post("/", "")).await.status, 200);
    assert_eq!(server.connect().await.ask(post("/", "")).await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let server = Server::start(LIMITS).await;
    for (request, status) in [
        ("rubbish\r\n\r\n".to_owned(), 400),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
                "x".repeat(70_000)
            ),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101)),
            431,
        ),
    ] {
        let mut wire = server.connect().await;
        assert_eq!(wire.ask(request).await.status, status);
    }
}

#[tokio::test]
async fn stopping_answers_what_is_in_hand() {
    let server = Server::start(LIMITS).await;
    let (mut busy, mut idle, mut late) = (
        server.connect().await,
        server.connect().await,
        server.connect().await,
    );
    assert_eq!(idle.ask(post("/", "")).await.status, 200);
    assert_eq!(late.ask(post("/", "")).await.status, 200);
    busy.send(post("/slow", "")).await;
    late.send("POST / HTTP/1.1\r\n").await;
    sleep(REQUEST_TIMEOUT / 3).await;
    server.stop.cancel();
    late.send("Host: x\r\n\r\n").await;
    let answer = late.answer().await;
    assert_eq!(answer.header("connection"), Some("close"));
    let answer = busy.answer().await;
    assert_eq!(answer.body, "slow");
    assert_eq!(answer.header("connection"), Some("close"));
    idle.closed().await;
    assert!(TcpStream::connect(server.address).await.is_err());
    let ended = timeout(Duration::from_secs(2), server.ended).await;
    assert_eq!(ended.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_cut_off() {
    let server = Server::start_with(LIMITS, None, Duration::from_millis(50)).await;
    let mut wire = server.connect().await;
    wire.send(post("/slow", "")).await;
    sleep(REQUEST_TIMEOUT / 3).await;
    server.stop.cancel();
    assert_eq!(server.ended.await.unwrap(), 1);
    wire.closed().await;
}

#[tokio::test]
async fn a_unix_socket_has_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let sockets = vec![Socket::Unix(UnixListener::bind(&path).unwrap())];
    let stop = CancellationToken::new();
    let serve = serve(
        sockets,
        None,
        || LIMITS,
        routes(),
        stop.clone(),
        || IDLE_TIMEOUT,
    );
    let ended = tokio::spawn(serve);
    let mut wire = Wire::new(UnixStream::connect(&path).await.unwrap());
    assert_eq!(wire.ask(post("/", "a")).await.body, r#"None Whole(b"a")"#);
    stop.cancel();
    wire.closed().await;
    assert_eq!(ended.await.unwrap(), 0);
}

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
