//! Profiles as the values of a key-value bucket.
//!
//! A bucket is a stream `KV_BUCKET`, a key is its subject `$KV.BUCKET.KEY`, and a value the last message there. This
//! is done with the stream's own requests, for the client's bucket type shows no headers, and the revision of a
//! destroyed account is in one.

use async_nats::{Client, HeaderMap};
use data_encoding::BASE64;
use profilesync_target::{Document, Outcome, State, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::{self, Ack, Place, Refusal},
    body,
    link::request,
    name::key,
};

/// How often a key is read again because someone else wrote it meanwhile.
const TRIES: usize = 4;

/// The header with the revision of an account that was destroyed.
const REVISION: &str = "profilesync-revision";

/// A bucket.
pub(crate) struct Bucket {
    pub(crate) name: String,
}

/// The last message of a key.
struct Held {
    sequence: u64,
    /// `None` for a marker that says the key is gone.
    value: Option<Vec<u8>>,
    /// Of the document that the value is, or of the marker; `None` when it is none of ours.
    revision: Option<u64>,
}

#[derive(Deserialize)]
struct Stored {
    message: StoredMessage,
}

#[derive(Deserialize)]
struct StoredMessage {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Info {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    max_msgs_per_subject: i64,
    #[serde(default)]
    allow_rollup_hdrs: bool,
}

impl Bucket {
    /// Compares and sets: reads the key, and writes it unless it changed since.
    pub(crate) async fn put(
        &self,
        client: &Client,
        place: &Place,
        document: &Document,
    ) -> Result<Outcome, String> {
        let delivered = |answer: String| Ok(Outcome::Delivered { answer });
        for _ in 0..TRIES {
            let held = match self.read(client, place, document).await? {
                Ok(held) => held,
                Err(refusal) => return Ok(refusal.outcome(place, &self.missing())),
            };
            if let Some(held) = &held {
                match held.revision {
                    Some(revision) if revision > document.revision => {
                        return delivered(format!("revision {revision} is there already"));
                    }
                    Some(revision) if revision == document.revision && held.is(document) => {
                        return delivered(format!("is {} already", held.sequence));
                    }
                    _ => (),
                }
            }
            let last = held.map_or(0, |held| held.sequence);
            match self.write(client, place, document, last).await? {
                Ok(ack) => return delivered(ack.shown(place)),
                Err(Refusal::Conflict) => (),
                Err(refusal) => return Ok(refusal.outcome(place, &self.missing())),
            }
        }
        Ok(Refusal::Conflict.outcome(place, ""))
    }

    async fn write(
        &self,
        client: &Client,
        place: &Place,
        document: &Document,
        last: u64,
    ) -> Result<Result<Ack, Refusal>, String> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
        for (name, value) in marker(document) {
            headers.insert(name, value);
        }
        let answer = request(client, self.subject(document), headers, value(document)).await?;
        Ok(answer.and_then(|message| answer::read(place, &message)))
    }

    async fn read(
        &self,
        client: &Client,
        place: &Place,
        document: &Document,
    ) -> Result<Result<Option<Held>, Refusal>, String> {
        let question = json!({ "last_by_subj": self.subject(document) });
        let subject = format!("$JS.API.STREAM.MSG.GET.{}", self.stream());
        let question = question.to_string().into_bytes();
        let answer = request(client, subject, HeaderMap::new(), question).await?;
        let read = answer.and_then(|message| answer::read(place, &message));
        Ok(match read {
            Ok(Stored { message }) => held(&message).map(Some),
            Err(Refusal::NoMessage) => Ok(None),
            Err(refusal) => Err(refusal),
        })
    }

    /// The document that the bucket holds of this account, as the target shows it.
    pub(crate) async fn state(
        &self,
        client: &Client,
        place: &Place,
        document: &Document,
    ) -> Result<Option<State>, String> {
        let held = self.read(client, place, document).await?;
        let held = held.map_err(|refusal| refusal.text(place, &self.missing()))?;
        Ok(held.and_then(|held| held.value).map(|value| {
            serde_json::from_slice(&value).unwrap_or_else(|_| {
                // Not ours; differs from whatever is wanted.
                let text = String::from_utf8_lossy(&value).into_owned();
                State::from_iter([("(value)".to_owned(), Value::from(text))])
            })
        }))
    }

