//! A port that can be closed, with all of its connections, and opened again.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Closed when dropped.
pub(crate) struct Door {
    address: SocketAddr,
    opened: Option<JoinHandle<()>>,
}

impl Door {
    /// Opens a free port; `serve` does what is to be done with a connection.
    pub(crate) async fn open<S: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> S + Send + 'static,
    ) -> Self {
        let mut door = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            opened: None,
        };
        door.reopen(serve).await;
        door
    }

    /// Opens the port again after [`Door::close`].
    pub(crate) async fn reopen<S: Future<Output = ()> + Send + 'static>(
        &mut self,
        serve: impl Fn(TcpStream) -> S + Send + 'static,
    ) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.opened = Some(tokio::spawn(async move {
            // Aborted with this task.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream));
            }
        }));
    }

    /// Refuses connections from now on, and ends those there are in the middle of whatever they do.
    pub(crate) async fn close(&mut self) {
        if let Some(opened) = self.opened.take() {
            opened.abort();
            // It says that it was aborted.
            let _ = opened.await;
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(opened) = &self.opened {
            opened.abort();
        }
    }
}
