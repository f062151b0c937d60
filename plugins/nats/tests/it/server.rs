//! A nats-server of one's own with JetStream, on a free port and in a folder that goes with it. Needs the program of
//! Debian's `nats-server`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use async_nats::{Client, ConnectOptions, HeaderMap, Message, Request};
use profilesync_target::{Process, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The password of the user `root`, who may do everything.
pub(crate) const PASSWORD: &str = "in-auth";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that remembers its streams when it is started again. Killed at the end.
pub(crate) struct Server {
    /// The program; it ends before its folder goes.
    pub(crate) process: Process,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    folder: TempDir,
    /// Where the certificates are that a server with TLS wants to see.
    certificates: Option<PathBuf>,
}

/// Whether the program is there.
pub(crate) fn is_installed() -> bool {
    program().is_some()
}

/// Debian has it in a folder that is not in everyone's path.
fn program() -> Option<&'static str> {
    ["nats-server", "/usr/sbin/nats-server"]
        .into_iter()
        .find(|name| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        })
}

impl Server {
    /// A running server, whose configuration has these lines and users beside its own.
    pub(crate) async fn start(lines: &str, users: &str) -> Self {
        Self::start_with(lines, users, None).await
    }

    /// A running server with TLS. The folder has the files `ca.pem`, `127.0.0.1.pem` and `127.0.0.1.key`.
    pub(crate) async fn start_tls(lines: &str, certificates: &Path) -> Self {
        Self::start_with(lines, "", Some(certificates.to_owned())).await
    }

    async fn start_with(lines: &str, users: &str, certificates: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self {
            port: free_port(),
            process: Process::new(folder.path().join("log")),
            folder,
            certificates,
        };
        let config = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?} }}\n\
             accounts {{ MAIN {{ jetstream: enabled, users: [\n{{ user: root, password: \"{PASSWORD}\" }}\n{users}\n] }}\n\
             BARE {{ users: [ {{ user: bare, password: pw }} ] }} }}\n{lines}\n",
            server.port,
            server.folder.path().join("store")
        );
        fs::write(server.config(), config).unwrap();
        server.resume().await;
        server
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("nats.conf")
    }

    /// The address, as `url` has it.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the server that was stopped, lets it go on after a pause, and waits until JetStream answers.
    pub(crate) async fn resume(&mut self) {
        match self.process.is_running() {
            true => self.process.signal("CONT"),
            false => self.launch(),
        }
        while self.api("INFO", &json!(null)).await.is_err() {
            self.process.starting().await;
        }
    }

    fn launch(&mut self) {
        let config = self.config();
        self.process
            .start(Command::new(program().unwrap()).arg("-c").arg(config));
    }

    /// Makes a stream that takes these subjects, with further settings.
    pub(crate) async fn add_stream(&self, name: &str, subjects: &[&str], settings: &Value) {
        let mut config = json!({
            "name": name, "subjects": subjects, "retention": "limits", "storage": "file", "discard": "old",
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msg_size": -1,
            "max_msgs_per_subject": -1, "num_replicas": 1, "duplicate_window": 120_000_000_000_u64,
        });
        for (key, value) in settings.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.api(&format!("STREAM.CREATE.{name}"), &config)
            .await
            .unwrap();
    }

    /// Makes a key-value bucket, as `nats kv add` does.
    pub(crate) async fn add_bucket(&self, name: &str) {
        let settings = json!({
            "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": true, "deny_delete": true,
            "allow_direct": true,
        });
        self.add_stream(
            &format!("KV_{name}"),
            &[&format!("$KV.{name}.>")],
            &settings,
        )
        .await;
    }

    /// What JetStream answers to a request of its API.
    pub(crate) async fn api(&self, subject: &str, request: &Value) -> Result<Value, String> {
        let request = match request {
            Value::Null => String::new(),
            request => request.to_string(),
        };
        let message = self
            .ask(&format!("$JS.API.{subject}"), HeaderMap::new(), request)
            .await?;
        let answer: Value = serde_json::from_slice(&message.payload).unwrap();
        match answer.get("error") {
            None => Ok(answer),
            Some(error) => Err(error.to_string()),
        }
    }

    /// The answer to any message.
    pub(crate) async fn ask(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: String,
    ) -> Result<Message, String> {
        let client = self.connect().await?;
        let request = Request::new().headers(headers).payload(payload.into());
        client
            .send_request(subject.to_owned(), request)
            .await
            .map_err(|error| error.to_string())
    }

    /// The last message of a subject: its payload, and its headers as they are stored.
    pub(crate) async fn last(&self, stream: &str, subject: &str) -> Option<(Vec<u8>, String)> {
        let question = json!({ "last_by_subj": subject });
        let answer = self
            .api(&format!("STREAM.MSG.GET.{stream}"), &question)
            .await;
        let message = match answer {
            Ok(mut answer) => answer["message"].take(),
            Err(error) => {
                assert!(error.contains("no message found"), "{error}");
                return None;
            }
        };
        let decode = |name: &str| {
            let text = message
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default();
            base64(text)
        };
        let headers = String::from_utf8(decode("hdrs")).unwrap();
        Some((decode("data"), headers))
    }

    /// How many messages a stream holds.
    pub(crate) async fn count(&self, stream: &str) -> u64 {
        let info = self
            .api(&format!("STREAM.INFO.{stream}"), &Value::Null)
            .await;
        info.unwrap()["state"]["messages"].as_u64().unwrap()
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Client, String> {
        let mut options = ConnectOptions::new()
            .user_and_password("root".into(), PASSWORD.into())
            .max_reconnects(1)
            .request_timeout(Some(PATIENCE));
        if let Some(folder) = &self.certificates {
            options = options
                .add_root_certificates(folder.join("ca.pem"))
                .add_client_certificate(folder.join("127.0.0.1.pem"), folder.join("127.0.0.1.key"));
        }
        options
            .connect(self.url())
            .await
            .map_err(|error| error.to_string())
    }
}

/// Decodes base64, so that this file needs no crate for it.
pub(crate) fn base64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    });
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}
