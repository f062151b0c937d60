//! The commands of `profilesync`, one module each.

pub mod schema;
