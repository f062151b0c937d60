//! Profiles as messages of a stream.

use async_nats::{Client, HeaderMap};
use data_encoding::HEXLOWER;
use profilesync_target::{Document, Outcome};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    answer::{self, Ack, Place, Refusal},
    body,
    link::request,
    name::Template,
};

/// Where messages go.
pub(crate) struct Messages {
    pub(crate) subject: Template,
    /// The only stream that may take them.
    pub(crate) stream: Option<String>,
}

#[derive(Deserialize)]
struct Names {
    /// `null` when there are none.
    streams: Option<Vec<String>>,
}

impl Messages {
    pub(crate) async fn put(
        &self,
        client: &Client,
        place: &Place,
        document: &Document,
    ) -> Result<Outcome, String> {
        let subject = self.subject.fill(document);
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers(&subject, document) {
            headers.insert(name, value);
        }
        let answer = request(client, subject, headers, body(document)).await?;
        Ok(
            match answer.and_then(|message| answer::read::<Ack>(place, &message)) {
                Ok(Ack { stream, .. })
                    if self.stream.as_ref().is_some_and(|name| *name != stream) =>
                {
                    // The server compares too; an answer that it did not give is none to rely on.
                    let stream = place.quote(&stream);
                    Refusal::Other(format!("it was taken by the stream {stream}"))
                        .outcome(place, "")
                }
                Ok(ack) => Outcome::Delivered {
                    answer: if ack.duplicate {
                        format!("is {} already", ack.shown(place))
                    } else {
                        ack.shown(place)
                    },
                },
                Err(refusal) => refusal.outcome(place, &self.missing()),
            },
        )
    }

    pub(crate) async fn probe(&self, client: &Client, place: &Place) -> Result<(), String> {
        let pattern = self.subject.pattern();
        let question = json!({ "subject": pattern }).to_string().into_bytes();
        let subject = "$JS.API.STREAM.NAMES".to_owned();
        let answer = request(client, subject, HeaderMap::new(), question).await?;
        let names: Names = match answer.and_then(|message| answer::read(place, &message)) {
            Ok(names) => names,
            Err(Refusal::Nobody) => return Err(format!("{place} has no JetStream for this user")),
            Err(refusal) => return Err(refusal.text(place, &self.missing())),
        };
        let names = names.streams.unwrap_or_default();
        match &self.stream {
            Some(stream) if !names.contains(stream) => Err(format!(
                "{place}: the stream {stream} does not take {pattern}: {}",
                self.command()
            )),
            None if names.is_empty() => Err(format!("{place}: {}", self.missing())),
            _ => Ok(()),
        }
    }

    pub(crate) fn render(&self, document: &Document) -> String {
        let subject = self.subject.fill(document);
        let headers = self.headers(&subject, document);
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        let body = String::from_utf8_lossy(&body(document)).into_owned();
        format!("PUB {subject}\n{headers}\n{body}\n")
    }

    fn headers(&self, subject: &str, document: &Document) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("Nats-Msg-Id", message_id(subject, document)),
            ("content-type", "application/json".to_owned()),
            ("profilesync-revision", document.revision.to_string()),
        ];
        if let Some(stream) = &self.stream {
            headers.push(("Nats-Expected-Stream", stream.clone()));
        }
        headers
    }

    fn missing(&self) -> String {
        format!(
            "no stream takes {}: {}",
            self.subject.pattern(),
            self.command()
        )
    }

    fn command(&self) -> String {
        format!(
            "create one with `nats stream add {} --subjects '{}'`",
            self.stream.as_deref().unwrap_or("PROFILES"),
            self.subject.pattern()
        )
    }
}

/// The same for each attempt at the same revision. A stream compares ids across its subjects, so the subject is part
/// of it: two targets may write to one stream.
fn message_id(subject: &str, document: &Document) -> String {
    // Neither a subject nor an account holds a line end, so no two read the same.
    let Document {
        sdk_app_id,
        account,
        revision,
        ..
    } = document;
    let digest = Sha256::digest(format!("{subject}\n{sdk_app_id}\n{account}\n{revision}"));
    HEXLOWER.encode(&digest[..16])
}
