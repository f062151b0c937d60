//! The webhook's listener: checks a request, hands its event to the journal, and answers.
//!
//! It answers OK for a profile event only once the journal has synced it; what becomes of the event then is not
//! its concern. Design §3 has the table of answers. A request goes through `peer`, `query`, `sign` and
//! `event::parse`; `answer` holds what it is told, `forward` the way of other commands.

mod answer;
mod forward;
mod names;
mod peer;
mod query;
mod rules;
mod sign;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use warp::{
    Filter,
    filters::path::FullPath,
    http::{HeaderMap, Method, Response, StatusCode, request::Parts},
};

use crate::{
    accept::{Body, Limits, Peer, Policy},
    clock,
    config::{App, Config},
    event::{self, Event, Field, Kind},
    journal::{Entry, Journal},
    metrics::{EventResult, Metrics},
    seldom::Seldom,
};
use answer::Refusal;
use names::Names;
use query::{Given, Query};
use rules::Rules;

/// From a request's last byte to its answer at most. The sender hangs up after two seconds.
const BUDGET: Duration = Duration::from_millis(1800);

/// How long a request waits while the store lags behind the journal by more than `store.max_lag`.
const LAG_PAUSE: Duration = Duration::from_millis(100);

/// An `EventTime` further ahead of this clock is warned of.
const SKEW_NOTICE: Duration = Duration::from_secs(5 * 60);

/// Events in the journal that the store has not applied.
pub type Lag = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Takes webhooks.
pub struct Ingest {
    rules: ArcSwap<Rules>,
    journal: Journal,
    lag: Lag,
    max_lag: u64,
    metrics: Metrics,
    seldom: Seldom,
    names: Names,
}

/// What of a request is looked at.
struct Request {
    method: Method,
    path: FullPath,
    /// Not to be logged: it holds `Sign`.
    query: String,
    headers: HeaderMap,
    peer: Peer,
    body: Body,
}

