//! The ldap output against slapd.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod entries;
mod server;
mod settings;
mod tls;
mod world;

use std::time::Duration;

use profilesync_target::{
    Document, Opened, Settings, SettingsError, Target,
    conformance::{self, context, deliver},
};
use server::{BASE, BIND_DN, PASSWORD, Server};

/// Opens a target with these settings.
fn try_open(settings: &str) -> Result<Opened, SettingsError> {
    let context = context("directory", Duration::from_secs(5));
    (profilesync_ldap::KIND.open)(&context, Settings::from_toml(settings)?)
}

#[track_caller]
fn open(settings: &str) -> Box<dyn Target> {
    try_open(settings).unwrap().target
}

/// The least that a target of this server needs.
fn settings(server: &Server) -> String {
    format!(
        "url = 'ldap://{}'\nbind_dn = '{BIND_DN}'\npassword = '{PASSWORD}'\nbase = '{BASE}'\n",
        server.address
    )
}

/// The same with a class that holds all of a document.
fn full_settings(server: &Server) -> String {
    settings(server)
        + "object_class = ['profilesyncAccountProfile']
           [attributes]
           profilesyncAccount = 'account'
           profilesyncAppId = 'sdk_app_id'
           profilesyncRevision = 'revision'
           profilesyncName = 'name'
           profilesyncIntroduction = 'introduction'
           profilesyncFaceUrl = 'face_url'
           profilesyncOrganization = 'organization'
           profilesyncOwner = 'owner'
           profilesyncOperator = 'operator'
           profilesyncEventTime = 'event_time'
           profilesyncExtra = 'extra'
          "
}

fn document(account: &str, revision: u64) -> Document {
    Document {
        account: account.to_owned(),
        introduction: Some("Introduction".into()),
        extra: serde_json::Map::new(),
        ..conformance::document(revision)
    }
}

fn destroyed(account: &str, revision: u64) -> Document {
    Document {
        account: account.to_owned(),
        ..conformance::destroyed(revision)
    }
}
