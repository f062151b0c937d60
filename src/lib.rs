//! profilesync keeps external systems at the newest profile of every Official Account.

pub mod clock;
pub mod config;
pub mod dispatch;
pub mod event;
pub mod journal;
pub mod merge;
pub mod metrics;
pub mod status;
pub mod store;
pub mod targets;
