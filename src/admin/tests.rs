//! The routes, over a store in memory and a daemon that only remembers what it was told.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warp::http::{Response, StatusCode};

use super::{
    Admin, App, Daemon, bind_unix, routes,
    view::{Acted, ReloadReport, Status},
};
use crate::{
    accept::{Body, Limits, Peer, Socket, serve},
    client::{Client, ClientError},
    config::Token,
    dispatch::{ActError, Action},
    event::COMMANDS,
    exit::{Exit, Failure},
    journal::{Entry, Record},
    metrics::{EventResult, Metrics},
    status::TargetStatus,
    store::Store,
};

const APP: u64 = 1_400_000_000;

#[derive(Default)]
struct Fake {
    acts: Mutex<Vec<Action>>,
}

#[async_trait]
impl Daemon for Fake {
    fn apps(&self) -> Vec<App> {
        vec![App {
            name: "production".into(),
            sdk_app_id: APP,
            signed: true,
        }]
    }

    fn targets(&self) -> Vec<TargetStatus> {
        vec![TargetStatus {
            name: "crm".into(),
            state: "ok".into(),
            ..TargetStatus::default()
        }]
    }

    async fn act(&self, target: &str, action: Action) -> Result<String, ActError> {
        if target != "crm" {
            return Err(ActError::UnknownTarget(target.into()));
        }
        if action == Action::Approve {
            return Err(ActError::Refused("crm is not held".into()));
        }
        self.acts.lock().unwrap().push(action);
        Ok("done".into())
    }

    async fn reload(&self) -> Result<ReloadReport, String> {
        Err("profilesync.toml:3:1: unknown key".into())
    }
}

struct World {
    admin: Arc<Admin>,
    daemon: Arc<Fake>,
    journal: watch::Sender<Result<(), String>>,
    token: Option<Token>,
    peer: Peer,
}

impl World {
    fn new() -> Self {
        let daemon = Arc::new(Fake::default());
        let journal = watch::Sender::new(Ok(()));
        let admin = Admin {
            store: Store::in_memory(),
            journal_health: journal.subscribe(),
            journal_synced: watch::Sender::new(7).subscribe(),
            listener: watch::Sender::new(Ok("127.0.0.1:8700".into())).subscribe(),
            metrics: Metrics::new(),
            daemon: daemon.clone(),
            started: 0,
        };
        Self {
            admin: Arc::new(admin),
            daemon,
            journal,
            token: None,
            peer: Peer { address: None },
        }
    }

    /// Records one event per account.
    fn know(&self, accounts: &[&str]) {
        let (command, _) = COMMANDS[1];
        let records = accounts.iter().zip(1..).map(|(account, seq)| {
            let body = json!({
                "CallbackCommand": command, "Official_Account": account, "Name": "New",
                "EventTime": 1_670_574_414_123_u64,
            });
            let entry = Entry {
                received: 1_670_574_414_200,
                app: APP,
                command: command.into(),
                body: body.to_string().into(),
            };
            Record { seq, entry }
        });
        self.admin.store.feed(&records.collect::<Vec<_>>());
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Response<Bytes> {
        let routes = routes(self.admin.clone(), self.token.clone());
        warp::test::request()
            .method(method)
            .path(path)
            .extension(self.peer)
            .extension(Body::Whole(body.to_owned().into()))
            .reply(&routes)
            .await
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.call("GET", path, "").await;
        assert_eq!(response.status(), 200, "{path}: {:?}", response.body());
        assert_eq!(response.headers()["content-type"], "application/json");
        serde_json::from_slice(response.body()).unwrap()
    }

    async fn problem(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let response = self.call(method, path, body).await;
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let problem: super::Problem = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(problem.status, response.status());
        (response.status(), problem.detail)
    }
}

#[tokio::test]
async fn readiness_is_the_journals_and_the_listeners() {
    let world = World::new();
    assert_eq!(
        world.get("/readyz").await,
        json!({"ready": true, "journal": "ok", "store": "ready", "listener": "ok"})
    );
    let full = Err("no space left on device".to_owned());
    world.journal.send(full).unwrap();
    let response = world.call("GET", "/readyz", "").await;
    assert_eq!(response.status(), 503);
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["ready"], false);
    assert_eq!(body["journal"], "no space left on device");
    assert_eq!(world.call("GET", "/healthz", "").await.status(), 200);
}

