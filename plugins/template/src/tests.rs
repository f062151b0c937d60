//! What templates make of documents.

use std::collections::HashSet;

use profilesync_target::Document;
use proptest::prelude::*;
use serde_json::{Value, json};
use toml::Spanned;

use super::{Escape, Template, first_tag, literals, samples};

fn document(name: &str) -> Document {
    let mut document = samples()[0].document.clone();
    document.account = name.into();
    document.name = Some(name.into());
    document.owner = None;
    document
        .extra
        .insert("tags".into(), json!(["a\"b", 1, null, 1.5]));
    document
}

fn compile(source: &str, escape: Escape) -> Template {
    let text = Spanned::new(0..source.len(), source.to_owned());
    Template::compile("body", &text, escape).unwrap_or_else(|error| panic!("{source}: {error}"))
}

#[track_caller]
fn check(escape: Escape, source: &str, name: &str, expected: &str) {
    let rendered = Template::new(source, escape)
        .unwrap()
        .render(&document(name));
    assert_eq!(rendered.as_deref(), Ok(expected), "{source}");
}

const HOSTILE: &str = "a\"b\\\n<é>/../💥";

#[test]
fn members_are_named_as_in_the_document() {
    check(
        Escape::None,
        "{{ sdk_app_id }} {{ account }} {{ revision }} {{ status }} {{ event_time }} [{{ owner }}] {{ extra.tags[1] }}",
        "x",
        "1400000000 x 7 active 1670574414123 [] 1",
    );
    check(
        Escape::None,
        "{% if status == 'active' %}{{ name | upper }}{% endif %}",
        "é",
        "É",
    );
}

