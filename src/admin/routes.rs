//! The paths of the admin API.

use std::{convert::Infallible, str::FromStr, sync::Arc};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use warp::{
    Filter, Rejection,
    filters::BoxedFilter,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
    hyper::body::Bytes,
    path,
};

use super::{
    Admin, access,
    accounts::{self, HistoryQuery, ListQuery},
    problem::{Problem, WrongMethod, recover},
    view::{Acted, BackupReport, BackupRequest, ReloadReport, RetryRequest, Targets},
};
use crate::{
    accept::{Body, Peer},
    config::Token,
    dispatch::{ActError, Action},
    event::AccountId,
    status::TargetStatus,
};

const OPEN_METRICS_TYPE: &str = "application/openmetrics-text";
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The whole API. `token` is asked for over TCP; see [`access`].
#[must_use]
pub fn routes(
    admin: Arc<Admin>,
    token: Option<Token>,
) -> impl Filter<Extract = (Response<Bytes>,), Error = Infallible> + Clone + Send + Sync + 'static {
    let api = any_of([
        health(&admin),
        overview(&admin),
        reads(&admin),
        acts(&admin),
    ]);
    access::guard(token).and(api).recover(recover).unify()
}

type Routes = BoxedFilter<(Response<Bytes>,)>;

fn any_of<const N: usize>(routes: [Routes; N]) -> Routes {
    let mut routes = routes.into_iter();
    let first = routes.next().expect("a group has a route");
    routes.fold(first, |all, route| all.or(route).unify().boxed())
}

fn health(admin: &Arc<Admin>) -> Routes {
    let healthz = path!("healthz").and(get()).map(|| plain("ok\n"));
    let readyz = path!("readyz").and(get()).and(with(admin)).map(readyz);
    let metrics = path!("metrics")
        .and(get())
        .and(warp::header::headers_cloned())
        .and(with(admin))
        .map(metrics);
    any_of([healthz.boxed(), readyz.boxed(), metrics.boxed()])
}

fn overview(admin: &Arc<Admin>) -> Routes {
    let status = path!("v1" / "status")
        .and(get())
        .and(with(admin))
        .map(|admin: Arc<Admin>| json(&admin.status()));
    let store = path!("v1" / "store")
        .and(get())
        .and(with(admin))
        .map(|admin: Arc<Admin>| json(&admin.store_status()));
    let targets = path!("v1" / "targets")
        .and(get())
        .and(with(admin))
        .map(|admin: Arc<Admin>| {
            let targets = admin.daemon.targets();
            json(&Targets { targets })
        });
    let target = path!("v1" / "targets" / String)
        .and(get())
        .and(with(admin))
        .map(|name: String, admin: Arc<Admin>| answer(target(&name, &admin)));
    any_of([
        status.boxed(),
        store.boxed(),
        targets.boxed(),
        target.boxed(),
    ])
}

fn reads(admin: &Arc<Admin>) -> Routes {
    let list = path!("v1" / "accounts")
        .and(get())
        .and(warp::query())
        .and(with(admin))
        .then(|query: ListQuery, admin: Arc<Admin>| async move {
            answer(accounts::list(admin.store.clone(), query).await)
        });
    let show = path!("v1" / "accounts" / u64 / String)
        .and(get())
        .and(with(admin))
        .then(|app, account: String, admin: Arc<Admin>| async move {
            match id(app, &account) {
                Ok(id) => answer(accounts::show(admin.store.clone(), id).await),
                Err(problem) => problem.response(),
            }
        });
    let history = path!("v1" / "accounts" / u64 / String / "history")
        .and(get())
        .and(warp::query())
        .and(with(admin))
        .then(
            |app, account: String, query: HistoryQuery, admin: Arc<Admin>| async move {
                match id(app, &account) {
                    Ok(id) => answer(accounts::history(admin.store.clone(), id, query).await),
                    Err(problem) => problem.response(),
                }
            },
        );
    any_of([list.boxed(), show.boxed(), history.boxed()])
}

/// What is asked for stands in the body: a member of it that is put into the query must not be passed over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

fn acts(admin: &Arc<Admin>) -> Routes {
    let act = path!("v1" / "targets" / String / Verb)
        .and(post())
        .and(warp::query().map(|NoQuery {}| ()).untuple_one())
        .and(warp::ext::get::<Body>())
        .and(with(admin))
        .then(
            |name: String, verb: Verb, body: Body, admin: Arc<Admin>| async move {
                answer(act(&admin, &name, verb, &body).await)
            },
        );
    let reload = path!("v1" / "reload")
        .and(post())
        .and(with(admin))
        .then(|admin: Arc<Admin>| async move { answer(reload(&admin).await) });
    let backup = path!("v1" / "store" / "backup")
        .and(post())
        .and(warp::ext::get::<Peer>())
        .and(warp::ext::get::<Body>())
        .and(with(admin))
        .then(|peer: Peer, body: Body, admin: Arc<Admin>| async move {
            answer(backup(&admin, peer, &body).await)
        });
    any_of([act.boxed(), reload.boxed(), backup.boxed()])
}

fn readyz(admin: Arc<Admin>) -> Response<Bytes> {
    let readiness = admin.readiness();
    let mut response = json(&readiness);
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// Prometheus text, and OpenMetrics for who asks for it.
fn metrics(headers: HeaderMap, admin: Arc<Admin>) -> Response<Bytes> {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    let (text, kind) = if accepted.any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.contains(OPEN_METRICS_TYPE))
    }) {
        (admin.metrics.render_open_metrics(), OPEN_METRICS)
    } else {
        (admin.metrics.render(), PROMETHEUS)
    };
    let mut response = plain(text);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn target(name: &str, admin: &Admin) -> Result<TargetStatus, Problem> {
    let name = decode(name)?;
    let mut targets = admin.daemon.targets().into_iter();
    targets
        .find(|target| target.name == name)
        .ok_or_else(|| ActError::UnknownTarget(name).into())
}

