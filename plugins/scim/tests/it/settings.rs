//! Settings that are refused, and what identifies a target.

use profilesync_target::conformance::refused;

use crate::try_open;

/// The message of settings that are refused, and the text it points at; they have a good URL before.
#[track_caller]
fn check_with(line: &str, message: &str, at: &str) {
    let settings = match line.starts_with("url") {
        true => line.to_owned(),
        false => format!("url = 'https://a/v2'\n{line}"),
    };
    refused(try_open(&settings), &settings, message, at);
}

#[test]
fn wrong_settings_are_refused() {
    check_with("url = 'a'", "is no URL", "'a'");
    check_with("url = 'https://a/?x=y'", "has a query", "'https://a/?x=y'");
    check_with(
        "resource = 'users'",
        "expected `Users` or `Groups`",
        "'users'",
    );
    check_with("update = 'post'", "expected `patch` or `put`", "'post'");
    check_with("external_id = 'x'", "the same for several accounts", "'x'");
    check_with(
        "external_id = '{{ account }}'",
        "the same for several accounts",
        "",
    );
    check_with(
        "external_id = '{{ sdk_app_id }}00{{ account }}'",
        "can be the same for two accounts",
        "",
    );
    let moves = "external_id = '{{ sdk_app_id }}:{{ account }}{{ revision }}'";
    check_with(moves, "changes with the profile", "");
    check_with(
        "external_id = '{{ accont }}'",
        "`external_id` fails for",
        "",
    );
    check_with(
        "attributes = { x = 'nam' }",
        "\"nam\" is no member",
        "'nam'",
    );
    check_with("attributes = { x = [] }", "no source", "[]");
    check_with(
        "attributes = { 'a b' = 'name' }",
        "is no name of an attribute",
        "'a b'",
    );
    check_with(
        "attributes = { 'x:y' = 'name' }",
        "does not begin with `urn:`",
        "'x:y'",
    );
    check_with("attributes = { a = 'name', A = 'name' }", "given twice", "");
    check_with(
        "attributes = { externalId = 'name' }",
        "cannot be set",
        "externalId",
    );
    check_with("auth = { type = 'bearer' }", "missing field `token`", "");
    check_with("id = 'x'", "unknown field `id`", "id");
}

#[test]
fn credentials_do_not_cross_the_network_in_clear() {
    let bearer = "auth = { type = 'bearer', token = 'x' }";
    let far = "url = 'http://id.example/v2'";
    check_with(
        &format!("{far}\n{bearer}"),
        "would cross the network in clear",
        "'http://id.example/v2'",
    );
    let issuer = "{ type = 'oauth2', token_url = 'http://id.example/', client_id = 'a', client_secret = 'b' }";
    let proxy = "'http://user:pass@proxy.example'";
    for (line, at) in [("auth", issuer), ("proxy", proxy)] {
        let clear = "would cross the network in clear";
        check_with(&format!("{line} = {at}"), clear, at);
    }
    for well in [
        format!("{far}\n{bearer}\ninsecure = true"),
        format!("url = 'http://127.0.0.1:1/v2'\n{bearer}"),
        far.to_owned(),
    ] {
        try_open(&well).unwrap();
    }
}

#[test]
fn the_identity_follows_the_resources_and_not_the_secrets() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity("url = 'https://a/v2'");
    for same in [
        "url = 'https://a/v2/'",
        "url = 'https://a/v2'\nupdate = 'put'",
        "url = 'https://a/v2'\nauth = { type = 'bearer', token = 'x' }",
    ] {
        assert_eq!(identity(same), plain);
    }
    for other in [
        "url = 'https://b/v2'",
        "url = 'https://a/v2'\nresource = 'Groups'",
        "url = 'https://a/v2'\nexternal_id = '{{ account }}@{{ sdk_app_id }}'",
        "url = 'https://a/v2'\nattributes = { userName = 'safe_id' }",
    ] {
        assert_ne!(identity(other), plain);
    }
}
