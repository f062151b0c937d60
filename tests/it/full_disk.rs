//! No space left on the state's disk: events are refused, nothing acknowledged is lost, and service resumes by itself.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use profilesync::clock;
use serde_json::json;

use crate::{
    daemon::{Daemon, until},
    receiver::{Receiver, Reply},
    sender::change,
};

/// A small disk in memory; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root, cannot mount a tmpfs");
            return None;
        }
        fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        let status = mount
            .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
            .arg(at)
            .status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("skipped: cannot mount a tmpfs");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Fills it up to the last byte.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        let chunk = vec![0_u8; 4096];
        while file.write_all(&chunk).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the daemon may still hold files.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_events_and_service_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let Some(disk) = Disk::mount(&state) else {
        return;
    };
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let mut daemon = Daemon::prepare_in(dir, &state, &receiver.target("crm", ""));
    daemon.spawn();
    daemon.ready().await;

    let sender = daemon.sender();
    let now = clock::now() - 1_000_000;
    let text = "x".repeat(20_000);
    let event = |step: u64| {
        let account = format!("account {}", step % 50);
        change(
            &account,
            now + step,
            &json!({ "Name": format!("name {step}"), "Introduction": text }),
        )
    };
    let mut step = 0;
    while step < 100 {
        sender.send(&event(step)).await;
        step += 1;
    }
    disk.fill();
    until("readiness is red before an event is refused", async || {
        (daemon.get("/readyz").await?.0 == 503).then_some(())
    })
    .await;
    let refusal = sender.try_send(&event(step)).await.expect("an answer");
    assert_eq!((refusal.http, refusal.code), (503, 120_006));
    let (code, _, said) = daemon.command(&["targets", "pause", "crm"]).await;
    assert_eq!(code, Some(1), "it is answered: {said}");
    assert_eq!(daemon.get("/healthz").await.unwrap().0, 200);

    // A start on a full disk takes nothing for damage.
    daemon.kill().await;
    daemon.spawn();
    until("it listens", async || {
        let reply = sender.try_send(&event(step)).await?;
        (reply.http == 503).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    disk.free();
    let start = Instant::now();
    while sender.try_send(&event(step)).await != Some(crate::sender::OK) {
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "service does not resume:\n{}",
            daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    daemon.ready().await;
    arrived(&receiver, step).await;
    let folders = fs::read_dir(&state).unwrap().flatten();
    let aside = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged"));
    assert_eq!(aside.count(), 0, "a whole index was set aside");
    // The daemon removes its folder, which must be no mount point by then.
    drop(disk);
}

/// Waits until the last event of each account is at the target.
async fn arrived(receiver: &Receiver, last: u64) {
    for step in last.saturating_sub(49)..=last {
        let account = format!("account {}", step % 50);
        let name = format!("name {step}");
        until(&format!("{account} is at {name}"), async || {
            (receiver.name_of(&account)? == name).then_some(())
        })
        .await;
    }
}
