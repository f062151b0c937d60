//! The `mqtt` output: a retained MQTT message per account.
