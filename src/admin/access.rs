//! Who may use the admin API. On the Unix socket the file's mode decides; over TCP it is decided here.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use warp::{
    Filter, Rejection,
    http::{HeaderMap, Method, StatusCode, header},
};

use super::problem::Problem;
use crate::{accept::Peer, config::Token};

/// Lets a request pass that may use the API, and rejects others with a [`Problem`].
pub(super) fn guard(
    token: Option<Token>,
) -> impl Filter<Extract = (), Error = Rejection> + Clone + Send + Sync + 'static {
    warp::ext::get::<Peer>()
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and_then(move |peer: Peer, method: Method, headers: HeaderMap| {
            let verdict = check(peer, &method, &headers, token.as_ref());
            std::future::ready(verdict.map_err(warp::reject::custom))
        })
        .untuple_one()
}

fn check(
    peer: Peer,
    method: &Method,
    headers: &HeaderMap,
    token: Option<&Token>,
) -> Result<(), Problem> {
    if peer.address.is_none() {
        return Ok(());
    }
    let loopback = peer
        .address
        .is_some_and(|address| address.to_canonical().is_loopback());
    match token {
        Some(token) if bears(headers, token) => Ok(()),
        Some(_) => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "send `Authorization: Bearer …` with the token of [admin]",
        )),
        // The configuration asks for a token, but a socket that systemd holds may be anywhere.
        None if !loopback => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "without admin.token the admin API is for this machine alone",
        )),
        None => no_browser_was_tricked(method, headers),
    }
}

/// Compares digests, so that neither the time taken nor its length tells of the token.
fn bears(headers: &HeaderMap, token: &Token) -> bool {
    let Some(given) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked("Bearer ".len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
        .map(|(_, given)| given)
    else {
        return false;
    };
    Sha256::digest(given)
        .as_slice()
        .ct_eq(Sha256::digest(&token.0).as_slice())
        .into()
}

/// Without a token the client is on loopback, and what can reach the API from there beside local programs is a browser that some
/// web page leads here: by a name that resolves to loopback, or by a form or script of another site.
fn no_browser_was_tricked(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !is_loopback(host) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the Host header names no loopback address; set admin.token to use other names",
        ));
    }
    let origin = headers.get(header::ORIGIN).map(|value| value.as_bytes());
    let own = origin.is_none_or(|origin| origin == format!("http://{host}").as_bytes());
    if own || method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "the request comes from a page of another site",
    ))
}

/// Whether a Host header, with or without a port, names this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<warp::http::uri::Authority>() else {
        return false;
    };
    let name = authority.host();
    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Peer = Peer {
        address: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
    };

    fn status(peer: Peer, method: &Method, headers: &[(&str, &str)], token: Option<&str>) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let token = token.map(|token| Token(token.into()));
        match check(peer, method, &headers, token.as_ref()) {
            Ok(()) => 200,
            Err(problem) => problem.status,
        }
    }

    #[test]
    fn the_socket_needs_nothing() {
        assert_eq!(
            status(Peer { address: None }, &Method::POST, &[], Some("t")),
            200
        );
    }

    #[test]
    fn a_configured_token_is_asked_for() {
        for (given, expected) in [
            ("Bearer secret", 200),
            ("bearer secret", 200),
            ("Bearer secre", 401),
            ("Basic secret", 401),
            ("", 401),
        ] {
            let headers = [("authorization", given), ("host", "admin.example.com")];
            let status = status(TCP, &Method::GET, &headers, Some("secret"));
            assert_eq!(status, expected, "{given}");
        }
    }

    #[test]
    fn without_a_token_other_machines_are_refused() {
        let host = [("host", "localhost")];
        for (address, expected) in [
            ("127.0.0.1", 200),
            ("::1", 200),
            ("::ffff:127.0.0.1", 200),
            ("192.0.2.1", 403),
            ("::ffff:192.0.2.1", 403),
        ] {
            let address = Some(address.parse().unwrap());
            let got = status(Peer { address }, &Method::GET, &host, None);
            assert_eq!(got, expected, "{address:?}");
        }
        let elsewhere = Peer {
            address: Some("192.0.2.1".parse().unwrap()),
        };
        let bearer = [("authorization", "Bearer t")];
        assert_eq!(status(elsewhere, &Method::GET, &bearer, Some("t")), 200);
    }

    #[test]
    fn names_that_are_not_loopback_are_refused() {
        for (host, expected) in [
            ("localhost:8701", 200),
            ("127.0.0.1", 200),
            ("127.9.9.9:1", 200),
            ("[::1]:8701", 200),
            ("evil.example:8701", 403),
            ("localhost.evil.example", 403),
            ("192.0.2.1", 403),
            ("user@localhost", 200),
            ("", 403),
        ] {
            let status = status(TCP, &Method::GET, &[("host", host)], None);
            assert_eq!(status, expected, "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        for (origin, expected) in [
            ("http://localhost:8701", 200),
            ("http://localhost:3000", 403),
            ("https://evil.example", 403),
            ("null", 403),
        ] {
            let headers = [("host", "localhost:8701"), ("origin", origin)];
            assert_eq!(
                status(TCP, &Method::POST, &headers, None),
                expected,
                "{origin}"
            );
            assert_eq!(status(TCP, &Method::GET, &headers, None), 200);
        }
    }
}
