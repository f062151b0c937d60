//! The outputs this program was built with, and how a configured target becomes a running one.
//!
//! The only place that names the plugins.

use data_encoding::HEXLOWER;
use profilesync_target::{Kind, Settings, SettingsError, Target};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::config::{self, TargetOptions};

/// Every kind, by name.
pub const KINDS: &[Kind] = &[
    #[cfg(feature = "amqp")]
    profilesync_amqp::KIND,
    #[cfg(feature = "exec")]
    profilesync_exec::KIND,
    #[cfg(feature = "file")]
    profilesync_file::KIND,
    #[cfg(feature = "kafka")]
    profilesync_kafka::KIND,
    #[cfg(feature = "ldap")]
    profilesync_ldap::KIND,
    #[cfg(feature = "mqtt")]
    profilesync_mqtt::KIND,
    #[cfg(feature = "nats")]
    profilesync_nats::KIND,
    #[cfg(feature = "object-store")]
    profilesync_object_store::KIND,
    #[cfg(feature = "redis")]
    profilesync_redis::KIND,
    #[cfg(feature = "scim")]
    profilesync_scim::KIND,
    #[cfg(feature = "sql")]
    profilesync_sql::KIND,
    #[cfg(feature = "webhook")]
    profilesync_webhook::KIND,
];

/// A target that is ready for deliveries, and the daemon's part of its settings.
pub struct OpenedTarget {
    /// NAME in `[targets.NAME]`.
    pub name: String,
    /// The name of its kind.
    pub kind_name: &'static str,
    /// The output.
    pub target: Box<dyn Target>,
    /// The daemon's keys.
    pub options: TargetOptions,
    /// SHA-256, in hexadecimal, over everything that decides what the outside holds. When it is not the last
    /// run's, the target is backfilled.
    pub identity: String,
}

/// Opens a target with its kind's own settings, for [`config::load`](crate::config::load::load). Reads secrets and
/// certificates; touches neither network nor target.
///
/// # Errors
/// What is wrong with the kind's settings, and where.
pub fn open(
    target: &config::Target,
    settings: Settings<'_>,
) -> Result<OpenedTarget, SettingsError> {
    let opened = (target.kind.open)(&target.context(), settings)?;
    Ok(OpenedTarget {
        name: target.name.clone(),
        kind_name: target.kind.name,
        target: opened.target,
        options: target.options.clone(),
        identity: identity(target.kind.name, &opened.identity, &target.options.identity),
    })
}

/// The serialiser's maps are sorted by name, so the text is the same whatever the order in the file.
fn identity(kind: &str, settings: &serde_json::Value, options: &serde_json::Value) -> String {
    let whole = json!({ "kind": kind, "settings": settings, "options": options });
    HEXLOWER.encode(&Sha256::digest(whole.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{KINDS, identity};

    #[test]
    fn kinds_are_listed_in_order() {
        assert!(KINDS.is_sorted_by(|one, two| one.name < two.name));
        for kind in KINDS {
            assert!((kind.schema)().get("properties").is_some(), "{}", kind.name);
        }
    }

    #[test]
    fn the_identity_is_of_kind_settings_and_options() {
        let (settings, options) = (json!({ "a": 1, "b": 2 }), json!({ "mode": "live" }));
        let whole = identity("file", &settings, &options);
        assert_eq!(whole.len(), 64);
        assert_eq!(
            identity("file", &json!({ "b": 2, "a": 1 }), &options),
            whole
        );
        assert_ne!(identity("webhook", &settings, &options), whole);
        assert_ne!(identity("file", &options, &settings), whole);
    }
}
