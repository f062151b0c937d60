//! Starts, stops, kills and questions the daemon, and waits for states.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::sender::Sender;

/// The one app of the generated configuration.
pub(crate) const APP: u64 = 1_400_000_000;
/// Its token.
pub(crate) const TOKEN: &str = "xxxxyyyy";
/// The bound of every wait; generous, because a loaded machine is slow and a right daemon never reaches it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_profilesync");

/// A daemon's folder, and the daemon while it runs. Killed and removed when dropped.
pub(crate) struct Daemon {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Daemon {
    /// A folder with a configuration whose `[targets.…]` and other tables are `tables`; nothing runs yet.
    pub(crate) fn prepare(tables: &str) -> Self {
        let dir = TempDir::with_prefix("profilesync-").unwrap();
        let state = dir.path().join("state");
        Self::prepare_in(dir, &state, tables)
    }

    /// The same with the store in `state`.
    pub(crate) fn prepare_in(dir: TempDir, state: &Path, tables: &str) -> Self {
        let port = free_port();
        let daemon = Self {
            dir,
            port,
            child: None,
        };
        let text = format!(
            "shutdown_grace = \"5s\"\n\
             [apps.test]\nsdk_app_id = {APP}\ntoken = \"{TOKEN}\"\n\
             [listener]\naddress = \"127.0.0.1:{port}\"\n\
             [store]\npath = {state:?}\n\
             [admin]\nsocket = {:?}\n",
            daemon.admin_socket(),
        );
        fs::write(daemon.config(), text).unwrap();
        daemon.reconfigure(tables);
        daemon
    }

    /// Starts a daemon and waits until it takes events.
    pub(crate) async fn start(tables: &str) -> Self {
        let mut daemon = Self::prepare(tables);
        daemon.spawn();
        daemon.ready().await;
        daemon
    }

    /// Replaces the tables beside the generated ones; for the next start or reload.
    pub(crate) fn reconfigure(&self, tables: &str) {
        let drop_ins = self.dir.path().join("conf.d");
        fs::create_dir_all(&drop_ins).unwrap();
        fs::write(drop_ins.join("test.toml"), tables).unwrap();
    }

    /// Starts the process, without waiting for anything.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the daemon runs already");
        let mut command = Command::new(BINARY);
        command.args(["run", "-c"]).arg(self.config());
        self.spawn_by(command);
    }

    /// Starts the daemon by a command of the test's.
    pub(crate) fn spawn_by(&mut self, mut command: Command) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path());
        let child = command
            .stderr(log.unwrap())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Waits until `/readyz` is green.
    pub(crate) async fn ready(&mut self) {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().unwrap())
            {
                panic!("the daemon ended at start with {status}:\n{}", self.log());
            }
            if self.is_ready().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the daemon is not ready:\n{}", self.log());
    }

    /// Whether `/readyz` is green now.
    pub(crate) async fn is_ready(&self) -> bool {
        matches!(self.get("/readyz").await, Some((200, _)))
    }

    /// Stops it with SIGTERM and waits for its end.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Kills it with SIGKILL and waits for its end.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Stops it, starts it and waits until it takes events.
    pub(crate) async fn restart(&mut self) {
        let status = self.stop().await;
        assert!(
            status.success(),
            "a stop ends with {status}:\n{}",
            self.log()
        );
        self.spawn();
        self.ready().await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.as_ref().and_then(Child::id);
        let id = id.expect("the daemon runs");
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        let ended = tokio::time::timeout(LIMIT, child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("the daemon does not end:\n{}", self.log()))
            .unwrap()
    }

    /// A sender with a connection of its own.
    pub(crate) fn sender(&self) -> Sender {
        Sender::new(&format!("http://127.0.0.1:{}/", self.port))
    }

    /// `GET` on the admin socket: status and JSON body (or text as a JSON string); `None` when nobody answers.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let client = crate::sender::client()
            .unix_socket(self.admin_socket())
            .build()
            .unwrap();
        let response = client
            .get(format!("http://localhost{path}"))
            .send()
            .await
            .ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        Some((
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ))
    }

    /// The status of a target as `GET /v1/targets/NAME` gives it.
    pub(crate) async fn target(&self, name: &str) -> Value {
        match self.get(&format!("/v1/targets/{name}")).await {
            Some((200, body)) => body,
            other => panic!("no status of target {name}: {other:?}\n{}", self.log()),
        }
    }

    /// Waits until the store has applied all events, and these targets have nothing due and nothing in flight.
    pub(crate) async fn settled(&self, targets: &[&str]) {
        until("the targets have settled", async || {
            let (_, status) = self.get("/v1/status").await?;
            if status["apply_lag"] != 0 || status["readiness"]["store"] != "ready" {
                return None;
            }
            for name in targets {
                let status = self.target(name).await;
                if status["due"] != 0 || status["inflight"] != 0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Runs a `profilesync` command with this daemon's configuration; gives exit code, stdout and stderr.
    pub(crate) async fn command(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(BINARY);
        command
            .args(args)
            .arg("-c")
            .arg(self.config())
            .kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.expect("the command ends").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Where the store is.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Where `disk.c` writes what was done to the store.
    pub(crate) fn trace(&self) -> PathBuf {
        self.dir.path().join("trace")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("profilesync.toml")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    /// What it has written to stderr in all of its runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.len().saturating_sub(60);
            eprintln!("the daemon's last lines:\n{}", lines[tail..].join("\n"));
        }
    }
}

/// Waits until `check` gives something; fails at [`LIMIT`].
pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A TCP port that nobody listens on. Somebody else may take it before the caller does; the ports the kernel
/// gives out go round, so that is unlikely.
pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}
