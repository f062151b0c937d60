//! The configured side of the checks, taken over as one on a reload.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use warp::http::{HeaderMap, Method};

use super::{
    answer::Refusal,
    forward::Forward,
    peer,
    query::{Given, Query},
};
use crate::{
    accept::{Limits, Peer},
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

    /// The checks that come before the signature: path, method, source, app.
    pub(super) fn admit(
        &self,
        path: &str,
        method: &Method,
        source: Option<IpAddr>,
        query: &Query,
    ) -> Result<&App, Refusal> {
        if path != self.path {
            return Err(Refusal::Path);
        }
        if method != Method::POST {
            return Err(Refusal::Method);
        }
        if !peer::allowed(source, &self.allow) {
            return Err(Refusal::Peer);
        }
        match &query.app {
            Given::Once(app) => self.apps.get(app).ok_or(Refusal::App),
            Given::No | Given::Repeated => Err(Refusal::App),
        }
    }

    /// Whether a request of this peer may come from somebody who is allowed.
    pub(super) fn expects(&self, peer: Peer) -> bool {
        peer::expected(peer.address, &self.allow, &self.trusted_proxies)
    }

    /// The address that sent a request, as far as it is known; see [`peer`].
    pub(super) fn source(&self, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
        peer::source(peer.address, headers, &self.trusted_proxies)
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
