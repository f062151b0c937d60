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
    check_with("headers = { User-Agent = 'x' }", ours, "'x'");
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
    check_with("signing_secret = 'whsec_'", "no key follows", "'whsec_'");
    check_with(
        "signing_secret = { file = 'none' }",
        "file ./none cannot",
        "",
    );
    check_with(
        "signing_secret = { vault = 'x' }",
        "unknown field `vault`",
        "",
    );
    check_with("tls = { ca = '/no/such' }", "/no/such", "'/no/such'");
    check_with(
        "tls = { ca = '/dev/null' }",
        "no certificate",
        "'/dev/null'",
    );
}

#[test]
fn wrong_templates_are_refused() {
    let moving = "does not name its host before the first tag";
    check(
        "url = 'https://{{ account }}/'",
        moving,
        "'https://{{ account }}/'",
    );
    check(
        "url = 'https://a/{{ acount }}'",
        "`acount` is undefined",
        "acount",
    );
    let joined = "'https://a/{{ sdk_app_id }}00{{ account }}'";
    check(&format!("url = {joined}"), "same for two accounts", joined);
    check(
        "url = 'https://a/{{ (name or \"\") | safe }}/../x'",
        "segment of dots",
        "",
    );
    check_with("format = 'template'", "needs a `body`", "");
    check_with("body = '{}'", "for the format `template` alone", "'{}'");
    let body = |body: &str| format!("format = 'template'\nbody = '{body}'");
    check_with(&body("{{ nam }}"), "`nam` is undefined", "nam");
    check_with(
        &body("{{ name | shout }}"),
        "filter shout is unknown",
        "shout",
    );
    check_with(
        &body("{\"a\": }"),
        "an active account: the body would be no JSON",
        "'{\"a\": }'",
    );
    let of_null = "`body` for a destroyed account: the body would be no JSON";
    check_with(&body("{% if name %}1{% endif %}"), of_null, "");
    check_with(
        &body("{{ name + 1 }}"),
        "fails for an active account",
        "name + 1",
    );
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    check_with(&body(endless), "more than 50000 steps", "");
    check_with("headers.x-a = '{{ a }}'", "`headers.x-a` fails", "a");
    let none = "would become the word None";
    let upper = "'https://a/{{ introduction | upper }}'";
    check(&format!("url = {upper}"), none, upper);
    let trim = "'{{ introduction | trim }}'";
    check_with(&format!("headers.x-a = {trim}"), none, trim);
    let default = "{{ name | default(\"\") | upper }}";
    check_with(&body(default), none, &format!("'{default}'"));
    check_with(
        "headers.content-type = '{{ name }}'",
        "cannot be a template",
        "'{{ name }}'",
    );
    let header = "headers.x-a = \"{{ '\\n' }}\"";
    check_with(header, "`headers` for an active account", "");
}

#[test]
fn wrong_combinations_are_refused() {
    check_with("array = 0", "from 1 to 10000", "0");
    check_with("array = 10001", "from 1 to 10000", "10001");
    let one = "many accounts into one request";
    check("url = 'https://a/{{ account }}'\narray = 5", one, "5");
    check_with("array = 5\nheaders.x-a = '{{ account }}'", one, "5");
    check_with("array = 5\ndelete = {}", one, "5");
    check_with("array = 5\non_not_found = { url = 'https://a/' }", one, "5");
    let text = "array = 5\nformat = 'template'\nbody = 'x'\nheaders.content-type = 'text/plain'";
    check_with(text, "needs a `body` that is JSON", "5");
    check_with("on_not_found = {}", "missing field `url`", "");
    check_with(
        "on_not_found = { url = 'x' }",
        "`on_not_found.url` is no URL",
        "'x'",
    );
    check_with(
        "delete = { method = 'GET' }",
        "expected one of `DELETE`",
        "",
    );
}

#[test]
fn wrong_ways_to_the_target_are_refused() {
    check_with("redirects = 11", "more than 10", "11");
    check_with(
        "proxy = 'socks5://a'",
        "no URL of an HTTP proxy",
        "'socks5://a'",
    );
    let both = "proxy = 'http://a:1'\ndeny_private = true";
    check_with(both, "looks up names itself", "'http://a:1'");
    for private in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/{{ account }}",
    ] {
        let settings = format!("deny_private = true\nurl = '{private}'");
        check(&settings, "is a private address", &format!("'{private}'"));
    }
    check_with(
        "deny_private = true\non_not_found = { url = 'http://10.0.0.1/' }",
        "is a private address",
        "'http://10.0.0.1/'",
    );
    let issuer = "auth = { type = 'oauth2', token_url = 'http://[::1]/', client_id = 'a', client_secret = 'b' }";
    check_with(
        &format!("deny_private = true\n{issuer}"),
        "is a private address",
        "",
    );
    check_with("tls.certificate = '/a'", "needs `tls.private_key`", "'/a'");
    check_with("tls.private_key = '/a'", "needs `tls.certificate`", "'/a'");
    let none = "tls = { certificate = '/dev/null', private_key = '/dev/null' }";
    check_with(none, "hold no certificate and key", "'/dev/null'");
    check_with(
        "auth = { type = 'oauth2', client_id = 'a' }",
        "missing field `token_url`",
        "",
    );
    let ftp =
        "auth = { type = 'oauth2', token_url = 'ftp://a', client_id = 'a', client_secret = 'b' }";
    check_with(ftp, "`auth.token_url` begins with ftp:", "");
    for key in ["grant_type", "client_id", "client_secret", "scope"] {
        let auth = format!(
            "{{ type = 'oauth2', token_url = 'https://b', client_id = 'a', client_secret = 'b', \
             params = {{ {key} = 'x' }} }}"
        );
        let message = format!("`auth.params` cannot set `{key}`");
        check_with(&format!("auth = {auth}"), &message, &auth);
    }
}

