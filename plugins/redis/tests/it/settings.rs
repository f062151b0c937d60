//! Settings: what is refused, and what identifies a target.

use crate::{PASSWORD, delivered, document, open, start, try_open};

const URL: &str = "url = 'redis://localhost:6379'\n";

#[test]
fn mistakes_are_told() {
    for (settings, message) in [
        ("", "url"),
        ("url = 'localhost'", "no URL"),
        ("url = 'http://localhost'", "no Redis server"),
        ("url = 'redis://user:hunter2@localhost'", "password"),
        ("url = 'redis://localhost/1'", "path"),
        ("url = 'redis://localhost?db=1'", "behind `?`"),
        ("url = 'rediss://localhost/#insecure'", "behind `?` or `#`"),
        ("url = 'unix:socket'", "absolute path"),
        ("url = 'redis:'", "no host"),
    ] {
        let error = try_open(settings).err().unwrap();
        assert!(error.message.contains(message), "{settings}: {error}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    for (settings, message) in [
        ("username = 'me'", "`password`"),
        (
            "password = { env = 'PROFILESYNC_NO_SUCH' }",
            "PROFILESYNC_NO_SUCH",
        ),
        ("db = -1", "-1"),
        ("destroyed = 'forget'", "forget"),
        ("stream = ''", "empty"),
        ("channel = ''", "empty"),
        ("stream_maxlen = 5", "`stream`"),
        ("stream = 's'\nstream_maxlen = 0", "nonzero"),
        (
            "stream = 'profilesync:14:changes'",
            "account \"changes\" of app 14",
        ),
        ("tls = {}", "does not use TLS"),
        ("key = 'x'", "key"),
    ] {
        let error = try_open(&format!("{URL}{settings}")).err().unwrap();
        assert!(error.message.contains(message), "{settings}: {error}");
    }
}

#[test]
fn passwords_are_not_sent_in_clear() {
    let to = |url: &str| format!("url = '{url}'\npassword = 'hunter2'\n");
    for far in ["redis://far", "valkey://10.0.0.1", "redis://[fe80::1]"] {
        let settings = to(far);
        let error = try_open(&settings).err().unwrap();
        assert_eq!(
            error.message,
            "the password would cross the network in clear"
        );
        assert_eq!(&settings[error.span.unwrap()], format!("'{far}'"));
        assert!(error.help.unwrap().contains("rediss://"));
        assert!(try_open(&(settings + "insecure = true")).is_ok());
        assert!(try_open(&format!("url = '{far}'")).is_ok());
    }
    for fine in [
        "redis://localhost",
        "redis://127.0.0.1",
        "redis://[::1]",
        "rediss://far",
        "unix:/run/redis.sock",
    ] {
        assert!(try_open(&to(fine)).is_ok(), "{fine}");
    }
}

#[test]
fn certificates_are_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "").unwrap();
    let url = "url = 'rediss://localhost'\n";
    for (tls, message) in [
        ("ca = '/no/such/file'".to_owned(), "/no/such/file"),
        (format!("ca = {file:?}"), "no certificate"),
        (format!("certificate = {file:?}"), "need each other"),
        (
            format!("certificate = {file:?}, private_key = {file:?}"),
            "no certificate",
        ),
    ] {
        let error = try_open(&format!("{url}tls = {{ {tls} }}")).err().unwrap();
        assert!(error.message.contains(message), "{tls}: {error}");
        assert!(error.span.is_some(), "{error}");
    }
}

#[test]
fn the_identity_is_what_decides_what_the_server_holds() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity(URL);
    for same in [
        "password = 'hunter2'",
        "username = 'me'\npassword = 'hunter2'",
        "db = 0",
        "prefix = 'profilesync:'",
        "destroyed = 'keep'",
    ] {
        assert_eq!(identity(&format!("{URL}{same}")), plain, "{same}");
    }
    assert_eq!(identity("url = 'redis://localhost'"), plain);
    for other in [
        "db = 1",
        "prefix = 'p:'",
        "destroyed = 'delete'",
        "stream = 's'",
        "channel = 'c'",
    ] {
        assert_ne!(identity(&format!("{URL}{other}")), plain, "{other}");
    }
    assert_ne!(identity("url = 'redis://localhost:6380'"), plain);
    assert_eq!(
        identity(&format!("{URL}stream = 's'\nstream_maxlen = 5")),
        identity(&format!("{URL}stream = 's'"))
    );
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let Some(server) = start(&[]).await else {
        return;
    };
    let socket = server.socket();
    for url in [format!("unix:{socket}"), format!("unix://{socket}")] {
        let target = open(&format!("url = '{url}'\npassword = '{PASSWORD}'"));
        target.probe().await.unwrap();
        delivered(&*target, document(1)).await;
    }
}
