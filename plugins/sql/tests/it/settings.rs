//! Settings that are refused, and what identifies a target.

use profilesync_target::conformance::refused;

use crate::try_open;

/// The message of settings that are refused, and the text it points at.
#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    let opened = try_open(settings);
    let error = format!("{:?}", opened.as_ref().err());
    assert!(!error.contains("hunter2"), "{error}");
    refused(opened, settings, message, at);
}

/// The same of settings that are good before.
#[track_caller]
fn check_with(line: &str, message: &str, at: &str) {
    check(
        &format!("url = 'postgres://u@h/d'\ntable = 't'\n{line}"),
        message,
        at,
    );
}

#[test]
fn a_wrong_url_is_refused_and_not_quoted() {
    for (url, message) in [
        ("h", "is no URL"),
        ("oracle://u:hunter2@h/d", "begins with oracle:"),
        ("postgres://u:hunter2@h", "names no database"),
        ("postgres://h/d", "names no user"),
        ("postgres://u:hunter2@h:port/d", "is no URL"),
        ("postgres://u@/d", "is no URL: empty host"),
        ("mysql://u:hunter2@h/d?ssl-mode=DISABLED", "parameters"),
        ("sqlite:", "names no file"),
        ("sqlite::memory:", "names no file"),
        ("sqlite:f?mode=ro", "names no file"),
    ] {
        check(
            &format!("table = 't'\nurl = '{url}'"),
            message,
            &format!("'{url}'"),
        );
    }
    check(
        "table = 't'\nurl = { env = 'NO_SUCH' }",
        "NO_SUCH",
        "{ env = 'NO_SUCH' }",
    );
    check("url = 'sqlite:f'", "missing field `table`", "");
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let twice = "table = 't'\nurl = 'mysql://u:hunter2@h/d'\npassword = 'hunter2'";
    check(twice, "both hold the password", "'hunter2'");
    for (key, value) in [("password", "'hunter2'"), ("socket", "'/s'"), ("tls", "{}")] {
        check(
            &format!("table = 't'\nurl = 'sqlite:f'\n{key} = {value}"),
            "SQLite is a file",
            value,
        );
    }
    check_with("destroy = 'drop'", "expected `delete` or `flag`", "'drop'");
    check_with(
        "columns = { a = 'sdk_app_id', b = 'account', c = 'revision' }\ndestroy = 'flag'",
        "needs a column for `status`",
        "'flag'",
    );
}

#[test]
fn wrong_names_are_refused() {
    for table in ["''", "'a.'", "'.a'", "'a.b.c'", "\"a\\u0000\""] {
        check(
            &format!("url = 'sqlite:f'\ntable = {table}"),
            "table",
            table,
        );
    }
    let long = format!("'{}'", "x".repeat(64));
    check(
        &format!("url = 'postgres://u@h/d'\ntable = {long}"),
        "1 to 63 bytes",
        &long,
    );
    assert!(try_open(&format!("url = 'mysql://u@h/d'\ntable = {long}")).is_ok());
}

#[test]
fn wrong_columns_are_refused() {
    let three = "a = 'sdk_app_id', b = 'account', c = 'revision'";
    check_with(
        &format!("columns = {{ {three}, d = 'nam' }}"),
        "no member \"nam\"",
        "'nam'",
    );
    check_with(
        &format!("columns = {{ {three}, d = 'extra.' }}"),
        "no member",
        "'extra.'",
    );
    check_with(
        &format!("columns = {{ {three}, '' = 'name' }}"),
        "no name of a column",
        "'name'",
    );
    check_with(
        "columns = { a = 'sdk_app_id', b = 'account' }",
        "one column for `revision`, and has 0",
        "",
    );
    check_with(
        &format!("columns = {{ {three}, d = 'account' }}"),
        "one column for `account`, and has 2",
        "",
    );
    let case =
        format!("url = 'sqlite:f'\ntable = 't'\ncolumns = {{ {three}, d = 'name', D = 'owner' }}");
    check(&case, "differ by case alone", "");
    let many: String = (0..200)
        .map(|number| format!(", x{number} = 'name'"))
        .collect();
    check_with(
        &format!("columns = {{ {three}{many} }}"),
        "more than 200",
        "",
    );
}

#[test]
fn wrong_certificates_are_refused() {
    check_with(
        "tls = { ca = '/no/such' }",
        "/no/such cannot be read",
        "'/no/such'",
    );
    check_with(
        "tls = { ca = '/dev/null' }",
        "no certificate",
        "'/dev/null'",
    );
    check_with(
        "tls = { certificate = 'x' }",
        "need each other",
        "{ certificate = 'x' }",
    );
    check_with(
        "tls = { mode = 'off', ca = 'x' }",
        "its mode does not use",
        "",
    );
    check_with(
        "tls = { mode = 'unverified', ca = 'x' }",
        "its mode does not use",
        "",
    );
    check_with(
        "tls = { mode = 'prefer' }",
        "unknown variant `prefer`",
        "'prefer'",
    );
}

#[test]
fn the_identity_follows_what_the_table_holds_and_not_the_secrets() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity("url = 'postgres://u@h/d'\ntable = 't'");
    for same in [
        "url = 'postgresql://other:hunter2@h:5432/d'\ntable = 't'",
        "url = 'postgres://u@h/d'\npassword = 'hunter2'\ntable = 't'\ncreate_table = true",
        "url = 'postgres://u@h/d'\ntable = 't'\ntls = { mode = 'unverified' }\ndestroy = 'delete'",
    ] {
        assert_eq!(identity(same), plain, "{same}");
    }
    for other in [
        "url = 'postgres://u@g/d'\ntable = 't'",
        "url = 'postgres://u@h/e'\ntable = 't'",
        "url = 'mysql://u@h/d'\ntable = 't'",
        "url = 'postgres://u@h/d'\ntable = 's.t'",
        "url = 'postgres://u@h/d'\ntable = 't'\ndestroy = 'flag'",
        "url = 'postgres://u@h/d'\ntable = 't'\ncolumns = { a = 'sdk_app_id', b = 'account', c = 'revision' }",
    ] {
        assert_ne!(identity(other), plain, "{other}");
    }
    assert!(
        !identity("url = 'mysql://u:hunter2@h/d'\ntable = 't'")
            .to_string()
            .contains("hunter2")
    );
}

#[test]
fn the_schema_names_every_key() {
    let schema = (profilesync_sql::KIND.schema)();
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "columns",
            "create_table",
            "destroy",
            "password",
            "socket",
            "table",
            "tls",
            "url"
        ]
    );
    assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
}
