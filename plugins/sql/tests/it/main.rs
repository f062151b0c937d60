//! The sql output against PostgreSQL and MariaDB servers of its own, and SQLite files.
//!
//! - `server`: starts, stops and freezes the servers
//! - `world`: the conformance suite
//! - `outside`: a client of the tests, and what it reads
//! - `faults`: what errors of the real databases mean
//! - `tables`: tables of other shapes and names, keys that mix accounts up, and what is read back at most
//! - `settings`: settings that are refused
//! - `tls`: certificates

#![cfg(test)]

mod faults;
mod outside;
mod server;
mod settings;
mod tables;
mod tls;
mod world;

use std::time::Duration;

use profilesync_target::{Opened, Settings, SettingsError, Target, conformance::context};

/// Opens a target by its settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("db", Duration::from_secs(10));
    (profilesync_sql::KIND.open)(&context, Settings::from_toml(settings)?)
}

fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings)
        .unwrap_or_else(|error| panic!("{settings}: {error}"))
        .target
}
