//! The outputs this program was built with, and how a configured target becomes a running one.
//!
//! The only place that names the plugins.

use data_encoding::HEXLOWER;
use profilesync_target::{Settings, SettingsError, Target};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::config::{self, Kinds, TargetOptions};

/// Lists the kinds once: those that were built in, and the names of the others with theirs.
macro_rules! kinds {
    ($($name:literal => $kind:path,)*) => {
        /// Every kind, by name.
        pub const KINDS: Kinds<'static> = Kinds {
            built: &[$(#[cfg(feature = $name)] $kind,)*],
            names: &[$($name,)*],
        };
    };
}

kinds! {
    "amqp" => profilesync_amqp::KIND,
    "exec" => profilesync_exec::KIND,
    "file" => profilesync_file::KIND,
    "kafka" => profilesync_kafka::KIND,
    "ldap" => profilesync_ldap::KIND,
    "mqtt" => profilesync_mqtt::KIND,
    "nats" => profilesync_nats::KIND,
    "object-store" => profilesync_object_store::KIND,
    "redis" => profilesync_redis::KIND,
    "scim" => profilesync_scim::KIND,
    "sql" => profilesync_sql::KIND,
    "webhook" => profilesync_webhook::KIND,
}

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
        assert!(KINDS.names.is_sorted_by(|one, two| one < two));
        for kind in KINDS.built {
            assert!(KINDS.names.contains(&kind.name), "{}", kind.name);
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
