//! Settings that are refused, and what identifies a target.

use profilesync_target::conformance::refused;

use crate::try_open;

/// The message of settings that are refused, and the text it points at.
#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    refused(try_open(settings), settings, message, at);
}

/// The same of settings that have good brokers and a topic before.
#[track_caller]
fn check_with(line: &str, message: &str, at: &str) {
    check(
        &format!("brokers = ['a:9092']\ntopic = 't'\n{line}"),
        message,
        at,
    );
}

#[test]
fn wrong_brokers_and_topics_are_refused() {
    check("topic = 't'", "missing field `brokers`", "");
    check("brokers = []\ntopic = 't'", "names none", "[]");
    for (broker, message) in [
        ("'a'", "no port"),
        ("'a:0'", "no port"),
        ("'SSL://a:9093'", "PLAINTEXT"),
        ("'a:1,b:2'", "no host and port"),
        ("':9092'", "no host and port"),
    ] {
        check(
            &format!("brokers = [{broker}]\ntopic = 't'"),
            message,
            broker,
        );
    }
    for topic in ["''", "'.'", "'a b'", "'a/b'"] {
        check(
            &format!("brokers = ['a:1']\ntopic = {topic}"),
            "no name of a topic",
            topic,
        );
    }
}

#[test]
fn a_key_is_of_the_account() {
    check_with("key = 'same'", "same for different accounts", "'same'");
    check_with(
        "key = '{{ sdk_app_id }}'",
        "same for different accounts",
        "'{{ sdk_app_id }}'",
    );
    let joined = "'{{ sdk_app_id }}00{{ account }}'";
    check_with(&format!("key = {joined}"), "same for two accounts", joined);
    let revision = "'{{ account }}{{ revision }}'";
    check_with(
        &format!("key = {revision}"),
        "changes with the profile",
        revision,
    );
    check_with(
        "key = '{{ name }}'",
        "changes with the profile",
        "'{{ name }}'",
    );
    check_with("key = '{{ acount }}'", "acount", "acount");
    assert!(try_open("brokers = ['a:1']\ntopic = 't'\nkey = '{{ account }}'").is_ok());
}

#[test]
fn properties_are_librdkafkas_and_not_ours() {
    for (name, message) in [
        ("security.protocol", "without TLS"),
        ("ssl.ca.location", "without TLS"),
        ("sasl.password", "without TLS"),
        ("acks", "promises"),
        ("enable.idempotence", "promises"),
        ("max.in.flight", "promises"),
        ("partitioner", "promises"),
        ("delivery.report.only.error", "promises"),
        ("delivery.timeout.ms", "promises"),
        ("message.timeout.ms", "`timeout`"),
        ("bootstrap.servers", "`brokers`"),
        ("plugin.library.paths", "load programs"),
        ("test.mock.num.brokers", "promises"),
        ("dr_msg_cb", "promises"),
        ("no.such.thing", "No such configuration property"),
    ] {
        let line = format!("properties = {{ '{name}' = 'x' }}");
        check_with(&line, message, &format!("'{name}'"));
    }
    let wrong = "properties = { 'linger.ms' = 'long' }";
    check_with(wrong, "linger.ms", "'linger.ms'");
    let unfit = "properties = { 'queue.buffering.max.kbytes' = 10, 'linger.ms' = 900000 }";
    check_with(unfit, "do not fit together", "");
    let good = "brokers = ['a:1']\ntopic = 't'\n[properties]\n'compression.type' = 'lz4'\n'linger.ms' = 20\n\
                'socket.keepalive.enable' = false";
    assert!(try_open(good).is_ok());
}

#[test]
fn the_identity_follows_what_is_held() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity("brokers = ['a:1', 'b:2']\ntopic = 't'");
    for same in [
        "brokers = ['b:2', 'a:1']\ntopic = 't'",
        "brokers = ['a:1', 'b:2']\ntopic = 't'\nproperties = { 'linger.ms' = 1 }",
    ] {
        assert_eq!(identity(same), plain);
    }
    for other in [
        "topic = 'u'",
        "topic = 't'\nkey = '{{ account }}'",
        "topic = 't'\nformat = 'standard'",
    ] {
        assert_ne!(
            identity(&format!("brokers = ['a:1', 'b:2']\n{other}")),
            plain
        );
    }
}
