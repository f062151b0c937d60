//! What is accepted and what is refused, case by case.

use super::*;

const CREATED: &str = "OfficialAccount.CallbackAfterCreateOfficialAccount";
const DESTROYED: &str = "OfficialAccount.CallbackAfterOfficialAccountDestroyed";

#[tokio::test]
async fn profile_events_are_recorded_as_they_came() {
    let desk = Desk::open(&config()).await;
    let events = [
        (
            CHANGED,
            include_str!("../../../tests/fixtures/info-changed.json"),
        ),
        (
            CHANGED,
            include_str!("../../../tests/fixtures/info-changed-partial.json"),
        ),
        (
            CREATED,
            include_str!("../../../tests/fixtures/created.json"),
        ),
        (
            DESTROYED,
            include_str!("../../../tests/fixtures/destroyed.json"),
        ),
    ];
    let before = clock::now();
    for (command, body) in events {
        desk.accepts(post(&signed(command), body)).await;
    }
    let recorded = desk.recorded();
    assert_eq!(recorded.len(), events.len());
    for (entry, (command, body)) in recorded.iter().zip(events) {
        assert_eq!(entry.body, body);
        assert_eq!((entry.app, entry.command.as_str()), (SIGNED, command));
        assert!(before <= entry.received && entry.received <= clock::now());
    }
    desk.counted("profilesync_ack_seconds_count 4");
}

