//! A gate before the service: it issues tokens by client credentials, and lets in who has one that it has not revoked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client,
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::server::TOKEN;

/// The secret of the one client it knows, `keeper`.
pub(crate) const CLIENT_SECRET: &str = "secret-of-the-client";

/// `keeper:secret-of-the-client`
const BASIC: &str = "Basic a2VlcGVyOnNlY3JldC1vZi10aGUtY2xpZW50";

type Error = Box<dyn std::error::Error + Send + Sync>;

/// All copies of it are the same gate.
#[derive(Clone)]
pub(crate) struct Gate {
    service: SocketAddr,
    /// Requests that a token is good for.
    lasts: u64,
    tokens: Arc<Mutex<Tokens>>,
}

/// Tokens are `token-1-of-the-gate`, `token-2-of-the-gate`, …; only the newest can be good.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tokens {
    /// How many were issued.
    pub(crate) issued: u64,
    /// How many were revoked while they were the newest.
    pub(crate) revoked: u64,
    /// Requests with a token that was revoked.
    pub(crate) refused: u64,
    /// Requests with the newest.
    used: u64,
    /// Whether the newest is revoked.
    is_over: bool,
}

impl Gate {
    /// Before this service; a token is revoked after so many requests.
    pub(crate) fn new(service: SocketAddr, lasts: u64) -> Self {
        Self {
            service,
            lasts,
            tokens: Arc::default(),
        }
    }

    /// The settings of a target of the service, but for the attributes. `address` is where the gate is.
    pub(crate) fn settings(address: SocketAddr) -> String {
        format!(
            "url = 'http://{address}/v2'\nauth = {{ type = 'oauth2', token_url = 'http://{address}/token', \
             client_id = 'keeper', client_secret = '{CLIENT_SECRET}' }}\n"
        )
    }

    pub(crate) fn tokens(&self) -> Tokens {
        *self.tokens.lock().unwrap()
    }

    /// Serves one connection.
    pub(crate) async fn serve(self, stream: TcpStream) {
        let service = service_fn(|request| self.answer(request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // It ends with an error when the service is gone, or the client.
        drop(connection.await);
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Error> {
        let said = request.headers().get(AUTHORIZATION).cloned();
        let said = said.as_ref().and_then(|said| said.to_str().ok());
        if request.uri().path() == "/token" {
            let form = request.into_body().collect().await?.to_bytes();
            assert_eq!(said, Some(BASIC));
            assert_eq!(form, "grant_type=client_credentials");
            return self.issue();
        }
        if !self.lets_in(said.unwrap_or_default()) {
            let refused = Response::builder().status(StatusCode::UNAUTHORIZED);
            return Ok(refused.body(Full::from("the token is too old"))?);
        }
        Ok(self.ask(request).await?.map(Full::from))
    }

    fn issue(&self) -> Result<Response<Full<Bytes>>, Error> {
        let mut tokens = self.tokens.lock().unwrap();
        // Who asks while one is good makes it useless: `issued` is then ahead of what was revoked here.
        tokens.issued += 1;
        (tokens.used, tokens.is_over) = (0, false);
        let number = tokens.issued;
        let body = format!(
            r#"{{"access_token":"token-{number}-of-the-gate","token_type":"Bearer","expires_in":3600}}"#
        );
        Ok(Response::new(Full::from(body)))
    }

    fn lets_in(&self, said: &str) -> bool {
        let mut tokens = self.tokens.lock().unwrap();
        let newest = format!("Bearer token-{}-of-the-gate", tokens.issued);
        if said != newest || tokens.is_over {
            tokens.refused += 1;
            return false;
        }
        tokens.used += 1;
        if tokens.used == self.lasts {
            tokens.is_over = true;
            tokens.revoked += 1;
        }
        true
    }

    /// What the service answers, which knows another token.
    async fn ask(&self, request: Request<Incoming>) -> Result<Response<Bytes>, Error> {
        let (mut parts, body) = request.into_parts();
        let body = Full::<Bytes>::from(body.collect().await?.to_bytes());
        parts.headers.remove(CONTENT_LENGTH);
        let host = self.service.to_string().parse()?;
        parts.headers.insert(HOST, host);
        let token = format!("Bearer {TOKEN}").parse()?;
        parts.headers.insert(AUTHORIZATION, token);
        let stream = TcpStream::connect(self.service).await?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let asking = async {
            let asked = sender.send_request(Request::from_parts(parts, body));
            let (mut parts, body) = asked.await?.into_parts();
            let body = body.collect().await?.to_bytes();
            for hop in [CONTENT_LENGTH, TRANSFER_ENCODING] {
                parts.headers.remove(hop);
            }
            drop(sender);
            Ok(Response::from_parts(parts, body))
        };
        let (answer, _) = tokio::join!(asking, connection);
        answer
    }
}
