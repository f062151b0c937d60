//! The whole daemon from outside: the real binary in a temporary folder, real sockets, scripted targets.
//!
//! The harness:
//! - `daemon`: starts, stops, kills and questions the daemon; waits for states
//! - `sender`: plays Tencent Cloud Chat
//! - `receiver`: an HTTP target that answers by script, remembers what it got, and sees overlaps and steps back
//! - `disk`: what a disk holds after a power cut
//! - `model`: the merge rules said a second time, from the design's text
//!
//! The tests:
//! - `deliver`: webhook in, every target holds the latest profile
//! - `retry`: down, slow, rejecting, misbehaving targets; one delays no other
//! - `restart`: stop and start at each stage; nothing lost, nothing sent twice without need
//! - `shutdown`: SIGTERM with work in flight
//! - `refuse`: what is not accepted, over the wire and on the command line
//! - `commands`: what the commands say, to people and to programs
//! - `examples`: the configurations in config/examples
//! - `plugin`: `profilesync plugin new` and `plugin test`
//! - `crash`: kill -9 in a loop; `PROFILESYNC_KILLS=200` for a long one
//! - `power`: power cuts; `PROFILESYNC_POWER_CUTS=3000` for many
//! - `failing_disk`: syncs that fail
//! - `damage`: flipped, cut and missing files in the store
//! - `full_disk`: no space left, and space again (needs root)
//! - `systemd`: the units, and what is said to systemd
//! - `tidy`: the house rules that neither rustc nor clippy can check

#![cfg(test)]

mod commands;
mod crash;
mod daemon;
mod damage;
mod deliver;
mod disk;
mod examples;
mod failing_disk;
mod full_disk;
mod model;
#[cfg(feature = "exec")]
mod plugin;
mod power;
mod receiver;
mod refuse;
mod restart;
mod retry;
mod sender;
mod shutdown;
mod systemd;
mod tidy;
