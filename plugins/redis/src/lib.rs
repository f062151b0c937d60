//! The `redis` output: a hash per account in Redis or Valkey.
