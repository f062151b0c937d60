//! Mistakes inside of tables that are read for what is in them, in the settings of real kinds, and in files that the
//! configuration names.
#![cfg(feature = "webhook")]

use std::{fs, path::Path};

use super::super::{diagnostics::Diagnostics, load::load_sources, sources::Sources};
use crate::targets;

const APP: &str = "[apps.a]\nsdk_app_id = 1\ntoken = 'x'\n";

fn mistakes(text: &str, folder: &Path) -> Option<Diagnostics> {
    let mut sources = Sources::default();
    sources.push(Path::new("a.toml"), text, false);
    load_sources(sources, Vec::new(), folder, targets::KINDS, targets::open).err()
}

fn messages(text: &str, folder: &Path) -> Vec<String> {
    match mistakes(text, folder) {
        Some(mistakes) => mistakes.lines().collect(),
        None => Vec::new(),
    }
}

#[track_caller]
fn check(text: &str, lines: &[&str]) {
    assert_eq!(messages(&format!("{APP}{text}"), Path::new("/base")), lines);
}

/// `keys` follow in line 7.
#[track_caller]
fn check_target(keys: &str, lines: &[&str]) {
    check(
        &format!("[targets.t]\ntype = 'webhook'\nurl = 'https://t'\n{keys}\n"),
        lines,
    );
}

/// What is printed about a target holds all of these, and no secret.
#[track_caller]
fn check_printed(target: &str, parts: &[&str]) {
    let text = format!("{APP}[targets.t]\n{target}\n");
    let printed = mistakes(&text, Path::new("/base")).unwrap().report();
    for part in parts {
        assert!(printed.contains(part), "{printed}");
    }
    assert!(!printed.contains("s3c"), "{printed}");
}

