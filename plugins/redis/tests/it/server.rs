//! A redis-server of one's own, on a free port and in a folder that goes with it. Needs the program of Debian's
//! `redis-server` in the path.

use std::{
    fs::File,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::{Client, FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

/// The password of the default user.
pub(crate) const PASSWORD: &str = "in-auth";

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that remembers everything when it is started again. Killed at the end.
pub(crate) struct Server {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    folder: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// Whether the program is there.
pub(crate) fn is_installed() -> bool {
    let version = Command::new("redis-server").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

impl Server {
    /// A running server with these arguments beside its own.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Self {
            port: listener.local_addr().unwrap().port(),
            folder: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            child: None,
        };
        drop(listener);
        server.resume().await;
        server
    }

    /// The address, as `url` has it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The path of its Unix socket.
    pub(crate) fn socket(&self) -> String {
        self.folder.path().join("socket").to_string_lossy().into()
    }

    /// Starts the server that was stopped, lets it go on after a pause, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        match &self.child {
            Some(child) => signal(child, "CONT"),
            None => self.child = Some(self.launch()),
        }
        let begun = Instant::now();
        while self.try_ask::<String>(&["PING"]).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn launch(&self) -> Child {
        let log = File::create(self.folder.path().join("log")).unwrap();
        Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--unixsocket", &self.socket()])
            .args(["--dir", &self.folder.path().to_string_lossy()])
            .args(["--requirepass", PASSWORD, "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .unwrap()
    }

    /// Kills the server.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lets the server answer nothing until it is resumed.
    pub(crate) fn pause(&self) {
        signal(self.child.as_ref().unwrap(), "STOP");
    }

    /// What the server answers to a command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).await.unwrap()
    }

    /// What the server answers to a command, or why it does not.
    pub(crate) async fn try_ask<T: FromRedisValue>(
        &self,
        command: &[&str],
    ) -> redis::RedisResult<T> {
        let (name, arguments) = command.split_first().unwrap();
        let mut command = redis::cmd(name);
        command.arg(arguments);
        command.query_async(&mut self.connect().await?).await
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port))?;
        client.get_multiplexed_async_connection().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}
