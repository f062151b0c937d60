//! The configured targets, opened.

use profilesync_target::{Limits, Target};

use crate::config::TargetOptions;

/// One configured target, ready for deliveries.
pub struct OpenedTarget {
    /// NAME in `[targets.NAME]`.
    pub name: String,
    /// Its `type`.
    pub kind_name: &'static str,
    /// The output.
    pub target: Box<dyn Target>,
    /// How it must be paced.
    pub limits: Limits,
    /// The daemon's keys.
    pub options: TargetOptions,
    /// SHA-256 (hex) of kind and settings, secrets excluded.
    pub identity: String,
}
