//! The table of answers, asked over real sockets.

mod answers;
mod forwarding;
mod limits;
mod log;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    accept::{
        self, Socket,
        wire::{Answer, Wire, post},
    },
    config::{Address, Admin, Listener, Store, Token},
    journal::{self, Reader},
};

/// An app with tokens, and one without.
const SIGNED: u64 = 1_400_000_000;
const OPEN: u64 = 1_400_000_001;
const TOKEN: &str = "xxxxyyyy";
const OLD_TOKEN: &str = "an older token";
const CHANGED: &str = "OfficialAccount.CallbackAfterOfficialAccountInfoChanged";
const FOREIGN: &str = "OfficialAccount.CallbackBeforeAddSubscriber";
const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
const MAX_BODY: usize = 1000;

/// A listener with everything off that is off by default.
fn config() -> Config {
    let app = |name: &str, sdk_app_id, tokens: &[&str]| {
        let tokens = tokens.iter().map(|&token| Token(token.to_owned()));
        let name = name.to_owned();
        let app = App {
            name,
            sdk_app_id,
            tokens: tokens.collect(),
        };
        (sdk_app_id, app)
    };
    Config {
        files: Vec::new(),
        apps: [
            app("production", SIGNED, &[OLD_TOKEN, TOKEN]),
            app("open", OPEN, &[]),
        ]
        .into(),
        listener: Listener {
            address: Address::Tcp(([127, 0, 0, 1], 0).into()),
            path: "/".into(),
            max_body: MAX_BODY,
            max_clock_skew: Duration::from_secs(24 * 3600),
            sign_window: Duration::from_secs(60),
            max_connections: NonZeroUsize::new(100).unwrap(),
            rate_limit: None,
            trusted_proxies: Vec::new(),
            allow: Vec::new(),
            tls: None,
            forward: None,
        },
        store: Store {
            path: PathBuf::new(),
            history: Duration::MAX,
            history_per_account: NonZeroU32::MAX,
            cache: 0,
            journal_max: 0,
            max_lag: 1000,
        },
        admin: Admin {
            socket: PathBuf::new(),
            address: None,
            token: None,
        },
        targets: BTreeMap::new(),
        shutdown_grace: Duration::from_secs(1),
    }
}

/// A running listener.
struct Desk {
    ingest: Arc<Ingest>,
    metrics: Metrics,
    lag: Arc<AtomicU64>,
    journal: Journal,
    state: TempDir,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Desk {
    async fn open(config: &Config) -> Self {
        let metrics = Metrics::new();
        let state = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(journal::Options {
            dir: state.path().to_owned(),
            segment_bytes: journal::SEGMENT_BYTES,
            reserve_bytes: 0,
            floor: 0,
            gap: 0,
            metrics: metrics.clone(),
        })
        .unwrap();
        let lag = Arc::new(AtomicU64::new(0));
        let read_lag = Arc::clone(&lag);
        let ingest = Arc::new(Ingest::new(
            config,
            journal.clone(),
            Arc::new(move || read_lag.load(Ordering::Relaxed)),
            metrics.clone(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(accept::serve(
            vec![Socket::Tcp(listener)],
            None,
            Arc::new(Hasty(Arc::clone(&ingest))),
            Arc::clone(&ingest).routes(),
            stop.clone(),
            || Duration::ZERO,
        ));
        Self {
            ingest,
            metrics,
            lag,
            journal,
            state,
            address,
            _stop: stop.drop_guard(),
        }
    }

    async fn connect(&self) -> Wire<TcpStream> {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }

    async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().await.ask(request).await
    }

    async fn accepts(&self, request: impl AsRef<[u8]>) {
        let answer = self.ask(request).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, OK));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }

    /// Returns the text of the refusal.
    async fn refuses(&self, request: impl AsRef<[u8]>, status: u16, code: u32) -> String {
        let before = self.recorded();
        let shown = String::from_utf8_lossy(request.as_ref()).into_owned();
        let answer = self.ask(request).await;
        assert_eq!(answer.status, status, "{shown}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let info = answer
            .body
            .strip_prefix(r#"{"ActionStatus":"FAIL","ErrorInfo":"#)
            .and_then(|rest| rest.strip_suffix(&format!(r#","ErrorCode":{code}}}"#)))
            .unwrap_or_else(|| panic!("{shown} is answered {}", answer.body));
        assert_eq!(self.recorded(), before, "{shown}");
        serde_json::from_str(info).unwrap()
    }

    fn recorded(&self) -> Vec<Entry> {
        let mut reader = Reader::open(self.state.path(), 0, self.metrics.clone()).unwrap();
        let until = *self.journal.synced().borrow();
        let records = reader.read(until, usize::MAX).unwrap();
        records.into_iter().map(|record| record.entry).collect()
    }

    /// Fails unless the metrics have this line.
    fn counted(&self, line: &str) {
        let text = self.metrics.render();
        assert!(text.lines().any(|own| own == line), "{text}");
    }
}

/// The policy of an ingest, but for the patience.
struct Hasty(Arc<Ingest>);

impl Policy for Hasty {
    fn limits(&self) -> Limits {
        Limits {
            request_timeout: Duration::from_millis(300),
            ..self.0.limits()
        }
    }

    fn expects(&self, peer: Peer) -> bool {
        self.0.expects(peer)
    }

    fn heeds(&self, head: &Parts, peer: Peer) -> bool {
        self.0.heeds(head, peer)
    }
}

fn query(app: u64, command: &str) -> String {
    format!("CallbackCommand={command}&SdkAppid={app}&contenttype=json&ClientIP=127.0.0.1")
}

/// `Sign` and `RequestTime` for a time that far from now.
fn signature(token: &str, off_seconds: i64) -> String {
    let time = (clock::now() / 1000)
        .checked_add_signed(off_seconds)
        .unwrap();
    let sign = HEXLOWER.encode(&Sha256::digest(format!("{token}{time}")));
    format!("Sign={sign}&RequestTime={time}")
}

fn signed(command: &str) -> String {
    format!("/?{}&{}", query(SIGNED, command), signature(TOKEN, 0))
}

fn open(command: &str) -> String {
    format!("/?{}", query(OPEN, command))
}

/// A small event of an account.
fn event(account: &str, event_time: u64) -> String {
    let account = serde_json::to_string(account).unwrap();
    format!(
        r#"{{"CallbackCommand":"{CHANGED}","Official_Account":{account},"Name":"n","EventTime":{event_time}}}"#
    )
}
