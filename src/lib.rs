//! profilesync keeps external systems at the newest profile of every Official Account.

pub mod accept;
pub mod admin;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod dispatch;
pub mod durable;
pub mod event;
pub mod exit;
pub mod journal;
pub mod listen;
pub mod logging;
pub mod merge;
pub mod metrics;
pub mod peek;
pub mod status;
pub mod store;
pub mod table;
