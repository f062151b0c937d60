//! One kind against its bare client: the daemon fills the outside, the client fills it, in turn.

use std::time::{Duration, Instant};

use profilesync_target::{Document, Status};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::{
    Settings,
    daemon::{APP, Daemon, until},
    load::{self, CONNECTIONS, Plan},
    report::{Report, Spread},
};

/// The daemon's default.
pub(crate) const CONCURRENCY: usize = 4;

/// What is written to, and a bare client of it.
pub(crate) trait Side {
    /// The lines of `[targets.out]` that are the kind's own, the type included.
    fn target(&self) -> String;

    /// Makes the outside hold nothing. What the kind itself creates, such as a table, may stay.
    async fn clear(&mut self);

    /// Writes all documents as the kind does: the same writes, as many in one call, as many calls at a time.
    async fn write(&self, documents: Vec<Document>);
}

/// Says that a kind is not measured.
pub(crate) fn skip(what: &str, report: &mut Report) {
    report.row(
        what,
        "≥ 0.6 ×",
        "skipped: no server on this machine".into(),
        None,
    );
}

/// Measures both and reports the ratio.
pub(crate) fn compare(what: &str, mut side: impl Side, settings: &Settings, report: &mut Report) {
    let accounts = settings.accounts;
    let folder = format!(
        "kinds-{}",
        what.replace(|c: char| !c.is_alphanumeric(), "-")
    );
    let tables = format!(
        "[targets.out]\n{}backfill.rate = \"1000000/s\"\n",
        side.target()
    );
    let daemon = Daemon::start(&folder, &tables);
    load::send(daemon.address(), CONNECTIONS, Plan::Each(0, accounts));
    daemon.applied();
    idle(&daemon, accounts);
    let runtime = Runtime::new().unwrap();
    let (mut ratios, mut own, mut bare) = (vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        runtime.block_on(side.clear());
        let one = filled(&daemon, accounts);
        runtime.block_on(side.clear());
        let documents = (0..accounts).map(document).collect();
        let start = Instant::now();
        runtime.block_on(side.write(documents));
        let other = accounts as f64 / start.elapsed().as_secs_f64();
        eprintln!("{what}: daemon {one:.0}/s, client {other:.0}/s");
        ratios.push(one / other);
        own.push(one);
        bare.push(other);
    }
    let ratio = Spread::of(ratios);
    report.row(
        what,
        "≥ 0.6 ×",
        format!(
            "{ratio} ×; {} against {}/s",
            Spread::of(own),
            Spread::of(bare)
        ),
        Some(ratio.median >= 0.6),
    );
}

/// Lets the daemon deliver every account again; how many it delivers per second.
fn filled(daemon: &Daemon, accounts: u64) -> f64 {
    let delivered = || {
        daemon
            .target("out")
            .and_then(|status| status["delivered"].as_u64())
    };
    let before = delivered().expect("it answers");
    let pause = Duration::from_millis(2);
    let answer = daemon.ask("POST", "/v1/targets/out/backfill");
    assert!(matches!(answer, Some((200, _))), "{answer:?}");
    // It decides first what is to be delivered; that is not the output's time.
    let (first, start) = until(pause, || {
        let now = delivered()?;
        (now > before).then(|| (now, Instant::now()))
    });
    let last = before + accounts;
    until(pause, || (delivered()? >= last).then_some(()));
    let rate = (last - first) as f64 / start.elapsed().as_secs_f64();
    idle(daemon, accounts);
    rate
}

fn idle(daemon: &Daemon, accounts: u64) {
    until(Duration::from_millis(20), || {
        let status = daemon.target("out")?;
        assert_eq!(status["parked"], 0, "{status}");
        let delivered = status["delivered"].as_u64()? >= accounts;
        let idle = status["due"] == 0 && status["inflight"] == 0 && status["backfill"].is_null();
        (delivered && idle).then_some(())
    });
}

/// A profile of the size that the daemon is fed.
fn document(number: u64) -> Document {
    Document {
        sdk_app_id: APP,
        account: format!("@TOA#_account_{number:08}"),
        revision: 1,
        status: Status::Active,
        name: Some(format!("Name {number:016}")),
        introduction: Some("An introduction of the usual length, in a sentence or two.".into()),
        face_url: Some("http://this.is.newface.url/of/some/length.png".into()),
        organization: Some("NewOrganization".into()),
        owner: None,
        operator: Some("leckie".into()),
        event_time: 1_700_000_000_000 + number,
        extra: Map::<String, Value>::new(),
    }
}

/// What a target gets by default that sends more than the document.
pub(crate) fn envelope(document: &Document) -> Vec<u8> {
    let time = i64::try_from(document.event_time).unwrap();
    let time = jiff::Timestamp::from_millisecond(time).unwrap();
    let envelope = json!({
        "type": "profile.updated",
        "timestamp": format!("{time:.3}"),
        "data": document,
    });
    serde_json::to_vec(&envelope).unwrap()
}

/// An account of [`document`], as kinds name it for whom case does not count.
pub(crate) fn escaped(account: &str) -> String {
    account.replace("@TOA#", "%40%54%4f%41%23")
}

/// A client as the kinds over HTTP make it.
pub(crate) fn client() -> reqwest::Client {
    // As the daemon does; an error says that there is a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    client.tcp_nodelay(true).build().unwrap()
}

/// The documents in batches, shared out to so many tasks.
pub(crate) fn shares(
    documents: &[Document],
    batch: usize,
    tasks: usize,
) -> Vec<Vec<Vec<Document>>> {
    let mut shares = vec![Vec::new(); tasks];
    for (number, chunk) in documents.chunks(batch).enumerate() {
        shares[number % tasks].push(chunk.to_vec());
    }
    shares
}
