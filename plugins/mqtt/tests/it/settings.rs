//! Settings that are refused, and what identifies a target.

use profilesync_target::conformance::refused;

use crate::try_open;

/// The message of settings that are refused, and the text it points at.
#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    refused(try_open(settings), settings, message, at);
}

/// The same of settings that have a good URL before.
#[track_caller]
fn check_with(line: &str, message: &str, at: &str) {
    check(&format!("url = 'mqtt://localhost'\n{line}"), message, at);
}

#[test]
fn a_wrong_url_is_refused() {
    check("", "missing field `url`", "");
    let with = |url: &str| format!("url = '{url}'");
    check(&with("a:b:c"), "speaks mqtt:", "'a:b:c'");
    check(&with("nowhere"), "is no URL", "'nowhere'");
    check(&with("https://a"), "begins with https:", "'https://a'");
    check(
        &with("mqtt://u:p@a"),
        "user name or password",
        "'mqtt://u:p@a'",
    );
    check(&with("mqtt://a/topic"), "has a path", "'mqtt://a/topic'");
    check(&with("mqtt://a?x=5"), "query", "'mqtt://a?x=5'");
    check(&with("mqtt://"), "no host", "'mqtt://'");
}

#[test]
fn a_wrong_choice_is_told_the_right_ones() {
    check_with("topics = 'y'", "unknown field `topics`", "topics");
    check_with(
        "format = 'xml'",
        "expected `profile` or `standard`",
        "'xml'",
    );
    check_with("password = 'p'", "has no `username`", "'p'");
    check_with(
        "username = 'u'\npassword = { env = 'NO_SUCH' }",
        "NO_SUCH",
        "{ env = 'NO_SUCH' }",
    );
    check_with("tls = { ca = 'x' }", "not encrypted", "{ ca = 'x' }");
}

#[test]
fn a_wrong_topic_is_refused() {
    check_with("topic = '{{ nope }}'", "undefined", "nope");
    check_with("topic = '{{ account'", "is no template", "");
    check_with("topic = 'profiles/#'", "wildcard", "'profiles/#'");
    check_with("topic = '$SYS/x'", "begins with `$`", "'$SYS/x'");
    // Of a destroyed account no name is known.
    check_with("topic = '{{ name }}'", "is empty", "'{{ name }}'");
}

#[test]
fn a_topic_that_is_not_one_accounts_for_good_is_refused() {
    for (topic, message) in [
        (
            "mqn/{{ organization or \"-\" }}/{{ sdk_app_id }}/{{ account }}",
            "`topic` changes with `organization`, and the account's message under its old topic would stay",
        ),
        (
            "mqc/{{ sdk_app_id }}",
            "`topic` can be the same for two accounts",
        ),
        ("profiles", "`topic` can be the same for two accounts"),
    ] {
        let settings = format!("url = 'mqtt://localhost'\ntopic = '{topic}'");
        let error = try_open(&settings).err().unwrap();
        assert!(error.message.contains(message), "{}", error.message);
        let help = error.help.unwrap_or_default();
        assert!(help.contains("`sdk_app_id` and `account` alone"), "{help}");
    }
}

#[test]
fn passwords_are_not_sent_in_clear() {
    let to = |url: &str| format!("url = '{url}'\nusername = 'u'\npassword = 'p'\n");
    check(&to("mqtt://far"), "in clear", "'mqtt://far'");
    check(&to("mqtt://10.0.0.1"), "in clear", "'mqtt://10.0.0.1'");
    for near in ["mqtt://localhost", "mqtt://127.0.0.1", "mqtt://[::1]"] {
        assert!(try_open(&to(near)).is_ok(), "{near}");
    }
    assert!(try_open(&(to("mqtt://far") + "insecure = true")).is_ok());
}

#[test]
fn wrong_certificates_are_refused() {
    let check = |tls: &str, message: &str| {
        check(&format!("url = 'mqtts://a'\ntls = {tls}"), message, "");
    };
    check("{ ca = '/no/such' }", "/no/such");
    check("{ ca = '/dev/null' }", "no certificate");
    check("{ certificate = '/dev/null' }", "need each other");
    check("{ cert = 'x' }", "unknown field `cert`");
}

#[test]
fn the_identity_follows_what_is_sent_and_not_the_secrets() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity("url = 'mqtt://localhost'");
    for same in [
        "url = 'mqtt://localhost:1883/'",
        "url = 'mqtt://localhost'\nusername = 'u'\npassword = 'hunter2'\nclient_id = 'c'",
    ] {
        assert_eq!(identity(same), plain);
    }
    for other in [
        "url = 'mqtt://127.0.0.1'",
        "url = 'mqtt://localhost'\ntopic = 'p/{{ account }}'",
        "url = 'mqtt://localhost'\nformat = 'standard'",
    ] {
        assert_ne!(identity(other), plain);
    }
}

#[test]
fn the_schema_names_every_key() {
    let schema = (profilesync_mqtt::KIND.schema)();
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    let expected = [
        "client_id",
        "format",
        "insecure",
        "password",
        "tls",
        "topic",
        "url",
        "username",
    ];
    assert_eq!(names, expected);
    assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
}
