//! The accept loop under the webhook listener and the admin API: sockets, limits, graceful stop.
//!
//! It brings each request to a warp filter whole: head and body have arrived, within time and size, before the
//! filter runs. It knows nothing of what is served. warp's own server has no timeouts, no TLS and no way to cap
//! a body that is sent in chunks.

mod connection;
mod places;
mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
#[cfg(test)]
pub(crate) mod wire;

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    select,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use warp::{Filter, Reply, http::request::Parts};

use crate::seldom::Seldom;
use connection::Site;
use places::Places;
use tls::Tls;

/// Where connections come from.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Who sent a request, as the socket knows it. An extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end's address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
}

/// The body of a request. An extension of each request; warp's own body is always empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// It is larger than [`Limits::max_body`], however it was sent.
    TooLarge,
    /// It did not arrive within [`Limits::request_timeout`].
    TooSlow,
}

/// What connections are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, of all sockets together. One more takes the place of one that has waited long without bringing a
    /// whole request; when there is none, it is closed as soon as it is accepted.
    pub max_connections: usize,
    /// Bytes.
    pub max_body: usize,
    /// From a request's first byte to the last of its body. A new connection has as long to send its first byte,
    /// and a client that takes no byte of its answer for so long is cut off.
    pub request_timeout: Duration,
    /// From an answer to the next request's first byte. Closing a connection that the sender is about to use
    /// again loses a request, so this is longer than any sender keeps one.
    pub idle_timeout: Duration,
}

impl Limits {
    /// The times of the design, and these numbers.
    #[must_use]
    pub const fn new(max_connections: usize, max_body: usize) -> Self {
        Self {
            max_connections,
            max_body,
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(180),
        }
    }
}

/// Who may come in, and with how much. It is asked for every connection, so that a reload takes effect.
pub trait Policy: Send + Sync + 'static {
    /// What connections are held to.
    fn limits(&self) -> Limits;

    /// Whether anything that this peer sends may be taken. Who sends in vain is answered all the same, in the few
    /// places there are for such.
    fn expects(&self, _peer: Peer) -> bool {
        true
    }

    /// Whether a request with this head may be taken. Otherwise little of its body is kept, and it is
    /// [`Body::TooLarge`] if there is more.
    fn heeds(&self, _head: &Parts, _peer: Peer) -> bool {
        true
    }
}

/// Everyone is welcome.
impl Policy for Limits {
    fn limits(&self) -> Limits {
        *self
    }
}

/// Places for peers from whom nothing is taken.
const STRANGERS: usize = 16;

/// How long accepting rests after an error that will not go away by itself, such as no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers what the sockets bring by `routes` until `stop`, then what is in hand: a request whose first byte has
/// arrived is answered, with `Connection: close`, unless `grace` is over. Returns how many connections had to be
/// cut off. `grace` is asked at the end, so that a reload takes effect.
pub async fn serve<F, P>(
    sockets: Vec<Socket>,
    tls: Option<Tls>,
    policy: Arc<P>,
    routes: F,
    stop: CancellationToken,
    grace: impl Fn() -> Duration + Send + 'static,
) -> usize
where
    P: Policy,
    F: Filter<Extract: Reply, Error = Infallible> + Clone + Send + Sync + 'static,
{
    let door = Door {
        site: Site {
            routes,
            policy,
            tls,
            stop,
        },
        places: Places::default(),
        strangers: Places::default(),
        grace,
        seldom: Seldom::default(),
    };
    let cut_off = join_all(sockets.into_iter().map(|socket| door.serve(socket))).await;
    cut_off.into_iter().sum()
}

/// What all sockets of one [`serve`] share.
struct Door<F, P, G> {
    site: Site<F, P>,
    places: Places,
    strangers: Places,
    grace: G,
    seldom: Seldom,
}

impl<F, P, G> Door<F, P, G>
where
    F: Filter<Extract: Reply, Error = Infallible> + Clone + Send + Sync + 'static,
    P: Policy,
    G: Fn() -> Duration,
{
    async fn serve(&self, socket: Socket) -> usize {
        let mut connections = JoinSet::new();
        loop {
            let accepted = select! {
                biased;
                () = self.site.stop.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.pause_after(&error).await;
                    continue;
                }
            };
            let limits = self.site.policy.limits();
            let (places, count) = match self.site.policy.expects(peer) {
                true => (&self.places, limits.max_connections),
                false => (&self.strangers, STRANGERS.min(limits.max_connections)),
            };
            let (place, full) = places.take(count, peer.address);
            if full {
                self.tell_full(count);
            }
            if let Some(place) = place {
                let site = self.site.clone();
                connections.spawn(async move {
                    select! {
                        biased;
                        () = place.lost() => {}
                        () = site.serve(stream, peer, limits, &place) => {}
                    }
                });
            }
        }
        drop(socket);
        self.finish(connections).await
    }

    fn tell_full(&self, max_connections: usize) {
        if let Some(left_out) = self.seldom.left_out("full") {
            tracing::warn!(
                max_connections,
                left_out,
                "connection limit reached, connections that bring no request are closed, or else new ones"
            );
        }
    }

    /// Errors of one connection that was gone before it was accepted concern nobody else.
    async fn pause_after(&self, error: &io::Error) {
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ) {
            return;
        }
        if let Some(left_out) = self.seldom.left_out("accept") {
            tracing::error!(%error, left_out, "cannot accept connections, trying again");
        }
        sleep(ACCEPT_PAUSE).await;
    }

    /// Waits for connections that are still answering, and aborts those that outlast the grace period.
    async fn finish(&self, mut connections: JoinSet<()>) -> usize {
        let end = Instant::now() + (self.grace)();
        while let Ok(Some(ended)) = timeout_at(end, connections.join_next()).await {
            report(ended);
        }
        let cut_off = connections.len();
        connections.shutdown().await;
        cut_off
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a request handler panicked, its connection was closed");
    }
}

/// An accepted connection.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // An IPv4 peer of a socket that also takes IPv6 is to look like one.
                let address = Some(address.ip().to_canonical());
                (Stream::Tcp(stream), Peer { address })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                (Stream::Unix(stream), Peer { address: None })
            }
        })
    }
}