#[test]
fn credentials_do_not_cross_the_network_in_clear() {
    let clear = "would cross the network in clear";
    let bearer = "auth = { type = 'bearer', token = 'x' }";
    let headers = [
        "x-api-key",
        "X-Auth-Key",
        "x-auth",
        "cookie",
        "x-authentication",
        "x-pass",
    ]
    .map(|name| format!("headers = {{ {name} = 'x' }}"));
    let kept = "headers = { x = { command = ['echo', 'x'] } }";
    for credentials in headers.iter().map(String::as_str).chain([bearer, kept]) {
        let far = "'http://crm.example/{{ account }}'";
        check(&format!("url = {far}\n{credentials}"), clear, far);
        for key in ["on_not_found", "delete"] {
            let settings = format!("{key} = {{ url = {far} }}\n{credentials}");
            check_with(&settings, clear, far);
        }
        for well in [
            "url = 'https://crm.example'",
            "url = 'http://localhost:1/'",
            "url = 'http://127.1.2.3/'",
            "url = 'http://[::1]/'",
            "url = 'http://crm.example'\ninsecure = true",
        ] {
            try_open(&format!("{well}\n{credentials}")).unwrap();
        }
    }
    let issuer = |url: &str| {
        format!(
            "auth = {{ type = 'oauth2', token_url = '{url}', client_id = 'a', client_secret = 'b' }}"
        )
    };
    check_with(
        &issuer("http://id.example/"),
        clear,
        &issuer("http://id.example/")["auth = ".len()..],
    );
    try_open(&format!(
        "url = 'https://a'\n{}",
        issuer("http://127.0.0.1/")
    ))
    .unwrap();
    let error = try_open(&format!("url = 'http://crm.example'\n{bearer}"))
        .err()
        .unwrap();
    assert_eq!(
        error.help.unwrap(),
        "begin `url` with https://, or set `insecure = true` where nobody can listen"
    );
    // What is no secret may be sent to anyone, and a signature shows no key.
    for harmless in [
        "",
        "signing_secret = 'x'",
        "headers = { x-source = 'profilesync', idempotency-key = '{{ account }}' }",
    ] {
        try_open(&format!("url = 'http://crm.example'\n{harmless}")).unwrap();
    }
}

#[test]
fn a_secret_url_does_not_cross_the_network_in_clear() {
    let clear = "would cross the network in clear";
    let secret = |url: &str| format!("{{ command = ['printf', '%s', '{url}'] }}");
    let far = secret("http://crm.example/hooks/{{ account }}?key=x");
    check(&format!("url = {far}"), clear, &far);
    for key in ["on_not_found", "delete"] {
        check_with(&format!("{key} = {{ url = {far} }}"), clear, &far);
    }
    try_open(&format!("url = {far}\ninsecure = true")).unwrap();
    for well in ["https://crm.example/hooks/x", "http://127.0.0.1:1/hooks/x"] {
        try_open(&format!("url = {}", secret(well))).unwrap();
    }
    for far in [
        "'http://crm.example/?API_KEY=x'",
        "'http://crm.example/{{ account }}?page=1&access_token=x'",
        "'http://crm.example/?sig=x'",
    ] {
        check(&format!("url = {far}"), clear, far);
        try_open(&format!("url = {far}\ninsecure = true")).unwrap();
    }
    for harmless in [
        "?page=1",
        "?key={{ account }}",
        "?monkey=x",
        "?idempotency_key=x",
    ] {
        try_open(&format!("url = 'http://crm.example/x{harmless}'")).unwrap();
    }
}

#[test]
fn nothing_secret_reaches_a_proxy_in_clear() {
    let clear = "would cross the network in clear";
    for far in [
        "'http://user:pass@proxy.example'",
        "'http://token@10.0.0.1:3128'",
    ] {
        let proxy = format!("proxy = {far}");
        check_with(&proxy, clear, far);
        try_open(&format!("url = 'https://a/'\n{proxy}\ninsecure = true")).unwrap();
    }
    for well in [
        "'http://proxy.example'",
        "'https://user:pass@proxy.example'",
        "'http://user:pass@[::1]:3128'",
    ] {
        try_open(&format!("url = 'https://a/'\nproxy = {well}")).unwrap();
    }
    // What this machine is sent goes over the network first.
    let near = "'http://127.0.0.1/'";
    let bearer = "auth = { type = 'bearer', token = 'x' }\nproxy = 'http://proxy.example'";
    check(&format!("url = {near}\n{bearer}"), clear, near);
    try_open(&format!("url = 'https://a/'\n{bearer}")).unwrap();
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
        "url = 'http://a'\nauth = { type = 'bearer', token = 'x' }\ninsecure = true",
        "url = 'http://a/'\nsigning_secret = 'x'\nsuccess = [409]",
        "url = 'http://a/'\nproxy = 'http://b:1'\nredirects = 1",
    ] {
        assert_eq!(identity(same), plain);
    }
    for other in [
        "url = 'http://b/'",
        "url = 'http://a/'\nformat = 'profile'",
        "url = 'http://a/'\nmethod = 'PUT'",
        "url = 'http://a/'\nheaders = { x = 'y' }",
        "url = 'http://a/{{ account }}'",
        "url = 'http://a/'\narray = 10",
        "url = 'http://a/'\ndelete = {}",
        "url = 'http://a/'\non_not_found = { url = 'http://a/b' }",
        "url = 'http://a/'\nformat = 'template'\nbody = '{}'",
    ] {
        assert_ne!(identity(other), plain);
    }
    let secret = identity("url = 'https://a/'\nheaders = { x-token = 'hunter2' }");
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
        "insecure",
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
