//! What the daemon is compared with, each as a process of its own: this program, started with another argument.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    env,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use profilesync::{
    accept::{self, Body, Limits, Peer, Socket},
    clock,
    event::{self, Kind},
};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};
use tokio_util::sync::CancellationToken;
use warp::{
    Filter as _,
    filters::path::FullPath,
    http::{HeaderMap, HeaderValue, Method, Response, header::CONTENT_TYPE},
};

use crate::daemon::{APP, TOKEN, free_port};

/// A baseline while it runs.
pub(crate) struct Listener {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Starts one that checks and answers as the daemon does, and keeps nothing.
    pub(crate) fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(env::current_exe().unwrap());
        let child = command.arg("baseline-listener").arg(address.to_string());
        let child = child.spawn().unwrap();
        while std::net::TcpStream::connect(address).is_err() {
            sleep(Duration::from_millis(5));
        }
        Self { child, address }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The process of [`Listener`].
pub(crate) fn listen() {
    let address: SocketAddr = env::args().nth(2).unwrap().parse().unwrap();
    let raw_query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let routes = warp::method()
        .and(warp::path::full())
        .and(raw_query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .and(warp::ext::get::<Body>())
        .then(
            |_: Method, _: FullPath, query: String, _: HeaderMap, _: Peer, body: Body| async move {
                answer(&query, &body)
            },
        )
        .recover(async |_| Ok::<_, Infallible>(Response::new(Bytes::new())))
        .unify();
    Runtime::new().unwrap().block_on(async {
        let socket = Socket::Tcp(TcpListener::bind(address).await.unwrap());
        let limits = Arc::new(Limits::new(1024, 64 << 10));
        let stop = CancellationToken::new();
        accept::serve(vec![socket], None, limits, routes, stop, || Duration::ZERO).await;
    });
}

fn answer(query: &str, body: &Body) -> Response<Bytes> {
    let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
    let digest = Sha256::digest(format!("{TOKEN}{}", query["RequestTime"]));
    assert_eq!(query["Sign"], HEXLOWER.encode(&digest));
    let second: u64 = query["RequestTime"].parse().unwrap();
    assert!(second.abs_diff(clock::now() / 1000) <= 60);
    let Body::Whole(body) = body else {
        panic!("the body is not whole")
    };
    let command = &query["CallbackCommand"];
    let kind = Kind::of_command(command).unwrap();
    event::parse(APP, kind, command, body).unwrap();
    let body = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Posts one request again and again with a bare reqwest client, and waits for its end.
pub(crate) fn run_sender(url: &str, concurrency: usize, count: u64, request: &str) {
    let status = Command::new(env::current_exe().unwrap())
        .args([
            "baseline-sender",
            url,
            &concurrency.to_string(),
            &count.to_string(),
            request,
        ])
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

/// The process of [`run_sender`]; the request is what the sink got of the daemon.
pub(crate) fn send(args: impl Iterator<Item = String>) {
    let args: Vec<_> = args.collect();
    let [url, concurrency, count, request] = &args[..] else {
        panic!("arguments: URL CONCURRENCY COUNT REQUEST")
    };
    let (concurrency, count): (usize, u64) = (concurrency.parse().unwrap(), count.parse().unwrap());
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let own = ["host", "content-length", "accept"];
    let headers: HeaderMap = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !own.contains(name))
        .map(|(name, value)| {
            (
                name.parse::<warp::http::HeaderName>().unwrap(),
                value.parse().unwrap(),
            )
        })
        .collect();
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    Runtime::new().unwrap().block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..concurrency {
            let (client, url, headers, body, taken) = (
                client.clone(),
                url.clone(),
                headers.clone(),
                body.to_owned(),
                Arc::clone(&taken),
            );
            tasks.spawn(async move {
                while taken.fetch_add(1, Relaxed) < count {
                    let request = client
                        .post(&url)
                        .headers(headers.clone())
                        .body(body.clone());
                    let response = request.send().await.unwrap();
                    assert!(response.status().is_success());
                    response.bytes().await.unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
}

/// One `fdatasync` after an append of this length to a file; how long it took.
pub(crate) fn append_and_sync(file: &mut std::fs::File, length: usize) -> Duration {
    let bytes = vec![b'x'; length];
    let start = Instant::now();
    std::io::Write::write_all(file, &bytes).unwrap();
    file.sync_data().unwrap();
    start.elapsed()
}
