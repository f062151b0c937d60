//! Proxies, redirects and private addresses.

use profilesync_target::Outcome;

use crate::{
    deliver, open,
    server::{Server, answer},
};

#[tokio::test]
async fn a_proxy_is_gone_through() {
    let proxy = Server::start(answer("200 OK", "", "")).await;
    let target = open(&format!(
        "url = 'http://crm.invalid/hook'\nproxy = 'http://user:hunter2@{}'",
        proxy.address
    ));
    let outcome = deliver(&*target).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    let request = proxy.received().remove(0);
    assert_eq!(request.line, "POST http://crm.invalid/hook HTTP/1.1");
    assert_eq!(request.headers["host"], "crm.invalid");
    // `user:hunter2`
    assert_eq!(
        request.headers["proxy-authorization"],
        "Basic dXNlcjpodW50ZXIy"
    );

    proxy.reply(answer(
        "407 Proxy Authentication Required",
        "",
        "hunter2 is wrong",
    ));
    let outcome = deliver(&*target).await;
    assert!(matches!(outcome, Outcome::Denied { .. }), "{outcome:?}");
    assert!(!outcome.text().contains("hunter2"), "{outcome:?}");

    // For https the proxy is asked for a tunnel.
    let tunnel = open(&format!(
        "url = 'https://crm.invalid/'\nproxy = 'http://{}'",
        proxy.address
    ));
    let outcome = deliver(&*tunnel).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert_eq!(
        proxy.received().pop().unwrap().line,
        "CONNECT crm.invalid:443 HTTP/1.1"
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_a_tunnel_is_told_of() {
    let refused = "the proxy refused to make a tunnel (CONNECT), and its log may say why";
    for (status, reason) in [
        ("403 Forbidden", refused),
        ("502 Bad Gateway", refused),
        (
            "407 Proxy Authentication Required",
            "the proxy refused the credentials: it answered 407 Proxy Authentication Required",
        ),
    ] {
        let proxy = Server::start(answer(status, "", "")).await;
        let target = open(&format!(
            "url = 'https://crm.invalid/'\nproxy = 'http://{}'",
            proxy.address
        ));
        let outcome = deliver(&*target).await;
        assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
        let expected = format!("cannot connect to crm.invalid: {reason}");
        assert_eq!(outcome.text(), expected, "{status}");
    }
}

#[tokio::test]
async fn only_harmless_redirects_are_followed_and_only_when_asked() {
    let there = Server::start(answer("200 OK", "", "")).await;
    let case = async |status: &str, location: &str, redirects: u8| {
        let (code, to) = (status.to_owned(), location.to_owned());
        let here = Server::start(crate::server::Reply::script(move |request| {
            match request.line.contains("/end") {
                true => answer("200 OK", "", ""),
                false => answer(&code, &format!("location: {to}\r\n"), ""),
            }
        }))
        .await;
        let target = open(&format!(
            "url = 'http://{}/start'\nredirects = {redirects}\nauth = {{ type = 'bearer', token = 'x' }}",
            here.address
        ));
        (deliver(&*target).await, here.received())
    };
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let (outcome, requests) = case(status, "/end", 1).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
        assert_eq!(requests[1].line, "POST /end HTTP/1.1");
        assert_eq!(requests[1].body, requests[0].body);
        assert_eq!(requests[1].headers["authorization"], "Bearer x");
    }
    let elsewhere = format!("http://{}/end", there.address);
    for (status, location, redirects, sent) in [
        ("307 Temporary Redirect", "/end", 0, 1),
        ("307 Temporary Redirect", "/again", 3, 4),
        ("301 Moved Permanently", "/end", 5, 1),
        ("302 Found", "/end", 5, 1),
        ("303 See Other", "/end", 5, 1),
        ("307 Temporary Redirect", elsewhere.as_str(), 5, 1),
        ("308 Permanent Redirect", "https://127.0.0.1/end", 5, 1),
    ] {
        let (outcome, requests) = case(status, location, redirects).await;
        assert!(
            matches!(outcome, Outcome::Fault { .. }),
            "{status} {location}: {outcome:?}"
        );
        assert!(outcome.text().contains("followed"), "{outcome:?}");
        assert_eq!(requests.len(), sent, "{status} {location}");
    }
    assert!(
        there.received().is_empty(),
        "credentials went to another host"
    );
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused() {
    let server = Server::start(answer("200 OK", "", "")).await;
    let url = format!("url = 'http://localhost:{}/'", server.address.port());
    let outcome = deliver(&*open(&format!("{url}\ndeny_private = true"))).await;
    assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
    assert!(outcome.text().contains("`deny_private`"), "{outcome:?}");
    assert_eq!(server.state.lock().unwrap().connections, 0);
    let outcome = deliver(&*open(&url)).await;
    // Where `localhost` is ::1 alone, nobody listens.
    assert!(!outcome.text().contains("deny_private"), "{outcome:?}");
}
