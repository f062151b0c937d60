//! The loop over real sockets, with limits short enough to wait for.

mod certificates;

use std::net::SocketAddr;

use tokio::{task::JoinHandle, time::timeout};

use super::{
    wire::{Wire, post, post_chunked},
    *,
};

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

    async fn start_with(policy: impl Policy, tls: Option<Tls>, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let sockets = vec![Socket::Tcp(listener)];
        let serve = serve(
            sockets,
            tls,
            Arc::new(policy),
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

/// Takes nothing from anybody.
struct Nobody;

impl Policy for Nobody {
    fn limits(&self) -> Limits {
        Limits {
            max_connections: 1000,
            max_body: 100_000,
            ..LIMITS
        }
    }

    fn expects(&self, _peer: Peer) -> bool {
        false
    }

    fn heeds(&self, _head: &Parts, _peer: Peer) -> bool {
        false
    }
}

#[tokio::test]
async fn who_sends_in_vain_is_answered_in_few_places_and_little_is_kept() {
    let server = Server::start_with(Nobody, None, Duration::from_secs(5)).await;
    let mut wire = server.connect().await;
    let large = "x".repeat(50_000);
    for request in [post("/", &large), post_chunked("/", &[&large])] {
        let answer = wire.ask(request).await;
        assert_eq!(answer.body, "Some(127.0.0.1) TooLarge");
    }
    let answer = wire.ask(post_chunked("/", &["{}"])).await;
    assert_eq!(answer.body, r#"Some(127.0.0.1) Whole(b"{}")"#);
    let mut first = server.connect().await;
    let mut crowd = Vec::new();
    for _ in 0..STRANGERS {
        crowd.push(server.connect().await);
    }
    first.closed().await;
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
        Arc::new(LIMITS),
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
