//! The redis output: a hash per account in Redis or Valkey, and a notice of each change if so configured.
//!
//! `settings.rs` checks the configuration, `entry.rs` says what a document becomes at the server, `put.lua` compares
//! revisions and writes there, `link.rs` holds the connections and `answer.rs` says what an answer means.

mod answer;
mod entry;
mod link;
mod settings;

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, ReadBack, Settings,
    SettingsError, State, Target,
};
use redis::{FromRedisValue as _, Pipeline, Script, ServerErrorKind, Value, cmd};

use crate::{
    entry::{DESTROYED, Entry, FIELDS, Layout},
    link::Link,
};

/// `type = "redis"`
pub const KIND: Kind = Kind {
    name: "redis",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// Calls of the script in one round trip.
const BATCH: usize = 100;

const PUT: &str = include_str!("put.lua");

/// Writes as the script does, and changes nothing: shows a replica, a full disk and missing permissions.
const TRY: &str = "return redis.call('HDEL', KEYS[1], 'revision')";

struct Redis {
    link: Link,
    layout: Layout,
    script: Script,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    let target = Redis {
        link: Link::new(checked.client),
        layout: checked.layout,
        script: Script::new(PUT),
    };
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(target),
    })
}

#[async_trait]
impl Target for Redis {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        match self.put(batch).await {
            Ok(outcomes) => Answer::Each(outcomes),
            Err(reason) => Answer::Whole(Outcome::Fault {
                reason,
                after: None,
            }),
        }
    }

    async fn probe(&self) -> Result<(), String> {
        let mut pipeline = Pipeline::new();
        pipeline
            .cmd("EVAL")
            .arg(TRY)
            .arg(1)
            .arg(self.layout.unused_key());
        if let Some(stream) = &self.layout.stream {
            pipeline.cmd("TYPE").arg(&stream.key);
        }
        let answers = self.link.send(&pipeline).await?;
        for answer in answers {
            match answer {
                Value::ServerError(error) => {
                    return Err(answer::refusal(self.link.place(), &error));
                }
                Value::SimpleString(kind) if kind != "none" && kind != "stream" => {
                    let kind = self.link.place().quote(&kind);
                    return Err(format!(
                        "the key of `stream` is a {kind}, and no stream: remove it, or name another"
                    ));
                }
                _ => (),
            }
        }
        Ok(())
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.layout.entry(document).render())
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        Some(self)
    }

    async fn close(&self) {
        self.link.clear();
    }
}

impl Redis {
    async fn put(&self, batch: &[Delivery]) -> Result<Vec<Outcome>, String> {
        let entries: Vec<_> = batch
            .iter()
            .map(|delivery| self.layout.entry(&delivery.document))
            .collect();
        let mut answers = self.link.send(&self.calls(&entries, None)).await?;
        let forgotten = answers.iter().any(|answer| {
            matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
        });
        if forgotten {
            // Entries that were written, because another connection taught the server the script meanwhile, are found
            // to be there already.
            answers = self.link.send(&self.calls(&entries, Some(PUT))).await?;
        }
        let outcomes = entries.iter().zip(answers);
        Ok(outcomes
            .map(|(entry, answer)| answer::judge(self.link.place(), entry.key(), answer))
            .collect())
    }

    /// One call of the script for each entry; the first one has the script's text, if it is given.
    fn calls(&self, entries: &[Entry<'_>], text: Option<&str>) -> Pipeline {
        let mut calls = Pipeline::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            calls.add_command(entry.call(&self.script, text.filter(|_| index == 0)));
        }
        calls
    }
}

#[async_trait]
impl ReadBack for Redis {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let mut states = Vec::with_capacity(documents.len());
        for chunk in documents.chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            for document in chunk {
                let mut read = cmd("HMGET");
                read.arg(self.layout.key(document)).arg(&FIELDS);
                pipeline.add_command(read);
            }
            for answer in self.link.send(&pipeline).await? {
                states.push(self.state(answer)?);
            }
        }
        Ok(states)
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        entry::wanted(document)
    }
}

impl Redis {
    /// The hash that an answer to `HMGET` shows; `None` when there is none, or one of a destroyed account.
    fn state(&self, answer: Value) -> Result<Option<State>, String> {
        if let Value::ServerError(error) = &answer {
            if error.code() == "WRONGTYPE" {
                let state = [("(key)".to_owned(), "no hash".into())];
                return Ok(Some(state.into_iter().collect()));
            }
            return Err(answer::refusal(self.link.place(), error));
        }
        let values = Vec::<Option<Vec<u8>>>::from_redis_value(answer).map_err(|error| {
            let place = self.link.place();
            // It quotes the answer.
            let error = place.quote(&error.to_string());
            format!("{place} answered HMGET with {error}")
        })?;
        let state: State = FIELDS
            .iter()
            .zip(values)
            .filter_map(|(name, value)| {
                let value = String::from_utf8_lossy(&value?).into_owned();
                Some(((*name).to_owned(), value.into()))
            })
            .collect();
        let gone = state.is_empty()
            || state
                .get("status")
                .is_some_and(|status| status == DESTROYED);
        Ok((!gone).then_some(state))
    }
}
