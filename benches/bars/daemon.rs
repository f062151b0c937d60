//! The daemon under measurement: the built binary with a folder of its own on the disk of the target directory.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The one app, and its token.
pub(crate) const APP: u64 = 1_400_000_000;
/// Signs every request.
pub(crate) const TOKEN: &str = "xxxxyyyy";

const BINARY: &str = env!("CARGO_BIN_EXE_profilesync");
/// Nothing that is waited for takes longer.
const LIMIT: Duration = Duration::from_secs(1800);

/// A daemon's folder, and the daemon while it runs. Killed when dropped; the folder stays.
pub(crate) struct Daemon {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Daemon {
    /// A new folder and a daemon whose store is ready; `tables` is what its configuration has beside the app.
    pub(crate) fn start(name: &str, tables: &str) -> Self {
        let dir = folder(name);
        fs::remove_dir_all(&dir).ok();
        Self::resume(name, tables)
    }

    /// The same in the folder that an earlier daemon left, if any.
    pub(crate) fn resume(name: &str, tables: &str) -> Self {
        let dir = folder(name);
        fs::create_dir_all(&dir).unwrap();
        let port = free_port();
        let socket = dir.join("admin.sock");
        let state = dir.join("state");
        let text = format!(
            "[apps.bench]\nsdk_app_id = {APP}\ntoken = \"{TOKEN}\"\n\
             [listener]\naddress = \"127.0.0.1:{port}\"\n\
             [store]\npath = {state:?}\n[admin]\nsocket = {socket:?}\n{tables}"
        );
        fs::write(dir.join("profilesync.toml"), text).unwrap();
        let mut daemon = Self {
            dir,
            port,
            child: None,
        };
        daemon.spawn();
        daemon.applied();
        daemon
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        let log = File::create(self.dir.join("log")).unwrap();
        let child = Command::new(BINARY)
            .args(["run", "-c"])
            .arg(self.config())
            .stderr(log)
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Waits until `/readyz` is green.
    pub(crate) fn ready(&self) {
        until(Duration::from_millis(2), || {
            matches!(self.ask("GET", "/readyz"), Some((200, _))).then_some(())
        });
    }

    /// Waits until the store is open and every event is applied.
    pub(crate) fn applied(&self) {
        until(Duration::from_millis(20), || {
            let status = self.status()?;
            let ready = status["readiness"]["store"] == "ready" && status["apply_lag"] == 0;
            ready.then_some(())
        });
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let (_, body) = self.ask("GET", "/v1/status")?;
        serde_json::from_str(&body).ok()
    }

    /// What is told of a target.
    pub(crate) fn target(&self, name: &str) -> Option<Value> {
        let (_, body) = self.ask("GET", &format!("/v1/targets/{name}"))?;
        serde_json::from_str(&body).ok()
    }

    /// Asks over the admin socket; `None` when nobody answers.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.dir.join("admin.sock")).ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.get(9..12)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// Ends it and waits for that.
    pub(crate) fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            kill_process(pid(&child), signal).unwrap();
            child.wait().unwrap();
        }
    }

    /// A line of `/proc/PID/status`, in MB.
    pub(crate) fn memory(&self, line: &str) -> f64 {
        let pid = self.child.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let found = status.lines().find_map(|l| l.strip_prefix(line)).unwrap();
        let kib: f64 = found.split_whitespace().next().unwrap().parse().unwrap();
        kib / 1024.0
    }

    /// Runs `profilesync store …` on its folder.
    pub(crate) fn store(&self, args: &[&str]) {
        let run = Command::new(BINARY)
            .arg("store")
            .args(args)
            .arg("-c")
            .arg(self.config())
            .output();
        let run = run.unwrap();
        assert!(run.status.success(), "{args:?}: {run:?}");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn config(&self) -> PathBuf {
        self.dir.join("profilesync.toml")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Where what has this name lies.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("bars")
        .join(name)
}

/// A port that nobody listens on, most likely.
pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Asks until there is something.
pub(crate) fn until<T>(pause: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited in vain");
        sleep(pause);
    }
}
