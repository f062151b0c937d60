//! The checks every target must pass, against its real server or a scripted one.
//!
//! A kind's tests implement [`World`] and call [`check`], which panics at the first promise that is not kept. Whoever
//! wants to print what fails, as `profilesync plugin test` does, runs [`CHECKS`] one by one.

mod accounts;
mod checks;
mod plain;
mod settings;
mod tools;
mod words;

use std::{future::Future, pin::Pin, time::Duration};

use async_trait::async_trait;

pub use plain::{deliver, deliver_all, delivered, destroyed, document, gone, named};
pub use settings::{context, refused};
pub use tools::{deliver as deliver_to, holds};

use crate::{Document, Target};

/// A target, and the outside world it writes to.
#[async_trait]
pub trait World: Send + Sync {
    /// The target under test.
    fn target(&self) -> &dyn Target;

    /// What the outside holds of an account, read without the target; `None` when it holds nothing. Texts that
    /// the outside cannot tell from absent ones are to be `None`.
    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document>;

    /// Whether the target compares revisions, so that an older one cannot replace a newer one.
    fn compares_revisions(&self) -> bool;

    /// Whether the revision of a destroyed account stays, so that an older one cannot bring the account back. It goes
    /// where it was part of what is removed.
    fn remembers_destroyed(&self) -> bool {
        false
    }

    /// The app as the outside knows it, for messages.
    fn app(&self, sdk_app_id: u64) -> u64 {
        sdk_app_id
    }

    /// What the outside shows of a document that it holds. Differs from the document where the outside has no way
    /// to hold all of it, such as a NUL in a text.
    fn shown(&self, document: &Document) -> Document {
        document.clone()
    }

    /// Makes the outside refuse this account's data from now on, and only this. `false` when it cannot.
    async fn refuse(&self, _sdk_app_id: u64, _account: &str) -> bool {
        false
    }

    /// Secrets of the target's settings, which no text of it may hold.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the outside well, dead or slow. `false` when it cannot be so.
    async fn turn(&self, peer: Peer) -> bool;

    /// Why [`World::held`] cannot be asked, for targets nobody can look behind. The checks then deliver as always, and
    /// those that prove nothing without a look are skipped.
    fn unreadable(&self) -> Option<String> {
        None
    }
}

/// How the outside world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It answers.
    Well,
    /// Nothing answers, or everything fails.
    Dead,
    /// It takes longer than anyone waits.
    Slow,
}

/// One promise of a target, and how it is tried.
pub struct Check {
    /// The promise.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn World) -> Running<'a>,
}

/// A check under way.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Verdict, String>> + Send + 'a>>;

/// What a check found, if not that the promise is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise is kept.
    Passed,
    /// It could not be tried here, and why.
    Skipped(String),
}

impl Check {
    /// Tries the promise in a fresh world, which holds nothing.
    ///
    /// # Errors
    /// How the promise is broken.
    pub async fn run(&self, world: &dyn World) -> Result<Verdict, String> {
        (self.run)(world).await
    }
}

/// Every check, the plainest first.
pub const CHECKS: &[Check] = &[
    Check {
        name: "the same revision again changes nothing",
        run: |world| Box::pin(checks::repeats_change_nothing(world)),
    },
    Check {
        name: "an older revision changes nothing",
        run: |world| Box::pin(checks::older_revisions_do_not_win(world)),
    },
    Check {
        name: "accounts are destroyed and revived",
        run: |world| Box::pin(checks::accounts_are_destroyed_and_revived(world)),
    },
    Check {
        name: "hostile accounts and texts stay apart",
        run: |world| Box::pin(checks::hostile_accounts_stay_apart(world)),
    },
    Check {
        name: "a full batch is taken",
        run: |world| Box::pin(checks::full_batches_are_taken(world)),
    },
    Check {
        name: "a refused account takes no other along",
        run: |world| Box::pin(checks::a_refused_account_takes_no_other_along(world)),
    },
    Check {
        name: "a dead peer is a fault of the target",
        run: |world| Box::pin(checks::dead_peers_are_faults(world)),
    },
    Check {
        name: "a slow peer is cut off without harm",
        run: |world| Box::pin(checks::slow_peers_are_cut_off(world)),
    },
    Check {
        name: "a dropped delivery does no harm",
        run: |world| Box::pin(checks::dropped_deliveries_do_no_harm(world)),
    },
    Check {
        name: "what is rendered holds no secret",
        run: |world| Box::pin(checks::renders_hold_no_secret(world)),
    },
    Check {
        name: "a probe changes nothing",
        run: |world| Box::pin(checks::probes_change_nothing(world)),
    },
    Check {
        name: "what is read back is what was delivered",
        run: |world| Box::pin(checks::what_is_read_back_is_what_was_delivered(world)),
    },
];

/// Longest wait for a slow peer; shorter than any peer's slowness.
const PATIENCE: Duration = Duration::from_millis(300);

/// Most documents of a batch that are tried.
const MAX_BATCH: usize = 500;

/// Awaits at which a delivery is dropped.
const MAX_CUTS: usize = 200;

/// Runs every check, each in a fresh world that holds nothing.
///
/// # Panics
/// When the target breaks a promise; the message says which.
pub async fn check<W: World>(fresh: impl AsyncFn() -> W) {
    for check in CHECKS {
        match check.run(&fresh().await).await {
            Ok(Verdict::Passed) => {}
            Ok(Verdict::Skipped(reason)) => eprintln!("skipped: {}: {reason}", check.name),
            Err(broken) => panic!("broken: {}: {broken}", check.name),
        }
    }
}
