//! The scim output: one user or group of a SCIM 2.0 service (RFC 7643, 7644) per account.
//!
//! `settings.rs` checks the configuration, `service.rs` finds and changes resources, `resource.rs` says what has to
//! change, `path.rs` knows where attributes are in a resource and `source.rs` what they hold. When to deliver and how
//! often is the daemon's business.

mod path;
mod resource;
mod service;
mod settings;
mod source;

use async_trait::async_trait;
use profilesync_http::Http;
use profilesync_target::{
    Answer, Delivery, Document, Kind, OpenContext, Opened, ReadBack, Settings, SettingsError,
    State, Target,
};
use reqwest::Url;

use crate::resource::Mapping;

/// `type = "scim"`
pub const KIND: Kind = Kind {
    name: "scim",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

struct Service {
    http: Http,
    /// Of the resources.
    url: Url,
    mapping: Mapping,
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity,
        target: Box::new(Service {
            http: checked.http,
            url: checked.url,
            mapping: checked.mapping,
        }),
    })
}

#[async_trait]
impl Target for Service {
    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let deadline = self.http.deadline();
        let mut outcomes = Vec::with_capacity(batch.len());
        for delivery in batch {
            outcomes.push(self.put(&delivery.document, deadline).await);
        }
        Answer::Each(outcomes)
    }

    async fn probe(&self) -> Result<(), String> {
        self.look().await
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        let wanted = self.mapping.wanted(document)?;
        let body = match &wanted.values {
            Some(values) => self.mapping.whole(&wanted, values),
            None => return Ok(format!("DELETE {}/ID\n", self.url)),
        };
        let body = serde_json::to_string_pretty(&body).expect("a resource is JSON");
        Ok(format!("POST {}\n\n{body}\n", self.url))
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        Some(self)
    }
}

#[async_trait]
impl ReadBack for Service {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let mut states = Vec::with_capacity(documents.len());
        for document in documents {
            let wanted = self.mapping.wanted(document)?;
            let found = self
                .find(&wanted.external_id)
                .await
                .map_err(|outcome| outcome.text().to_owned())?;
            states.push(found.map(|held| self.mapping.state(&held)));
        }
        Ok(states)
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        self.mapping
            .wanted_state(self.mapping.wanted(document).ok()?)
    }
}
