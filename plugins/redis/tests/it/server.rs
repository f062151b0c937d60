//! A redis-server of one's own, on a free port and in a folder that goes with it. Needs the program of Debian's
//! `redis-server` in the path.

use std::process::Command;

use profilesync_target::{Process, free_port};
use redis::{Client, FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;

/// The password of the default user.
pub(crate) const PASSWORD: &str = "in-auth";

/// A server that remembers everything when it is started again. Killed at the end.
pub(crate) struct Server {
    /// The program; it ends before its folder goes.
    pub(crate) process: Process,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

/// Whether the program is there.
pub(crate) fn is_installed() -> bool {
    let version = Command::new("redis-server").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

impl Server {
    /// A running server with these arguments beside its own.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self {
            port: free_port(),
            process: Process::new(folder.path().join("log")),
            folder,
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        };
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
        match self.process.is_running() {
            true => self.process.signal("CONT"),
            false => self.launch(),
        }
        while self.try_ask::<String>(&["PING"]).await.is_err() {
            self.process.starting().await;
        }
    }

    fn launch(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--unixsocket", &self.socket()])
            .args(["--dir", &self.folder.path().to_string_lossy()])
            .args(["--requirepass", PASSWORD, "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(&self.arguments);
        self.process.start(&mut command);
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
