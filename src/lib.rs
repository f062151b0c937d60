//! profilesync keeps external systems at the newest profile of every Official Account of Tencent Cloud Chat.
//!
//! # The way of an event
//!
//! ```text
//! listen ──> journal ──> store::applier ──> change index ──> dispatch ──> a target
//!  warp       append,     merge, one batch    one entry       one loop      plugins/*
//!             one sync    per round           per account     per target
//! ```
//!
//! A request becomes an [`event::Event`] (so that it can be refused), and then bytes in the [`journal`]: that is when
//! it is answered. The applier in [`store`] reads those bytes, merges them ([`merge`]) and, when the visible profile
//! changed, moves the account to the end of the change index under a new revision. Each target's loop in [`dispatch`]
//! has a cursor in that index. It reads the newest profile at the moment of delivery, and writes what became of it
//! back through the applier.
//!
//! # Invariants
//!
//! 1. OK means that the event is synced to the journal. Nothing else has to be up for it.
//! 2. The journal is the truth; snapshot and journal give the index back, with every revision. The index (sled) is
//!    never trusted further than it was checked. What operators decided about targets is synced beside them.
//! 3. One thread writes the index, in atomic batches; what it reads from the journal is synced.
//! 4. A change entry says *that* targets must hear of an account, never *what*: bursts coalesce, the newest wins.
//! 5. There is one change entry per account, whatever the number of targets; a dead target costs nothing.
//! 6. At most one delivery per (target, account) is in flight; a failure changes the state of that pair only.
//! 7. A target's loop writes that target's state; before it begins and after it ended, `dispatch::enroll` does.
//! 8. Memory holds requests that are not answered, pages of work and deliveries in flight; the rest is on disk.
//! 9. Outputs know documents and outcomes: not the store, the clock, the log or each other.
//! 10. Nothing outside [`store`] sees a key, and nothing outside `store/sled.rs` sees sled.
//!
//! What is not here on purpose: exactly-once delivery, a queue of messages, dynamic loading.

pub mod accept;
pub mod admin;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod dispatch;
pub mod durable;
pub mod event;
pub mod exit;
pub mod journal;
pub mod listen;
pub mod logging;
pub mod merge;
pub mod metrics;
mod seldom;
pub mod status;
pub mod store;
pub mod systemd;
pub mod table;
pub mod targets;
