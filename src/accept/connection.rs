//! One connection: the TLS handshake, requests in turn, and its end when the daemon stops.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use warp::{
    Filter, Reply,
    http::{HeaderValue, Uri, header::CONNECTION, request::Parts},
    reply::Response,
};

use super::{
    Body, Limits, Peer, Policy, Stream,
    places::Place,
    stream::{Timed, Turn},
    tls::Tls,
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The start line and headers of a request, bytes; also a connection's read buffer. Everybody may send so much.
const MAX_HEAD: usize = 16 * 1024;

/// Bodies up to this many bytes are read whoever sends them.
const SMALL_BODY: usize = 4 * 1024;

/// How long a stopping daemon waits on a connection without a request. One may be on its way, and a client that
/// gets its answer with `Connection: close` knows better than one whose connection is gone.
const LINGER: Duration = Duration::from_millis(500);

/// How much of a body over the limit is read and thrown away before the answer, so that the connection can go on. A
/// longer one is answered at once, and ends its connection.
const MAX_DISCARD: usize = 1024 * 1024;

/// What every connection is served with.
pub(super) struct Site<F, P> {
    pub(super) routes: F,
    pub(super) policy: Arc<P>,
    pub(super) tls: Option<Tls>,
    pub(super) stop: CancellationToken,
}

impl<F: Clone, P> Clone for Site<F, P> {
    fn clone(&self) -> Self {
        Self {
            routes: self.routes.clone(),
            policy: Arc::clone(&self.policy),
            tls: self.tls.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<F, P> Site<F, P>
where
    F: Filter<Extract: Reply, Error = Infallible> + Clone + Send + Sync + 'static,
    P: Policy,
{
    /// Serves one connection to its end. Its errors are the client's own affair.
    pub(super) async fn serve(self, stream: Stream, peer: Peer, limits: Limits, place: &Place) {
        let ended = match stream {
            Stream::Tcp(stream) => match stream.set_nodelay(true) {
                Ok(()) => self.secure(stream, peer, limits, place).await,
                Err(error) => Err(error.into()),
            },
            Stream::Unix(stream) => self.secure(stream, peer, limits, place).await,
        };
        if let Err(error) = ended {
            let peer = peer.address.map(tracing::field::display);
            tracing::debug!(peer, error, "connection ended early");
        }
    }

    async fn secure<S>(
        self,
        stream: S,
        peer: Peer,
        limits: Limits,
        place: &Place,
    ) -> Result<(), BoxError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(tls) = &self.tls else {
            return self.converse(stream, peer, limits, place).await;
        };
        let acceptor = TlsAcceptor::from(tls.load_full());
        let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
        self.converse(stream, peer, limits, place).await
    }

    async fn converse<S>(
        self,
        stream: S,
        peer: Peer,
        limits: Limits,
        place: &Place,
    ) -> Result<(), BoxError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let turn = Turn::new(limits);
        let stream = TokioIo::new(Timed::new(stream, turn.clone()));
        let answer = service_fn(|request| {
            let (site, turn) = (self.clone(), turn.clone());
            async move {
                let until = turn.answering();
                let (head, body) = request.into_parts();
                let max_body = site.max_body(&head, &body, peer, limits);
                let body = read(body, max_body, until).await?;
                match body {
                    Body::Whole(_) if !place.settle() => {
                        return Err(io::Error::other("it had to make place"));
                    }
                    Body::Whole(_) => {}
                    Body::TooLarge | Body::TooSlow => turn.linger(until),
                }
                let response = site.answer(head, body, peer).await;
                turn.answered();
                Ok(response)
            }
        });
        let connection = http1::Builder::new()
            .half_close(true) // a client may close its side and still wait for the answer
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(stream, answer);
        let mut connection = pin!(connection);
        select! {
            biased;
            ended = &mut connection => return Ok(ended?),
            () = async { self.stop.cancelled().await; sleep(LINGER).await } => {}
        }
        turn.end_if_waiting();
        Ok(connection.await?)
    }

    /// How much of a body is kept. That of a request that will be refused is nobody's memory to fill.
    fn max_body(&self, head: &Parts, body: &Incoming, peer: Peer, limits: Limits) -> usize {
        let is_small = body
            .size_hint()
            .upper()
            .is_some_and(|bytes| bytes <= SMALL_BODY as u64);
        match is_small || self.policy.heeds(head, peer) {
            true => limits.max_body,
            false => limits.max_body.min(SMALL_BODY),
        }
    }

    async fn answer(&self, mut head: Parts, body: Body, peer: Peer) -> Response {
        if head.uri.path_and_query().is_none() {
            // `CONNECT host:port` has no path, over which warp panics.
            head.uri = Uri::from_static("/");
        }
        head.extensions.insert(peer);
        head.extensions.insert(body);
        let request = Request::from_parts(head, Empty::<Bytes>::new());
        let Ok(mut response) = warp::service(self.routes.clone()).call(request).await;
        if self.stop.is_cancelled() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Reads a body to its end, its limit or its deadline. Fails when the connection does.
async fn read(body: Incoming, max_body: usize, until: Instant) -> Result<Body, io::Error> {
    match timeout_at(until, read_to_end(body, max_body)).await {
        Ok(read) => read.map_err(io::Error::other),
        Err(_) => Ok(Body::TooSlow),
    }
}

async fn read_to_end(mut body: Incoming, max_body: usize) -> Result<Body, hyper::Error> {
    let most = max_body.saturating_add(MAX_DISCARD);
    if body.size_hint().lower() > most as u64 {
        return Ok(Body::TooLarge);
    }
    let mut whole = BytesMut::new();
    let mut total: usize = 0;
    while let Some(frame) = body.frame().await.transpose()? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        total = total.saturating_add(data.len());
        if total <= max_body {
            whole.extend_from_slice(&data);
        } else if total > most {
            break;
        }
    }
    Ok(if total <= max_body {
        Body::Whole(whole.freeze())
    } else {
        Body::TooLarge
    })
}
