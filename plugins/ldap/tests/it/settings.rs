//! Settings that are refused, and what identifies a target.

use profilesync_target::conformance::refused;

use crate::try_open;

const GOOD: &str = "url = 'ldap://127.0.0.1'\nbind_dn = 'cn=a'\npassword = 'p'\nbase = 'dc=b'\n";

/// The message of settings that are refused, and the text it points at.
#[track_caller]
fn check(settings: &str, message: &str, at: &str) {
    refused(try_open(settings), settings, message, at);
}

/// The same with one line put for the one that begins so, or added.
#[track_caller]
fn check_with(line: &str, message: &str, at: &str) {
    let key = line.split(['=', '.']).next().unwrap();
    let kept = GOOD.lines().filter(|good| !good.starts_with(key));
    let settings = kept.chain([line]).collect::<Vec<_>>().join("\n");
    check(&settings, message, at);
}

#[test]
fn a_wrong_server_is_refused() {
    check("", "missing field `url`", "");
    check_with("url = 'a b'", "is no URL", "'a b'");
    check_with("url = 'http://a'", "only ldaps: and ldap:", "'http://a'");
    check_with("url = 'ldap://'", "names no host", "'ldap://'");
    let clear = "the password would cross the network in clear";
    check_with("url = 'ldap://a.example'", clear, "'ldap://a.example'");
    check_with("url = 'ldap://127.0.0.1.example'", clear, "");
    for more in ["/dc=b", "/?x", "#x"] {
        let url = format!("'ldap://127.0.0.1{more}'");
        check_with(&format!("url = {url}"), "more than the server's name", &url);
    }
    check_with("url = 'ldap://u:p@127.0.0.1'", "more than the server's", "");
    check_with("url = 'ldaps://[::1]'", "name in a certificate", "");
    let both = format!("{}start_tls = true", GOOD.replace("ldap:", "ldaps:"));
    check(&both, "`start_tls` is for ldap://", "'ldaps://127.0.0.1'");
    for fine in ["ldap://localhost", "ldap://[::1]:1389"] {
        try_open(&GOOD.replace("ldap://127.0.0.1", fine)).unwrap();
    }
    let insecure = GOOD.replace("127.0.0.1", "a.example") + "insecure = true";
    try_open(&insecure).unwrap();
}

#[test]
fn wrong_credentials_are_refused() {
    check_with("password = ''", "empty", "''");
    check_with(
        "password = { env = 'NO_SUCH' }",
        "NO_SUCH",
        "{ env = 'NO_SUCH' }",
    );
    check_with("bind_dn = ' '", "`bind_dn` is empty", "' '");
    let tls = "start_tls = true\ntls.ca = '/no/such'";
    check(&format!("{GOOD}{tls}"), "/no/such", "'/no/such'");
    let tls = "start_tls = true\ntls.ca = '/dev/null'";
    check(&format!("{GOOD}{tls}"), "no certificate", "'/dev/null'");
}

#[test]
fn wrong_entries_are_refused() {
    check_with("base = 'b'", "`base` is no DN", "'b'");
    check_with("object_class = []", "empty list", "[]");
    check_with("object_class = ['x']", "`attributes` is not", "['x']");
    let class = format!("{GOOD}attributes = {{ cn = 'name' }}\nobject_class = ['a b']");
    check(&class, "no name of a class", "['a b']");
    check_with(
        "attributes = { cn = 'nam' }",
        "\"nam\" is no member",
        "'nam'",
    );
    let template = "attributes = { cn = ['name', '{{ nam }}'] }";
    check_with(template, "`attributes.cn` fails for", "");
    check_with("attributes = { cn = [] }", "no source", "[]");
    check_with(
        "attributes = { 'c n' = 'name' }",
        "no name of an attribute",
        "'c n'",
    );
    check_with(
        "attributes = { cn = 'name', CN = 'name' }",
        "given twice",
        "",
    );
    check_with(
        "attributes = { objectclass = 'name' }",
        "`object_class`",
        "objectclass",
    );
    check_with("attributes = { UID = 'name' }", "names the entry", "UID");
    let taken = "says whose the entry is";
    check_with(
        "attributes = { LabeledURI = 'face_url' }",
        taken,
        "LabeledURI",
    );
    check_with(
        "owner_attribute = 'a b'",
        "no name of an attribute",
        "'a b'",
    );
    check_with("owner_attribute = 'UID'", "names the entry", "'UID'");
    check_with("owner = 'x'", "unknown field `owner`", "owner");
}

#[test]
fn a_wrong_dn_is_refused() {
    check_with("dn = 'cn={{ accont }}'", "`dn` fails for", "");
    check_with("dn = 'cn=x'", "the same for every account", "'cn=x'");
    let moves = "`dn` changes with the profile";
    check_with("dn = 'cn={{ account }} {{ name }}'", moves, "");
    check_with("dn = '{{ account }}'", "`dn` is no DN", "");
    let joined = "'cn={{ sdk_app_id }}00{{ account }}'";
    check_with(&format!("dn = {joined}"), "same for two accounts", joined);
    let base = "`dn` ends in the `base`";
    check_with("dn = 'cn={{ account }},DC=b'", base, "");
    let line = "dn = 'employeeType=x+o={{ account }}'\nattributes = { O = 'name' }";
    check_with(line, "names the entry", "O");
    let line = "dn = 'labeleduri={{ account }}'";
    check_with(line, "which names the entry", "");
}

#[test]
fn the_identity_follows_the_entries_and_not_the_secrets() {
    let identity = |settings: &str| try_open(settings).unwrap().identity;
    let plain = identity(GOOD);
    for same in [
        GOOD.replace("'p'", "'q'"),
        GOOD.replace("cn=a", "cn=z"),
        format!("{GOOD}insecure = true"),
    ] {
        assert_eq!(identity(&same), plain);
    }
    for other in [
        GOOD.replace("127.0.0.1", "127.0.0.2"),
        GOOD.replace("dc=b", "dc=c"),
        format!("{GOOD}dn = 'cn={{{{ account }}}}'\nattributes = {{ sn = 'name' }}"),
        format!("{GOOD}attributes = {{ cn = 'name' }}"),
        format!("{GOOD}attributes = {{ cn = 'account' }}"),
        format!("{GOOD}owner_attribute = 'employeeNumber'"),
    ] {
        assert_ne!(identity(&other), plain);
    }
    assert!(!plain.to_string().contains("password"));
}
