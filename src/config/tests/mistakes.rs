//! Every mistake as it is printed: what is wrong, where, and the way out.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{KINDS, load_texts, report};
use crate::config::load::load;

/// An app and a target, so that a test needs to write only what it is about.
const REST: &str =
    "[apps.a]\nsdk_app_id = 1\ntoken = 'x'\n[targets.t]\ntype = 'post'\nurl = 'https://t'\n";

/// `text` stands before [`REST`], in the file `a.toml`.
#[track_caller]
fn check(text: &str, printed: &str) {
    assert_eq!(
        report(&[("a.toml", &format!("{text}\n{REST}"))]).trim(),
        printed.trim()
    );
}

/// `keys` are of a target, and stand behind [`REST`].
#[track_caller]
fn check_target(keys: &str, printed: &str) {
    assert_eq!(
        report(&[("a.toml", &format!("{REST}{keys}\n"))]).trim(),
        printed.trim()
    );
}

/// The messages alone, without source lines.
#[track_caller]
fn check_lines(text: &str, lines: &[&str]) {
    let printed = match load_texts(&[("a.toml", text)], Path::new("/base")) {
        Ok(_) => panic!("there is no mistake"),
        Err(mistakes) => mistakes.to_string(),
    };
    assert_eq!(printed.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_mistyped_key() {
    check(
        "[listener]\ntsl = 'x'",
        r#"
error: unknown key `listener.tsl`
 --> a.toml:2:1
  |
2 | tsl = '*'
  | ^^^
  |
  = help: did you mean "tls"?
"#,
    );
    check(
        "[listener]\nmax_bdy = '64KiB'",
        r#"
error: unknown key `listener.max_bdy`
 --> a.toml:2:1
  |
2 | max_bdy = '*****'
  | ^^^^^^^
  |
  = help: did you mean "max_body"?
"#,
    );
    check_target(
        "timeot = '5s'",
        r#"
error: unknown key `targets.t.timeot`
 --> a.toml:7:1
  |
7 | timeot = '**'
  | ^^^^^^
  |
  = help: did you mean "timeout"?
"#,
    );
    check_target(
        "retry.intial = '5s'",
        r#"
error: unknown key `targets.t.retry.intial`
 --> a.toml:7:7
  |
7 | retry.intial = '**'
  |       ^^^^^^
  |
  = help: did you mean "initial"?
"#,
    );
}

#[test]
fn a_mistyped_table_or_name() {
    check(
        "[target.crm]\ntype = 'post'",
        r#"
error: unknown key `target`
 --> a.toml:1:2
  |
1 | [target.crm]
  |  ^^^^^^
  |
  = help: did you mean "targets"?
"#,
    );
    check_target(
        "[targets.u]\ntype = 'pots'",
        r#"
error: `targets.u.type` is not a type of target that this program was built with
 --> a.toml:8:8
  |
8 | type = 'pots'
  |        ^^^^^^
  |
  = help: did you mean "post"?
"#,
    );
    check_target(
        "[targets.u]\ntype = 'pigeon'",
        r#"
error: `targets.u.type`: `pigeon` is not in this build
 --> a.toml:8:8
  |
8 | type = 'pigeon'
  |        ^^^^^^^^
  |
  = help: build it with `cargo build --release --features pigeon` (or `full`); known here: post
"#,
    );
    check_target(
        "mode = 'shaddow'",
        r#"
error: `targets.t.mode` must be "live" or "shadow"
 --> a.toml:7:8
  |
7 | mode = 'shaddow'
  |        ^^^^^^^^^
  |
  = help: did you mean "shadow"?
"#,
    );
    check_target(
        "style = 'fency'",
        r#"
error: `targets.t.style` must be "plain" or "fancy"
 --> a.toml:7:9
  |
7 | style = 'fency'
  |         ^^^^^^^
  |
  = help: did you mean "fancy"?
"#,
    );
}

#[test]
fn a_value_of_the_wrong_type() {
    check(
        "[store]\nhistory = 90",
        r#"
error: `store.history` must be a duration such as "30s", "5min" or "1h 30m", but is the number 90
 --> a.toml:2:11
  |
2 | history = 90
  |           ^^
"#,
    );
}

#[test]
fn all_mistakes_are_told_in_their_order() {
    check_lines(
        "shutdown_grace = true\n[apps.a]\nsdk_app_id = '1'\n[apps.B]\nsdk_app_id = 2\n[apps.c]\n\
         [listener]\naddress = 'localhost:1'\npath = 'x'\nmax_body = '17MiB'\nsign_window = '0s'\n\
         max_clock_skew = '11y'\nmax_connections = 0\nrate_limit = '5'\n\
         allow = ['10.0.0.0/8', '10.0.0.0/33']\nforward.url = 'ftp://x'\ntls = { certificate = 'c' }\n\
         [store]\ncache = -1\n[admin]\nsocket = []\n",
        &[
            "a.toml:1:18: `shutdown_grace` must be a duration such as \"30s\", \"5min\" or \"1h 30m\", but is true",
            "a.toml:3:14: `apps.a.sdk_app_id` must be a whole number above zero, but is a string",
            "a.toml:4:1: \"B\" is no name: a name has 1 to 64 characters out of a-z, 0-9, _ and -",
            "a.toml:6:1: `apps.c.sdk_app_id` is missing",
            "a.toml:8:11: `listener.address`: \"localhost:1\" is not an IP address and a port such as \"127.0.0.1:8700\" or \"[::]:8700\"",
            "a.toml:9:8: `listener.path`: \"x\" does not begin with \"/\"",
            "a.toml:10:12: `listener.max_body`: 17MiB is more than 16MiB, the most it may be",
            "a.toml:11:15: `listener.sign_window`: the duration must be above zero",
            "a.toml:12:18: `listener.max_clock_skew`: 11years is longer than ten years, the longest a duration may be",
            "a.toml:13:19: `listener.max_connections`: 0 is not a whole number from 1 to 1000000",
            "a.toml:14:14: `listener.rate_limit`: \"5\" is not a rate such as \"50/s\", \"100/min\" or \"5000/h\"",
            "a.toml:15:24: `listener.allow`: \"10.0.0.0/33\" is not a network such as \"183.192.202.0/25\", nor an IP address",
            "a.toml:16:15: `listener.forward.url`: the URL must begin with http:// or https://, not ftp:",
            "a.toml:17:7: `listener.tls.private_key` is missing",
            "a.toml:19:9: `store.cache` must be a size such as \"64KiB\" or \"2MiB\", or a number of bytes, but is the number -1",
            "a.toml:21:10: `admin.socket` must be a path, but is an array",
        ],
    );
}

#[test]
fn all_mistakes_of_targets_are_told_too() {
    check_lines(
        "[apps.a]\nsdk_app_id = 1\ntoken = 'x'\n[targets.T]\ntype = 'post'\nurl = 'x'\n[targets.u]\n\
         concurrency = 1025\ntimeout = 5\nbreaker.failures = 0\nguard = { window = '1h' }\napps = []\n\
         [targets.v]\ntype = 'post'\napps = ['aa', 2, 1]\naccounts = ['ok', '[a']\n\
         fields = ['name', 'nam']\nretry = { initial = '10min' }\nbreaker.probe = '1h'\nurl = 5\n\
         ulr = 'x'\nstyle = 5\n[targets]\nw = 5\n",
        &[
            "a.toml:4:10: \"T\" is no name: a name has 1 to 64 characters out of a-z, 0-9, _ and -",
            "a.toml:6:7: target T: `url` is no URL; write it as https://host/path",
            "a.toml:7:1: `targets.u.type` is missing; say what it is: type = \"post\"",
            "a.toml:8:15: `targets.u.concurrency`: 1025 is not a whole number from 1 to 1024",
            "a.toml:9:11: `targets.u.timeout` must be a duration such as \"30s\", \"5min\" or \"1h 30m\", but is the number 5",
            "a.toml:10:20: `targets.u.breaker.failures` must be a whole number from 1 to 4294967295, but is the number 0",
            "a.toml:11:9: `targets.u.guard.max_changes` is missing",
            "a.toml:12:8: `targets.u.apps` is empty; leave it out to take all",
            "a.toml:15:9: `targets.v.apps`: there is no [apps.aa]; did you mean \"a\"?",
            "a.toml:15:15: `targets.v.apps`: no app has the sdk_app_id 2; known here: a",
            "a.toml:16:19: `targets.v.accounts`: \"[a\" is not a pattern: unclosed character class; missing ']'",
            "a.toml:17:19: `targets.v.fields` must be \"name\" or \"introduction\" or \"face_url\" or \"organization\" or \"owner\" or \"operator\" or \"extra.…\"; did you mean \"name\"?",
            "a.toml:18:9: `targets.v.retry.initial` is longer than `targets.v.retry.max`",
            "a.toml:19:1: `targets.v.breaker.probe` is longer than `targets.v.breaker.probe_max`",
            "a.toml:20:7: `targets.v.url` must be a string, but is the number 5",
            "a.toml:21:1: unknown key `targets.v.ulr`; did you mean \"url\"?",
            "a.toml:22:9: `targets.v.style` must be a string or a table; `profilesync schema` lists what it can be",
            "a.toml:24:5: `targets.w` must be a table",
        ],
    );
    check_lines(
        "targets = 5\napps.a.sdk_app_id = 1\n",
        &["a.toml:1:11: `targets` must be a table: write [targets.NAME]"],
    );
}

#[test]
fn a_mistake_is_not_told_twice() {
    check_lines(
        "[apps.a]\nsdk_app_id = 1\ntoken = 5\n[admin]\naddress = '0.0.0.0:1'\ntoken = 5\n\
         [targets.t]\ntype = 'post'\nurl = 'https://t'\napps = ['a', 1]\n",
        &[
            "a.toml:3:9: `apps.a.token` must be a secret: a secret is a text, { env = \"NAME\" }, { file = \"PATH\" }, { credential = \"NAME\" } or { command = [\"PROGRAM\", …] }, but is something else",
            "a.toml:6:9: `admin.token` must be a secret: a secret is a text, { env = \"NAME\" }, { file = \"PATH\" }, { credential = \"NAME\" } or { command = [\"PROGRAM\", …] }, but is something else",
        ],
    );
}

#[test]
fn a_key_that_is_wrong_is_not_said_to_be_missing() {
    check_lines(
        &format!("{REST}[targets.t.other]\nurl = 5\n"),
        &["a.toml:8:7: `targets.t.other.url` must be a string, but is the number 5"],
    );
    check_lines(
        &format!("{}other = {{}}\n", REST.replace("'https://t'", "5")),
        &[
            "a.toml:6:7: `targets.t.url` must be a string, but is the number 5",
            "a.toml:7:9: `targets.t.other.url` is missing",
        ],
    );
}

#[test]
fn what_does_not_go_together() {
    check_lines(
        "",
        &[
            "no app is configured; add a table [apps.NAME] with `sdk_app_id = …`, and the `token` its webhooks are signed with",
        ],
    );
    check_target(
        "[apps.b]\nsdk_app_id = 1\ntoken = 'x'",
        r"
error: two apps have the sdk_app_id 1
 --> a.toml:8:14
  |
8 | sdk_app_id = 1
  |              ^
  |
 ::: a.toml:2:14
  |
2 | sdk_app_id = 1
  |              ^ the other one
  |
  = help: for several tokens of one app, write `tokens = [ …, … ]`
",
    );
    check(
        "[admin]\naddress = '0.0.0.0:8701'",
        r"
error: `admin.address` is not a loopback address, and there is no `admin.token`
 --> a.toml:2:11
  |
2 | address = '0.0.0.0:8701'
  |           ^^^^^^^^^^^^^^
  |
  = help: set `admin.token`, or listen on 127.0.0.1
",
    );
    check_lines(
        "[apps.b]\nsdk_app_id = 2\ntoken = 'x'\ntokens = []\n",
        &[
            "a.toml:3:9: `apps.b` has both `token` and `tokens` (and here: a.toml:4:10); put all of them into `tokens`",
            "a.toml:4:10: `apps.b.tokens` is empty; leave it out if the app's webhooks are not signed",
        ],
    );
}

#[test]
fn what_cannot_be_read() {
    check(
        "[listener.tls]\ncertificate = 'no.pem'\nprivate_key = '/nowhere/key.pem'",
        r"
error: `listener.tls.certificate`: /base/no.pem cannot be read: No such file or directory (os error 2)
 --> a.toml:2:15
  |
2 | certificate = 'no.pem'
  |               ^^^^^^^^

error: `listener.tls.private_key`: /nowhere/key.pem cannot be read: No such file or directory (os error 2)
 --> a.toml:3:15
  |
3 | private_key = '/nowhere/key.pem'
  |               ^^^^^^^^^^^^^^^^^^
",
    );
    check(
        "[apps.b]\nsdk_app_id = 2\ntoken = { env = 'PROFILESYNC_NO_SUCH' }",
        r"
error: `apps.b.token`: the environment variable PROFILESYNC_NO_SUCH is not set, or is not UTF-8
 --> a.toml:3:9
  |
3 | token = { env = 'PROFILESYNC_NO_SUCH' }
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
",
    );
    check(
        "[apps.b]\nsdk_app_id = 2\ntoken = ''",
        r"
error: `apps.b.token`: the secret in the configuration is empty
 --> a.toml:3:9
  |
3 | token = ''
  |         ^^
",
    );
}

#[test]
fn a_file_that_is_no_toml() {
    let texts = [
        (
            "a.toml",
            "[apps.a\nsdk_app_id = 1\n[listener]\nmax_body = 64KiB\n",
        ),
        ("conf.d/b.toml", "tokens = ['s3cret'\n"),
    ];
    assert_eq!(
        report(&texts).trim(),
        r"
error: syntax error: unclosed table, expected `]`
 --> a.toml:1:8
  |
1 | [apps.a
  |        ^

error: syntax error: string values must be quoted, expected literal string
 --> a.toml:4:12
  |
4 | max_body = 64KiB
  |            ^^^^^

error: syntax error: unclosed array, expected `]`
 --> conf.d/b.toml:1:19
  |
1 | tokens = *'******'
  |                   ^
"
        .trim()
    );
}

#[test]
fn a_key_that_two_files_set() {
    let texts = [
        ("a.toml", "[listener]\nmax_body = 1\n"),
        ("conf.d/b.toml", "# more\n[listener]\n  max_body = 2\n"),
    ];
    let printed = report(&texts);
    assert!(
        printed.contains(
            r"
error: `listener.max_body` is set twice
 --> conf.d/b.toml:3:3
  |
3 |   max_body = 2
  |   ^^^^^^^^
  |
 ::: a.toml:2:1
  |
2 | max_body = 1
  | ^^^^^^^^ set here first
  |
  = help: files in conf.d add keys and tables; leave this one out of one of the files
"
        ),
        "{printed}"
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (shown, main) = (folder.path().display(), folder.path().join("p.toml"));
    let failure = || load(&main, KINDS, |_, _| Ok(())).err().unwrap().report();
    assert_eq!(
        failure().trim(),
        format!(
            "error: the configuration {shown}/p.toml cannot be read: No such file or directory (os error 2)\n \
             |\n = help: `profilesync init {shown}` writes a starter configuration; `-c FILE` reads another file"
        )
    );
    fs::write(&main, b"a = 1\nb\xc3\xa4 = \"\xff\"").unwrap();
    assert_eq!(
        failure().trim(),
        format!(
            "error: the configuration is not UTF-8\n--> {shown}/p.toml:2:7\n = help: save the file as UTF-8"
        )
    );
    fs::remove_file(&main).unwrap();
    fs::create_dir(&main).unwrap();
    assert!(failure().contains("help: name the file in it"));
}

#[test]
fn no_message_tells_a_secret() {
    for text in [
        "[apps.b]\nsdk_app_id = 'x'\ntokn = 's3cret'",
        "[apps.b]\nsdk_app_id = 2\ntokens = 's3cret'",
        "[apps.b]\nsdk_app_id = 2\ntoken = ['s3cret']",
        "[apps.b]\nsdk_app_id = 2\ntoken = { value = 's3cret' }",
        "[apps.b]\nsdk_app_id = 2\ntoken = { command = ['no-such-program', 's3cret'] }",
        "[apps.b]\nsdk_app_id = 2\ntoken = { command = ['echo s3cret'] }",
        "[apps.b]\nsdk_app_id = 2\ntoken = { command = ['true', 's3cret'] }",
        "apps.b = { sdk_app_id = true, token = 's3cret' }",
        "[targets.u]\ntype = 'post'\nurl = 5\nsecret = 's3cret'",
        "[targets.u]\ntype = 'post'\nurl = 'https://x'\nsecret = 's3cret'\nstyle = { a = 's3cret' }",
        "[targets.u]\ntype = 'post'\nurl = 'https://x'\nsecret = ['s3cret']",
        "[targets.u]\ntype = 'post'\nurl = ['https://u:s3cret@x']",
        "[listener]\naddress = 'u:s3cret@x'",
        "[listener]\npath = '/?key=s3cret'",
        "[listener.forward]\nurl = 'ftp://u:s3cret@x'",
        "[listener.forward]\nurl = 'ftp://x/?key=s3cret'",
        "token = 's3cret",
        "token = s3cret",
        "token = \"s3c\\xret\"",
    ] {
        let printed = report(&[("a.toml", text)]);
        assert!(printed.contains("error"), "{text}");
        assert!(!printed.contains("s3c"), "{printed}");
    }
    for text in [
        "[apps.b]\nsdk_app_id = 2\ntoken = 83217",
        "[admin]\ntoken = 83217",
    ] {
        let printed = report(&[("a.toml", text)]);
        assert!(printed.contains("must be a secret"), "{printed}");
        assert!(!printed.contains("83217"), "{printed}");
    }
}

#[test]
fn what_is_allowed_and_unwise() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("p.toml");
    fs::write(
        &main,
        "[apps.a]\nsdk_app_id = 1\ntoken = 's3cret'\n[apps.b]\nsdk_app_id = 2\n",
    )
    .unwrap();
    let warnings = |mode| {
        fs::set_permissions(&main, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load(&main, KINDS, |_, _| Ok(())).ok().unwrap();
        loaded.warnings.to_string()
    };
    let path = main.display();
    let rest = format!(
        "{path}:4:1: `apps.b` has no token: whoever reaches the listener can change its profiles; \
         set the authentication token of the webhook in the console, and `token` here"
    );
    let none =
        "no target is configured: events are kept and go nowhere; add a table [targets.NAME]";
    assert_eq!(warnings(0o640), format!("{none}\n{rest}"));
    assert_eq!(
        warnings(0o644),
        format!(
            "{none}\n{path}:3:9: a secret is written out in a file that every user can read; \
             `chmod o-r {path}`, or keep it elsewhere: {{ file = \"…\" }}, {{ credential = \"…\" }}\n{rest}"
        )
    );
}