#[tokio::test]
async fn the_sample_as_published_is_not_json() {
    let desk = Desk::open(&config()).await;
    let body = include_str!("../../../tests/fixtures/info-changed-as-published.txt");
    let info = desk
        .refuses(post(&signed(CHANGED), body), 400, 120_003)
        .await;
    assert!(info.starts_with("the body is not JSON"), "{info}");
    desk.counted(r#"profilesync_refused_total{reason="malformed"} 1"#);
    desk.counted(r#"profilesync_events_total{app="production",result="refused"} 1"#);
}

#[tokio::test]
async fn other_paths_and_methods_are_unknown() {
    let mut config = config();
    config.listener.path = "/hook".into();
    let desk = Desk::open(&config).await;
    let body = event("a", event::EARLIEST);
    desk.accepts(post(&open(CHANGED).replace('/', "/hook"), &body))
        .await;
    for target in ["/", "/hook/", "/hook/x", "/%68ook", "/HOOK", "//hook"] {
        let target = open(CHANGED).replace('/', target);
        desk.refuses(post(&target, &body), 404, 120_005).await;
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "MKCOL"] {
        let request = post(&open(CHANGED).replace('/', "/hook"), &body).replacen("POST", method, 1);
        desk.refuses(&request, 405, 120_005).await;
        assert_eq!(desk.ask(request).await.header("allow"), Some("POST"));
    }
    desk.refuses("GET /nowhere HTTP/1.1\r\n\r\n", 404, 120_005)
        .await;
}

#[tokio::test]
async fn the_app_is_one_configured_decimal() {
    let desk = Desk::open(&config()).await;
    let body = event("a", event::EARLIEST);
    for app in [
        "",
        "SdkAppid=",
        "SdkAppid=1400000002",
        "SdkAppid=01400000001",
        "SdkAppid=%2B1400000001",
        "SdkAppid=+1400000001",
        "SdkAppid=1400000001%00",
        "SdkAppid=1400000001&SdkAppid=1400000001",
        "SdkAppid=1400000001&SdkAppid=",
        "sdkappid=1400000001",
        "SdkAppId=1400000001",
    ] {
        let target = format!("/?CallbackCommand={CHANGED}&{app}");
        desk.refuses(post(&target, &body), 403, 120_001).await;
    }
    desk.refuses(post("/", &body), 403, 120_001).await;
    let target = format!("/?SdkAppid=%3140000000%31&CallbackCommand={CHANGED}");
    desk.accepts(post(&target, &body)).await;
}

#[tokio::test]
async fn an_app_with_tokens_wants_a_fresh_signature() {
    let desk = Desk::open(&config()).await;
    let body = event("a", event::EARLIEST);
    let target = |signature: &str| format!("/?{}&{signature}", query(SIGNED, CHANGED));
    for (token, off) in [(TOKEN, 0), (OLD_TOKEN, 0), (TOKEN, -58), (TOKEN, 58)] {
        desk.accepts(post(&target(&signature(token, off)), &body))
            .await;
    }
    let good = signature(TOKEN, 0);
    let (sign, time) = good.split_once('&').unwrap();
    let upper = sign.to_uppercase().replacen("SIGN", "Sign", 1);
    desk.accepts(post(&target(&format!("{time}&{upper}")), &body))
        .await;
    let encoded = time.replacen("=1", "=%31", 1);
    desk.accepts(post(&target(&format!("{encoded}&{sign}")), &body))
        .await;
    for bad in [
        signature("a stranger's", 0),
        signature(TOKEN, -62),
        signature(TOKEN, 62),
        format!("{sign}0&{time}"),
        format!("{sign}&{time}0"),
        format!("{sign}&{}", time.replacen("=1", "=%2531", 1)),
        format!("{sign}&{time}&{sign}"),
        format!("{sign}&{time}&{time}"),
        sign.to_owned(),
        time.to_owned(),
        String::new(),
    ] {
        desk.refuses(post(&target(&bad), &body), 403, 120_002).await;
    }
    desk.counted(r#"profilesync_refused_total{reason="request_time"} 2"#);
    desk.counted(r#"profilesync_refused_total{reason="sign"} 9"#);
}

#[tokio::test]
async fn malformed_events_are_refused() {
    let desk = Desk::open(&config()).await;
    let good = event("a", event::EARLIEST);
    for body in [
        "".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        format!("{good} x"),
        good.replace(CHANGED, CREATED),
        good.replace("Official_Account", "Account"),
        good.replace(r#""n""#, "7"),
        good.replace("EventTime", "Time"),
        good.replace("000", "00.0"),
        event("", event::EARLIEST),
        event(&"x".repeat(256), event::EARLIEST),
        event("a\nb", event::EARLIEST),
        event("a", event::EARLIEST - 1),
        event("a", clock::now() + 24 * 3600 * 1000 + 60_000),
    ] {
        desk.refuses(post(&open(CHANGED), &body), 400, 120_003)
            .await;
    }
    desk.accepts(post(
        &open(CHANGED),
        &event(&"x".repeat(255), clock::now() + 600_000),
    ))
    .await;
}

#[tokio::test]
async fn the_command_is_given_once() {
    let desk = Desk::open(&config()).await;
    let body = event("a", event::EARLIEST);
    let twice = format!("{}&CallbackCommand={CHANGED}", open(CHANGED));
    desk.refuses(post(&twice, &body), 400, 120_003).await;
    let none = format!("/?SdkAppid={OPEN}");
    desk.refuses(post(&none, &body), 400, 120_003).await;
    desk.refuses(post(&twice, ""), 400, 120_003).await;
}

#[tokio::test]
async fn an_empty_probe_is_answered_and_not_recorded() {
    let desk = Desk::open(&config()).await;
    let probe = format!("/?SdkAppid={SIGNED}");
    for body in ["", "{}", " {}\r\n", "\n"] {
        desk.accepts(post(&probe, body)).await;
        desk.accepts(post(&format!("/?SdkAppid={OPEN}"), body))
            .await;
    }
    desk.accepts(post(&format!("{probe}&{}", signature(TOKEN, 0)), ""))
        .await;
    assert_eq!(desk.recorded(), []);
    let forged = format!("{probe}&{}", signature("a stranger's", 0));
    desk.refuses(post(&forged, ""), 403, 120_002).await;
    desk.refuses(post(&format!("{probe}&Sign=1"), ""), 403, 120_002)
        .await;
    desk.refuses(post(&format!("{probe}&RequestTime=1"), ""), 403, 120_002)
        .await;
    desk.refuses(post(&probe, "x"), 403, 120_002).await;
    desk.refuses(post("/?SdkAppid=7", ""), 403, 120_001).await;
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_table() {
    let mut config = config();
    config.listener.allow = vec!["192.0.2.0/24".parse().unwrap()];
    let desk = Desk::open(&config).await;
    let large = "x".repeat(MAX_BODY + 1);
    desk.refuses(post("/nowhere", &large), 404, 120_005).await;
    let get = post("/", &large).replacen("POST", "GET", 1);
    desk.refuses(get, 405, 120_005).await;
    let info = desk.refuses(post("/", &large), 403, 120_008).await;
    assert_eq!(info, "peer address not allowed");
    config.listener.allow = Vec::new();
    desk.ingest.reload(&config);
    desk.refuses(post("/", &large), 403, 120_001).await;
    let unsigned = format!("/?{}", query(SIGNED, CHANGED));
    desk.refuses(post(&unsigned, &large), 403, 120_002).await;
    desk.refuses(post(&signed(CHANGED), &large), 413, 120_004)
        .await;
    desk.refuses(
        post(&format!("{}&CallbackCommand=x", signed(CHANGED)), &large),
        413,
        120_004,
    )
    .await;
}

#[tokio::test]
async fn a_request_for_a_tunnel_is_refused() {
    let desk = Desk::open(&config()).await;
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n";
    desk.refuses(connect, 405, 120_005).await;
}

#[tokio::test]
async fn a_reload_applies_to_the_next_request() {
    let mut config = config();
    let desk = Desk::open(&config).await;
    let mut wire = desk.connect().await;
    let request = post(&open(CHANGED), &event("a", event::EARLIEST));
    assert_eq!(wire.ask(&request).await.status, 200);
    let app = config.apps.remove(&OPEN).unwrap();
    desk.ingest.reload(&config);
    assert_eq!(wire.ask(&request).await.status, 403);
    let mut wire = desk.connect().await;
    config.apps.insert(OPEN, app);
    desk.ingest.reload(&config);
    assert_eq!(wire.ask(&request).await.status, 200);
    config.listener.path = "/elsewhere".into();
    desk.ingest.reload(&config);
    assert_eq!(wire.ask(&request).await.status, 404);
    desk.accepts(request.replacen("/", "/elsewhere", 1)).await;
}

#[tokio::test]
async fn secrets_do_not_reach_the_log() {
    log::capture();
    let mut config = config();
    config.listener.forward = Some("http://127.0.0.1:1/".parse().unwrap());
    let desk = Desk::open(&config).await;
    let stale = signature(TOKEN, -100);
    let fresh = signature(TOKEN, 0);
    let target = |command, signature| format!("/?{}&{signature}", query(SIGNED, command));
    desk.refuses(post(&target(CHANGED, &stale), ""), 403, 120_002)
        .await;
    desk.refuses(post(&target(CHANGED, &fresh), "x"), 400, 120_003)
        .await;
    desk.accepts(post(&target(FOREIGN, &fresh), "{}")).await;
    let text = log::text();
    for expected in [
        "RequestTime is too far",
        "the body is not JSON",
        "forwarding failed",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let sign = |signature: &str| signature[5..69].to_owned();
    for secret in [TOKEN, &sign(&stale), &sign(&fresh), "SdkAppid="] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn unknown_members_are_warned_of_once() {
    log::capture();
    let desk = Desk::open(&config()).await;
    let body = event("a", event::EARLIEST).replacen("\"Name\"", "\"Na\\nme\"", 1);
    for _ in 0..2 {
        desk.accepts(post(&open(CHANGED), &body)).await;
    }
    let text = log::text();
    assert_eq!(text.matches(r#"name="Na\nme""#).count(), 1, "{text}");
}
