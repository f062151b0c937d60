//! A mosquitto of the test's own, on a free port in a temporary folder, with persistence.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use profilesync_target::{Process, free_port};
use rumqttc::{AsyncClient, Broker, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/mosquitto";

/// Longest that a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, ended when dropped.
pub(crate) struct Server {
    /// The program; it ends before its folder goes.
    pub(crate) process: Process,
    folder: TempDir,
    /// Of MQTT without TLS.
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server with these lines of configuration; `None`, with a word on it, where there is no mosquitto.
    pub(crate) async fn start(configuration: &str) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: there is no {PROGRAM} (Debian: mosquitto)");
            return None;
        }
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        // Started by root it becomes another user, unless told not to.
        let common = format!(
            "user root\npersistence true\npersistence_location {}/\nmax_queued_messages 0\n{configuration}\n\
             listener {port} 127.0.0.1\n",
            folder.path().display()
        );
        fs::write(folder.path().join("mosquitto.conf"), common).unwrap();
        let mut server = Self {
            process: Process::new(folder.path().join("output")),
            folder,
            port,
        };
        server.run().await;
        Some(server)
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Starts the server on the data it has, and waits until it takes connections.
    pub(crate) async fn run(&mut self) {
        let config = self.folder.path().join("mosquitto.conf");
        self.process
            .start(Command::new(PROGRAM).arg("-c").arg(config));
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            self.process.starting().await;
        }
    }

    /// All retained messages, as a new subscriber gets them.
    pub(crate) async fn retained(&self, user: Option<(&str, &str)>) -> BTreeMap<String, Vec<u8>> {
        let mut options = MqttOptions::new("reader", Broker::tcp("127.0.0.1", self.port));
        if let Some((name, password)) = user {
            options.set_credentials(name, password.to_owned());
        }
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe("#", QoS::AtMostOnce).await.unwrap();
        let mut found = BTreeMap::new();
        // It sends what it retains right after its consent, so what is published then comes last.
        incoming(
            &mut events,
            |packet| matches!(packet, Incoming::SubAck(_)),
            &mut found,
        )
        .await;
        let last = PublishOptions::new(QoS::AtMostOnce);
        client.publish("the/last", "x", last).await.unwrap();
        let is_last = |packet: &Incoming| matches!(packet, Incoming::Publish(publish) if publish.topic == "the/last");
        incoming(&mut events, is_last, &mut found).await;
        found.remove("the/last");
        found
    }
}

/// Takes messages until there is such a packet.
async fn incoming(
    events: &mut EventLoop,
    is_it: impl Fn(&Incoming) -> bool,
    found: &mut BTreeMap<String, Vec<u8>>,
) {
    let taking = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.unwrap() {
                if let Incoming::Publish(publish) = &packet {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    found.insert(topic, publish.payload.to_vec());
                }
                if is_it(&packet) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, taking)
        .await
        .expect("mosquitto answers");
}
