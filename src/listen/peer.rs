//! Which address a request comes from, and whether it may send.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use warp::http::HeaderMap;

/// The address that counts. With trusted proxies, and one of them at the other end of the connection, it is the
/// right-most address of `X-Forwarded-For` that is not a trusted proxy's: everything to its left is what the
/// client claims. The peer of a Unix socket is a process of this machine and counts as a trusted proxy.
///
/// `None` when it is not known: a Unix socket's peer without a proxy's word, or a word that is no address.
pub(super) fn source(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    trusted_proxies: &[IpNet],
) -> Option<IpAddr> {
    let trusted = |address: IpAddr| contains(trusted_proxies, address);
    if trusted_proxies.is_empty() || peer.is_some_and(|peer| !trusted(peer)) {
        return peer;
    }
    let mut source = peer;
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in line.to_str().ok()?.rsplit(',') {
            let hop = address(hop.trim())?;
            if !trusted(hop) {
                return Some(hop);
            }
            source = Some(hop);
        }
    }
    source
}

/// Whether a source may send. An empty list lets everyone; a list lets nobody whose address is not known.
pub(super) fn allowed(source: Option<IpAddr>, allow: &[IpNet]) -> bool {
    allow.is_empty() || source.is_some_and(|source| contains(allow, source))
}

/// Whether a peer is an allowed source, or one that may speak for it.
pub(super) fn expected(peer: Option<IpAddr>, allow: &[IpNet], trusted_proxies: &[IpNet]) -> bool {
    allowed(peer, allow) || peer.is_none_or(|peer| contains(trusted_proxies, peer))
}

fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use warp::http::HeaderValue;

    use super::*;

    #[test]
    fn a_peer_is_expected_that_is_allowed_or_speaks_for_others() {
        let nets = |net: &str| vec![net.parse::<IpNet>().unwrap()];
        let (allow, proxies) = (nets("192.0.2.0/24"), nets("10.0.0.0/8"));
        let expects = |peer: &str| expected(Some(peer.parse().unwrap()), &allow, &proxies);
        assert_eq!(
            ["192.0.2.7", "10.1.1.1", "198.51.100.1"].map(expects),
            [true, true, false]
        );
        assert!(expected(None, &allow, &proxies), "a Unix socket");
        let stranger = Some("198.51.100.1".parse().unwrap());
        assert!(expected(stranger, &[], &proxies), "everyone is allowed");
    }

    const TRUSTED: &str = "10.0.0.0/8";

    fn check(peer: Option<&str>, lines: &[&'static str], trusted: &[&str], expected: Option<&str>) {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let found = source(peer.map(address), &headers, &trusted);
        assert_eq!(found, expected.map(address), "{peer:?} {lines:?}");
    }

    #[test]
    fn the_header_is_believed_from_trusted_proxies_only() {
        check(Some("1.1.1.1"), &["2.2.2.2"], &[], Some("1.1.1.1"));
        check(Some("1.1.1.1"), &["2.2.2.2"], &[TRUSTED], Some("1.1.1.1"));
        check(Some("10.0.0.1"), &["2.2.2.2"], &[TRUSTED], Some("2.2.2.2"));
        check(Some("10.0.0.1"), &[], &[TRUSTED], Some("10.0.0.1"));
    }

    #[test]
    fn the_right_most_stranger_counts() {
        let proxy = Some("10.0.0.1");
        check(proxy, &["6.6.6.6, 2.2.2.2"], &[TRUSTED], Some("2.2.2.2"));
        check(
            proxy,
            &["6.6.6.6", "2.2.2.2, 10.1.1.1"],
            &[TRUSTED],
            Some("2.2.2.2"),
        );
        check(proxy, &["10.9.9.9,10.1.1.1"], &[TRUSTED], Some("10.9.9.9"));
        check(proxy, &["6.6.6.6, unknown"], &[TRUSTED], None);
        check(
            proxy,
            &["[2001:db8::1]:443"],
            &[TRUSTED],
            Some("2001:db8::1"),
        );
        check(proxy, &["2.2.2.2:80"], &[TRUSTED], Some("2.2.2.2"));
        check(proxy, &["::ffff:2.2.2.2"], &[TRUSTED], Some("2.2.2.2"));
    }

    #[test]
    fn a_unix_socket_has_no_address_but_what_a_proxy_says() {
        check(None, &["2.2.2.2"], &[], None);
        check(None, &["2.2.2.2"], &[TRUSTED], Some("2.2.2.2"));
        assert!(allowed(None, &[]));
        assert!(!allowed(None, &[TRUSTED.parse().unwrap()]));
    }
}