    pub(crate) async fn probe(&self, client: &Client, place: &Place) -> Result<(), String> {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.stream());
        let answer = request(client, subject, HeaderMap::new(), Vec::new()).await?;
        let Info { config } = answer
            .and_then(|message| answer::read(place, &message))
            .map_err(|refusal| refusal.text(place, &self.missing()))?;
        if config.max_msgs_per_subject < 1 || !config.allow_rollup_hdrs {
            let stream = self.stream();
            return Err(format!(
                "{place}: the stream {stream} is no bucket: create it with `nats kv add`"
            ));
        }
        Ok(())
    }

    pub(crate) fn render(&self, document: &Document) -> String {
        let (name, key) = (&self.name, key(document));
        if document.status == Status::Destroyed {
            let revision = document.revision;
            return format!("PURGE {name} {key}\n{REVISION}: {revision}\n");
        }
        let body = String::from_utf8_lossy(&value(document)).into_owned();
        format!("PUT {name} {key}\n\n{body}\n")
    }

    fn subject(&self, document: &Document) -> String {
        format!("$KV.{}.{}", self.name, key(document))
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    fn missing(&self) -> String {
        let name = &self.name;
        format!("there is no bucket {name}: create it with `nats kv add {name}`")
    }
}

impl Held {
    /// Whether nothing would change.
    fn is(&self, document: &Document) -> bool {
        match &self.value {
            Some(held) => document.status == Status::Active && *held == value(document),
            None => document.status == Status::Destroyed,
        }
    }
}

/// What a key's last message tells.
fn held(message: &StoredMessage) -> Result<Held, Refusal> {
    let decode = |text: &str| {
        BASE64
            .decode(text.as_bytes())
            .map_err(|_| Refusal::Other("a stored message is not base64".into()))
    };
    let headers = decode(&message.hdrs)?;
    let headers = String::from_utf8_lossy(&headers);
    let header = |name: &str| {
        headers.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let is_gone = matches!(header("KV-Operation"), Some("DEL" | "PURGE"));
    let value = decode(&message.data)?;
    let revision = if is_gone {
        header(REVISION).and_then(|text| text.parse().ok())
    } else {
        let value: Option<Value> = serde_json::from_slice(&value).ok();
        value.and_then(|value| value.get("revision")?.as_u64())
    };
    Ok(Held {
        sequence: message.seq,
        value: (!is_gone).then_some(value),
        revision,
    })
}

/// The headers that make a message say that its key is gone, and every earlier value with it.
fn marker(document: &Document) -> Vec<(&'static str, String)> {
    match document.status {
        Status::Active => Vec::new(),
        Status::Destroyed => vec![
            ("KV-Operation", "PURGE".to_owned()),
            ("Nats-Rollup", "sub".to_owned()),
            (REVISION, document.revision.to_string()),
        ],
    }
}

fn value(document: &Document) -> Vec<u8> {
    match document.status {
        Status::Active => body(document),
        Status::Destroyed => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::{StoredMessage, held};

    fn message(headers: &str, data: &str) -> StoredMessage {
        StoredMessage {
            seq: 5,
            hdrs: BASE64.encode(headers.as_bytes()),
            data: BASE64.encode(data.as_bytes()),
        }
    }

    #[test]
    fn revisions_are_found_in_values_and_in_markers() {
        for (headers, data, gone, revision) in [
            ("", r#"{"revision":7}"#, false, Some(7)),
            (
                "NATS/1.0\r\nOther: x\r\n\r\n",
                r#"{"revision":7}"#,
                false,
                Some(7),
            ),
            ("", "not ours", false, None),
            ("", r#"{"revision":"7"}"#, false, None),
            ("NATS/1.0\r\nKV-Operation: DEL\r\n\r\n", "", true, None),
            (
                "NATS/1.0\r\nkv-operation: PURGE\r\nProfilesync-Revision: 9\r\n\r\n",
                "",
                true,
                Some(9),
            ),
        ] {
            let held = held(&message(headers, data)).unwrap();
            assert_eq!(
                (held.value.is_none(), held.revision),
                (gone, revision),
                "{headers}{data}"
            );
            assert_eq!(held.sequence, 5);
        }
        let garbled = StoredMessage {
            seq: 1,
            hdrs: "!".into(),
            data: String::new(),
        };
        assert!(held(&garbled).is_err());
    }
}
