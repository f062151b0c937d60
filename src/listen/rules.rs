//! The configured side of the checks, taken over as one on a reload.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use warp::http::Method;

use super::{
    Request,
    answer::Refusal,
    forward::Forward,
    peer,
    query::{Given, Query},
};
use crate::{
    accept::Limits,
    config::{App, Config, Rate},
};

/// What requests are held to.
pub(super) struct Rules {
    /// By `SdkAppid` as it must be written.
    apps: HashMap<String, App>,
    path: String,
    allow: Vec<IpNet>,
    trusted_proxies: Vec<IpNet>,
    rate: Option<DefaultDirectRateLimiter>,
    /// How far `RequestTime` may be from now.
    pub(super) sign_window: Duration,
    /// How far in the future an `EventTime` may be.
    pub(super) max_clock_skew: Duration,
    /// Where other commands go.
    pub(super) forward: Option<Forward>,
    /// What connections are held to.
    pub(super) limits: Limits,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        let listener = &config.listener;
        let apps = config.apps.iter();
        Self {
            apps: apps
                .map(|(id, app)| (id.to_string(), app.clone()))
                .collect(),
            path: listener.path.clone(),
            allow: listener.allow.clone(),
            trusted_proxies: listener.trusted_proxies.clone(),
            rate: listener.rate_limit.and_then(limiter),
            sign_window: listener.sign_window,
            max_clock_skew: listener.max_clock_skew,
            forward: listener.forward.clone().map(Forward::new),
            limits: Limits::new(listener.max_connections.get(), listener.max_body),
        }
    }

    /// The checks that come before the signature: path, method, peer, app.
    pub(super) fn admit(&self, request: &Request, query: &Query) -> Result<&App, Refusal> {
        if request.path.as_str() != self.path {
            return Err(Refusal::Path);
        }
        if request.method != Method::POST {
            return Err(Refusal::Method);
        }
        if !peer::allowed(self.source(request), &self.allow) {
            return Err(Refusal::Peer);
        }
        match &query.app {
            Given::Once(app) => self.apps.get(app).ok_or(Refusal::App),
            Given::No | Given::Repeated => Err(Refusal::App),
        }
    }

    /// The address that sent a request, as far as it is known; see [`peer`].
    pub(super) fn source(&self, request: &Request) -> Option<IpAddr> {
        let peer = request.peer.address;
        peer::source(peer, &request.headers, &self.trusted_proxies)
    }

    /// The check that comes after the signature: strangers are not to use up what is there for the sender.
    pub(super) fn check_rate(&self) -> Result<(), Refusal> {
        match &self.rate {
            Some(rate) => rate.check().map_err(|_| Refusal::Rate),
            None => Ok(()),
        }
    }
}

/// `None` for a rate so high that its interval is no time at all.
fn limiter(rate: Rate) -> Option<DefaultDirectRateLimiter> {
    let quota = Quota::with_period(rate.per / rate.count.get())?;
    Some(RateLimiter::direct(quota.allow_burst(rate.count)))
}
