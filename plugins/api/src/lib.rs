//! What every profilesync output is written against.
//!
//! An output ("kind") is one crate with one public item, a [`Kind`]: its name, the schema of its settings and
//! a function that opens a [`Target`] from them. The daemon hands a target batches of [`Delivery`] and gets an
//! [`Outcome`] for each. When to deliver, how often to try again and when to give up is decided by the daemon
//! alone: a target never sleeps, retries, logs, spawns a task it leaves behind, or reads the daemon's store.

#[cfg(feature = "certificates")]
mod certificates;
mod document;
mod mask;
#[cfg(feature = "names")]
mod name;
mod outcome;
#[cfg(feature = "process")]
mod process;
mod secret;
mod settings;
#[cfg(feature = "tls")]
mod tls;
mod units;

#[cfg(feature = "conformance")]
pub mod conformance;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;

#[cfg(feature = "certificates")]
pub use certificates::write_certificates;
pub use document::{Document, Standard, Status};
pub use mask::Mask;
#[cfg(feature = "names")]
pub use name::{Case, file_name};
pub use outcome::{Answer, Outcome};
#[cfg(feature = "process")]
pub use process::{Process, free_port, wait_until_stopped};
pub use secret::{Secret, SecretError, read_secret};
pub use settings::{Settings, SettingsError, cleartext, schema_of};
#[cfg(feature = "tls")]
pub use tls::{Pem, Tls, TlsFiles};
pub use units::{Period, Rate, Size};

/// One kind of output, as listed in the daemon's `src/targets.rs`.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The value of `type` in `[targets.NAME]`.
    pub name: &'static str,
    /// Checks the settings and makes a target of them. Touches neither network nor target.
    pub open: fn(&OpenContext, Settings<'_>) -> Result<Opened, SettingsError>,
    /// JSON Schema (draft 7) of the settings, for editors.
    pub schema: fn() -> schemars::Schema,
}

/// What the daemon tells a target about itself when it opens it.
#[derive(Clone, Debug)]
pub struct OpenContext {
    /// The target's name: NAME in `[targets.NAME]`.
    pub name: String,
    /// The daemon's version, for user agents.
    pub version: &'static str,
    /// The time limit of one call of [`Target::deliver`]; the daemon cuts it off then.
    pub timeout: Duration,
    /// Where relative paths in the settings start: the folder of the main configuration file.
    pub base: PathBuf,
}

/// A target that is ready for deliveries, and what identifies it.
pub struct Opened {
    /// The target.
    pub target: Box<dyn Target>,
    /// The checked settings with secrets masked. When it differs from the last run's, the accounts at the
    /// target are no longer known to be right, and all of them are delivered again.
    pub identity: serde_json::Value,
}

/// One profile to bring to a target.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The account's newest state.
    pub document: Document,
}

impl From<Document> for Delivery {
    fn from(document: Document) -> Self {
        Self { document }
    }
}

/// An external system that is kept at the newest profile of every account.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// How the daemon must pace this target; asked before each call, for some targets learn it from their peer.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Makes the outside world hold these documents: different accounts, at most [`Limits::batch`] of them.
    ///
    /// May be called again with the same document, and must then change nothing. The future may be dropped at
    /// any await, when the time limit is over; the daemon then tries again later.
    async fn deliver(&self, batch: &[Delivery]) -> Answer;

    /// Reaches the target without changing it, for `profilesync check --probe`.
    ///
    /// # Errors
    /// What is wrong, as a sentence for the operator.
    async fn probe(&self) -> Result<(), String>;

    /// What [`Target::deliver`] would send for this document, as text, with secrets masked.
    ///
    /// # Errors
    /// Why nothing can be rendered for this document, as a sentence for the operator.
    fn render(&self, document: &Document) -> Result<String, String>;

    /// How the outside can be read back, for kinds that can.
    fn read_back(&self) -> Option<&dyn ReadBack> {
        None
    }

    /// Lets go of what the target holds open: connections, children. Called once, after the last delivery; the
    /// daemon waits for it no longer than for a delivery.
    async fn close(&self) {}
}

/// A target that can tell what it holds, for whoever looks for drift.
#[async_trait]
pub trait ReadBack: Send + Sync {
    /// What the outside holds of the accounts of these documents, in their order; `None` of those it does not hold.
    /// Changes nothing.
    ///
    /// # Errors
    /// Why it cannot be read, as a sentence for the operator.
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String>;

    /// What [`ReadBack::held`] would say if this document were delivered; `None` when the account would be gone.
    fn wanted(&self, document: &Document) -> Option<State>;
}

/// What a target holds of one account: its own names (columns, attributes) and their values. Holds what a delivery
/// sets and nothing else, so that equal means in sync.
pub type State = serde_json::Map<String, serde_json::Value>;

/// How the daemon must pace a target now, beyond what the operator configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most documents in one call of [`Target::deliver`].
    pub batch: usize,
    /// Most calls at the same time; `None` leaves it to the operator's `concurrency`.
    pub concurrency: Option<usize>,
    /// Least time between the starts of two calls.
    pub interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch: 1,
            concurrency: None,
            interval: Duration::ZERO,
        }
    }
}
