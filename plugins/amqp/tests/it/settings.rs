//! Settings that are refused, and what identifies a target.

use profilesync_target::conformance::refused;

use crate::try_open;

/// The message of settings that are refused, and the text it points at.
#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    refused(try_open(settings), settings, message, at);
}

/// The same of settings that have a good URL and an exchange before.
#[track_caller]
fn check_with(line: &str, message: &str, at: &str) {
    check(
        &format!("url = 'amqp://localhost'\nexchange = 'x'\n{line}"),
        message,
        at,
    );
}

#[test]
fn a_wrong_url_is_refused() {
    check("exchange = 'x'", "missing field `url`", "");
    check("url = 'amqp://localhost'", "missing field `exchange`", "");
    let with = |url: &str| format!("exchange = 'x'\nurl = '{url}'");
    check(&with("a:b:c"), "speaks amqp:", "'a:b:c'");
    check(&with("nowhere"), "is no URL", "'nowhere'");
    check(&with("https://a"), "begins with https:", "'https://a'");
    check(
        &with("amqp://u:p@a"),
        "user name or password",
        "'amqp://u:p@a'",
    );
    check(&with("amqp://a/vhost"), "has a path", "'amqp://a/vhost'");
    check(
        &with("amqp://a?heartbeat=5"),
        "query",
        "'amqp://a?heartbeat=5'",
    );
    check(&with("amqp://"), "no host", "'amqp://'");
}

#[test]
fn a_wrong_choice_is_told_the_right_ones() {
    check_with("exchang = 'y'", "unknown field `exchang`", "exchang");
    check_with(
        "format = 'xml'",
        "expected `standard` or `profile`",
        "'xml'",
    );
    check_with("username = 'u'", "has no `password`", "'u'");
    check_with("password = 'p'", "has no `username`", "'p'");
    check_with(
        "username = 'u'\npassword = { env = 'NO_SUCH' }",
        "NO_SUCH",
        "{ env = 'NO_SUCH' }",
    );
    check_with("tls = { ca = 'x' }", "not encrypted", "{ ca = 'x' }");
}

#[test]
fn a_wrong_routing_key_is_refused() {
    check_with("routing_key = '{{ nope }}'", "undefined", "nope");
    check_with("routing_key = '{{ account'", "is no template", "");
    let three = "routing_key = '{{ account }}.{{ name }}.{{ owner }}'";
    check_with(
        three,
        "AMQP allows 255",
        "'{{ account }}.{{ name }}.{{ owner }}'",
    );
    let long = format!("url = 'amqp://localhost'\nexchange = '{}'", "x".repeat(256));
    check(&long, "255 bytes", "");
}

#[test]
fn passwords_are_not_sent_in_clear() {
    let to = |url: &str| format!("url = '{url}'\nexchange = 'x'\nusername = 'u'\npassword = 'p'\n");
    check(&to("amqp://far"), "in clear", "'amqp://far'");
    check(&to("amqp://10.0.0.1"), "in clear", "'amqp://10.0.0.1'");
    for near in ["amqp://localhost", "amqp://127.0.0.1", "amqp://[::1]"] {
        assert!(try_open(&to(near)).is_ok(), "{near}");
    }
    assert!(try_open(&(to("amqp://far") + "insecure = true")).is_ok());
}

#[test]
fn wrong_certificates_are_refused() {
    let check = |tls: &str, message: &str| {
        check(
            &format!("url = 'amqps://a'\nexchange = 'x'\ntls = {tls}"),
            message,
            "",
        );
    };
    check("{ ca = '/no/such' }", "/no/such");
    check("{ ca = '/dev/null' }", "no certificate");
    check("{ certificate = '/dev/null' }", "need each other");
    check("{ cert = 'x' }", "unknown field `cert`");
}

#[test]
fn the_identity_follows_what_is_sent_and_not_the_secrets() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity("url = 'amqp://localhost'\nexchange = 'x'");
    for same in [
        "url = 'amqp://localhost:5672/'\nexchange = 'x'",
        "url = 'amqp://localhost'\nexchange = 'x'\nusername = 'u'\npassword = 'hunter2'\nmandatory = false",
    ] {
        assert_eq!(identity(same), plain);
    }
    for other in [
        "url = 'amqp://127.0.0.1'\nexchange = 'x'",
        "url = 'amqp://localhost'\nexchange = 'y'",
        "url = 'amqp://localhost'\nexchange = 'x'\nvhost = 'v'",
        "url = 'amqp://localhost'\nexchange = 'x'\nrouting_key = 'k'",
        "url = 'amqp://localhost'\nexchange = 'x'\nformat = 'profile'",
    ] {
        assert_ne!(identity(other), plain);
    }
}

#[test]
fn the_schema_names_every_key() {
    let schema = (profilesync_amqp::KIND.schema)();
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    let expected = [
        "exchange",
        "format",
        "insecure",
        "mandatory",
        "password",
        "routing_key",
        "tls",
        "url",
        "username",
        "vhost",
    ];
    assert_eq!(names, expected);
    assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
}
