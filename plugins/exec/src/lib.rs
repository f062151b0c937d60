//! The `exec` output: one long-lived child process per worker, in any language.
