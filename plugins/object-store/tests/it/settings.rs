//! Settings that are refused, and what identifies a target.

use profilesync_target::conformance::refused;

use crate::try_open;

/// The message of settings that are refused, and the text it points at.
#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    refused(try_open(settings), settings, message, at);
}

const KEYS: &str = "access_key_id = 'id'\nsecret_access_key = 'hunter2'\n";

#[test]
fn a_wrong_url_is_refused() {
    check("", "missing field `url`", "");
    for (url, message) in [
        ("'bucket'", "is no URL"),
        ("'https://bucket'", "no object store"),
        ("'s3://'", "names no bucket"),
        ("'s3:///x'", "names no bucket"),
        ("'s3://key:secret@bucket'", "user name or password"),
        ("'s3://key@bucket'", "user name or password"),
        ("'s3://bucket?region=x'", "query"),
        ("'s3://bucket:99/x'", "port"),
        ("'s3://bucket/a//b'", "no good prefix"),
        ("'s3://bucket/a/%2e%2e%0a'", "no good prefix"),
        ("'file://host/x'", "names a host"),
        ("'file:///'", "root of the file system"),
    ] {
        check(&format!("url = {url}\n{KEYS}"), message, url);
    }
    let long = format!("url = 's3://bucket/{}'\n{KEYS}", "x".repeat(701));
    check(&long, "longer than", "");
}

#[test]
fn keys_of_another_store_are_refused() {
    for (settings, key) in [
        ("url = 'file:///srv/x'\nregion = 'x'", "region"),
        ("url = 'file:///srv/x'\nconditional = true", "conditional"),
        ("url = 'gs://b'\naccess_key_id = 'x'", "access_key_id"),
        ("url = 's3://b'\nsas_token = 'x'", "sas_token"),
        (
            "url = 'az://b'\nservice_account_key = 'x'",
            "service_account_key",
        ),
    ] {
        check(settings, &format!("`{key}` means nothing"), "");
    }
    check(
        "url = 's3://b'\nbucket = 'x'",
        "unknown field `bucket`",
        "bucket",
    );
}

#[test]
fn half_of_the_credentials_is_refused() {
    check(
        "url = 's3://b'\naccess_key_id = 'x'",
        "`secret_access_key`",
        "'x'",
    );
    check(
        "url = 's3://b'\nsecret_access_key = 'x'",
        "`access_key_id`",
        "'x'",
    );
    check("url = 'az://b'\nclient_id = 'x'", "`client_secret`", "'x'");
    let secret = "url = 's3://b'\naccess_key_id = { env = 'NO_SUCH' }\nsecret_access_key = 'x'";
    check(secret, "NO_SUCH", "{ env = 'NO_SUCH' }");
    check(
        "url = 'gs://b'\nservice_account_key = 'no JSON: hunter2'",
        "cannot be used as it is set",
        "",
    );
    check(
        "url = 'az://b'\naccess_key = 'aGk='",
        "cannot be used as it is set",
        "",
    );
}

#[test]
fn plain_http_is_for_this_machine() {
    let settings = |rest: &str| format!("url = 's3://b'\n{KEYS}endpoint = {rest}");
    for taken in [
        "'http://127.0.0.1:9000'",
        "'http://localhost:9000'",
        "'http://[::1]:9000'",
        "'https://minio.example.com'",
        "'http://minio.example.com'\nallow_http = true",
    ] {
        assert!(try_open(&settings(taken)).is_ok(), "{taken}");
    }
    for (refused, message) in [
        ("'http://minio.example.com'", "all can read"),
        ("'ftp://minio'", "only https: and http:"),
        ("'minio'", "is no URL"),
        ("'https://u:p@minio'", "user name"),
    ] {
        check(&settings(refused), message, refused);
    }
    let tls = |ca: &str| format!("url = 's3://b'\n{KEYS}tls = {{ ca = {ca} }}");
    check(&tls("'/no/such'"), "/no/such", "'/no/such'");
    check(&tls("'/dev/null'"), "no certificate", "'/dev/null'");
}

#[test]
fn the_endpoint_of_a_key_of_googles_is_one_too() {
    let key = |url: &str| {
        format!(
            "'{{\"private_key\": \"x\", \"private_key_id\": \"1\", \"client_email\": \"e\", \"disable_oauth\": true, \"gcs_base_url\": \"{url}\"}}'"
        )
    };
    let settings = |key: &str| format!("url = 'gs://b'\nservice_account_key = {key}");
    for taken in ["https://gcs.example.com", "http://127.0.0.1:4443"] {
        assert!(try_open(&settings(&key(taken))).is_ok(), "{taken}");
    }
    let plain = key("http://gcs.example.com");
    let message = "all can read what is sent (it is `gcs_base_url` of the service account's key)";
    check(&settings(&plain), message, &plain);
    let other = format!("{}\nallow_http = true", settings(&plain));
    assert!(try_open(&other).is_ok());
}

#[test]
fn every_cloud_is_opened() {
    let key = "-----BEGIN PRIVATE KEY-----\\nx\\n-----END PRIVATE KEY-----";
    let google = format!(
        r#"{{"private_key": "{key}", "private_key_id": "1", "client_email": "e", "disable_oauth": true}}"#
    );
    for settings in [
        format!("url = 'gs://b/p'\nservice_account_key = '{google}'"),
        "url = 'az://container/p'\naccount = 'a'\naccess_key = 'aGk='".into(),
        "url = 'abfss://container@a.dfs.core.windows.net/p'\naccess_key = 'aGk='".into(),
        "url = 'az://container'\naccount = 'a'\nsas_token = 'sv=1&sig=x'".into(),
        "url = 'az://c'\naccount = 'a'\ntenant_id = 't'\nclient_id = 'i'\nclient_secret = 's'"
            .into(),
        format!("url = 's3://b/p'\nregion = 'eu-central-1'\nsession_token = 't'\n{KEYS}"),
        "url = 's3://b'".into(),
    ] {
        if let Err(error) = try_open(&settings) {
            panic!("{settings}: {error}");
        }
    }
}

#[test]
fn the_identity_follows_what_is_held_and_not_the_secrets() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity(&format!("url = 's3://b/p'\n{KEYS}"));
    assert!(!plain.to_string().contains("hunter2"));
    for same in ["url = 's3://b/p/'", "url = 's3://b/p'\nconditional = false"] {
        assert_eq!(identity(&format!("{same}\n{KEYS}")), plain);
    }
    for other in [
        "url = 's3://b/q'",
        "url = 's3://c/p'",
        "url = 's3://b/p'\nendpoint = 'https://minio'",
        "url = 's3://b/p'\ndestroyed = 'keep'",
    ] {
        assert_ne!(identity(&format!("{other}\n{KEYS}")), plain, "{other}");
    }
}

#[test]
fn the_schema_names_every_key() {
    let schema = (profilesync_object_store::KIND.schema)();
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    assert_eq!(properties.len(), 18);
    assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
}
