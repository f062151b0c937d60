//! A bucket of an emulator, and a proxy before it that can refuse.
//!
//! Most emulators keep everything in memory, so they are not ended: the proxy closes its port instead, or the process is
//! paused.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _, list::PaginatedListOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::emulator::{Client, Cloud, Emulator};

/// A bucket, and the proxy through which a target reaches it.
pub(crate) struct Server {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) bucket: String,
    address: SocketAddr,
    refusal: Arc<Mutex<Option<Refusal>>>,
    proxy: Option<JoinHandle<()>>,
    /// Goes past the proxy.
    pub(crate) client: Arc<dyn Client>,
    /// Objects that were read, by name and tag.
    read: HashMap<(String, String), Vec<u8>>,
}

/// What is said to whom.
#[derive(Clone)]
struct Refusal {
    /// What the line of a refused `PUT` holds.
    part: String,
    answer: &'static str,
}

impl Server {
    /// A new bucket of a running emulator.
    pub(crate) async fn new(emulator: &Arc<Emulator>) -> Self {
        let bucket = emulator.bucket().await;
        let mut server = Self {
            client: emulator.client(&bucket),
            emulator: Arc::clone(emulator),
            bucket,
            address: "127.0.0.1:0".parse().unwrap(),
            refusal: Arc::default(),
            proxy: None,
            read: HashMap::new(),
        };
        server.open().await;
        server
    }

    /// The settings of a target that keeps its objects here.
    pub(crate) fn settings(&self) -> String {
        self.emulator.settings(&self.bucket, self.address.port())
    }

    /// Takes connections from now on.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (port, refusal) = (self.emulator.port, Arc::clone(&self.refusal));
        self.proxy = Some(tokio::spawn(async move {
            // Aborted with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(forward(stream, port, Arc::clone(&refusal)));
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

    /// Ends the emulator, which nobody else may use, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.close().await;
        let emulator = Arc::get_mut(&mut self.emulator);
        emulator.expect("nobody else uses it").restart().await;
        self.open().await;
    }

    /// Answers that the object is too large where the object's name ends with this.
    pub(crate) fn refuse(&self, name: &str) {
        let (part, answer) = match self.emulator.cloud {
            Cloud::Amazon => (name.to_owned(), "400 Bad Request\r\n\r\nEntityTooLarge"),
            Cloud::Azure => (
                name.to_owned(),
                "413 Too Large\r\nx-ms-error-code: RequestBodyTooLarge\r\n\r\nRequestBodyTooLarge",
            ),
            // Names are encoded but for letters and digits.
            Cloud::Google => (
                name.replace('/', "%2F").replace('.', "%2E"),
                "400 Bad Request\r\n\r\nEntityTooLarge",
            ),
        };
        *self.refusal.lock().unwrap() = Some(Refusal { part, answer });
    }

    /// Removes all objects.
    pub(crate) async fn clear(&mut self) {
        let names = self
            .listed()
            .await
            .into_iter()
            .map(|meta| Ok(meta.location));
        let names = futures_util::stream::iter(names.collect::<Vec<_>>()).boxed();
        let removed = self.client.delete_stream(names);
        removed.try_for_each(async |_| Ok(())).await.unwrap();
    }

    /// Puts an object there, past the target.
    pub(crate) async fn put(&self, name: &str, content: &str) {
        let content = content.to_owned().into();
        self.client.put(&name.into(), content).await.unwrap();
    }

    async fn listed(&self) -> Vec<ObjectMeta> {
        let mut listed = Vec::new();
        let mut options = PaginatedListOptions::default();
        loop {
            let page = self.client.list_paginated(None, options.clone());
            let page = page.await.unwrap();
            listed.extend(page.result.objects);
            match page.page_token {
                Some(token) => options.page_token = Some(token),
                None => return listed,
            }
        }
    }

    /// All objects: names and contents.
    pub(crate) async fn objects(&mut self) -> Vec<(String, Vec<u8>)> {
        let listed = self.listed().await;
        let mut objects = Vec::with_capacity(listed.len());
        for meta in listed {
            let key = (meta.location.to_string(), meta.e_tag.unwrap());
            let content = match self.read.get(&key) {
                Some(content) => content.clone(),
                None => {
                    let result = self.client.get_opts(&meta.location, Default::default());
                    result.await.unwrap().bytes().await.unwrap().to_vec()
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

/// One connection to the emulator and back.
async fn forward(mut client: TcpStream, port: u16, refusal: Arc<Mutex<Option<Refusal>>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut answers, mut requests) = server.into_split();
    let (mut from, mut to) = client.split();
    let upwards = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            let refusal = refusal.lock().unwrap().clone();
            let refused = refusal.filter(|refusal| refusal.is_of(&buffer[..count]));
            if count == 0 || refused.is_some() {
                return refused;
            }
            if requests.write_all(&buffer[..count]).await.is_err() {
                return None;
            }
        }
    };
    let refused = tokio::select! {
        refused = upwards => refused,
        _ = copy(&mut answers, &mut to) => None,
    };
    if let Some(refusal) = refused {
        let (head, code) = refusal.answer.split_once("\r\n\r\n").unwrap();
        let body =
            format!("<Error><Code>{code}</Code><Message>Your upload exceeds</Message></Error>");
        let head = format!(
            "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = client.write_all(format!("{head}{body}").as_bytes()).await;
    }
}

impl Refusal {
    fn is_of(&self, bytes: &[u8]) -> bool {
        let mut lines = bytes.split(|byte| *byte == b'\r');
        let line = String::from_utf8_lossy(lines.next().unwrap_or_default());
        line.starts_with("PUT ") && line.contains(&self.part)
    }
}
