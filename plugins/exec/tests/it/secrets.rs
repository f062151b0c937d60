//! What a child says of the secrets it was given, in every way that its words reach people.

use crate::{LIMIT, Script};

/// A hello, a request, and then this.
fn asked(then: &str) -> String {
    format!("read -r hello; echo '{{\"protocol\":1}}'; read -r request\n{then}")
}

/// The text of a delivery to this script, under this `env`.
async fn told(script: &str, env: &str) -> String {
    let script = Script::with(script, &format!("env = {{ {env} }}"), LIMIT);
    script.deliver().await.text().to_owned()
}

const TOKEN: &str = "TOKEN = { command = ['printf', 'hunter2hunter3'] }";

#[tokio::test]
async fn a_secret_across_a_cut_is_hidden() {
    for before in [0, 180, 187, 194, 199] {
        let line = format!("echo {}$TOKEN", "x".repeat(before));
        for script in [asked(&line), line] {
            let reason = told(&script, TOKEN).await;
            assert!(!reason.contains("hunter"), "{before}: {reason}");
        }
    }
    for before in [4080, 4088, 4095] {
        let script = format!("echo {}$TOKEN >&2; exit 1", "x".repeat(before));
        let reason = told(&script, TOKEN).await;
        assert!(!reason.contains("hunter"), "{before}: {reason}");
    }
}

#[tokio::test]
async fn a_secret_is_hidden_however_it_is_written() {
    let secret = r#"TOKEN = "a \"quoted\" pass/wörd\nand a second""#;
    for said in [
        r#"a \"quoted\" pass\/w\u00f6rd"#,
        "a%20%22quoted%22%20pass%2Fw%C3%B6rd",
        "and a second",
        r#"a \"quoted\" pass/wörd\nand a second"#,
    ] {
        assert_eq!(
            told(&format!("printf '%s\\n' 'so: {said}' >&2; exit 1"), secret).await,
            "the plugin failed: it ended with exit status: 1; it last said: so: ***"
        );
    }
    // What is no answer is quoted with escapes of its own.
    let reason = told(&asked("printf '%s\\n' \"$TOKEN\" | tail -n 1"), secret).await;
    assert!(reason.contains("\"***\""), "{reason}");
}

#[tokio::test]
async fn any_longer_value_of_the_environment_is_hidden() {
    let env = "GREETING = 'good evening', MODE = 'testing', PORT = '8080', API_KEY = 'abcd'";
    for script in [
        "echo \"$GREETING, $MODE $PORT $API_KEY\" >&2; exit 1".to_owned(),
        asked(
            r#"echo "{\"id\":1,\"outcome\":\"fault\",\"reason\":\"$GREETING, $MODE $PORT $API_KEY\"}""#,
        ),
    ] {
        let reason = told(&script, env).await;
        assert!(reason.ends_with("***, testing 8080 ***"), "{reason}");
    }
}
