//! The `nats` output: messages in a NATS JetStream stream, or a key-value bucket.