impl Ingest {
    /// An ingest for these apps and this listener.
    #[must_use]
    pub fn new(config: &Config, journal: Journal, lag: Lag, metrics: Metrics) -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules::new(config)),
            journal,
            lag,
            max_lag: config.store.max_lag,
            metrics,
            seldom: Seldom::default(),
            names: Names::default(),
        }
    }

    /// Takes over the apps and the listener's settings, for all requests from now on. Its address, and the
    /// store's settings, stay as they are.
    pub fn reload(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::new(config)));
    }

    /// The routes for [`crate::accept::serve`], which gives every request the extensions they need.
    pub fn routes(
        self: Arc<Self>,
    ) -> impl Filter<Extract = (Response<Bytes>,), Error = Infallible> + Clone {
        let raw_query = warp::query::raw().or(warp::any().map(String::new)).unify();
        warp::method()
            .and(warp::path::full())
            .and(raw_query)
            .and(warp::header::headers_cloned())
            .and(warp::ext::get::<Peer>())
            .and(warp::ext::get::<Body>())
            .map(|method, path, query, headers, peer, body| Request {
                method,
                path,
                query,
                headers,
                peer,
                body,
            })
            .then(move |request| {
                let ingest = Arc::clone(&self);
                async move { ingest.answer(&request).await }
            })
            .recover(async |_| Ok::<_, Infallible>(Refusal::Path.answer()))
            .unify()
    }

    async fn answer(&self, request: &Request) -> Response<Bytes> {
        let rules = self.rules.load_full();
        let query = Query::parse(&request.query);
        let source = rules.source(request.peer, &request.headers);
        match rules.admit(request.path.as_str(), &request.method, source, &query) {
            Ok(app) => match self.take(&rules, app, &query, request).await {
                Ok(response) => response,
                Err(refusal) => self.refuse(&app.name, source, &refusal),
            },
            Err(refusal) => self.refuse("-", source, &refusal),
        }
    }

    fn refuse(&self, app: &str, source: Option<IpAddr>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason();
        self.metrics.refuse(reason);
        self.metrics.event(app, EventResult::Refused);
        if let Some(left_out) = self.seldom.left_out(reason) {
            let peer = source.map_or_else(|| "unknown".into(), |address| address.to_string());
            let error = refusal as &dyn std::error::Error;
            tracing::warn!(error, reason, app, peer, left_out, "request refused");
        }
        refusal.answer()
    }

    async fn take(
        &self,
        rules: &Rules,
        app: &App,
        query: &Query,
        request: &Request,
    ) -> Result<Response<Bytes>, Refusal> {
        let deadline = Instant::now() + BUDGET;
        if !app.tokens.is_empty() && is_unsigned_probe(query, &request.body) {
            return Ok(answer::last(answer::ok()));
        }
        sign::check(&app.tokens, query, clock::now(), rules.sign_window)?;
        rules.check_rate()?;
        let body = match &request.body {
            Body::Whole(body) => body,
            Body::TooLarge => return Err(Refusal::TooLarge),
            Body::TooSlow => return Err(Refusal::TooSlow),
        };
        let command = match &query.command {
            Given::Once(command) => command,
            Given::No if is_blank(body) => return Ok(answer::ok()),
            Given::No | Given::Repeated => return Err(Refusal::Command),
        };
        match Kind::of_command(command) {
            Some(kind) => {
                let event = event::parse(app.sdk_app_id, kind, command, body)?;
                self.check_time(rules, app, &event)?;
                self.warn_of_new_names(&event);
                self.record(app, command, body, deadline).await
            }
            None => {
                self.pass_on(rules, app, command, request, body, deadline)
                    .await
            }
        }
    }

    fn check_time(&self, rules: &Rules, app: &App, event: &Event) -> Result<(), Refusal> {
        let ahead = Duration::from_millis(event.stamp.time.saturating_sub(clock::now()));
        if ahead > rules.max_clock_skew {
            return Err(Refusal::Future);
        }
        if ahead > SKEW_NOTICE
            && let Some(left_out) = self.seldom.left_out("skew")
        {
            tracing::warn!(
                app = app.name,
                account = event.id.account,
                ahead_seconds = ahead.as_secs(),
                left_out,
                "an event is dated ahead of this clock"
            );
        }
        Ok(())
    }

    fn warn_of_new_names(&self, event: &Event) {
        for field in event.fields.keys() {
            if let Field::Extra(name) = field
                && let Some(name) = self.names.new_one(name)
            {
                tracing::warn!(
                    ?name,
                    "an event has a member of an unknown name, kept as extra"
                );
            }
        }
    }

    /// The entry is written even if the client hangs up meanwhile, or the answer is that it took too long: the
    /// sender may send it again, and the store knows duplicates.
    async fn record(
        &self,
        app: &App,
        command: &str,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Response<Bytes>, Refusal> {
        let started = Instant::now();
        self.wait_for_the_store().await?;
        let entry = Entry {
            received: clock::now(),
            app: app.sdk_app_id,
            command: command.to_owned(),
            body: body.clone(),
        };
        match timeout_at(deadline, self.journal.append(entry)).await {
            Ok(Ok(_)) => {
                self.metrics
                    .ack_seconds
                    .observe(started.elapsed().as_secs_f64());
                Ok(answer::ok())
            }
            Ok(Err(error)) => Err(Refusal::Unavailable(error)),
            Err(_) => Err(Refusal::Late),
        }
    }

    async fn wait_for_the_store(&self) -> Result<(), Refusal> {
        let lag = (self.lag)();
        if lag > self.max_lag.saturating_add(self.max_lag / 4) {
            return Err(Refusal::Lag);
        }
        if lag > self.max_lag {
            sleep(LAG_PAUSE).await;
        }
        Ok(())
    }

    /// Answers a command that is not about a profile.
    async fn pass_on(
        &self,
        rules: &Rules,
        app: &App,
        command: &str,
        request: &Request,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Response<Bytes>, Refusal> {
        if let Ok(members) = event::object(body) {
            event::check_command(command, &members)?;
        }
        self.metrics.event(&app.name, EventResult::Ignored);
        let Some(forward) = &rules.forward else {
            return Ok(answer::ok());
        };
        match forward.send(&request.query, body.clone(), deadline).await {
            Ok(answer) => Ok(answer::json(StatusCode::OK, answer)),
            Err(error) => {
                if let Some(left_out) = self.seldom.left_out("forward") {
                    let error = &error as &dyn std::error::Error;
                    let (app, command) = (&app.name, names::shortened(command));
                    tracing::warn!(error, app, ?command, left_out, "forwarding failed");
                }
                Ok(answer::ok())
            }
        }
    }
}

/// Known from the head alone, so that a stranger's body takes no memory.
impl Policy for Ingest {
    fn limits(&self) -> Limits {
        self.rules.load().limits
    }

    fn expects(&self, peer: Peer) -> bool {
        self.rules.load().expects(peer)
    }

    fn heeds(&self, head: &Parts, peer: Peer) -> bool {
        let rules = self.rules.load();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let source = rules.source(peer, &head.headers);
        let admitted = rules.admit(head.uri.path(), &head.method, source, &query);
        admitted.is_ok_and(|app| {
            sign::check(&app.tokens, &query, clock::now(), rules.sign_window).is_ok()
        })
    }
}

/// Whether this is the empty request by which a console may check the URL before it knows a token. It is
/// answered like a signed one, for it records and reveals nothing.
fn is_unsigned_probe(query: &Query, body: &Body) -> bool {
    let bare = [&query.command, &query.sign, &query.request_time]
        .into_iter()
        .all(|given| *given == Given::No);
    bare && matches!(body, Body::Whole(body) if is_blank(body))
}

fn is_blank(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), b"" | b"{}")
}