/// What a POST to a target does.
#[derive(Clone, Copy)]
enum Verb {
    Pause,
    Resume,
    Retry,
    Backfill,
    Approve,
}

impl FromStr for Verb {
    type Err = ();

    fn from_str(verb: &str) -> Result<Self, ()> {
        match verb {
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            "retry" => Ok(Self::Retry),
            "backfill" => Ok(Self::Backfill),
            "approve" => Ok(Self::Approve),
            _ => Err(()),
        }
    }
}

impl Verb {
    fn action(self, body: &Body) -> Result<Action, Problem> {
        Ok(match self {
            Self::Pause => Action::Pause,
            Self::Resume => Action::Resume,
            Self::Backfill => Action::Backfill,
            Self::Approve => Action::Approve,
            Self::Retry => {
                let RetryRequest {
                    app,
                    account,
                    all_parked,
                } = parse_or_default(body)?;
                if account.is_some() && all_parked {
                    return Err(Problem::new(
                        StatusCode::BAD_REQUEST,
                        "say account, or all_parked, or neither for all that wait or are parked",
                    ));
                }
                Action::Retry {
                    app,
                    account,
                    all_parked,
                }
            }
        })
    }
}

async fn act(admin: &Admin, name: &str, verb: Verb, body: &Body) -> Result<Acted, Problem> {
    let target = decode(name)?;
    let action = verb.action(body)?;
    if let Action::Retry {
        app: Some(app),
        account: None,
        ..
    } = action
    {
        return Err(no_whole_app(admin, app));
    }
    let done = admin.daemon.act(&target, action.clone()).await?;
    tracing::info!(target, ?action, done, "an operator acted on a target");
    Ok(Acted { target, done })
}

fn no_whole_app(admin: &Admin, app: u64) -> Problem {
    if admin.daemon.apps().iter().any(|own| own.sdk_app_id == app) {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "app goes with account; without both it is about every app",
        );
    }
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("no app has the sdk_app_id {app}; `profilesync status` lists them"),
    )
}

async fn reload(admin: &Admin) -> Result<ReloadReport, Problem> {
    let report = admin.daemon.reload().await;
    report.map_err(|reason| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason))
}

/// Writes a file with the daemon's rights, which is for those who may use its socket.
async fn backup(admin: &Admin, peer: Peer, body: &Body) -> Result<BackupReport, Problem> {
    if peer.address.is_some() {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "backups are made over the admin socket only",
        ));
    }
    let BackupRequest { path } = parse(body)?;
    if !path.is_absolute() {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "path must be absolute: the daemon's working directory is not yours",
        ));
    }
    match admin.store.backup(path.clone()).await {
        Ok(()) => Ok(BackupReport { path }),
        Err(reason) => Err(Problem::new(StatusCode::CONFLICT, reason)),
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        let status = match error {
            ActError::UnknownTarget(_) | ActError::UnknownAccount(_) => StatusCode::NOT_FOUND,
            ActError::Refused(_) => StatusCode::CONFLICT,
            ActError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

fn id(app: u64, account: &str) -> Result<AccountId, Problem> {
    let account = decode(account)?;
    Ok(AccountId { app, account })
}

fn decode(segment: &str) -> Result<String, Problem> {
    match percent_decode_str(segment).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("{segment:?} in the path is not percent-encoded UTF-8"),
        )),
    }
}

fn parse<T: DeserializeOwned>(body: &Body) -> Result<T, Problem> {
    serde_json::from_slice(whole(body)?).map_err(|error| {
        let detail = format!("the body is not what this path takes: {error}");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

fn parse_or_default<T: DeserializeOwned + Default>(body: &Body) -> Result<T, Problem> {
    if whole(body)?.is_empty() {
        return Ok(T::default());
    }
    parse(body)
}

fn whole(body: &Body) -> Result<&Bytes, Problem> {
    match body {
        Body::Whole(bytes) => Ok(bytes),
        Body::TooLarge => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large",
        )),
        Body::TooSlow => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

fn get() -> impl Filter<Extract = (), Error = Rejection> + Copy + Send + Sync + 'static {
    methods("GET, HEAD", |method| {
        *method == Method::GET || *method == Method::HEAD
    })
}

fn post() -> impl Filter<Extract = (), Error = Rejection> + Copy + Send + Sync + 'static {
    methods("POST", |method| *method == Method::POST)
}

fn methods(
    allowed: &'static str,
    takes: fn(&Method) -> bool,
) -> impl Filter<Extract = (), Error = Rejection> + Copy + Send + Sync + 'static {
    warp::method()
        .and_then(move |method: Method| {
            let verdict = if takes(&method) {
                Ok(())
            } else {
                Err(warp::reject::custom(WrongMethod(allowed)))
            };
            std::future::ready(verdict)
        })
        .untuple_one()
}

fn with(
    admin: &Arc<Admin>,
) -> impl Filter<Extract = (Arc<Admin>,), Error = Infallible> + Clone + Send + Sync + 'static {
    let admin = admin.clone();
    warp::any().map(move || admin.clone())
}

fn answer<T: Serialize>(result: Result<T, Problem>) -> Response<Bytes> {
    match result {
        Ok(value) => json(&value),
        Err(problem) => problem.response(),
    }
}

fn json<T: Serialize>(value: &T) -> Response<Bytes> {
    let body = serde_json::to_vec(value).expect("views serialise: every map key is a string");
    let mut response = Response::new(Bytes::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn plain(text: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
