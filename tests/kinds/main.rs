//! Every kind in the whole daemon: accounts are backfilled by the real binary, the server is restarted in the middle,
//! and in the end holds what the store holds. `PROFILESYNC_ACCOUNTS` says how many (2,000; `scim` takes 4,000 at most, and
//! 1,000 by OAuth 2.0).
//!
//! `cargo test --features full --test kinds` runs all kinds, `cargo test --features sql --test kinds sql` one. A
//! server that is not on the machine is said as `skipped: …`.
//!
//! To add a kind, write `tests/kinds/KIND.rs` and list it below as `#[cfg(feature = "KIND")] mod KIND;`:
//!
//! ```ignore
//! //! `KIND` in the whole daemon.
//!
//! #[path = "../../plugins/KIND/tests/it/server.rs"]
//! #[expect(dead_code, reason = "the kind's own tests use the rest")]
//! mod server;
//!
//! struct Outside(server::Server);
//!
//! impl crate::outside::Outside for Outside {
//!     fn target(&self) -> String {
//!         // What is in `[targets.out]`: the type and its own keys. Pace, retries and breaker are the harness's.
//!         format!("type = \"KIND\"\nurl = {:?}\n", self.0.url())
//!     }
//!     async fn stop(&mut self) { /* hard: SIGKILL; deliveries must fail from now on */ }
//!     async fn start(&mut self) { /* the same server with its data, on the same port; ready when this returns */ }
//!     async fn held(&mut self) -> crate::outside::Held { /* all it holds, read without the target */ }
//! }
//!
//! #[tokio::test(flavor = "multi_thread")]
//! async fn a_restart_in_the_middle_of_a_backfill_loses_nothing() {
//!     let Some(server) = server::Server::start().await else {
//!         eprintln!("skipped: no KIND server on this machine");
//!         return;
//!     };
//!     crate::outside::survives_a_restart(Outside(server)).await;
//! }
//! ```
//!
//! `outside` runs the scenario and compares; `daemon` and `sender` are those of `tests/it`; `door` stands before what is
//! not to be ended itself.

#![cfg(test)]

#[path = "../it/daemon.rs"]
#[expect(dead_code, reason = "tests/it uses the rest")]
mod daemon;
#[cfg(any(feature = "scim", feature = "webhook"))]
mod door;
mod outside;
#[path = "../it/sender.rs"]
#[expect(dead_code, reason = "tests/it uses the rest")]
mod sender;

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(feature = "exec")]
mod exec;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "ldap")]
mod ldap;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "object-store")]
mod object_store;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "scim")]
mod scim;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "webhook")]
mod webhook;
