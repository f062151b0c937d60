//! What a target says about a delivery.

use std::time::Duration;

/// What became of one document. The variant says whose fault a failure is; the daemon decides what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target holds this document (or a newer one).
    Delivered {
        /// What the target answered, in a few words: `200 OK`.
        answer: String,
    },
    /// Not now, but trying again can help; says nothing bad about the target.
    Retry {
        /// Why, in a sentence without secrets.
        reason: String,
        /// The delay the target asked for.
        after: Option<Duration>,
    },
    /// The target refuses this account's data: trying again cannot help until the account changes.
    Rejected {
        /// Why, in a sentence without secrets.
        reason: String,
    },
    /// The target refused, and the answer does not tell whether because of the account or of the target's own
    /// state (HTTP 401, 403, 404, 407). The daemon finds out from how other accounts fare.
    Denied {
        /// Why, in a sentence without secrets.
        reason: String,
    },
    /// The target as a whole is unwell (unreachable, 5xx, disk full): says nothing about the account.
    Fault {
        /// Why, in a sentence without secrets.
        reason: String,
        /// The delay the target asked for.
        after: Option<Duration>,
    },
}

impl Outcome {
    /// The text of the outcome: the answer or the reason.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Delivered { answer: text }
            | Self::Retry { reason: text, .. }
            | Self::Rejected { reason: text }
            | Self::Denied { reason: text }
            | Self::Fault { reason: text, .. } => text,
        }
    }
}

/// The result of one call of [`Target::deliver`](crate::Target::deliver).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One outcome per document, in the order of the batch.
    Each(Vec<Outcome>),
    /// The batch shared one fate. A batch of several that is `Rejected` or `Denied` as a whole is cut in half
    /// and tried again until the guilty document stands alone.
    Whole(Outcome),
}
