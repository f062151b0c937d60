//! Settings that are refused, and what identifies a target.

use crate::try_open;

/// The message of settings that are refused, and the text it points at.
#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    let error = try_open(settings)
        .err()
        .unwrap_or_else(|| panic!("{settings} was taken"));
    assert!(
        error.message.contains(message),
        "{settings}: {}",
        error.message
    );
    if !at.is_empty() {
        assert_eq!(&settings[error.span.unwrap()], at, "{}", error.message);
    }
}

/// The same of settings that have a good URL before.
#[track_caller]
fn check_with(line: &str, message: &str, at: &str) {
    check(&format!("url = 'https://a/'\n{line}"), message, at);
}

#[test]
fn a_wrong_url_is_refused() {
    check("", "missing field `url`", "");
    check("url = 'a/x'", "is no URL", "'a/x'");
    check("url = 'ftp://a'", "only https: and http:", "'ftp://a'");
    check(
        "url = 'https://u:p@a'",
        "user name or password",
        "'https://u:p@a'",
    );
    check("url = 'https://a/#x'", "fragment", "'https://a/#x'");
}

#[test]
fn a_wrong_choice_is_told_the_right_ones() {
    check_with("formt = 'profile'", "unknown field `formt`", "formt");
    check_with(
        "format = 'xml'",
        "expected one of `standard`, `profile`, `cloudevents`, `template`",
        "'xml'",
    );
    let methods = "expected one of `POST`, `PUT`, `PATCH`";
    check_with("method = 'GET'", methods, "'GET'");
    let auth = "expected one of `bearer`, `basic`, `oauth2`";
    check_with("auth = { type = 'digest' }", auth, "");
}

#[test]
fn wrong_headers_are_refused() {
    check_with("headers = { 'a b' = 'x' }", "no name of a header", "'x'");
    let ours = "set by profilesync itself";
    check_with("headers = { webhook-id = 'x' }", ours, "'x'");
    check_with("headers = { Host = 'x' }", ours, "'x'");
    let control = "control character";
    check_with("headers = { a = \"x\\ny\" }", control, "\"x\\ny\"");
    check_with("headers = { a = 'x', A = 'y' }", "given twice", "");
    check_with(
        "headers = { a = { env = 'NO_SUCH' } }",
        "NO_SUCH",
        "{ env = 'NO_SUCH' }",
    );
}

#[test]
fn wrong_credentials_are_refused() {
    check_with("auth = { type = 'bearer' }", "missing field `token`", "");
    let both = "headers = { Authorization = 'x' }\nauth = { type = 'bearer', token = 'y' }";
    check_with(both, "both say", "{ type = 'bearer', token = 'y' }");
    check_with("signing_secret = []", "empty list", "[]");
    check_with("signing_secret = 'whsec_*'", "not base64", "'whsec_*'");
    check_with(
        "signing_secret = { file = 'none' }",
        "file ./none cannot",
        "",
    );
    check_with("signing_secret = { vault = 'x' }", "{ credential = ", "");
    check_with("tls = { ca = '/no/such' }", "/no/such", "'/no/such'");
    check_with(
        "tls = { ca = '/dev/null' }",
        "no certificate",
        "'/dev/null'",
    );
}

#[test]
fn wrong_statuses_are_refused() {
    check_with("success = [99]", "\"500-599\"", "99");
    check_with("success = ['300-200']", "\"500-599\"", "'300-200'");
    let twice = "success = [409]\nreject_on = ['400-499']";
    check_with(twice, "409 is in more than one", "");
}

#[test]
fn the_identity_follows_what_is_sent_and_not_the_secrets() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity("url = 'http://a/'");
    for same in [
        "url = 'http://a'\nauth = { type = 'bearer', token = 'x' }",
        "url = 'http://a/'\nsigning_secret = 'x'\nsuccess = [409]",
    ] {
        assert_eq!(identity(same), plain);
    }
    for other in [
        "url = 'http://b/'",
        "url = 'http://a/'\nformat = 'profile'",
        "url = 'http://a/'\nmethod = 'PUT'",
        "url = 'http://a/'\nheaders = { x = 'y' }",
    ] {
        assert_ne!(identity(other), plain);
    }
    let secret = identity("url = 'http://a/'\nheaders = { x-token = 'hunter2' }");
    assert!(!secret.to_string().contains("hunter2"));
}

#[test]
fn the_schema_names_every_key() {
    let schema = (profilesync_webhook::KIND.schema)();
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    let expected = [
        "array",
        "auth",
        "body",
        "delete",
        "deny_private",
        "format",
        "headers",
        "method",
        "on_not_found",
        "proxy",
        "redirects",
        "reject_on",
        "retry_on",
        "signing_secret",
        "success",
        "tls",
        "url",
    ];
    assert_eq!(names, expected);
    assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
}
