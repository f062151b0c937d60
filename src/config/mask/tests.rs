//! What of a line and of a message may be shown.

use super::*;

#[track_caller]
fn check(text: &str, about: &str, shown: &str) {
    let start = text.find(about).unwrap();
    let table = DeTable::parse(text).unwrap();
    let masks = Masks::of([table.get_ref()]);
    assert_eq!(masks.line(text, 0, &(start..start + about.len())), shown);
}

#[test]
fn only_the_string_in_question_is_shown() {
    check(r#"a = "one", "#.trim_end_matches(", "), "a", r#"a = "***""#);
    check(r#"a = "one""#, r#""one""#, r#"a = "one""#);
    check(r#"a = ["one", "two"]"#, r#""two""#, r#"a = ["***", "two"]"#);
    check(
        r#"a = { b = "x y", c = 5 }"#,
        "5",
        r#"a = { b = "* *", c = 5 }"#,
    );
    check(r#""é" = "ü""#, r#""é""#, r#""é" = "*""#);
}

#[test]
fn a_secret_is_never_shown() {
    check(r#"token = "s3cret""#, r#""s3cret""#, r#"token = "******""#);
    check(r#"X-Token = ["a b"]"#, r#""a b""#, r#"X-Token = ["* *"]"#);
    check(
        r#"token = { file = "/a" }"#,
        "token",
        r#"token = { file = "/a" }"#,
    );
    check(
        r#"token = { command = ["curl", "-upw"] }"#,
        r#""-upw""#,
        r#"token = { command = ["****", "****"] }"#,
    );
    check(
        r#"token_url = "https://a""#,
        r#""https://a""#,
        r#"token_url = "https://a""#,
    );
}

#[test]
fn what_looks_like_a_url_with_a_user_or_a_query_is_not_shown() {
    for text in [
        "profilesync:s3cret@db/app",
        "postgres:/u:s3cret@h",
        "http//u:s3cret@proxy",
        ":s3cret@redis:6379",
        "host=db user=u password=s3cret",
        "Server=db;Pwd=s3cret",
        "sv=1&sas_token=s3cret",
        "crm.example/hook?s3cret",
    ] {
        let about = format!("'{text}'");
        let stars = text.replace(|c: char| !c.is_whitespace(), "*");
        check(
            &format!("url = {about}"),
            &about,
            &format!("url = '{stars}'"),
        );
    }
    check(
        "brokers = ['u:s3cret@k', 'k:9092']",
        "'k:9092'",
        "brokers = ['**********', 'k:9092']",
    );
    for text in [
        "url = 'https://idp.example/oauth2/token#x'",
        "bind_dn = 'cn=profilesync,dc=example'",
    ] {
        check(text, &text[text.find('\'').unwrap()..], text);
    }
}

#[test]
fn a_pattern_of_accounts_is_shown() {
    check(
        "accounts = ['@TOA#_*', '@b?']",
        "'@b?'",
        "accounts = ['*******', '@b?']",
    );
    let text = "accounts = '@TOA#_*'";
    check(text, "'@TOA#_*'", text);
    // It may be the name of a target.
    check(
        "accounts.url = 'u:x@h'",
        "'u:x@h'",
        "accounts.url = '*****'",
    );
}

#[test]
fn what_may_be_secret_by_its_table_is_never_shown() {
    for (text, about, shown) in [
        ("headers.x = 'one'", "'one'", "headers.x = '***'"),
        (
            "headers = { file = 'a' }",
            "'a'",
            "headers = { file = '*' }",
        ),
        ("env = { file = 'a' }", "'a'", "env = { file = '*' }"),
        ("env = { A = 5 }", "5", "env = { A = * }"),
        ("t.env = { A = 'a' }", "'a'", "t.env = { A = '*' }"),
        ("auth = 'Bearer x'", "'Bearer x'", "auth = '****** *'"),
        ("auth.params.a = 'x'", "'x'", "auth.params.a = '*'"),
        ("auth.type = 'basic'", "'basic'", "auth.type = 'basic'"),
        (
            "auth.type = 'Bearer x'",
            "'Bearer x'",
            "auth.type = '****** *'",
        ),
        ("command = 'a -b'", "'a -b'", "command = '* **'"),
        ("proxy = 'http://h'", "'http://h'", "proxy = '********'"),
    ] {
        check(text, about, shown);
    }
    for text in [
        "headers.x = { env = 'X' }",
        "env = { A = { file = '/a' } }",
        "proxy = { credential = 'proxy' }",
    ] {
        check(text, "{", text);
    }
}

#[test]
fn a_target_that_is_called_as_a_keeper_keeps_nothing() {
    check(
        "targets.file.path = '/a'",
        "targets",
        "targets.file.path = '**'",
    );
}

#[test]
fn a_comment_is_not_shown() {
    check(
        "a = '#' # token = 's3cret'",
        "'#'",
        "a = '#' # ***** * '******'",
    );
}

#[test]
fn a_message_quotes_nothing_that_is_never_shown() {
    let text = "token.command = ['echo s3cret']\ntokens = [{ command = ['sh', 's3cret'] }]\n\
                address = 'u:s3cret@h'\naccounts = ['@a b']";
    let table = DeTable::parse(text).unwrap();
    let masks = Masks::of([table.get_ref()]);
    for (message, shown) in [
        (r#"command "echo s3cret" fails"#, r#"command "***" fails"#),
        (r#"command ["sh", "s3cret"]"#, r#"command "***""#),
        (r#"command "sh" fails"#, r#"command "sh" fails"#),
        (r#""u:s3cret@h" is none"#, r#""***" is none"#),
        (r#""@a b" is none"#, r#""@a b" is none"#),
    ] {
        assert_eq!(masks.message(message.to_owned()), shown);
    }
}

#[test]
fn a_template_is_shown_around_its_mistake_unless_it_may_hold_a_secret() {
    let body = r#"body = '{ "id": {{ acount }} }'"#;
    check(body, "acount", body);
    check(body, "body", r#"body = '* "**"* ** ****** ** *'"#);
    check(
        r#"body = '{{ acount }} pass s3cret'"#,
        "acount",
        r#"body = '** ****** ** **** ******'"#,
    );
    check(
        r#"url = 'https://a/{{ acount }}'"#,
        "acount",
        r#"url = '************ ****** **'"#,
    );
}

#[test]
fn a_line_that_does_not_parse_shows_keys_and_numbers() {
    for (line, shown) in [
        ("max_body = 64KiB", "max_body = 64KiB"),
        ("name = \"s3cret", "name = \"******"),
        ("token = s3cret", "token = ******"),
        ("tokn = s3cret", "tokn = ******"),
        ("[targets.crm", "[targets.crm"),
        ("  s3cret\",", "  ******\"*"),
        ("tokens = [s3cret", "tokens = *******"),
        (
            "a = { max = 5, token = s3cret }",
            "a = * *** * 5* ***** * ****** *",
        ),
        ("'x-token' = s3cret", "'*******' * ******"),
        ("enabled = true", "enabled = true"),
        ("allow = [1.5, 2min, x5]", "allow = *1.5* 2min* ***"),
        ("max_body = 5 # pin 1234", "max_body = 5 * *** ****"),
        ("url=https://u:s3cret@h", "url=******************"),
        ("url = 1:s3cret@h", "url = **********"),
        ("body = pass:s3cret", "body = ***********"),
        ("env={DB_PASS=s3cret}", "env=****************"),
        ("env.DB_PASS=s3cret", "env.DB_PASS=******"),
        ("env = { PIN = 1234 }", "env = * *** * **** *"),
        ("headers={x=s3cret}", "headers=**********"),
        ("tokn = 5ecret", "tokn = ******"),
        ("id = 0123456789abcdef01234", "id = *********************"),
        ("# more", "# more"),
        ("# token = s3cret", "# token = ******"),
        ("# url u:s3cret@h", "* *** **********"),
        ("[u:s3cret@k]", "************"),
        ("czNjcmV0=", "*********"),
        ("token czNjcmV0=5", "***** **********"),
        (
            "url: https://u:s3cret@h/?a=5",
            "**** ***********************",
        ),
    ] {
        assert_eq!(mask_unparsed(line), shown);
    }
}
