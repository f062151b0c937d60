//! Plays the sender at little cost: kept connections on one thread, requests made once and patched.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use profilesync::clock;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    task::JoinSet,
};

use crate::daemon::{APP, TOKEN};

/// Connections of the ingest benches.
pub(crate) const CONNECTIONS: usize = 64;
/// A signature is used for so long; 60 s are allowed.
const SIGNED_FOR: u64 = 20_000;

const COMMAND: &str = "OfficialAccount.CallbackAfterOfficialAccountInfoChanged";
const ACCOUNT: &str = "@TOA#_account_";

/// Which events are sent.
#[derive(Clone, Copy)]
pub(crate) enum Plan {
    /// One of each of the accounts from the first to before the second.
    Each(u64, u64),
    /// Of random ones of so many accounts, for so long.
    Random(u64, Duration),
}

/// Events that were answered with OK, and how long that took.
pub(crate) struct Sent {
    pub(crate) events: u64,
    pub(crate) time: Duration,
}

impl Sent {
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64()
    }
}

/// Sends events over so many connections; each waits for its answer before it sends the next.
pub(crate) fn send(address: SocketAddr, connections: usize, plan: Plan) -> Sent {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let sent = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(converse(address, plan, Arc::clone(&sent), start));
        }
        tasks.join_all().await;
        let events = match plan {
            Plan::Each(first, end) => end - first,
            Plan::Random(..) => sent.load(Relaxed),
        };
        let time = start.elapsed();
        Sent { events, time }
    })
}

async fn converse(address: SocketAddr, plan: Plan, sent: Arc<AtomicU64>, start: Instant) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = Request::new();
    let mut answer = vec![0; 4096];
    loop {
        let account = match plan {
            Plan::Each(first, end) => match first + sent.fetch_add(1, Relaxed) {
                account if account < end => account,
                _ => return,
            },
            Plan::Random(_, time) if start.elapsed() >= time => return,
            Plan::Random(accounts, _) => fastrand::u64(..accounts),
        };
        stream.write_all(request.of(account)).await.unwrap();
        let mut length = 0;
        while !is_whole(&answer[..length]) {
            let read = stream.read(&mut answer[length..]).await.unwrap();
            assert!(read > 0, "the connection was closed");
            length += read;
        }
        expect_ok(&answer[..length]);
        if let Plan::Random(..) = plan {
            sent.fetch_add(1, Relaxed);
        }
    }
}

/// Every answer is one JSON object without objects in it.
pub(crate) fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"}")
}

/// Stops the bench when an event is refused.
pub(crate) fn expect_ok(answer: &[u8]) {
    let status = answer.get(9..12);
    assert!(
        status == Some(b"200"),
        "{}",
        String::from_utf8_lossy(answer)
    );
}

/// A signed request of about 800 bytes whose numbers are changed in place.
pub(crate) struct Request {
    bytes: Vec<u8>,
    account_at: usize,
    time_at: usize,
    name_at: usize,
    signed: u64,
}

/// Makes every event another.
static NAMES: AtomicU64 = AtomicU64::new(0);

impl Request {
    pub(crate) fn new() -> Self {
        let signed = clock::now();
        let body = format!(
            r#"{{"CallbackCommand":"{COMMAND}","Official_Account":"{ACCOUNT}00000000","Operator_Account":"leckie","Introduction":"An introduction of the usual length, in a sentence or two.","Name":"Name 0000000000000000","FaceUrl":"http://this.is.newface.url/of/some/length.png","Organization":"NewOrganization","EventTime":{signed}}}"#
        );
        let seconds = signed / 1000;
        let sign = HEXLOWER.encode(&Sha256::digest(format!("{TOKEN}{seconds}")));
        let head = format!(
            "POST /?SdkAppid={APP}&CallbackCommand={COMMAND}&contenttype=json&ClientIP=127.0.0.1&OptPlatform=RESTAPI\
             &Sign={sign}&RequestTime={seconds} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let behind = |text: &str| head.len() + body.find(text).unwrap() + text.len();
        let (account_at, time_at, name_at) = (
            behind(ACCOUNT),
            behind(r#""EventTime":"#),
            behind(r#""Name":"Name "#),
        );
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        Self {
            bytes,
            account_at,
            time_at,
            name_at,
            signed,
        }
    }

    /// A change of this account, now.
    pub(crate) fn of(&mut self, account: u64) -> &[u8] {
        let now = clock::now();
        if now > self.signed + SIGNED_FOR {
            *self = Self::new();
        }
        put(&mut self.bytes[self.account_at..][..8], account);
        put(&mut self.bytes[self.time_at..][..13], now);
        let name = self.signed * 1_000 + NAMES.fetch_add(1, Relaxed);
        put(&mut self.bytes[self.name_at..][..16], name);
        &self.bytes
    }
}

/// Digits, right-aligned.
fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