#[tokio::test]
async fn files_are_written_for_those_on_the_socket_only() {
    let mut world = World::new();
    world.peer.address = Some(Ipv4Addr::LOCALHOST.into());
    world.token = Some(Token("t".into()));
    let routes = routes(world.admin.clone(), world.token.clone());
    let response = warp::test::request()
        .method("POST")
        .path("/v1/store/backup")
        .header("authorization", "Bearer t")
        .extension(world.peer)
        .extension(Body::Whole(r#"{"path":"/x"}"#.into()))
        .reply(&routes)
        .await;
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn who_is_turned_away_keeps_no_connection() {
    let mut world = World::new();
    world.peer.address = Some(Ipv4Addr::LOCALHOST.into());
    for token in [None, Some(Token("t".into()))] {
        world.token = token;
        let response = world.call("GET", "/v1/status", "").await;
        assert!([401, 403].contains(&response.status().as_u16()));
        assert_eq!(response.headers()["connection"], "close");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text_or_open_metrics_if_asked_for() {
    let world = World::new();
    world
        .admin
        .metrics
        .event("production", EventResult::Recorded);
    let (text, open_metrics) = (
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    for (accept, expected) in [
        ("*/*", text),
        ("text/plain;version=0.0.4", text),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2",
            open_metrics,
        ),
    ] {
        let response = warp::test::request()
            .path("/metrics")
            .header("accept", accept)
            .extension(world.peer)
            .reply(&routes(world.admin.clone(), None))
            .await;
        assert_eq!(response.headers()["content-type"], expected, "{accept}");
        let body = String::from_utf8_lossy(response.body());
        let sample = r#"profilesync_events_total{app="production",result="recorded"} 1"#;
        assert!(body.contains(sample), "{body}");
        assert_eq!(body.ends_with("# EOF\n"), expected == open_metrics);
    }
}

#[tokio::test]
async fn status_tells_of_every_part() {
    let world = World::new();
    world
        .admin
        .metrics
        .event("production", EventResult::Recorded);
    world.admin.metrics.event("-", EventResult::Refused);
    let status = world.get("/v1/status").await;
    assert_eq!(status["apps"][0]["name"], "production");
    assert_eq!(status["apps"][0]["events"]["recorded"], 1);
    assert_eq!(status["refused_without_app"], 1);
    assert_eq!(status["targets"][0]["name"], "crm");
    assert_eq!(status["readiness"]["ready"], true);
    assert_eq!(world.get("/v1/store").await["journal_synced"], 7);
    assert_eq!(world.get("/v1/targets").await["targets"][0]["name"], "crm");
    assert_eq!(world.get("/v1/targets/crm").await["state"], "ok");
    let missing = world.problem("GET", "/v1/targets/x", "").await;
    assert_eq!(missing.0, 404);
}

#[tokio::test]
async fn accounts_come_in_pages() {
    let world = World::new();
    world.know(&["@a", "@b/c", "@d"]);
    let page = world.get("/v1/accounts?limit=2").await;
    assert_eq!(page["accounts"].as_array().unwrap().len(), 2);
    assert_eq!(page["accounts"][1]["account"], "@b/c");
    assert_eq!(page["next"], "1400000000/@b/c");
    let rest = world
        .get("/v1/accounts?limit=2&after=1400000000%2F%40b%2Fc")
        .await;
    assert_eq!(rest["accounts"][0]["account"], "@d");
    assert_eq!(rest["next"], Value::Null);
    let found = world.get("/v1/accounts?q=b").await;
    assert_eq!(found["accounts"].as_array().unwrap().len(), 1);
    for wrong in [
        "?limit=x",
        "?after=x",
        "?limit=-1",
        "?limit=1&limit=2",
        "/1400000000/@a/history?after=1400000000%2F%40a",
    ] {
        let path = format!("/v1/accounts{wrong}");
        assert_eq!(world.problem("GET", &path, "").await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn an_account_is_found_by_its_encoded_name() {
    let world = World::new();
    world.know(&["@TOA#_a/b"]);
    let path = "/v1/accounts/1400000000/%40TOA%23_a%2Fb";
    let account = world.get(path).await;
    assert_eq!(account["account"], "@TOA#_a/b");
    assert_eq!(account["name"], "New");
    assert_eq!(account["revision"], 1);
    assert_eq!(account["targets"], json!([]));
    let history = world.get(&format!("{path}/history")).await;
    assert_eq!(history["events"][0]["event_time"], 1_670_574_414_123_u64);
    assert_eq!(history["events"][0]["body"]["Name"], "New");
    for missing in ["/v1/accounts/1/@a", "/v1/accounts/1/@a/history"] {
        let (status, detail) = world.problem("GET", missing, "").await;
        assert_eq!(status, 404);
        assert_eq!(detail, r#"app 1 has no account "@a""#);
    }
    let (status, _) = world.problem("GET", "/v1/accounts/1/%ff", "").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn operators_act_on_targets() {
    let world = World::new();
    for verb in ["pause", "resume", "backfill"] {
        let path = format!("/v1/targets/crm/{verb}");
        let response = world.call("POST", &path, "").await;
        assert_eq!(response.status(), 200, "{verb}");
        assert_eq!(response.body(), r#"{"target":"crm","done":"done"}"#);
    }
    let retry = r#"{"account":"@a","app":1400000000}"#;
    let response = world.call("POST", "/v1/targets/crm/retry", retry).await;
    assert_eq!(response.status(), 200);
    let retried = Action::Retry {
        app: Some(APP),
        account: Some("@a".into()),
        all_parked: false,
    };
    let acts = world.daemon.acts.lock().unwrap().clone();
    assert_eq!(
        acts,
        [Action::Pause, Action::Resume, Action::Backfill, retried]
    );
}

#[tokio::test]
async fn an_app_is_not_retried_as_a_whole() {
    let world = World::new();
    for (body, status, detail) in [
        (
            r#"{"app":7}"#,
            404,
            "no app has the sdk_app_id 7; `profilesync status` lists them",
        ),
        (
            r#"{"app":1400000000,"all_parked":true}"#,
            400,
            "app goes with account; without both it is about every app",
        ),
    ] {
        let problem = world.problem("POST", "/v1/targets/crm/retry", body).await;
        assert_eq!((problem.0.as_u16(), problem.1.as_str()), (status, detail));
    }
    assert!(world.daemon.acts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_done_is_told() {
    let world = World::new();
    for (method, path, body, status, detail) in [
        (
            "POST",
            "/v1/targets/crm/approve",
            "",
            409,
            "crm is not held",
        ),
        (
            "POST",
            "/v1/targets/x/pause",
            "",
            404,
            "no target is called \"x\"; `profilesync targets` lists them",
        ),
        (
            "POST",
            "/v1/reload",
            "",
            422,
            "profilesync.toml:3:1: unknown key",
        ),
        (
            "POST",
            "/v1/targets/crm/retry",
            r#"{"account":"@a","all_parked":true}"#,
            400,
            "say account, or all_parked, or neither for all that wait or are parked",
        ),
        (
            "POST",
            "/v1/store/backup",
            r#"{"path":"x"}"#,
            400,
            "path must be absolute: the daemon's working directory is not yours",
        ),
        (
            "POST",
            "/v1/store/backup",
            r#"{"path":"/x"}"#,
            409,
            "the store is in memory",
        ),
        ("GET", "/nowhere", "", 404, "there is nothing at this path"),
        (
            "POST",
            "/v1/targets/crm/destroy",
            "",
            404,
            "there is nothing at this path",
        ),
        ("DELETE", "/v1/status", "", 405, "this path takes GET, HEAD"),
        ("GET", "/v1/reload", "", 405, "this path takes POST"),
    ] {
        let problem = world.problem(method, path, body).await;
        assert_eq!(
            (problem.0.as_u16(), problem.1.as_str()),
            (status, detail),
            "{method} {path}"
        );
    }
    let response = world.call("PUT", "/v1/targets/crm/pause", "").await;
    assert_eq!(response.headers()["allow"], "POST");
    let (status, _) = world.problem("POST", "/v1/targets/crm/retry", "[").await;
    assert_eq!(status, 400);
    assert!(world.daemon.acts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_token_is_asked_for_on_every_path_over_tcp() {
    let mut world = World::new();
    world.token = Some(Token("secret".into()));
    world.peer.address = Some(Ipv4Addr::LOCALHOST.into());
    for path in ["/healthz", "/v1/status", "/nowhere"] {
        let response = world.call("GET", path, "").await;
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
    world.peer.address = None;
    assert_eq!(world.call("GET", "/v1/status", "").await.status(), 200);
}

#[tokio::test]
async fn the_commands_client_talks_over_the_socket() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let client = Client::new(socket.clone()).unwrap();
    let error = client.get::<Status>("/v1/status").await.unwrap_err();
    assert!(error.is_down());
    let failure = Failure::from(error);
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.report().contains("is it running?"), "{failure}");

    let world = World::new();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(
        vec![Socket::Unix(bind_unix(&socket).unwrap())],
        None,
        Arc::new(Limits::new(16, 65536)),
        routes(world.admin.clone(), None),
        stop.clone(),
        || Duration::from_secs(1),
    ));
    let status: Status = client.get("/v1/status").await.unwrap();
    assert_eq!(status.listener.as_deref(), Some("127.0.0.1:8700"));
    let acted: Acted = client
        .post("/v1/targets/crm/pause", &json!({}))
        .await
        .unwrap();
    assert_eq!(acted.done, "done");
    let error = client.post::<Value>("/v1/reload", &()).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    assert_eq!(Failure::from(error).exit, Exit::Failed);
    stop.cancel();
    serving.await.unwrap();
}
