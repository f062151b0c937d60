//! Commands that are not about profiles.

use std::sync::Mutex;

use super::*;

/// What a receiver got: query and body.
type Got = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A receiver that answers this, after `delay`. Returns its URL.
async fn receiver(
    status: StatusCode,
    answer: impl Into<String>,
    delay: Duration,
) -> (reqwest::Url, Got, DropGuard) {
    let got = Got::default();
    let (log, answer) = (Arc::clone(&got), answer.into());
    let routes = warp::query::raw()
        .and(warp::ext::get::<Body>())
        .then(move |query, body| {
            let Body::Whole(body) = body else {
                panic!("the body is not whole");
            };
            log.lock().unwrap().push((query, body));
            let answer = warp::reply::with_status(answer.clone(), status);
            async move {
                sleep(delay).await;
                answer
            }
        })
        .recover(async |_| Ok::<_, Infallible>("refused"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/before?own=1", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(accept::serve(
        vec![Socket::Tcp(listener)],
        None,
        Arc::new(Limits::new(10, MAX_BODY)),
        routes,
        stop.clone(),
        || Duration::ZERO,
    ));
    (url.parse().unwrap(), got, stop.drop_guard())
}

fn forwarding_to(url: reqwest::Url) -> Config {
    let mut config = config();
    config.listener.forward = Some(url);
    config
}

#[tokio::test]
async fn other_commands_are_answered_and_counted() {
    let desk = Desk::open(&config()).await;
    let body = include_str!("../../../tests/fixtures/before-add-subscriber.json");
    desk.accepts(post(&signed(FOREIGN), body)).await;
    let batch = include_str!("../../../tests/fixtures/push-batch.json");
    desk.accepts(post(&signed("Push.OfflinePush"), batch)).await;
    for body in ["", "x", "[1]", r#"["CallbackCommand"]"#] {
        desk.accepts(post(&signed("A.B"), body)).await;
    }
    assert_eq!(desk.recorded(), []);
    desk.counted(r#"profilesync_events_total{app="production",result="ignored"} 6"#);
    desk.refuses(post(&signed("A.B"), body), 400, 120_003).await;
    desk.refuses(
        post(&signed("A.B"), r#"{"CallbackCommand":1}"#),
        400,
        120_003,
    )
    .await;
    let unsigned = format!("/?{}", query(SIGNED, FOREIGN));
    desk.refuses(post(&unsigned, body), 403, 120_002).await;
}

#[tokio::test]
async fn they_are_forwarded_as_they_came() {
    let answer = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":1,"Refused":["jared"]}"#;
    let (url, got, _stop) = receiver(StatusCode::OK, answer, Duration::ZERO).await;
    let desk = Desk::open(&forwarding_to(url)).await;
    let body = include_str!("../../../tests/fixtures/before-add-subscriber.json");
    let target = format!("{}&own=%20%26", signed(FOREIGN));
    let passed_back = desk.ask(post(&target, body)).await;
    assert_eq!(
        (passed_back.status, passed_back.body.as_str()),
        (200, answer)
    );
    assert_eq!(passed_back.header("content-type"), Some("application/json"));
    let query = format!("own=1&{}", target.strip_prefix("/?").unwrap());
    assert_eq!(*got.lock().unwrap(), [(query, Bytes::from(body))]);
    // Profile events and refused requests are not.
    desk.accepts(post(&signed(CHANGED), &event("a", event::EARLIEST)))
        .await;
    desk.refuses(post("/", body), 403, 120_001).await;
    assert_eq!(got.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn no_good_answer_in_time_is_answered_ok() {
    let large = format!("\"{}\"", "x".repeat(64 * 1024));
    for (status, answer, delay) in [
        (StatusCode::OK, "not JSON", Duration::ZERO),
        (StatusCode::OK, &large, Duration::ZERO),
        (StatusCode::NO_CONTENT, "", Duration::ZERO),
        (StatusCode::INTERNAL_SERVER_ERROR, "{}", Duration::ZERO),
        (StatusCode::OK, "{}", 2 * BUDGET),
    ] {
        let (url, got, _stop) = receiver(status, answer, delay).await;
        let desk = Desk::open(&forwarding_to(url)).await;
        let started = Instant::now();
        desk.accepts(post(&signed(FOREIGN), "{}")).await;
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(got.lock().unwrap().len(), 1);
    }
    let nobody = "http://127.0.0.1:1/".parse().unwrap();
    let desk = Desk::open(&forwarding_to(nobody)).await;
    desk.accepts(post(&signed(FOREIGN), "{}")).await;
}
