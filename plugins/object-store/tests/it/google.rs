//! What fake-gcs-server lacks of Google Cloud Storage: the XML API, which the target speaks, in terms of the JSON API.
//!
//! Objects, their names, generations and conditions are the emulator's; the dialect and who may ask are ours, after
//! Google's reference of its XML API.

use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client, header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// The key of a service account that exists nowhere.
pub(crate) const KEY: &str = include_str!("service-account.json");

/// Between the parts of an upload; no document holds it.
const BOUNDARY: &str = "between-the-parts-of-an-upload-for-profilesync";

type Answer = Response<Bytes>;

/// Speaks the XML API on a port of its own; `to` is the emulator's.
pub(crate) async fn speak(to: u16) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let speaking = tokio::spawn(async move {
        // Aborted with this task.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| async move {
                let answer = answer(to, request).await?;
                Ok::<_, hyper::Error>(answer.map(Full::new))
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Whoever has read enough hangs up.
            connections.spawn(async { drop(connection.await) });
        }
    });
    (port, speaking)
}

async fn answer(to: u16, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let held = |name: &str| Some(parts.headers.get(name)?.to_str().unwrap().to_owned());
    if !is_signed(&held("authorization").unwrap_or_default()) {
        return Ok(error(StatusCode::UNAUTHORIZED, "AuthenticationRequired"));
    }
    let path = parts.uri.path().trim_start_matches('/');
    let (bucket, object) = path.split_once('/').unwrap_or((path, ""));
    let json = format!("/storage/v1/b/{bucket}");
    let answered = match (&parts.method, object) {
        (&Method::PUT, object) => {
            let condition = held("x-goog-if-generation-match")
                .map(|generation| format!("&ifGenerationMatch={generation}"));
            let kind = held("content-type").unwrap();
            let url = format!(
                "/upload{json}/o?uploadType=multipart&name={object}{}",
                condition.unwrap_or_default()
            );
            written(ask(to, upload(&url, &kind, &body)).await?)
        }
        (method, _) => {
            let url = parts.uri.path_and_query().unwrap().as_str();
            ask(to, plain(method, url)).await?
        }
    };
    Ok(match answered.status() {
        StatusCode::OK if parts.method == Method::DELETE => {
            let done = Response::builder().status(StatusCode::NO_CONTENT);
            done.body(Bytes::new()).unwrap()
        }
        StatusCode::NOT_FOUND => {
            // The emulator does not say which of the two is missing.
            let found = ask(to, plain(&Method::GET, &json)).await?;
            match found.status() {
                StatusCode::OK => error(StatusCode::NOT_FOUND, "NoSuchKey"),
                _ => error(StatusCode::NOT_FOUND, "NoSuchBucket"),
            }
        }
        StatusCode::PRECONDITION_FAILED => {
            error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed")
        }
        _ => answered,
    })
}

/// Whether a token names the key's account. Its signature is not looked at.
fn is_signed(authorization: &str) -> bool {
    let key: Value = serde_json::from_str(KEY).unwrap();
    let claims = authorization.strip_prefix("Bearer ").and_then(|token| {
        let claims = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes());
        serde_json::from_slice::<Value>(&claims.ok()?).ok()
    });
    claims.is_some_and(|claims| claims["iss"] == key["client_email"])
}

fn plain(method: &Method, url: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(url);
    request.body(Full::default()).unwrap()
}

/// In two parts, as this emulator heeds conditions of such uploads alone.
fn upload(url: &str, kind: &str, content: &Bytes) -> Request<Full<Bytes>> {
    let mut body = format!(
        "--{BOUNDARY}\r\ncontent-type: application/json\r\n\r\n{{}}\r\n--{BOUNDARY}\r\ncontent-type: {kind}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let kind = format!("multipart/related; boundary={BOUNDARY}");
    let request = Request::builder().method(Method::POST).uri(url);
    let request = request.header(header::CONTENT_TYPE, kind);
    request.body(Full::from(body)).unwrap()
}

/// The answer to an upload: tag and generation become headers.
fn written(answered: Answer) -> Answer {
    let resource: Value = serde_json::from_slice(answered.body()).unwrap_or_default();
    let (Some(tag), Some(generation)) =
        (resource["etag"].as_str(), resource["generation"].as_str())
    else {
        return answered;
    };
    let answer = Response::builder().header(header::ETAG, format!("\"{tag}\""));
    let answer = answer.header("x-goog-generation", generation);
    answer.body(Bytes::new()).unwrap()
}

/// What the emulator answers.
async fn ask(to: u16, mut request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let stream = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let host = format!("127.0.0.1:{to}").parse().unwrap();
    request.headers_mut().insert(header::HOST, host);
    let answering = async {
        let (mut parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        for hop in [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
        ] {
            parts.headers.remove(hop);
        }
        drop(sender);
        Ok(Response::from_parts(parts, body))
    };
    let (answer, _) = tokio::join!(answering, connection);
    answer
}

fn error(status: StatusCode, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>Not so.</Message></Error>");
    let answer = Response::builder().status(status);
    answer.body(Bytes::from(body)).unwrap()
}
