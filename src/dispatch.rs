//! Stand-in until the dispatchers are merged.

/// What an operator does to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Delivers nothing until resumed.
    Pause,
    /// Goes on.
    Resume,
    /// Tries again what failed.
    Retry {
        /// Of this app.
        app: Option<u64>,
        /// Of this account.
        account: Option<String>,
        /// Every parked account.
        all_parked: bool,
    },
    /// Delivers every account anew.
    Backfill,
    /// Lets the guard's hold go.
    Approve,
}

/// Why an action was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// There is no such target.
    #[error("no target is called {0:?}; `profilesync targets` lists them")]
    UnknownTarget(String),
    /// There is no such account.
    #[error("no account is called {0:?}; `profilesync accounts` finds them")]
    UnknownAccount(String),
    /// It makes no sense now.
    #[error("{0}")]
    Refused(String),
    /// It cannot be done now.
    #[error("the target cannot be told now: {0}")]
    Unavailable(String),
}
