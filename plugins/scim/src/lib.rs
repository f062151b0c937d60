//! The `scim` output: users or groups of a SCIM 2.0 service.
