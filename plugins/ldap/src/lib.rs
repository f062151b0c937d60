//! The ldap output: one entry of an LDAP directory per account.
//!
//! `settings.rs` checks the configuration, `connection.rs` gets to the server, `put.rs` brings one entry to what
//! `entry.rs` says it is to be, and `code.rs` says what the server's refusals mean. `name.rs`, `rdn.rs` and `source.rs`
//! make names and values. When to deliver and how often is the daemon's business.

mod code;
mod connection;
mod entry;
mod name;
mod put;
mod rdn;
mod settings;
mod source;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use ldap3::LdapError;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, ReadBack, Settings,
    SettingsError, State, Target,
};

use crate::{
    connection::{Connection, Pool},
    entry::Mapping,
    put::{Found, Writer},
};

/// Documents of one call. An entry is an operation of its own, so that a batch saves only round trips.
const BATCH: usize = 50;

/// Operations under way at once on one connection; servers queue more than a few.
const PIPELINE: usize = 8;

/// `type = "ldap"`
pub const KIND: Kind = Kind {
    name: "ldap",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

struct Directory {
    pool: Pool,
    mapping: Mapping,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(Directory {
            pool: Pool::new(checked.server),
            mapping: checked.mapping,
        }),
    })
}

#[async_trait]
impl Target for Directory {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let connection = match self.pool.take().await {
            Ok(connection) => connection,
            Err(reason) => return Answer::Whole(fault(reason)),
        };
        let documents = batch.iter().map(|delivery| &delivery.document).collect();
        let mut results = self.put_all(&connection, documents).await;
        if results.iter().all(Result::is_ok) {
            self.keep(connection, &results);
        } else if connection.reused {
            // A server may close what is idle, just when it is to be used.
            drop(connection);
            let lost: Vec<_> = (0..batch.len())
                .filter(|&at| results[at].is_err())
                .collect();
            let connection = match self.pool.server.connect().await {
                Ok(connection) => connection,
                Err(reason) => return self.answer(results, |_| reason.clone()),
            };
            let documents = lost.iter().map(|&at| &batch[at].document).collect();
            let again = self.put_all(&connection, documents).await;
            self.keep(connection, &again);
            for (at, result) in lost.into_iter().zip(again) {
                results[at] = result;
            }
        }
        self.answer(results, |error| self.lost(error))
    }

    /// Binds, and looks for the base.
    async fn probe(&self) -> Result<(), String> {
        let mut connection = self.pool.server.connect().await?;
        let base = &self.mapping.base;
        let nothing = vec!["1.1".to_owned()];
        match put::read(&mut connection.ldap, base, nothing).await {
            Ok(Found::Entry(_)) => Ok(()),
            Ok(Found::Nothing) => Err(format!(
                "{} has no `base` {base}, or `bind_dn` cannot see it",
                self.pool.server.shown()
            )),
            Ok(Found::Failed(result)) => {
                let what = format!("cannot read `base` {base}");
                Err(code::reason(&what, &result, &self.pool.server.password))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        Ok(self.mapping.wanted(document)?.ldif(&self.mapping))
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        Some(self)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

#[async_trait]
impl ReadBack for Directory {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let connection = self.pool.server.connect().await?;
        let reads: Vec<_> = documents
            .iter()
            .map(|document| self.held_of(&connection, document))
            .collect();
        let states: Vec<_> = stream::iter(reads).buffered(PIPELINE).collect().await;
        states.into_iter().collect()
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        self.mapping.wanted(document).ok()?.state()
    }
}

impl Directory {
    async fn put_all(
        &self,
        connection: &Connection,
        documents: Vec<&Document>,
    ) -> Vec<Result<Outcome, LdapError>> {
        let writer = &Writer {
            mapping: &self.mapping,
            connection,
            password: &self.pool.server.password,
        };
        let puts: Vec<_> = documents.into_iter().map(|one| writer.put(one)).collect();
        stream::iter(puts).buffered(PIPELINE).collect().await
    }

    /// Keeps the connection for the next delivery, unless the server may be unwell: then the next one is to find out
    /// anew which server is behind the name. A replica may call itself unwilling, which is denied and no fault yet.
    fn keep(&self, connection: Connection, results: &[Result<Outcome, LdapError>]) {
        let is_well = results.iter().all(|result| {
            matches!(
                result,
                Ok(Outcome::Delivered { .. } | Outcome::Retry { .. } | Outcome::Rejected { .. })
            )
        });
        if is_well {
            self.pool.put(connection, results.len());
        }
    }

    async fn held_of(
        &self,
        connection: &Connection,
        document: &Document,
    ) -> Result<Option<State>, String> {
        let wanted = self.mapping.wanted(document)?;
        let mut ldap = connection.ldap.clone();
        match put::read(&mut ldap, &wanted.dn, self.mapping.read()).await {
            Ok(Found::Entry(held)) => Ok(self.mapping.state(&wanted, &held)),
            Ok(Found::Nothing) => Ok(None),
            Ok(Found::Failed(result)) => {
                let what = format!("cannot read {}", wanted.dn);
                Err(code::reason(&what, &result, &self.pool.server.password))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// An error is the connection's, and so the server's fault.
    fn answer(
        &self,
        results: Vec<Result<Outcome, LdapError>>,
        reason: impl Fn(&LdapError) -> String,
    ) -> Answer {
        let outcome = |result: Result<_, _>| result.unwrap_or_else(|error| fault(reason(&error)));
        Answer::Each(results.into_iter().map(outcome).collect())
    }

    fn lost(&self, error: &LdapError) -> String {
        let server = &self.pool.server;
        format!("{}: {}", server.shown(), server.explain(error))
    }
}

fn fault(reason: String) -> Outcome {
    Outcome::Fault {
        reason,
        after: None,
    }
}