#[test]
fn json_is_escaped_by_position() {
    let quoted = r#""a\"b\\\n<é>/../💥""#;
    let check = |source: &str, expected: &str| check(Escape::Json, source, HOSTILE, expected);
    check("{{ name }}", quoted);
    check("{{ name | tojson }}", quoted);
    check(r#"{"n": {{ name }}}"#, &format!("{{\"n\": {quoted}}}"));
    check(
        r#""Dear {{ name }}!""#,
        &quoted.replacen('"', "\"Dear ", 1).replace("💥\"", "💥!\""),
    );
    check(r#""\"{{ owner }}\"{{ revision }}""#, r#""\"\"7""#);
    check("[{{ owner }}, {{ revision }}]", "[null, 7]");
    check("{{ extra.tags }}", r#"["a\"b",1,null,1.5]"#);
    check(r#""{{ extra.tags }}""#, r#""[\"a\\\"b\",1,null,1.5]""#);
    check(
        r#""{{ extra | tojson }}""#,
        r#""{\"tags\":[\"a\\\"b\",1,null,1.5]}""#,
    );
    check(
        "{{ name | urlencode }}",
        "\"a%22b%5C%0A%3C%C3%A9%3E%2F..%2F%F0%9F%92%A5\"",
    );
    check("{{ '<\\\\' | e }}", r#""&lt;\\""#);
    check("{{ 'true' | safe }}", "true");
    check(
        "{{ {'a': 1, 'b': name} }}",
        &format!("{{\"a\":1,\"b\":{quoted}}}"),
    );
}

#[test]
fn what_a_block_captured_is_escaped_once() {
    let source = "{% set x %}<{{ name }}>{% endset %}{{ x }}";
    check(Escape::Json, source, "a\"b", r#""<a\"b>""#);
    check(Escape::Url, source, "/", "%3C%2F%3E");
    let safe = "{% set x %}/{{ name }}/{% endset %}{{ x | safe }}";
    check(Escape::Url, safe, "a/b", "/a%2Fb/");
}

#[test]
fn urls_keep_their_segments() {
    for source in ["/{{ name }}", "/{{ name | urlencode }}"] {
        check(
            Escape::Url,
            source,
            "a/b?c=d&e#f %2F~",
            "/a%2Fb%3Fc%3Dd%26e%23f%20%252F~",
        );
    }
    check(Escape::Url, "/{{ name | safe }}", "a/b", "/a/b");
    check(
        Escape::Url,
        "/{{ extra.tags | tojson }}",
        "x",
        "/%5B%22a%5C%22b%22%2C1%2Cnull%2C1.5%5D",
    );
}

#[test]
fn a_kinds_own_escape_meets_every_value() {
    let shout = Escape::With(|text| format!("<{text}>"));
    check(
        shout,
        "a{{ name }}b{{ owner }}c{{ revision }}{{ name | urlencode }}",
        "x",
        "a<x>b<>c<7><x>",
    );
    check(shout, "{{ name | safe }}", "x", "x");
}

#[test]
fn marks_in_values_are_dropped() {
    let name = "a\u{fdd0}b\u{fdd2}c\u{fdd1}\"d";
    let mut document = document("plain");
    document.name = Some(name.into());
    for (source, expected) in [
        ("{{ name }}", r#""abc\"d""#),
        ("[{{ [name] }}]", r#"[["abc\"d"]]"#),
    ] {
        let rendered = Template::new(source, Escape::Json)
            .unwrap()
            .render(&document);
        assert_eq!(rendered.as_deref(), Ok(expected), "{source}");
    }
    assert!(Template::new("\u{fdd0}", Escape::None).is_err());
}

#[test]
fn an_account_with_a_mark_is_refused() {
    let template = Template::new("{{ account }}", Escape::Url).unwrap();
    let [sample, ..] = samples();
    let mut document = sample.document;
    assert!(template.render(&document).is_ok());
    document.account.push('\u{fdd0}');
    let error = template.render(&document).unwrap_err();
    assert!(error.contains("U+FDD0"), "{error}");
}

/// The message, the help and the part of the configuration that a template is refused with.
fn refused(toml: &str) -> (String, String, &str) {
    #[derive(serde::Deserialize)]
    struct Raw {
        body: Spanned<String>,
    }
    let raw: Raw = toml::from_str(toml).unwrap();
    let error = Template::compile("body", &raw.body, Escape::Json)
        .err()
        .unwrap_or_else(|| panic!("{toml} was taken"));
    (
        error.message.clone(),
        error.help.unwrap_or_default(),
        &toml[error.span.unwrap()],
    )
}

#[test]
fn a_mistake_is_found_at_once_and_pointed_at() {
    let (message, help, at) = refused("body = 'x {{ nam }}'");
    assert_eq!(
        message,
        "`body` fails for an active account: undefined value: `nam` is undefined"
    );
    assert!(help.contains("face_url"), "{help}");
    assert_eq!(at, "nam");

    let (message, _, at) = refused("body = '''\n{\n  \"n\": {{ name | shout }}\n}\n'''");
    assert!(
        message.contains("unknown filter: filter shout is unknown"),
        "{message}"
    );
    assert!(message.ends_with("(line 2 of the template)"), "{message}");
    assert_eq!(at, "shout");

    let (message, _, _) = refused("body = '{{ name'");
    assert!(
        message.starts_with("`body` is no template: syntax error"),
        "{message}"
    );

    let (message, _, at) = refused("body = \"\\\"{{ name.first }}\"");
    assert!(message.contains("undefined"), "{message}");
    assert_eq!(at, "\"\\\"{{ name.first }}\"");

    let (message, help, _) = refused("body = '{{ name + 1 }}'");
    assert!(
        message.contains("active account: invalid operation"),
        "{message}"
    );
    assert!(help.contains("null"), "{help}");
}

#[test]
fn a_value_that_would_become_the_word_none_is_refused() {
    for source in [
        "{{ introduction | upper }}",
        "{{ introduction | trim }}",
        "{{ 'Hi ' ~ introduction }}",
        "{{ introduction | replace('a', 'b') }}",
        "{{ introduction | title }}",
        "{{ introduction | string }}",
        "{{ introduction | safe }}",
        "{{ [name, introduction] | join(' ') }}",
        "{{ name | default('') | upper }}",
        "{% if status == 'active' %}{{ introduction | upper }}{% endif %}",
        "{% set x %}{{ introduction | lower }}{% endset %}{{ x }}",
    ] {
        // The last one would write the word as `%4eone`.
        for escape in [
            Escape::None,
            Escape::Json,
            Escape::Url,
            Escape::With(super::caseless),
        ] {
            let text = Spanned::new(0..source.len(), source.to_owned());
            let error = Template::compile("body", &text, escape)
                .err()
                .unwrap_or_else(|| panic!("{source} was taken"));
            assert!(
                error
                    .message
                    .ends_with("a value that is not known would become the word None"),
                "{source}: {}",
                error.message
            );
            let help = error.help.unwrap_or_default();
            assert!(help.contains("(introduction or \"\")"), "{help}");
        }
    }
    for source in [
        "{{ (introduction or '') | upper }}",
        "{{ [name or '', introduction or ''] | join(' ') }}",
        "{{ introduction or 'none' }}",
        "{% if introduction is none %}-{% endif %}",
        "none of {{ name }}, {{ [introduction] }}, {{ introduction | tojson }}, {{ introduction | urlencode }}",
    ] {
        compile(source, Escape::Json);
    }
    for sample in samples() {
        let text = serde_json::to_string(&sample.document).unwrap();
        assert!(!super::says_none(&text), "{text}");
    }
}

#[test]
fn a_template_that_does_not_end_is_refused() {
    let (message, _, _) = refused(
        "body = '{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}'",
    );
    assert!(
        message.ends_with("it takes more than 50000 steps"),
        "{message}"
    );
    let deep = format!("body = '{{{{ {}1{} }}}}'", "(".repeat(999), ")".repeat(999));
    refused(&deep);
    let (message, _, _) = refused("body = '{{ \"x\" * 1000000000 }}'");
    assert!(message.contains("steps"), "{message}");
}

#[test]
fn nothing_but_the_document_can_be_reached() {
    for source in [
        "{% include 'x' %}",
        "{% macro a() %}{% endmacro %}",
        "{{ env }}",
        "{{ name.__class__ }}",
    ] {
        let text = Spanned::new(0..source.len(), source.to_owned());
        assert!(
            Template::compile("body", &text, Escape::None).is_err(),
            "{source}"
        );
    }
}

#[test]
fn templates_that_join_accounts_are_known() {
    for (source, joins) in [
        ("{{ sdk_app_id }}{{ account }}", true),
        ("a/{{ account }}{{ sdk_app_id }}/b", true),
        ("{{ account ~ sdk_app_id }}", true),
        ("{{ sdk_app_id }}0{{ account }}", true),
        ("{{ account }}7{{ sdk_app_id }}", true),
        ("{{ sdk_app_id }}00{{ account }}", true),
        (
            "{{ account | urlencode }}{{ 47110815 }}{{ sdk_app_id }}",
            true,
        ),
        ("{{ sdk_app_id }}{{ revision }}{{ account }}", true),
        ("{{ sdk_app_id }}{{ owner }}{{ account }}", true),
        ("{{ sdk_app_id }}{{ account }}{{ sdk_app_id }}", true),
        ("{{ sdk_app_id }}:{{ account }}", false),
        ("{{ sdk_app_id }}00:00{{ account }}", false),
        ("{{ sdk_app_id }}{{ account }}:{{ sdk_app_id }}", false),
        ("{{ account }}-1{{ sdk_app_id }}", false),
        ("{{ account }}", false),
        ("{{ sdk_app_id }}", false),
        ("{{ name }}", false),
        ("all", false),
    ] {
        let template = compile(source, Escape::None);
        assert_eq!(template.joins_accounts(), joins, "{source}");
    }
}

#[test]
fn the_first_tag_is_known() {
    assert_eq!(first_tag("plain { } %"), None);
    assert_eq!(first_tag("a{# b #}{{ c }}"), Some(1));
}

#[test]
fn what_stands_between_tags_is_known() {
    for (text, between) in [
        ("", vec![""]),
        ("a { b }", vec!["a { b }"]),
        ("a{# b #}{{ c }}d", vec!["a", "", "d"]),
        ("{% if a %}b{% endif %}", vec!["", "b", ""]),
        ("a{{ b", vec!["a"]),
    ] {
        assert_eq!(literals(text).collect::<Vec<_>>(), between, "{text}");
    }
}

proptest! {
    #[test]
    fn accounts_share_a_text_exactly_where_that_is_known(
        between in "[01:]{0,3}",
        turned: bool,
        accounts in prop::collection::vec(("1[01]{0,2}", "[01:]{1,3}"), 50),
    ) {
        let [first, last] = match turned {
            false => ["{{ sdk_app_id }}", "{{ account }}"],
            true => ["{{ account }}", "{{ sdk_app_id }}"],
        };
        let template = compile(&format!("{first}{between}{last}"), Escape::None);
        let text = |app: &str, account: &str| {
            let mut document = document(account);
            document.sdk_app_id = app.parse().unwrap();
            template.render(&document).unwrap()
        };
        if template.joins_accounts() {
            let (one, long) = ("1", format!("1{between}1"));
            let texts = match turned {
                false => [text(one, &format!("{long}x")), text(&long, "1x")],
                true => [text(one, &format!("x{long}")), text(&long, "x1")],
            };
            prop_assert_eq!(&texts[0], &texts[1]);
        } else {
            let accounts: HashSet<_> = accounts.into_iter().collect();
            let texts: HashSet<_> = accounts.iter().map(|(app, account)| text(app, account)).collect();
            prop_assert_eq!(texts.len(), accounts.len());
        }
    }

    #[test]
    fn no_value_escapes_from_json(name in any::<String>(), key in any::<String>(), text in any::<String>()) {
        let template = compile(
            r#"{"a": {{ name }}, "b": "x {{ name }} y", "c": {{ name | tojson }}, "d": "{{ extra }}", "e": {{ extra }}}"#,
            Escape::Json,
        );
        let mut document = document(&name);
        document.extra.clear();
        document.extra.insert(key, Value::from(text));
        let rendered = template.render(&document).unwrap();
        let value: Value = serde_json::from_str(&rendered).unwrap();
        let name = name.replace(super::sections::is_mark, "");
        prop_assert_eq!(&value["a"], &Value::from(name.as_str()));
        prop_assert_eq!(&value["b"], &Value::from(format!("x {name} y")));
        prop_assert_eq!(&value["c"], &value["a"]);
        prop_assert_eq!(value.as_object().unwrap().len(), 5);
        let inner: Value = serde_json::from_str(value["d"].as_str().unwrap()).unwrap();
        prop_assert_eq!(&inner, &value["e"]);
    }

    #[test]
    fn no_value_escapes_from_a_segment(name in any::<String>()) {
        let rendered = compile("/a/{{ name }}/{{ name | urlencode }}/b", Escape::Url).render(&document(&name)).unwrap();
        prop_assert_eq!(rendered.split('/').count(), 5);
        prop_assert!(rendered.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/%-._~".contains(&byte)));
    }
}
