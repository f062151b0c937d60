//! The units in `systemd/`, and what daemon and systemd say to each other. `tests/boot/run` boots them for real.

use std::{
    fs,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use profilesync::clock;
use rustix::process::Signal;
use serde_json::json;

use crate::{
    daemon::{BINARY, Daemon, LIMIT, until},
    receiver::{Receiver, Reply},
    sender::{OK, Sender, change},
};

/// Runs systemd-analyze, or says why not.
fn analyze(folder: &Path, args: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze")
        .args(args)
        .current_dir(folder)
        .output()
    {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: systemd-analyze cannot be run: {error}");
            None
        }
    }
}

/// The units with the binary under test in place of the installed one, and the examples as drop-ins.
fn units() -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let folder = tempfile::tempdir().unwrap();
    let service = fs::read_to_string(source.join("profilesync.service")).unwrap();
    let service = service.replace("/usr/bin/profilesync", BINARY);
    fs::write(folder.path().join("profilesync.service"), service).unwrap();
    fs::copy(
        source.join("profilesync.socket"),
        folder.path().join("profilesync.socket"),
    )
    .unwrap();
    folder
}

fn assert_clean(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let folder = units();
    let verify = [
        "verify",
        "--man=no",
        "--recursive-errors=no",
        "./profilesync.service",
        "./profilesync.socket",
    ];
    let Some(output) = analyze(folder.path(), &verify) else {
        return;
    };
    assert_clean(&output);

    let drop_ins = folder.path().join("profilesync.service.d");
    fs::create_dir(&drop_ins).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/examples");
    for example in fs::read_dir(examples).unwrap() {
        let example = example.unwrap();
        // systemd 252, Debian 12's, does not know Type=notify-reload.
        if example.file_name() != "notify-reload.conf" {
            fs::copy(example.path(), drop_ins.join(example.file_name())).unwrap();
        }
    }
    assert_clean(&analyze(folder.path(), &verify).unwrap());
}

#[test]
fn the_sandbox_is_tight() {
    let folder = units();
    let security = [
        "security",
        "--offline=true",
        "--threshold=15",
        "./profilesync.service",
    ];
    let Some(output) = analyze(folder.path(), &security) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

/// Receives what the daemon says until a message has all of these lines.
fn heard(socket: &UnixDatagram, lines: &[&str]) -> String {
    let start = Instant::now();
    let mut messages = String::new();
    while start.elapsed() < LIMIT {
        let mut buffer = [0; 4096];
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if lines
            .iter()
            .all(|line| message.lines().any(|said| said.starts_with(line)))
        {
            return message;
        }
        messages.push_str(&message);
    }
    panic!("{lines:?} was not said, but:\n{messages}");
}

/// Starts the daemon as systemd would with this watchdog, microseconds; what it says arrives at the socket.
fn spawn_watched(daemon: &mut Daemon, watchdog: u32) -> UnixDatagram {
    let path = daemon.config().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut command = tokio::process::Command::new(BINARY);
    command.args(["run", "-c"]).arg(daemon.config());
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", watchdog.to_string())
        .env_remove("WATCHDOG_PID");
    daemon.spawn_by(command);
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reports_start_reload_life_and_stop() {
    let mut daemon = Daemon::prepare("");
    let socket = spawn_watched(&mut daemon, 400_000);

    heard(&socket, &["READY=1"]);
    assert!(daemon.is_ready().await, "ready means ready");
    heard(&socket, &["WATCHDOG=1"]);
    heard(&socket, &["WATCHDOG=1"]);
    daemon.signal(Signal::HUP);
    // The time in the same datagram: systemd 253 and newer fail a reload without it.
    heard(&socket, &["RELOADING=1", "MONOTONIC_USEC="]);
    heard(&socket, &["READY=1"]);
    daemon.reconfigure("[targets\n");
    daemon.signal(Signal::HUP);
    heard(&socket, &["RELOADING=1", "MONOTONIC_USEC="]);
    heard(&socket, &["READY=1", "STATUS=reload failed"]);
    daemon.signal(Signal::TERM);
    heard(&socket, &["STOPPING=1"]);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stop_is_no_fault() {
    let receiver = Receiver::start(|_| Reply::Hang).await;
    let mut daemon = Daemon::prepare(&receiver.target("crm", "timeout = \"60s\""));
    let socket = spawn_watched(&mut daemon, 2_000_000);
    daemon.ready().await;
    daemon
        .sender()
        .send(&change("a", clock::now(), &json!({ "Name": "x" })))
        .await;
    until("it is on its way", async || receiver.deliveries().pop()).await;
    daemon.signal(Signal::TERM);
    heard(&socket, &["STOPPING=1"]);
    let not_ready = until("it is not ready any more", async || {
        match daemon.get("/readyz").await {
            Some((503, reasons)) => Some(reasons),
            _ => None,
        }
    });
    assert_eq!(
        not_ready.await["listener"],
        "closed: the daemon is stopping"
    );
    // The last of these comes when the listener's task has ended.
    for _ in 0..3 {
        heard(&socket, &["WATCHDOG=1"]);
    }
    assert!(daemon.ended().await.success());
}

/// Starts the daemon with this socket as systemd would: a shell gets it as its input and hands it on as number 3.
///
/// `count` is how many systemd says there are.
fn handed_over(daemon: &Daemon, socket: TcpListener, count: &str) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("sh");
    shell.args([
        "-c",
        "export LISTEN_PID=$$; exec \"$@\" 3<&0 0</dev/null",
        "sh",
        BINARY,
        "run",
        "-c",
    ]);
    shell
        .arg(daemon.config())
        .env("LISTEN_FDS", count)
        .env("LISTEN_FDNAMES", "webhook");
    shell.stdin(OwnedFd::from(socket));
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn it_listens_on_the_socket_handed_over() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = Sender::new(&format!("http://{}/", socket.local_addr().unwrap()));
    let mut daemon = Daemon::prepare("");
    daemon.spawn_by(handed_over(&daemon, socket.try_clone().unwrap(), "1"));
    daemon.ready().await;

    let now = clock::now();
    sender
        .send(&change("a", now, &json!({ "Name": "x" })))
        .await;
    let configured = daemon
        .sender()
        .try_send(&change("a", now + 1, &json!({ "Name": "y" })))
        .await;
    assert_eq!(
        configured, None,
        "the configured address is not used beside a socket handed over"
    );

    // While it is down the socket stays open: a request waits for the next start.
    assert!(daemon.stop().await.success());
    let waiting = tokio::spawn(async move {
        sender
            .try_send(&change("a", now + 2, &json!({ "Name": "z" })))
            .await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.spawn_by(handed_over(&daemon, socket, "1"));
    assert_eq!(waiting.await.unwrap(), Some(OK));
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_were_not_handed_over_are_missed() {
    for count in ["2", "8", "4000000000"] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut daemon = Daemon::prepare("");
        daemon.spawn_by(handed_over(&daemon, socket, count));
        assert_eq!(daemon.ended().await.code(), Some(1), "{}", daemon.log());
        let log = daemon.log();
        assert!(
            log.contains(&format!(
                "LISTEN_FDS says {count} sockets, but number 4 is none"
            )),
            "{log}"
        );
    }
}
