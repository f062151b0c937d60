//! The accounts and profiles that targets are tried with.

use serde_json::{Map, json};

use crate::{Document, Status};

/// A profile whose texts try to break out of whatever holds them.
pub(super) fn profile(sdk_app_id: u64, account: &str, revision: u64) -> Document {
    let extra = json!({
        "Level": revision,
        "Tags": ["a,b", "\"c\"", null, 1.5, { "deep": "line\nline" }],
        "=1+1": "<script>alert(1)</script>",
    });
    let serde_json::Value::Object(extra) = extra else {
        unreachable!("the literal above is an object");
    };
    Document {
        sdk_app_id,
        account: account.to_owned(),
        revision,
        status: Status::Active,
        name: Some(format!("revision {revision} of \"{account}\"")),
        introduction: Some(
            "two\r\nlines,\ta tab; 'quotes', a \\ and a \u{1F980}\u{0}\u{2028}".into(),
        ),
        face_url: Some("=cmd|' /C calc'!A0".into()),
        organization: Some("'; DROP TABLE accounts;--".into()),
        owner: None,
        operator: Some("+1 @SUM(A1) {{ 7 * 7 }} ${HOME} %s".into()),
        event_time: 1_670_574_414_000 + revision,
        extra,
    }
}

/// The same account once it is destroyed.
pub(super) fn destroyed(sdk_app_id: u64, account: &str, revision: u64) -> Document {
    Document {
        status: Status::Destroyed,
        name: None,
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: None,
        extra: Map::new(),
        ..profile(sdk_app_id, account, revision)
    }
}

/// Accounts that a careless target would mix up, choke on or be led astray by. All are valid: 1 to 255 bytes of
/// UTF-8 without control characters.
pub(super) fn hostile_accounts() -> Vec<(u64, String)> {
    let names = [
        "@TOA#_test_OA_for_penn",
        "=cmd|' /C calc'!A0",
        "-2+3",
        "'=1+1",
        "=1+1",
        "../../etc/passwd",
        ".",
        "..",
        ".hidden",
        "/",
        "a/b",
        "a\\b",
        "*)(uid=*))(|(uid=*",
        "cn=admin,dc=example",
        "'; DROP TABLE accounts;--",
        "\"quoted\"",
        "%00",
        "%2F",
        "%2f",
        "%252F",
        "a b",
        "a+b",
        "a%20b",
        " leading and trailing ",
        "#fragment?query=1&x=2",
        "{{ account }}",
        "$(reboot)`reboot`",
        "comma,semicolon;pipe|",
        "null",
        "CON",
        "Case",
        "case",
        "CASE",
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{1F980}\u{1F980}",
        "\u{202e}reversed",
        "\u{feff}",
        "0",
        "00",
        "0.json",
    ];
    let mut accounts: Vec<_> = names.iter().map(|name| (1, (*name).to_owned())).collect();
    let long = "x".repeat(254);
    accounts.extend([
        (1, format!("{long}1")),
        (1, format!("{long}2")),
        (1, "\u{1F980}".repeat(63)),
    ]);
    accounts.extend([(1, "#".repeat(255)), (1, "#".repeat(254))]);
    // The same account of other apps is another account.
    accounts.extend([2, 11, u64::from(u32::MAX)].map(|app| (app, "case".to_owned())));
    accounts
}

/// Accounts that a target would take for one of the hostile ones if it tidied up what it is given. It may reject them.
pub(super) fn twin_accounts() -> Vec<(u64, String)> {
    let names = [
        // Without white space at one end or both, and with more of it.
        "leading and trailing",
        " leading and trailing",
        "leading and trailing ",
        "\u{3000}leading and trailing\u{a0}",
        // The last part of a path, and paths to the same place.
        "b",
        "passwd",
        "a//b",
        "a/./b",
        // Beside `case` of app 11, when app and account are run together, in either order.
        "1case",
        "case1",
    ];
    let accounts = names.into_iter().map(|name| (1, name.to_owned()));
    accounts.collect()
}

/// Profiles with white space that a careless target would tidy up. It may reject them.
pub(super) fn untidy_profiles() -> Vec<Document> {
    let texts = [
        " spaced ",
        "\t\u{3000}spaced\u{a0}\n",
        "one\r\ntwo\rthree\nfour",
    ];
    let profiles = (1..).zip(texts).map(|(number, text)| Document {
        name: Some(text.to_owned()),
        introduction: Some(text.to_owned()),
        organization: Some(text.to_owned()),
        ..profile(1, &format!("untidy {number}"), 1)
    });
    profiles.collect()
}
