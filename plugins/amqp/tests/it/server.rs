//! A RabbitMQ node of the test's own, from the system's package, on free ports in a temporary folder.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lapin::{Connection, ConnectionProperties};
use tempfile::TempDir;

const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// Longest that a node may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(90);

/// A node, ended when dropped.
pub(crate) struct Server {
    folder: TempDir,
    child: Option<Child>,
    /// Of AMQP.
    pub(crate) port: u16,
    distribution: u16,
}

impl Server {
    /// Starts a node with these lines of configuration; `None`, with a word on it, where there is no RabbitMQ.
    pub(crate) async fn start(configuration: &str) -> Option<Self> {
        if !Path::new(SCRIPT).exists() {
            eprintln!("skipped: there is no {SCRIPT} (Debian: rabbitmq-server)");
            return None;
        }
        let (port, distribution) = (free_port(), free_port());
        let folder = tempfile::tempdir().unwrap();
        let mut file = fs::File::create(folder.path().join("rabbitmq.conf")).unwrap();
        writeln!(
            file,
            "listeners.tcp.default = 127.0.0.1:{port}\n{configuration}"
        )
        .unwrap();
        fs::write(folder.path().join("plugins"), "[].").unwrap();
        let mut server = Self {
            folder,
            child: None,
            port,
            distribution,
        };
        server.run().await;
        Some(server)
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    /// A client connection of the test's own.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::connect(&self.url(), ConnectionProperties::default())
            .await
            .unwrap()
    }

    /// Starts the node on the data it has, and waits until it takes connections.
    pub(crate) async fn run(&mut self) {
        let log = fs::File::create(self.folder.path().join("output")).unwrap();
        let mut command = self.command(SCRIPT);
        // With this the script becomes the node, instead of waiting for it.
        command.env("detached", "true");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(child.spawn().unwrap());
        let started = Instant::now();
        while Connection::connect(&self.url(), ConnectionProperties::default())
            .await
            .is_err()
        {
            let output = || fs::read_to_string(self.folder.path().join("output")).unwrap();
            assert!(
                started.elapsed() < PATIENCE,
                "RabbitMQ does not start: {}",
                output()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends the node as an operator does, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        signal("TERM", child.id());
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "RabbitMQ does not stop");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the node without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal("KILL", child.id());
            child.wait().unwrap();
        }
    }

    /// Whether it was started and not stopped.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Stops its work, as a machine without time does.
    pub(crate) fn freeze(&self) {
        signal("STOP", self.child.as_ref().unwrap().id());
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        signal("CONT", self.child.as_ref().unwrap().id());
    }

    /// Runs a command of its operators.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let output = self.command(CONTROL).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("LANG", "C.UTF-8")
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A frozen node too, and its children end when it does.
        self.kill();
    }
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