#[test]
fn a_mistake_in_a_webhook_tells_no_secret() {
    let cases: &[(&str, &[&str])] = &[
        (
            r#"headers = { x-functions-key = "s3cret\n" }"#,
            &[
                "the header `x-functions-key` holds a line end or control character",
                "a.toml:7:31",
                r#"headers = { x-functions-key = "********" }"#,
            ],
        ),
        (
            "headers = { x-id = 's3cret', X-Id = 's3cret' }",
            &["the header `x-id` is given twice"],
        ),
        (
            "headers = { 'x id' = 's3cret' }",
            &[r#""x id" is no name of a header"#],
        ),
        (
            "headers = { x-id = 's3cret {{ acount }}' }",
            &[
                "acount",
                "a.toml:7:",
                "headers = { x-id = '****** ** ****** **' }",
            ],
        ),
        (
            "auth = 'Bearer s3cret'",
            &["`targets.t.auth` must be a table"],
        ),
        (
            "auth = { type = 'Bearer s3cret', token = 'x' }",
            &[
                "`targets.t.auth.type` must be",
                "known here: bearer, basic, oauth2",
            ],
        ),
        (
            "auth = { type = 'bearer', token = { command = ['echo s3cret'] } }",
            &["does not start"],
        ),
        (
            "proxy = 'u:s3cret@proxy:3128'",
            &["`proxy` is no URL", "a.toml:7:9"],
        ),
        ("proxy = 'http//u:s3cret@proxy'", &["`proxy` is no URL"]),
        (
            "on_not_found = { method = 'POST', url = 'u:s3cret@x' }",
            &["`on_not_found.url` begins with u:"],
        ),
    ];
    for (keys, parts) in cases {
        let target = format!("type = 'webhook'\nurl = 'https://t'\n{keys}");
        check_printed(&target, parts);
    }
    check_printed(
        "type = 'webhook'\nurl = 'u:s3cret@crm.example/hook'",
        &["`url` begins with u:", "a.toml:6:7"],
    );
}

#[cfg(feature = "exec")]
#[test]
fn a_mistake_in_a_program_tells_no_secret() {
    let cases: &[(&str, &[&str])] = &[
        (
            r#"env = { DB_PASS = "s3cret\u0000" }"#,
            &["the variable DB_PASS holds a NUL", "env = { DB_PASS = "],
        ),
        (
            "env = { 'A=B' = 's3cret' }",
            &[r#""A=B" is no name of a variable"#],
        ),
    ];
    for (keys, parts) in cases {
        check_printed(&format!("type = 'exec'\ncommand = ['cat']\n{keys}"), parts);
    }
    check_printed(
        "type = 'exec'\ncommand = 'crm --token s3cret'",
        &["`targets.t.command` must be an array", "a.toml:6:11"],
    );
}

#[test]
fn a_mistake_in_auth_is_pointed_at() {
    check_target(
        "[targets.t.auth]\ntype = 'bearer'\ntoken = 'x'\ntokn = 'y'",
        &["a.toml:10:1: unknown key `targets.t.auth.tokn`; did you mean \"token\"?"],
    );
    check_target(
        "auth = { type = 'bearer', token = 'x', username = 'y' }",
        &["a.toml:7:40: unknown key `targets.t.auth.username`; known here: type, token"],
    );
    check_target(
        "auth = { type = 'bearer', token = { credentials = 'x' } }",
        &[
            "a.toml:7:37: unknown key `targets.t.auth.token.credentials`; did you mean \"credential\"?",
        ],
    );
    check_target(
        "auth = { type = 'oauth2', token_url = 'https://t', client_id = 'a', client_secret = 'b', client_auth = 'bsic' }",
        &[
            "a.toml:7:104: `targets.t.auth.client_auth` must be \"basic\" or \"post\"; did you mean \"basic\"?",
        ],
    );
    check_target(
        "auth = 'bearer'",
        &[
            "a.toml:7:8: `targets.t.auth` must be a table such as { type = \"bearer\", token = … }, but is a string",
        ],
    );
    check_target(
        "auth = { type = 'basic', username = 5 }",
        &["a.toml:7:37: `targets.t.auth.username` must be a string, but is the number 5"],
    );
}

#[test]
fn a_mistake_in_a_secret_is_pointed_at_once() {
    let forms = "a secret is a text, { env = \"NAME\" }, { file = \"PATH\" }, { credential = \"NAME\" } \
                 or { command = [\"PROGRAM\", …] }";
    let app = |token: &str| format!("[apps.b]\nsdk_app_id = 2\ntoken = {token}\n");
    check(
        &app("{ command = 'echo x' }"),
        &["a.toml:6:21: `apps.b.token.command` must be an array, but is a string"],
    );
    check(
        &app("{ env = 5 }"),
        &["a.toml:6:17: `apps.b.token.env` must be a string, but is the number 5"],
    );
    check(
        &app("{ env = '' }"),
        &[&format!(
            "a.toml:6:9: `apps.b.token`: `env` is empty; {forms}"
        )],
    );
    check(
        &app("{ fiel = '/x' }"),
        &["a.toml:6:11: unknown key `apps.b.token.fiel`; did you mean \"file\"?"],
    );
}

#[test]
fn numbers_that_do_not_fit_are_told_what_would() {
    check_target(
        "success = [99]\nredirects = -1",
        &[
            "a.toml:7:12: `targets.t.success` must be an HTTP status such as 409, or a range of them such as \"500-599\", but is the number 99",
            "a.toml:8:13: `targets.t.redirects` must be a whole number from 0 to 255, but is the number -1",
        ],
    );
    check(
        "[store]\nhistory_per_account = 5000000000\n",
        &[
            "a.toml:5:23: `store.history_per_account` must be a whole number from 1 to 4294967295, but is the number 5000000000",
        ],
    );
}

#[test]
fn a_disabled_target_must_be_readable_and_no_more() {
    let disabled = "enabled = false\nsigning_secret = { command = ['no-such-program'] }";
    check_target(disabled, &[]);
    check_target(
        &format!(
            "{disabled}\nurll = 'x'\nredirects = 'x'\ndelete = {{ methd = 'DELETE', url = 5 }}"
        ),
        &[
            "a.toml:9:1: unknown key `targets.t.urll`; did you mean \"url\"?",
            "a.toml:10:13: `targets.t.redirects` must be a whole number from 0 to 255, but is a string",
            "a.toml:11:12: unknown key `targets.t.delete.methd`; did you mean \"method\"?",
            "a.toml:11:36: `targets.t.delete.url` must be a secret: a secret is a text, { env = \"NAME\" }, { file = \"PATH\" }, { credential = \"NAME\" } or { command = [\"PROGRAM\", …] }, but is something else",
        ],
    );
}

#[test]
fn two_doors_need_two_ports() {
    for (listener, admin) in [
        ("127.0.0.1:8700", "127.0.0.1:8700"),
        ("0.0.0.0:8700", "127.0.0.1:8700"),
    ] {
        check(
            &format!("[listener]\naddress = '{listener}'\n[admin]\naddress = '{admin}'\n"),
            &[&format!(
                "a.toml:7:11: `admin.address` is taken by `listener.address`, {listener}; give one of them another port"
            )],
        );
    }
    for (listener, admin) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:8700", "127.0.0.1:8701"),
        ("192.0.2.1:8700", "127.0.0.1:8700"),
        ("unix:/x", "127.0.0.1:8700"),
    ] {
        check(
            &format!("[listener]\naddress = '{listener}'\n[admin]\naddress = '{admin}'\n"),
            &[],
        );
    }
}

#[test]
fn a_certificate_that_cannot_be_served_is_pointed_at() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for name in ["one", "other"] {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(file(&format!("{name}.pem")), pair.cert.pem()).unwrap();
        fs::write(
            file(&format!("{name}.key")),
            pair.signing_key.serialize_pem(),
        )
        .unwrap();
    }
    fs::write(file("junk"), "junk").unwrap();
    let said = |certificate: &str, key: &str| {
        let text =
            format!("{APP}[listener.tls]\ncertificate = '{certificate}'\nprivate_key = '{key}'\n");
        messages(&text, folder.path()).join("\n")
    };
    assert_eq!(said("one.pem", "one.key"), "");
    for (certificate, key, place) in [
        (
            "junk",
            "one.key",
            "a.toml:5:15: `listener.tls.certificate`: ",
        ),
        (
            "one.pem",
            "junk",
            "a.toml:6:15: `listener.tls.private_key`: ",
        ),
        (
            "one.key",
            "one.pem",
            "a.toml:5:15: `listener.tls.certificate`: ",
        ),
        (
            "one.pem",
            "other.key",
            "a.toml:6:15: `listener.tls.private_key`: ",
        ),
    ] {
        let said = said(certificate, key);
        assert!(said.starts_with(place), "{certificate} {key}: {said}");
    }
}
