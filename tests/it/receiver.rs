//! A scripted HTTP target: answers by a closure, remembers what it got, and sees overlaps and steps back.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    HeaderMap, Request, Response, body::Frame, body::Incoming, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{daemon::LIMIT, model};

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
    /// The body, `standard` format.
    pub(crate) body: Value,
    /// The account it is about.
    pub(crate) account: String,
    /// `profilesync-revision`
    pub(crate) revision: u64,
    /// How many requests about this account came before.
    pub(crate) earlier: usize,
}

impl Delivery {
    /// The document it carries.
    pub(crate) fn document(&self) -> &Value {
        &self.body["data"]
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This status.
    Status(u16),
    /// This status and header.
    Header(u16, &'static str, &'static str),
    /// This status after a while.
    Late(u16, Duration),
    /// Nothing, ever.
    Hang,
    /// 200 and the beginning of a body, then a closed connection.
    Reset,
    /// 200 and a body that comes a byte at a time and does not end.
    Trickle,
    /// 200 and a body of so many bytes.
    Huge(usize),
}

impl Reply {
    /// Whether a sender may take the document for delivered.
    fn accepts(&self) -> bool {
        match self {
            Self::Status(status) | Self::Header(status, ..) | Self::Late(status, _) => {
                (200..300).contains(status)
            }
            Self::Huge(_) => true,
            Self::Hang | Self::Reset | Self::Trickle => false,
        }
    }
}

type Script = Arc<dyn Fn(&Delivery) -> Reply + Send + Sync>;

#[derive(Default)]
struct Seen {
    deliveries: Vec<Delivery>,
    /// Per account the deliveries that are being answered.
    open: BTreeMap<String, usize>,
    /// Per account the document of the last delivery that was accepted.
    held: BTreeMap<String, Value>,
    /// What a target must never see.
    violations: Vec<String>,
}

/// The endpoint; stops when dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port and answers by `script`.
    pub(crate) async fn start(script: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(0, script).await
    }

    /// Listens on this port.
    pub(crate) async fn start_on(
        port: u16,
        script: impl Fn(&Delivery) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let server = tokio::spawn(serve(listener, Arc::clone(&seen), Arc::new(script)));
        Self {
            address,
            seen,
            server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/profiles", self.address)
    }

    /// A `[targets.NAME]` of kind webhook that sends here; `more` are further lines of it.
    pub(crate) fn target(&self, name: &str, more: &str) -> String {
        webhook(name, &self.url(), more)
    }

    /// Every request so far.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.seen.lock().unwrap().deliveries.clone()
    }

    /// How many requests about this account came so far.
    pub(crate) fn count(&self, account: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.deliveries
            .iter()
            .filter(|delivery| delivery.account == account)
            .count()
    }

    /// Per account the document last accepted.
    pub(crate) fn held(&self) -> BTreeMap<String, Value> {
        self.seen.lock().unwrap().held.clone()
    }

    /// The name last accepted of an account.
    pub(crate) fn name_of(&self, account: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        Some(seen.held.get(account)?["name"].as_str()?.to_owned())
    }

    /// Waits until it holds what the model says, and every delivery on the way there was in order.
    pub(crate) async fn reaches(&self, expected: &BTreeMap<String, Value>) {
        let start = Instant::now();
        let mut held = model::comparable(&self.held());
        while held != *expected && start.elapsed() < LIMIT {
            tokio::time::sleep(Duration::from_millis(50)).await;
            held = model::comparable(&self.held());
        }
        for (account, document) in expected {
            assert_eq!(
                held.get(account),
                Some(document),
                "what is held of {account:?}"
            );
        }
        assert_eq!(held.len(), expected.len(), "accounts");
        self.assert_orderly();
    }

    /// Fails if two deliveries of an account overlapped, or one went back to an older revision.
    pub(crate) fn assert_orderly(&self) {
        assert_eq!(self.seen.lock().unwrap().violations, Vec::<String>::new());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A `[targets.NAME]` of kind webhook.
pub(crate) fn webhook(name: &str, url: &str, more: &str) -> String {
    format!("[targets.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\n{more}\n")
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Seen>>, script: Script) {
    // Dropping the set with the task ends the connections too.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &seen, &script));
            // A client that goes away is its own business.
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
    }
}

type Body = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Seen>,
    script: &Script,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        std::future::pending().await
    };
    let delivery = note(&head.headers, &body.to_bytes(), &mut seen.lock().unwrap());
    let reply = script(&delivery);
    match reply {
        Reply::Hang => std::future::pending().await,
        Reply::Late(_, delay) => {
            let _open = Open::new(seen, &delivery.account);
            tokio::time::sleep(delay).await;
        }
        _ => {}
    }
    if reply.accepts() {
        let mut seen = seen.lock().unwrap();
        seen.held
            .insert(delivery.account.clone(), delivery.document().clone());
    }
    Ok(respond(&reply))
}

/// Remembers a delivery and checks its order.
fn note(headers: &HeaderMap, body: &[u8], seen: &mut Seen) -> Delivery {
    let body: Value = serde_json::from_slice(body).unwrap();
    let account = body["data"]["account"].as_str().unwrap().to_owned();
    let revision = headers["profilesync-revision"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    if seen.open.get(&account).is_some_and(|&open| open > 0) {
        seen.violations
            .push(format!("{account} overlaps at revision {revision}"));
    }
    let earlier = seen
        .deliveries
        .iter()
        .filter(|delivery| delivery.account == account);
    if let Some(last) = earlier
        .clone()
        .next_back()
        .filter(|last| last.revision > revision)
    {
        seen.violations.push(format!(
            "{account} steps back from {} to {revision}",
            last.revision
        ));
    }
    let delivery = Delivery {
        at: Instant::now(),
        headers: headers.clone(),
        earlier: earlier.count(),
        body,
        account,
        revision,
    };
    seen.deliveries.push(delivery.clone());
    delivery
}

/// A delivery that is being answered. A client that gives up may try again before this end knows: replies that
/// clients give up on are not held open.
struct Open<'a> {
    seen: &'a Mutex<Seen>,
    account: &'a str,
}

impl<'a> Open<'a> {
    fn new(seen: &'a Mutex<Seen>, account: &'a str) -> Self {
        *seen
            .lock()
            .unwrap()
            .open
            .entry(account.to_owned())
            .or_default() += 1;
        Self { seen, account }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self
            .seen
            .lock()
            .unwrap()
            .open
            .get_mut(self.account)
            .unwrap() -= 1;
    }
}

fn respond(reply: &Reply) -> Response<Body> {
    let data = |bytes: Bytes| Ok(Frame::data(bytes));
    let chunks = match reply {
        Reply::Reset => {
            let broken = Err(io::Error::other("scripted"));
            stream::iter([data(Bytes::from_static(b"{\"beg")), broken]).boxed()
        }
        Reply::Trickle => stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((data(Bytes::from_static(b".")), ()))
        })
        .boxed(),
        Reply::Huge(size) => {
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            let count = size.div_ceil(chunk.len());
            stream::iter((0..count).map(move |_| data(chunk.clone()))).boxed()
        }
        _ => stream::iter([data(Bytes::from_static(b"{}"))]).boxed(),
    };
    let mut response = Response::new(StreamBody::new(chunks));
    match *reply {
        Reply::Status(status) | Reply::Late(status, _) => {
            *response.status_mut() = status.try_into().unwrap();
        }
        Reply::Header(status, name, value) => {
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        _ => {}
    }
    response
}
