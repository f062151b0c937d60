//! Settings: what is refused, and what identifies a target.

use crate::try_open;

const URL: &str = "url = 'nats://localhost:4222'\n";

#[test]
fn mistakes_are_told() {
    for (settings, message) in [
        ("", "url"),
        ("url = []", "empty"),
        ("url = 'http://localhost'", "scheme"),
        ("url = 'ws://localhost'", "not supported"),
        ("url = 'nats://user:hunter2@localhost'", "password"),
        ("url = ['nats://localhost', 'nats://me@other']", "user name"),
        ("url = 5", "a URL or a list"),
    ] {
        let error = try_open(settings).err().unwrap();
        assert!(error.message.contains(message), "{settings}: {error}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    for (settings, message) in [
        ("username = 'me'", "`password`"),
        ("password = 'x'", "`username`"),
        ("token = 'x'\nusername = 'me'\npassword = 'x'", "exclude"),
        (
            "token = { env = 'PROFILESYNC_NO_SUCH' }",
            "PROFILESYNC_NO_SUCH",
        ),
        ("credentials = 'hunter2'", "JWT"),
        ("subject = 'fixed'", "{{ account }}"),
        ("subject = 'a..{{ account }}'", "empty token"),
        ("subject = '{{ name }}'", "`name`"),
        ("stream = 'a.b'", "letters"),
        ("bucket = ''", "letters"),
        ("bucket = 'b'\nsubject = '{{ account }}'", "two targets"),
        ("bucket = 'b'\nstream = 's'", "`bucket`"),
        ("tls = { ca = '/no/such/file' }", "/no/such/file"),
        ("tls = { certificate = 'x' }", "need each other"),
        ("key = 'x'", "key"),
    ] {
        let error = try_open(&format!("{URL}{settings}")).err().unwrap();
        let text = format!("{error} {}", error.help.as_deref().unwrap_or_default());
        assert!(text.contains(message), "{settings}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn secrets_are_not_sent_in_clear() {
    let far = "['nats://localhost', 'nats://10.0.0.1']";
    for (login, secret) in [
        ("username = 'me'\npassword = 'hunter2'\n", "password"),
        ("token = 'hunter2'\n", "token"),
    ] {
        let settings = format!("url = {far}\n{login}");
        let error = try_open(&settings).err().unwrap();
        let message = format!("the {secret} would cross the network in clear");
        assert_eq!(error.message, message);
        assert_eq!(&settings[error.span.unwrap()], far);
        assert!(error.help.unwrap().contains("tls://"));
        assert!(try_open(&format!("{settings}insecure = true")).is_ok());
        for url in [
            "'nats://localhost'",
            "'[::1]:4222'",
            "['tls://10.0.0.1', 'nats://10.0.0.2']",
            "'nats://10.0.0.1'\ntls = {}",
        ] {
            assert!(try_open(&format!("{login}url = {url}")).is_ok(), "{url}");
        }
    }
    assert!(try_open(&format!("url = {far}")).is_ok());
}

#[test]
fn the_identity_is_what_decides_what_the_server_holds() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity(URL);
    for same in [
        "token = 'hunter2'",
        "username = 'me'\npassword = 'hunter2'",
        "stream = 's'",
        "subject = 'profilesync.{{ sdk_app_id }}.{{ account }}'",
    ] {
        assert_eq!(identity(&format!("{URL}{same}")), plain, "{same}");
    }
    assert_eq!(identity("url = 'localhost'"), plain);
    for other in ["subject = '{{ account }}'", "bucket = 'b'"] {
        assert_ne!(identity(&format!("{URL}{other}")), plain, "{other}");
    }
    assert_eq!(
        identity("url = ['nats://a', 'nats://b']"),
        identity("url = ['nats://b:4222', 'tls://a']")
    );
}
