//! The `kafka` output: records of a Kafka topic, keyed by account.
