//! profilesync keeps external systems at the newest profile of every Official Account.

pub mod accept;
pub mod clock;
pub mod config;
pub mod durable;
pub mod event;
pub mod journal;
pub mod listen;
pub mod merge;
pub mod metrics;
pub mod status;
pub mod store;
