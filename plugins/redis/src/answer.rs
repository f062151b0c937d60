//! What an answer of the server means.

use profilesync_target::Outcome;
use redis::{FromRedisValue as _, ServerError, Value};

/// Characters of the server's words that a reason quotes.
const MAX_QUOTE: usize = 200;

/// The outcome of one call of the script. `place` names the server.
pub(crate) fn judge(place: &str, key: &str, answer: Value) -> Outcome {
    if let Value::ServerError(error) = &answer {
        return fault(refusal(place, error));
    }
    let Ok(words) = Vec::<String>::from_redis_value(answer) else {
        return fault(format!(
            "{place} gave an answer that the script never gives"
        ));
    };
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let delivered = |answer: &str| Outcome::Delivered {
        answer: answer.to_owned(),
    };
    match words[..] {
        ["written"] => delivered("written"),
        ["same"] => delivered("was there already"),
        ["older", held] => delivered(&format!("revision {held} is there already")),
        ["occupied", kind] => Outcome::Rejected {
            reason: format!("the key {key:?} at {place} is a {kind}, and no hash"),
        },
        ["no stream", kind] => fault(format!(
            "the key of `stream` at {place} is a {kind}, and no stream: remove it, or name another"
        )),
        _ => fault(format!(
            "{place} gave an answer that the script never gives"
        )),
    }
}

/// The server's words, and the way out where one is known. None of them is about an account.
pub(crate) fn refusal(place: &str, error: &ServerError) -> String {
    let code = error.code();
    let detail = excerpt(error.details().unwrap_or_default());
    let way_out = match code {
        "NOAUTH" => ": set `password`",
        // What it says of commands with many words.
        "ERR" if detail.contains("unauthenticated") => ": set `password`",
        "READONLY" => ": it is a replica, set `url` to the primary",
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => {
            ": it is a cluster, which this type of target cannot write to"
        }
        // What Redis 7.0 says of a right that a script lacks.
        "ERR" if detail.contains("can't run this command") => {
            ": the user needs the permissions that the README lists"
        }
        "NOPERM" => ": the user needs the permissions that the README lists",
        _ => "",
    };
    format!("{place} answered {code} {detail}{way_out}")
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}

/// The first words, on one line.
fn excerpt(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut text: String = printable.collect();
    if let Some((end, _)) = text.char_indices().nth(MAX_QUOTE) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use profilesync_target::Outcome;
    use redis::Value;

    use super::judge;

    fn words(words: &[&str]) -> Outcome {
        let words = words
            .iter()
            .map(|word| Value::BulkString(word.as_bytes().to_vec()));
        judge("host:1", "a\"b", Value::Array(words.collect()))
    }

    #[test]
    fn the_words_of_the_script_are_outcomes() {
        for good in [&["written"][..], &["same"], &["older", "8"]] {
            assert!(matches!(words(good), Outcome::Delivered { .. }), "{good:?}");
        }
        assert_eq!(
            words(&["occupied", "list"]).text(),
            r#"the key "a\"b" at host:1 is a list, and no hash"#
        );
        assert!(matches!(
            words(&["occupied", "list"]),
            Outcome::Rejected { .. }
        ));
        for strange in [
            &["no stream", "list"][..],
            &["what"],
            &[],
            &["written", "x"],
        ] {
            assert!(
                matches!(words(strange), Outcome::Fault { .. }),
                "{strange:?}"
            );
        }
        assert!(matches!(
            judge("host:1", "k", Value::Nil),
            Outcome::Fault { .. }
        ));
    }
}
