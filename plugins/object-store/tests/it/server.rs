//! A moto server of one's own (PyPI: `moto[server]`), which speaks S3, and a proxy before it that can refuse.
//!
//! The server keeps everything in memory, so it is never ended: the proxy closes its port instead, or the process is
//! paused.

use std::{
    collections::HashMap,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use object_store::{
    ObjectStore as _, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    list::PaginatedListStore as _,
};
use profilesync_target::{Process, free_port};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// The key that worlds give their targets.
pub(crate) const KEY: &str = "AKIDPROFILESYNC";

/// Its secret.
pub(crate) const SECRET: &str = "in-secret-access-key";

/// The process. Killed at the end.
pub(crate) struct Moto {
    process: Process,
    port: u16,
    buckets: AtomicUsize,
}

/// A bucket, and the proxy through which a target reaches it.
pub(crate) struct Server {
    moto: Arc<Moto>,
    bucket: String,
    address: SocketAddr,
    refused: Arc<Mutex<Option<String>>>,
    proxy: Option<JoinHandle<()>>,
    /// Objects that were read, by name and tag.
    read: HashMap<(String, String), Vec<u8>>,
}

impl Moto {
    /// A running server; `None` when it is not installed.
    pub(crate) async fn start() -> Option<Arc<Self>> {
        let import = Command::new("python3")
            .args(["-c", "import moto.server, flask"])
            .stderr(Stdio::null())
            .status();
        if !import.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut moto = Self {
            process: Process::new("/dev/null".into()),
            port: free_port(),
            buckets: AtomicUsize::new(0),
        };
        let port = moto.port.to_string();
        // Not moto_server of the path: that may be a shell script which does not end with its child.
        let arguments = ["-m", "moto.server", "-H", "127.0.0.1", "-p", &port];
        moto.process.start(Command::new("python3").args(arguments));
        while moto.request("GET", "/").await.is_none() {
            moto.process.starting().await;
        }
        Some(Arc::new(moto))
    }

    /// The first bytes of the answer to a request without a body.
    async fn request(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.port
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = vec![0; 64];
        let count = stream.read(&mut answer).await.ok()?;
        (count > 0).then(|| String::from_utf8_lossy(&answer[..count]).into_owned())
    }
}

impl Server {
    /// A new bucket of a running server.
    pub(crate) async fn new(moto: &Arc<Moto>) -> Self {
        let number = moto.buckets.fetch_add(1, Ordering::Relaxed);
        let bucket = format!("bucket-{number}");
        let made = moto.request("PUT", &format!("/{bucket}")).await.unwrap();
        assert!(made.contains(" 200 "), "no bucket: {made}");
        let mut server = Self {
            moto: Arc::clone(moto),
            bucket,
            address: "127.0.0.1:0".parse().unwrap(),
            refused: Arc::default(),
            proxy: None,
            read: HashMap::new(),
        };
        server.open().await;
        server
    }

    /// The settings of a target that keeps its objects here.
    pub(crate) fn settings(&self) -> String {
        format!(
            "url = \"s3://{}/profiles/v1\"\nendpoint = \"http://{}\"\naccess_key_id = \"{KEY}\"\n\
             secret_access_key = \"{SECRET}\"\n",
            self.bucket, self.address
        )
    }

    /// Takes connections from now on.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (port, refused) = (self.moto.port, Arc::clone(&self.refused));
        self.proxy = Some(tokio::spawn(async move {
            // Aborted with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(forward(stream, port, Arc::clone(&refused)));
            }
        }));
    }

    /// Refuses connections from now on, and closes those there are.
    pub(crate) async fn close(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.abort();
            let _ = proxy.await;
        }
    }

    /// Pauses the process, or lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        self.moto.process.signal(name);
    }

    /// Answers that the object is too large where the request's line holds this.
    pub(crate) fn refuse(&self, part: &str) {
        *self.refused.lock().unwrap() = Some(part.to_owned());
    }

    /// Removes all objects of all buckets.
    pub(crate) async fn clear(&mut self) {
        let path = format!("/{}", self.bucket);
        for (method, path) in [("POST", "/moto-api/reset"), ("PUT", path.as_str())] {
            let done = self.moto.request(method, path).await.unwrap();
            assert!(done.contains(" 200 "), "not cleared: {done}");
        }
    }

    /// A client that goes past the proxy.
    pub(crate) fn client(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_endpoint(format!("http://127.0.0.1:{}", self.moto.port))
            .with_allow_http(true)
            .with_access_key_id("reader")
            .with_secret_access_key("reader")
            .build()
            .unwrap()
    }

    /// Puts an object there, past the target.
    pub(crate) async fn put(&self, name: &str, content: &str) {
        let content = content.to_owned().into();
        self.client().put(&name.into(), content).await.unwrap();
    }

    /// All objects: names and contents.
    pub(crate) async fn objects(&mut self) -> Vec<(String, Vec<u8>)> {
        let client = self.client();
        let mut listed = Vec::new();
        let mut options = object_store::list::PaginatedListOptions::default();
        loop {
            let page = client.list_paginated(None, options.clone()).await.unwrap();
            listed.extend(page.result.objects);
            match page.page_token {
                Some(token) => options.page_token = Some(token),
                None => break,
            }
        }
        let mut objects = Vec::with_capacity(listed.len());
        for meta in listed {
            let key = (meta.location.to_string(), meta.e_tag.unwrap());
            let content = match self.read.get(&key) {
                Some(content) => content.clone(),
                None => {
                    let result = client.get_opts(&meta.location, Default::default()).await;
                    result.unwrap().bytes().await.unwrap().to_vec()
                }
            };
            self.read.insert(key.clone(), content.clone());
            objects.push((key.0, content));
        }
        objects
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.abort();
        }
    }
}

/// One connection to the server and back.
async fn forward(mut client: TcpStream, port: u16, refused: Arc<Mutex<Option<String>>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut answers, mut requests) = server.into_split();
    let (mut from, mut to) = client.split();
    let upwards = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            let refused = refused.lock().unwrap().clone();
            if count == 0 || refused.is_some_and(|part| is_refused(&buffer[..count], &part)) {
                return count > 0;
            }
            if requests.write_all(&buffer[..count]).await.is_err() {
                return false;
            }
        }
    };
    let refuse = tokio::select! {
        refuse = upwards => refuse,
        _ = copy(&mut answers, &mut to) => false,
    };
    if refuse {
        let body = "<Error><Code>EntityTooLarge</Code><Message>Your proposed upload exceeds</Message></Error>";
        let length = body.len();
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let _ = client.write_all(format!("{head}{body}").as_bytes()).await;
    }
}

fn is_refused(bytes: &[u8], part: &str) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.starts_with("PUT ") && line.contains(part)
}
