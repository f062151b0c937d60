//! A mosquitto of the test's own, on a free port in a temporary folder, with persistence.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, Broker, Event, EventLoop, Incoming, MqttOptions, PublishOptions, QoS};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/mosquitto";

/// Longest that a server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, ended when dropped.
pub(crate) struct Server {
    folder: TempDir,
    child: Option<Child>,
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
            folder,
            child: None,
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
        let log = fs::File::create(self.folder.path().join("output")).unwrap();
        let child = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let started = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            let output = || fs::read_to_string(self.folder.path().join("output")).unwrap();
            assert!(
                started.elapsed() < PATIENCE,
                "mosquitto does not start: {}",
                output()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the server as an operator does, which makes it save what it holds, and waits for its end.
    pub(crate) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        signal("TERM", child.id());
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "mosquitto does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
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

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A test may end with its server frozen.
            signal("KILL", child.id());
            let _ = child.wait();
        }
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
