//! A RabbitMQ node of the test's own, from the system's package, on free ports in a temporary folder.

use std::{fs, io::Write as _, path::Path, process::Command, time::Duration};

use lapin::{
    Connection, ConnectionProperties, ExchangeKind,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use profilesync_target::{Process, free_port};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// For an answer of a node.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node, ended when dropped.
pub(crate) struct Server {
    /// The program; it ends before its folder goes.
    pub(crate) process: Process,
    folder: TempDir,
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
            process: Process::new(folder.path().join("output")),
            folder,
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
        self.try_connect().await.unwrap()
    }

    /// A node that is starting may take a connection and never answer on it.
    async fn try_connect(&self) -> Option<Connection> {
        let url = self.url();
        let connection = Connection::connect(&url, ConnectionProperties::default());
        timeout(PATIENCE, connection).await.ok()?.ok()
    }

    /// Starts the node on the data it has, and waits until it takes connections.
    pub(crate) async fn run(&mut self) {
        // With this the script becomes the node, instead of waiting for it.
        let mut command = self.command(SCRIPT);
        self.process.start(command.env("detached", "true"));
        while self.try_connect().await.is_none() {
            self.process.starting().await;
        }
    }

    /// Makes a durable topic exchange, and a durable queue of the same name that takes all of its messages.
    pub(crate) async fn declare(&self, name: &str) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let none = FieldTable::default;
        let exchange = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let queue = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .exchange_declare(name.into(), ExchangeKind::Topic, exchange, none())
            .await
            .unwrap();
        channel
            .queue_declare(name.into(), queue, none())
            .await
            .unwrap();
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(name.into(), name.into(), "#".into(), bind, none())
            .await
            .unwrap();
        close(connection).await;
    }

    /// All that a queue holds, taken out: routing keys and bodies.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<(String, Value)> {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.unwrap();
        let options = BasicGetOptions { no_ack: true };
        let mut found = Vec::new();
        while let Some(message) = channel.basic_get(queue.into(), options).await.unwrap() {
            assert_eq!(*message.properties.delivery_mode(), Some(2));
            let body = serde_json::from_slice(&message.data).unwrap();
            found.push((message.routing_key.to_string(), body));
        }
        close(connection).await;
        found
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
            .env("ERL_CRASH_DUMP", at("erl_crash.dump"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        command
    }
}

/// Lets go of a connection. That the client does not notice its end is not what is tested.
async fn close(connection: Connection) {
    let _ = timeout(PATIENCE, connection.close(200, "OK".into())).await;
}
