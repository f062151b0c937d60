//! What an answer of JetStream means.

use std::fmt;

use async_nats::{
    Message,
    client::{RequestError, RequestErrorKind},
};
use profilesync_target::{Mask, Outcome};
use serde::Deserialize;

/// The message is larger than the stream takes.
const TOO_LARGE: u32 = 10_054;
/// There is no such message.
const NO_MESSAGE: u32 = 10_037;
/// There is no such stream.
const NO_STREAM: u32 = 10_059;
/// The subject's last message is another one than was expected.
const WRONG_LAST: u32 = 10_071;
/// The same, as servers since 2.11 tell it when messages are refused before they are stored.
const WRONG_LAST_CONSTANT: u32 = 10_164;

/// Characters of the server's words that a reason quotes.
const MAX_QUOTE: usize = 200;

/// The servers, as texts name them.
#[derive(Clone)]
pub(crate) struct Place {
    /// Hosts and ports.
    pub(crate) name: String,
    /// What their words may not bring back.
    pub(crate) mask: Mask,
}

impl Place {
    /// A server's first words, on one line and without secrets.
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

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No stream takes messages of this subject, or there is no JetStream.
    Nobody,
    /// Someone else wrote meanwhile.
    Conflict,
    /// There is no such stream.
    NoStream,
    /// There is no such message.
    NoMessage,
    /// The message is too large for the server or the stream.
    TooLarge(String),
    /// Whatever else the server said.
    Other(String),
}

#[derive(Deserialize)]
struct Envelope {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// What JetStream answers to a message that it stored.
#[derive(Deserialize)]
pub(crate) struct Ack {
    /// The stream.
    pub(crate) stream: String,
    /// The message's number there.
    pub(crate) seq: u64,
    /// Whether it was there already.
    #[serde(default)]
    pub(crate) duplicate: bool,
}

impl Ack {
    /// Where the message is.
    pub(crate) fn shown(&self, place: &Place) -> String {
        format!("{} {}", place.quote(&self.stream), self.seq)
    }
}

/// An answer in JSON, or the refusal in its place.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(
    place: &Place,
    message: &Message,
) -> Result<T, Refusal> {
    let garbled = || Refusal::Other("the answer is none of JetStream's".into());
    let envelope: Envelope = serde_json::from_slice(&message.payload).map_err(|_| garbled())?;
    match envelope.error {
        None => serde_json::from_slice(&message.payload).map_err(|_| garbled()),
        Some(error) => Err(match error.err_code {
            WRONG_LAST | WRONG_LAST_CONSTANT => Refusal::Conflict,
            NO_MESSAGE => Refusal::NoMessage,
            NO_STREAM => Refusal::NoStream,
            TOO_LARGE => Refusal::TooLarge(place.quote(&error.description)),
            code => Refusal::Other(format!(
                "{} ({}, {code})",
                place.quote(&error.description),
                error.code
            )),
        }),
    }
}

/// A request that got no answer: refused, or an error of the connection.
pub(crate) fn of_request(error: &RequestError) -> Result<Refusal, String> {
    match error.kind() {
        RequestErrorKind::NoResponders => Ok(Refusal::Nobody),
        RequestErrorKind::MaxPayloadExceeded => Ok(Refusal::TooLarge(error.to_string())),
        _ => Err(error.to_string()),
    }
}

impl Refusal {
    /// The outcome of one account. `missing` says what is not there and how it is created.
    pub(crate) fn outcome(self, place: &Place, missing: &str) -> Outcome {
        let fault = |reason: String| Outcome::Fault {
            reason,
            after: None,
        };
        match self {
            Self::Nobody | Self::NoStream | Self::NoMessage => fault(format!("{place}: {missing}")),
            Self::Conflict => Outcome::Retry {
                reason: format!("{place}: others keep writing this key"),
                after: None,
            },
            Self::TooLarge(words) => Outcome::Rejected {
                reason: format!("the message is too large for {place}: {words}"),
            },
            Self::Other(words) => fault(format!("{place} refused: {words}")),
        }
    }

    /// What a probe says.
    pub(crate) fn text(self, place: &Place, missing: &str) -> String {
        self.outcome(place, missing).text().to_owned()
    }
}

/// Whether the server says that the user may not publish to a subject, which says nothing about the subjects of other
/// accounts. JetStream's own subjects are asked for the sake of all.
pub(crate) fn is_denied(words: &str) -> bool {
    let words = words.to_lowercase();
    words.contains("permissions violation for publish to") && !words.contains("\"$js.api.")
}

/// What the server said before it closed the connection or ignored a message, and the way out.
pub(crate) fn refused(place: &Place, words: &str) -> String {
    let way_out = if words.to_lowercase().contains("permissions violation") {
        "; the user needs the permissions that the README lists"
    } else {
        ""
    };
    format!("{}{way_out}", place.quote(words))
}

#[cfg(test)]
mod tests {
    use async_nats::Message;
    use profilesync_target::Mask;
    use serde_json::json;

    use super::{Ack, MAX_QUOTE, Place, is_denied, read, refused};

    #[test]
    fn secrets_are_hidden_where_the_server_says_them() {
        let mut mask = Mask::default();
        mask.add("hunter2\nhunter3");
        let place = Place {
            name: "host:1".into(),
            mask,
        };
        let long = format!("{}hunter2", "x".repeat(MAX_QUOTE - "hu".len()));
        for words in ["no user of \"hunter3\"", "hunter2\nhunter3", &long] {
            for err_code in [10_054, 10_023] {
                let error = json!({ "code": 400, "err_code": err_code, "description": words });
                let message = Message {
                    subject: "s".into(),
                    reply: None,
                    payload: json!({ "error": error }).to_string().into(),
                    headers: None,
                    status: None,
                    description: None,
                    length: 0,
                };
                let refusal = read::<Ack>(&place, &message).err().unwrap();
                let text = refusal.text(&place, "");
                assert!(!text.contains("hu"), "{text}");
            }
            let text = refused(&place, words);
            assert!(!text.contains("hu"), "{text}");
        }
    }

    #[test]
    fn only_the_subject_of_an_account_is_denied() {
        for (words, denied) in [
            (r#"Permissions Violation for Publish to "p.1.a""#, true),
            (r#"Permissions Violation for Publish to "$KV.b.1.a""#, true),
            (
                r#"Permissions Violation for Publish to "$JS.API.STREAM.MSG.GET.KV_b""#,
                false,
            ),
            (
                r#"Permissions Violation for Publish with Reply of "_INBOX.x""#,
                false,
            ),
            (
                r#"Permissions Violation for Subscription to "_INBOX.x.*""#,
                false,
            ),
            ("Authorization Violation", false),
        ] {
            assert_eq!(is_denied(&format!("nats: {words}")), denied, "{words}");
        }
    }
}
