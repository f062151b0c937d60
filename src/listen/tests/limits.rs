//! Who may send, how much and how fast, and what happens when the journal or the store cannot follow.

use tokio::time::timeout;

use super::*;
use crate::{accept::wire::post_chunked, config::Rate};

#[tokio::test]
async fn bodies_are_capped_however_they_are_sent() {
    let desk = Desk::open(&config()).await;
    let large = "x".repeat(MAX_BODY + 1);
    desk.refuses(post(&open(CHANGED), &large), 413, 120_004)
        .await;
    let (head, tail) = large.split_at(MAX_BODY);
    desk.refuses(post_chunked(&open(CHANGED), &[head, tail]), 413, 120_004)
        .await;
    let body = event("a", event::EARLIEST);
    let (head, tail) = body.split_at(10);
    desk.accepts(post_chunked(&open(CHANGED), &[head, tail]))
        .await;
    assert_eq!(desk.recorded()[0].body, body);
}

#[tokio::test]
async fn a_body_that_stalls_is_refused() {
    let desk = Desk::open(&config()).await;
    let request = post(&open(CHANGED), "{}").replacen("Length: 2", "Length: 3", 1);
    desk.refuses(request, 408, 120_003).await;
}

#[tokio::test]
async fn only_listed_peers_may_send() {
    let mut config = config();
    config.listener.allow = vec!["203.0.113.0/24".parse().unwrap()];
    let desk = Desk::open(&config).await;
    let body = event("a", event::EARLIEST);
    let plain = post(&open(CHANGED), &body);
    let via = |hops: &str| plain.replacen("\r\n", &format!("\r\nX-Forwarded-For: {hops}\r\n"), 1);
    desk.refuses(via("203.0.113.7"), 403, 120_008).await;
    config.listener.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    desk.ingest.reload(&config);
    desk.accepts(via("203.0.113.7")).await;
    desk.accepts(via("198.51.100.1, 203.0.113.7, 127.0.0.1"))
        .await;
    desk.refuses(via("203.0.113.7, 198.51.100.1"), 403, 120_008)
        .await;
    desk.refuses(plain, 403, 120_008).await;
    desk.counted(r#"profilesync_refused_total{reason="peer"} 3"#);
}

#[tokio::test]
async fn the_log_says_who_asked() {
    log::capture();
    let mut config = config();
    config.listener.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let desk = Desk::open(&config).await;
    let get = |hops: &str| format!("GET / HTTP/1.1\r\nX-Forwarded-For: {hops}\r\n\r\n");
    desk.refuses(get("198.51.100.1, 203.0.113.7"), 405, 120_005)
        .await;
    let text = log::text();
    assert!(text.contains(r#"peer="203.0.113.7""#), "{text}");
}

#[tokio::test]
async fn more_than_the_rate_is_refused() {
    let mut config = config();
    let (count, per) = (NonZeroU32::new(2).unwrap(), Duration::from_secs(3600));
    config.listener.rate_limit = Some(Rate { count, per });
    let desk = Desk::open(&config).await;
    let request = post(&open(CHANGED), &event("a", event::EARLIEST));
    for _ in 0..2 {
        desk.accepts(&request).await;
    }
    desk.refuses(&request, 429, 120_007).await;
    let answer = desk.ask(&request).await;
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn strangers_use_up_nobodys_rate() {
    let mut config = config();
    let (count, per) = (NonZeroU32::new(1).unwrap(), Duration::from_secs(3600));
    config.listener.rate_limit = Some(Rate { count, per });
    let desk = Desk::open(&config).await;
    let body = event("a", event::EARLIEST);
    let forged = format!("/?{}&{}", query(SIGNED, CHANGED), signature("guess", 0));
    for _ in 0..3 {
        desk.refuses(post(&forged, &body), 403, 120_002).await;
    }
    desk.accepts(post(&signed(CHANGED), &body)).await;
}

#[tokio::test]
async fn a_stranger_keeps_no_connection() {
    let desk = Desk::open(&config()).await;
    let body = event("a", event::EARLIEST);
    for target in [
        "/elsewhere",
        "/?SdkAppid=1",
        &format!("/?{}", query(SIGNED, CHANGED)),
    ] {
        let mut wire = desk.connect().await;
        let answer = wire.ask(post(target, &body)).await;
        assert_eq!(answer.header("connection"), Some("close"), "{target}");
        wire.closed().await;
    }
    // An unsigned probe of a signed app tells nothing of who sent it.
    let mut wire = desk.connect().await;
    let answer = wire.ask(post(&format!("/?SdkAppid={SIGNED}"), "")).await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    // Whoever is let in may go on, even with what makes no sense.
    let mut wire = desk.connect().await;
    let answer = wire.ask(post(&signed(CHANGED), "rubbish")).await;
    assert_eq!((answer.status, answer.header("connection")), (400, None));
    assert_eq!(wire.ask(post(&signed(CHANGED), &body)).await.status, 200);
}

#[tokio::test]
async fn what_the_journal_cannot_take_is_refused() {
    let desk = Desk::open(&config()).await;
    desk.journal.stop().await;
    let request = post(&open(CHANGED), &event("a", event::EARLIEST));
    desk.refuses(request, 503, 120_006).await;
    desk.counted(r#"profilesync_refused_total{reason="unavailable"} 1"#);
}

#[tokio::test]
async fn a_lagging_store_slows_the_listener_and_then_stops_it() {
    let desk = Desk::open(&config()).await;
    let request = post(&open(CHANGED), &event("a", event::EARLIEST));
    let max_lag = config().store.max_lag;
    let ask = async |lag: u64| {
        desk.lag.store(lag, Ordering::Relaxed);
        let started = Instant::now();
        let answer = desk.ask(&request).await;
        (answer.status, started.elapsed() >= LAG_PAUSE)
    };
    assert_eq!(ask(max_lag).await, (200, false));
    assert_eq!(ask(max_lag + 1).await, (200, true));
    assert_eq!(ask(max_lag * 5 / 4).await, (200, true));
    assert_eq!(ask(max_lag * 5 / 4 + 1).await, (503, false));
    desk.counted(r#"profilesync_refused_total{reason="lag"} 1"#);
}

#[tokio::test]
async fn an_event_handed_over_survives_its_client() {
    let desk = Desk::open(&config()).await;
    let mut wire = desk.connect().await;
    wire.send(post(&open(CHANGED), &event("a", event::EARLIEST)))
        .await;
    drop(wire);
    timeout(Duration::from_secs(5), async {
        while desk.recorded().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}
