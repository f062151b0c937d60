//! A target that takes everything at little cost: one thread, answers made beforehand.

use std::{
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    sync::watch,
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What has arrived.
#[derive(Default)]
struct Seen {
    count: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    /// The newest request as it came.
    request: Vec<u8>,
}

/// The target; its thread ends with the program.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    /// Whether requests are answered.
    open: watch::Sender<bool>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let (open, is_open) = watch::channel(true);
        let sink = Self {
            address,
            seen: Arc::clone(&seen),
            open,
        };
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, Arc::clone(&seen), is_open.clone()));
                }
            });
        });
        sink
    }

    /// Answers nothing until it is opened again.
    pub(crate) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Forgets what has arrived.
    pub(crate) fn clear(&self) {
        *self.seen.0.lock().unwrap() = Seen::default();
    }

    /// Waits until so many requests have arrived. From the first to the last of them, per second.
    pub(crate) fn rate(&self, count: u64) -> f64 {
        let (_, first, last) = self.wait(count);
        (count - 1) as f64 / (last - first).as_secs_f64()
    }

    /// Waits until so many requests have arrived: how many there are, when the first and the last came.
    pub(crate) fn wait(&self, count: u64) -> (u64, Instant, Instant) {
        let (lock, came) = &*self.seen;
        let seen = lock.lock().unwrap();
        let limit = Duration::from_secs(600);
        let (seen, timeout) = came
            .wait_timeout_while(seen, limit, |seen| seen.count < count)
            .unwrap();
        assert!(!timeout.timed_out(), "{} of {count} came", seen.count);
        (seen.count, seen.first.unwrap(), seen.last.unwrap())
    }

    /// The newest request, head and body.
    pub(crate) fn request(&self) -> String {
        String::from_utf8(self.seen.0.lock().unwrap().request.clone()).unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    mut open: watch::Receiver<bool>,
) {
    stream.set_nodelay(true).unwrap();
    let mut input = vec![0; 16 << 10];
    let mut length = 0;
    loop {
        match stream.read(&mut input[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => length += read,
        }
        if !is_whole(&input[..length]) {
            continue;
        }
        take(&seen, &input[..length]);
        length = 0;
        if open.wait_for(|&open| open).await.is_err() {
            return;
        }
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

fn take((lock, came): &(Mutex<Seen>, Condvar), request: &[u8]) {
    let now = Instant::now();
    let mut seen = lock.lock().unwrap();
    seen.count += 1;
    seen.first.get_or_insert(now);
    seen.last = Some(now);
    seen.request.clear();
    seen.request.extend_from_slice(request);
    came.notify_all();
}

/// One request at a time is on a connection.
fn is_whole(input: &[u8]) -> bool {
    let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let head = std::str::from_utf8(&input[..end]).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    input.len() >= end + 4 + length
}
