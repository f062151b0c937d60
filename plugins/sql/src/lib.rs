//! The `sql` output: rows of a table in PostgreSQL, MySQL, MariaDB or SQLite.
//!
//! `settings.rs` and `address.rs` check the configuration, `columns.rs` says what each column holds of a document,
//! `dialect.rs` writes the statements, `server.rs` keeps connections and runs them, and `fault.rs` says what an error
//! means. When to deliver and how often is the daemon's business.

mod address;
mod columns;
mod dialect;
mod fault;
mod server;
mod settings;

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, OpenContext, Opened, Outcome, ReadBack, Settings,
    SettingsError, State, Status, Target,
};
use serde_json::Value;

use crate::{
    dialect::{Dialect, Table},
    server::Server,
    settings::Destroy,
};

/// `type = "sql"`
pub const KIND: Kind = Kind {
    name: "sql",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// Rows of one statement.
const BATCH: usize = 100;

struct Sql {
    table: Table,
    server: Server,
    destroy: Destroy,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(Sql {
            server: Server::new(checked.address, checked.create_table, context.timeout),
            table: checked.table,
            destroy: checked.destroy,
        }),
    })
}

#[async_trait]
impl Target for Sql {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            // SQLite has one writer; others would wait for it inside of their time limit.
            concurrency: (self.table.dialect == Dialect::Sqlite).then_some(1),
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        if let Err(failure) = self.server.ready(&self.table).await {
            return Answer::Whole(failure.outcome());
        }
        let mut documents: Vec<_> = batch.iter().map(|delivery| &delivery.document).collect();
        // Statements that lock rows in one order do not deadlock.
        documents.sort_unstable_by_key(|document| (document.sdk_app_id, &document.account));
        let (gone, kept): (Vec<_>, Vec<_>) =
            documents.into_iter().partition(|one| self.deletes(one));
        // Each statement can be repeated alone, so no transaction holds the two together.
        for statement in [
            (!kept.is_empty()).then(|| self.table.upsert(&kept)),
            (!gone.is_empty()).then(|| self.table.delete(&gone)),
        ]
        .into_iter()
        .flatten()
        {
            if let Err(failure) = self.server.execute(&statement).await {
                return Answer::Whole(failure.outcome());
            }
        }
        let outcome = |delivery: &Delivery| Outcome::Delivered {
            answer: match (delivery.document.status, self.destroy) {
                (Status::Active, _) => "row written".into(),
                (Status::Destroyed, Destroy::Delete) => "row deleted".into(),
                (Status::Destroyed, Destroy::Flag) => "row flagged".into(),
            },
        };
        Answer::Each(batch.iter().map(outcome).collect())
    }

    async fn probe(&self) -> Result<(), String> {
        self.server.probe(&self.table).await
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        let statement = if self.deletes(document) {
            self.table.delete(&[document])
        } else {
            self.table.upsert(&[document])
        };
        Ok(statement.to_string())
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        Some(self)
    }

    async fn close(&self) {
        self.server.close().await;
    }
}

impl Sql {
    fn deletes(&self, document: &Document) -> bool {
        document.status == Status::Destroyed && self.destroy == Destroy::Delete
    }
}

#[async_trait]
impl ReadBack for Sql {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let mut held = Vec::with_capacity(documents.len());
        for chunk in documents.chunks(BATCH) {
            let statement = self.table.select(&chunk.iter().collect::<Vec<_>>());
            let rows = self.server.fetch(&statement).await?;
            if rows.len() > chunk.len() {
                let [app, account] = self.table.key_names();
                return Err(format!(
                    "{} has several rows of one account: it needs a primary key or unique index over `{app}` and \
                     `{account}`",
                    self.table.quoted()
                ));
            }
            held.extend(
                chunk
                    .iter()
                    .map(|document| self.table.found(&rows, document)),
            );
        }
        Ok(held)
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        let value = |column: &columns::Column| -> (String, Value) {
            let value = column.member.value(document);
            (column.name.clone(), self.table.dialect.holds(value))
        };
        (!self.deletes(document)).then(|| self.table.columns.iter().map(value).collect())
    }
}
