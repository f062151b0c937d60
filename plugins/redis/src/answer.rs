//! What an answer of the server means.

use std::fmt;

use profilesync_target::{Mask, Outcome};
use redis::{FromRedisValue as _, ServerError, Value};

/// Characters of the server's words that a reason quotes.
const MAX_QUOTE: usize = 200;

/// The server, as texts name it.
pub(crate) struct Place {
    /// Host and port, or path.
    pub(crate) name: String,
    /// What its words may not bring back.
    pub(crate) mask: Mask,
}

impl Place {
    /// The server's first words, on one line and without secrets.
    pub(crate) fn quote(&self, text: &str) -> String {
        let mut text: String = self
            .mask
            .hide(text)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if let Some((end, _)) = text.char_indices().nth(MAX_QUOTE) {
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The outcome of one call of the script.
pub(crate) fn judge(place: &Place, key: &str, answer: Value) -> Outcome {
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
        ["older", held] => {
            let held = place.quote(held);
            delivered(&format!("revision {held} is there already"))
        }
        ["occupied", kind] => {
            let kind = place.quote(kind);
            Outcome::Rejected {
                reason: format!("the key {key:?} at {place} is a {kind}, and no hash"),
            }
        }
        ["no stream", kind] => {
            let kind = place.quote(kind);
            fault(format!(
                "the key of `stream` at {place} is a {kind}, and no stream: remove it, or name another"
            ))
        }
        _ => fault(format!(
            "{place} gave an answer that the script never gives"
        )),
    }
}

/// The server's words, and the way out where one is known. None of them is about an account.
pub(crate) fn refusal(place: &Place, error: &ServerError) -> String {
    let code = error.code();
    let detail = error.details().unwrap_or_default();
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
    // The code is the server's word as well: what it begins with.
    let words = place.quote(&format!("{code} {detail}"));
    format!("{place} answered {words}{way_out}")
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}

#[cfg(test)]
mod tests {
    use profilesync_target::{Mask, Outcome};
    use redis::{Value, parse_redis_value};

    use super::{MAX_QUOTE, Place, judge};

    fn place() -> Place {
        let mut mask = Mask::default();
        mask.add("hunter2");
        Place {
            name: "host:1".into(),
            mask,
        }
    }

    fn words(words: &[&str]) -> Outcome {
        let words = words
            .iter()
            .map(|word| Value::BulkString(word.as_bytes().to_vec()));
        judge(&place(), "a\"b", Value::Array(words.collect()))
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
            judge(&place(), "k", Value::Nil),
            Outcome::Fault { .. }
        ));
    }

    #[test]
    fn the_password_is_hidden_where_the_server_says_it() {
        for said in [&["older", "hunter2"][..], &["occupied", "hunter2"]] {
            let outcome = words(said);
            assert!(!outcome.text().contains("hunter2"), "{outcome:?}");
        }
        let long = format!("-ERR {}hunter2\r\n", "x".repeat(MAX_QUOTE - "ERR hu".len()));
        for said in [
            "-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n",
            "-hunter2 is no command\r\n",
            long.as_str(),
        ] {
            let outcome = judge(&place(), "k", parse_redis_value(said.as_bytes()).unwrap());
            assert!(matches!(outcome, Outcome::Fault { .. }), "{outcome:?}");
            assert!(!outcome.text().contains("hu"), "{outcome:?}");
        }
    }
}
