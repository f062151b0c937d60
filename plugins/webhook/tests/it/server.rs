//! An HTTP server that records what it gets and answers as told, wrongly if need be.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// One request as received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// `POST /path HTTP/1.1`
    pub(crate) line: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What follows a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes; the connection stays open.
    Bytes(String),
    /// These bytes, then the connection is closed.
    BytesAndClose(String),
    /// These bytes, then `x` for ever, one in so long.
    Drip(String, Duration),
    /// Nothing, for ever.
    Silence,
    /// What this says to the request.
    Script(Script),
}

/// Decides on each request.
#[derive(Clone)]
pub(crate) struct Script(Arc<dyn Fn(&Received) -> Reply + Send + Sync>);

impl Reply {
    pub(crate) fn script(decide: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::Script(Script(Arc::new(decide)))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a script")
    }
}

impl Received {
    /// Method and path with query.
    pub(crate) fn method_and_path(&self) -> (&str, &str) {
        let mut words = self.line.split(' ');
        (words.next().unwrap(), words.next().unwrap())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) received: Vec<Received>,
    pub(crate) connections: usize,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<State>>,
    reply: Arc<Mutex<Reply>>,
    accepting: JoinHandle<()>,
}

/// A whole answer with a body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"
    ))
}

/// A segment or value of a URL as text.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

impl Server {
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::listen(reply, None).await
    }

    pub(crate) async fn listen(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let reply = Arc::new(Mutex::new(reply));
        let (shared, replies) = (Arc::clone(&state), Arc::clone(&reply));
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.lock().unwrap().connections += 1;
                let (shared, replies, tls) =
                    (Arc::clone(&shared), Arc::clone(&replies), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &shared, &replies).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &shared, &replies).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            state,
            reply,
            accepting,
        }
    }

    pub(crate) fn reply(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<S>(mut stream: S, state: &Mutex<State>, reply: &Mutex<Reply>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::new();
    while let Some(received) = read_request(&mut stream, &mut buffer).await {
        state.lock().unwrap().received.push(received.clone());
        let reply = match reply.lock().unwrap().clone() {
            Reply::Script(Script(decide)) => decide(&received),
            reply => reply,
        };
        let written = match reply {
            Reply::Bytes(bytes) => stream.write_all(bytes.as_bytes()).await,
            Reply::BytesAndClose(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Drip(bytes, pause) => drip(&mut stream, &bytes, pause).await,
            Reply::Silence | Reply::Script(_) => std::future::pending().await,
        };
        if written.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn drip<S: AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &str,
    pause: Duration,
) -> std::io::Result<()> {
    stream.write_all(bytes.as_bytes()).await?;
    let drop = vec![b'x'; if pause.is_zero() { 8192 } else { 1 }];
    loop {
        stream.write_all(&drop).await?;
        stream.flush().await?;
        tokio::time::sleep(pause).await;
    }
}

/// Reads one request with a `content-length`; `None` at the end of the connection.
async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Option<Received> {
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
    let mut lines = head.lines().map(str::to_owned);
    let line = lines.next()?;
    let headers: HashMap<_, _> = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        })
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |text| text.parse().unwrap());
    let whole = head_end + 4 + length;
    while buffer.len() < whole {
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let body = buffer[head_end + 4..whole].to_vec();
    buffer.drain(..whole);
    Some(Received {
        line,
        headers,
        body,
    })
}
