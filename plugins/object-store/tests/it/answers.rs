//! What answers mean, from a server that says what it is told.

use std::sync::{Arc, Mutex};

use profilesync_target::Outcome;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{deliver, destroyed, document, emulator::SECRET, open};

/// Answers each request in turn, the last answer for ever; gives the port and the requests' lines.
async fn server(answers: Vec<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&lines);
    tokio::spawn(async move {
        let mut answers = answers.into_iter().peekable();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 64 * 1024];
            let count = stream.read(&mut buffer).await.unwrap();
            let head = String::from_utf8_lossy(&buffer[..count]).into_owned();
            noted
                .lock()
                .unwrap()
                .push(head.lines().next().unwrap().to_owned());
            let answer = answers.next().unwrap();
            if answers.peek().is_none() {
                answers = vec![answer.clone()].into_iter().peekable();
            }
            // Who has read enough hangs up.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, lines)
}

fn answer(status: &str, headers: &str, code: &str) -> String {
    let body = match code {
        "" => String::new(),
        code => format!("<Error><Code>{code}</Code><Message>with {SECRET}</Message></Error>"),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

fn settings(port: u16) -> String {
    format!(
        "url = 's3://bucket/p'\nendpoint = 'http://127.0.0.1:{port}'\naccess_key_id = 'id'\n\
         secret_access_key = '{SECRET}'"
    )
}

async fn outcome(answers: Vec<String>) -> (Outcome, usize) {
    let (port, lines) = server(answers).await;
    let outcome = deliver(&*open(&settings(port)), document("a", 1)).await;
    assert!(!outcome.text().contains(SECRET), "{outcome:?}");
    let count = lines.lock().unwrap().len();
    (outcome, count)
}

#[tokio::test]
async fn each_answer_has_its_meaning_and_is_asked_for_once() {
    let none = || answer("404 Not Found", "", "NoSuchKey");
    for (status, code, wanted) in [
        ("400 Bad Request", "EntityTooLarge", "Rejected"),
        ("413 Payload Too Large", "", "Rejected"),
        ("403 Forbidden", "AccessDenied", "Denied"),
        ("403 Forbidden", "SignatureDoesNotMatch", "Fault"),
        ("401 Unauthorized", "", "Fault"),
        ("404 Not Found", "NoSuchBucket", "Fault"),
        ("500 Internal Server Error", "InternalError", "Fault"),
        ("501 Not Implemented", "NotImplemented", "Fault"),
        ("503 Service Unavailable", "", "Fault"),
        ("503 Service Unavailable", "SlowDown", "Retry"),
        ("429 Too Many Requests", "", "Retry"),
        ("307 Temporary Redirect", "", "Fault"),
    ] {
        let (outcome, count) = outcome(vec![none(), answer(status, "", code)]).await;
        let is = format!("{outcome:?}");
        assert!(is.starts_with(wanted), "{status} {code}: {is}");
        assert!(is.contains(&status[..3]) && is.contains(code), "{is}");
        assert_eq!(count, 2, "{status}");
    }
}

#[tokio::test]
async fn a_delay_that_is_asked_for_is_told() {
    let slow = answer("503 Slow Down", "retry-after: 7\r\n", "SlowDown");
    let (outcome, _) = outcome(vec![slow]).await;
    let Outcome::Retry { after, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(after.unwrap().as_secs(), 7);
}

#[tokio::test]
async fn a_conflict_is_looked_at_again_and_not_for_ever() {
    let none = answer("404 Not Found", "", "NoSuchKey");
    let conflict = answer("409 Conflict", "", "ConditionalRequestConflict");
    let done = answer("200 OK", "etag: \"x\"\r\n", "");
    let (once, count) = outcome(vec![none.clone(), conflict.clone(), none.clone(), done]).await;
    assert!(matches!(once, Outcome::Delivered { .. }), "{once:?}");
    assert_eq!(count, 4);
    let mut answers = Vec::new();
    for _ in 0..9 {
        answers.extend([none.clone(), conflict.clone()]);
    }
    let (always, count) = outcome(answers).await;
    assert!(matches!(always, Outcome::Retry { .. }), "{always:?}");
    assert_eq!(count, 8);
}

#[tokio::test]
async fn an_object_that_is_removed_before_it_is_replaced_is_made_anew() {
    let found = answer(
        "200 OK",
        "etag: \"x\"\r\nlast-modified: Wed, 25 Nov 2026 18:47:55 GMT\r\n",
        "Foreign",
    );
    let none = answer("404 Not Found", "", "NoSuchKey");
    let done = answer("200 OK", "etag: \"y\"\r\n", "");
    let (outcome, count) = outcome(vec![found.clone(), none.clone(), none.clone(), done]).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert_eq!(count, 4);
}

#[tokio::test]
async fn what_is_no_object_store_holds_nothing_and_loses_nothing() {
    for answers in ["", "NoSuchBucket"] {
        let (port, _) = server(vec![answer("404 Not Found", "", answers)]).await;
        let target = open(&settings(port));
        let outcome = deliver(&*target, destroyed("a", 2)).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        assert!(target.probe().await.is_err());
        let back = target.read_back().unwrap();
        assert!(back.held(&[document("a", 1)]).await.is_err());
    }
}

#[tokio::test]
async fn an_empty_bucket_is_filled_with_one_request_per_account() {
    let none = answer("404 Not Found", "", "NoSuchKey");
    let done = answer("200 OK", "etag: \"x\"\r\n", "");
    let (port, lines) = server(vec![none, done]).await;
    let target = open(&settings(port));
    for account in ["a", "b", "c"] {
        crate::delivered(&*target, document(account, 1)).await;
    }
    let methods: Vec<_> = lines
        .lock()
        .unwrap()
        .iter()
        .map(|line| line[..3].to_owned())
        .collect();
    assert_eq!(methods, ["GET", "PUT", "PUT", "PUT"]);
}

/// An object, of the size that its header says, or sent in chunks past it.
fn object(length: usize, body: &str, chunked: bool) -> String {
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\netag: \"x\"\r\ncontent-length: {length}\r\n\
         last-modified: Tue, 01 Jan 2030 00:00:00 GMT\r\n"
    );
    match chunked {
        true => format!(
            "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
        false => format!("{head}\r\n{body}"),
    }
}

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn an_object_is_read_no_further_than_a_document_goes() {
    let large = "x".repeat(3 * MIB);
    for found in [object(large.len(), &large, false), object(10, &large, true)] {
        let done = answer("200 OK", "etag: \"y\"\r\n", "");
        let (port, _) = server(vec![found.clone(), found, done]).await;
        let target = open(&settings(port));
        let back = target.read_back().unwrap();
        let held = back.held(&[document("a", 1)]).await.unwrap();
        let expected = serde_json::json!({ "no document": "more than 1 MiB" });
        assert_eq!(serde_json::Value::from(held[0].clone().unwrap()), expected);
        let text = crate::delivered(&*target, document("a", 1)).await;
        assert_eq!(text, "written in place of an object of more than 1 MiB");
    }
}

#[tokio::test]
async fn a_document_is_no_larger_than_what_is_read() {
    let (port, lines) = server(vec![answer("404 Not Found", "", "NoSuchKey")]).await;
    let mut document = document("a", 1);
    document.name = Some("x".repeat(MIB));
    let outcome = deliver(&*open(&settings(port)), document).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert!(outcome.text().contains("more than 1 MiB"), "{outcome:?}");
    assert!(lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_read_back_at_once_is_bounded() {
    let (port, _) = server(vec![object(MIB, &"x".repeat(MIB), false)]).await;
    let target = open(&settings(port));
    let back = target.read_back().unwrap();
    let documents: Vec<_> = (0..33).map(|n| document(&format!("a{n}"), 1)).collect();
    assert_eq!(back.held(&documents[..32]).await.unwrap().len(), 32);
    let error = back.held(&documents).await.unwrap_err();
    assert!(error.contains("ask for fewer"), "{error}");
}

/// The answer to a batch of one.
fn batched(status: &str, code: &str) -> String {
    let body = format!(
        "--batchresponse_1\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 {status}\r\n\
         x-ms-error-code: {code}\r\nretry-after: 7\r\n\r\n<Error><Code>{code}</Code><Message>{SECRET}</Message>\
         </Error>\r\n--batchresponse_1--\r\n"
    );
    let kind = "content-type: multipart/mixed; boundary=batchresponse_1\r\n";
    let length = body.len();
    format!(
        "HTTP/1.1 202 Accepted\r\nconnection: close\r\n{kind}content-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn azure_answers_a_removal_within_a_batch() {
    for (status, code, wanted) in [
        ("202 Accepted", "", "Delivered"),
        ("404 No", "BlobNotFound", "Delivered"),
        ("404 No", "ContainerNotFound", "Fault"),
        ("403 No", "AuthorizationPermissionMismatch", "Denied"),
        ("403 No", "AuthenticationFailed", "Fault"),
        ("503 No", "ServerBusy", "Retry"),
        ("500 No", "InternalError", "Fault"),
        // Nothing is said of the removal.
        ("", "", "Fault"),
    ] {
        let (port, _) = server(vec![batched(status, code)]).await;
        let target = open(&format!(
            "url = 'az://container/p'\nendpoint = 'http://127.0.0.1:{port}/account'\naccount = 'account'\n\
             access_key = '{SECRET}'\nconditional = false"
        ));
        let outcome = deliver(&*target, destroyed("a", 2)).await;
        let is = format!("{outcome:?}");
        assert!(is.starts_with(wanted), "{status} {code}: {is}");
        assert!(!is.contains(SECRET), "{is}");
        if wanted != "Delivered" && !status.is_empty() {
            assert!(is.contains(code) && is.contains(&status[..3]), "{is}");
        }
    }
}
