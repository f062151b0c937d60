//! `profilesync send`: plays the sender, for trying things out and for load.

mod endpoint;
mod request;

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use clap::{Args, ValueEnum};
use reqwest::{StatusCode, Url};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, Interval, interval},
};

use self::{endpoint::Endpoint, request::Body};
use super::print;
use crate::{
    clock::{self, Millis},
    event::{COMMANDS, Kind},
    exit::{Exit, Failure, root},
    table::harmless,
};

/// The sender waits 2 s; a look at a slower listener is worth some more.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Refusals that are printed one by one.
const SHOWN: usize = 5;

/// How it is called.
#[derive(Args, Debug)]
pub struct SendArgs {
    /// Where to [default: the configured listener]
    #[arg(long)]
    url: Option<Url>,
    /// As which app: its name in the configuration, or its SDKAppID [default: the only one configured]
    #[arg(long, value_name = "NAME|SDKAPPID")]
    app: Option<String>,
    /// Sign with the token in this file [default: the app's first token in the configuration]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Do not sign
    #[arg(long, conflicts_with = "token_file")]
    unsigned: bool,
    /// Do not check the certificate of --url
    #[arg(long, requires = "url")]
    insecure: bool,
    #[command(flatten)]
    event: EventArgs,
    /// How many events
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        help = "Send so many events; {\x1b[0mn} in a value becomes the event's number"
    )]
    count: NonZeroU64,
    /// At most so many per second, as 50 or 50/s [default: as fast as they are answered]
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<f64>,
    /// So many at the same time
    #[arg(long, value_name = "N", default_value = "1")]
    concurrency: NonZeroUsize,
}

/// What happened, as the sender tells it.
#[derive(Args, Clone, Debug, Default)]
struct EventArgs {
    /// What happened to the account
    #[arg(long, value_enum, default_value_t)]
    event: EventKind,
    /// Official_Account
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    account: Option<String>,
    /// Name
    #[arg(long)]
    name: Option<String>,
    /// Introduction
    #[arg(long, value_name = "TEXT")]
    introduction: Option<String>,
    /// FaceUrl
    #[arg(long, value_name = "URL")]
    face_url: Option<String>,
    /// Organization
    #[arg(long, value_name = "TEXT")]
    organization: Option<String>,
    /// Operator_Account
    #[arg(long, value_name = "ID")]
    operator: Option<String>,
    /// Owner_Account
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// EventTime, in milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS")]
    event_time: Option<Millis>,
    /// Send the body in this file as it is; - is standard input
    #[arg(long, value_name = "BODY.json", conflicts_with_all = [
        "account", "name", "introduction", "face_url", "organization", "operator", "owner", "event_time",
    ])]
    file: Option<PathBuf>,
}

/// The lifecycle events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum EventKind {
    #[default]
    Changed,
    Created,
    Destroyed,
}

/// Sends, and prints the answer, or a summary of many.
///
/// # Errors
/// When an answer is not OK, or there is none.
pub async fn run(config: &Path, args: &SendArgs) -> Result<(), Failure> {
    let endpoint = Endpoint::new(args, config)?;
    let events = Events::new(&args.event)?;
    if args.count.get() == 1 {
        return one(&endpoint, &events).await;
    }
    many(endpoint, events, args).await
}

async fn one(endpoint: &Endpoint, events: &Events) -> Result<(), Failure> {
    let answer = send(endpoint, events, 1).await.map_err(|error| {
        let message = format!("no answer from {}", endpoint.url);
        Failure::new(Exit::Unreachable, message)
            .because(root(&error).to_string())
            .help("is the daemon running? say where it listens with --url or -c FILE")
    })?;
    print(&format!(
        "{} {}\n",
        answer.status.as_u16(),
        harmless(&answer.text)
    ))?;
    if answer.is_ok() {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, "the event was not accepted"))
    }
}

async fn many(endpoint: Endpoint, events: Events, args: &SendArgs) -> Result<(), Failure> {
    let count = args.count.get();
    let volley = Arc::new(Volley {
        endpoint,
        events,
        count,
        sent: AtomicU64::new(0),
        pace: args
            .rate
            .map(|rate| Mutex::new(interval(Duration::from_secs_f64(1.0 / rate)))),
    });
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..args.concurrency.get() {
        workers.spawn(volley.clone().work());
    }
    let mut tally = Tally::default();
    for part in workers.join_all().await {
        tally.join(part);
    }
    print(&tally.summary(start.elapsed()))?;
    if tally.bad == 0 {
        Ok(())
    } else {
        let message = format!("{} of {count} events were not accepted", tally.bad);
        Err(Failure::new(Exit::Failed, message))
    }
}

/// What the workers of [`many`] share.
struct Volley {
    endpoint: Endpoint,
    events: Events,
    count: u64,
    sent: AtomicU64,
    pace: Option<Mutex<Interval>>,
}

impl Volley {
    async fn work(self: Arc<Self>) -> Tally {
        let mut tally = Tally::default();
        loop {
            let n = self.sent.fetch_add(1, Relaxed) + 1;
            if n > self.count {
                return tally;
            }
            if let Some(pace) = &self.pace {
                pace.lock().await.tick().await;
            }
            let asked = Instant::now();
            let answer = send(&self.endpoint, &self.events, n).await;
            tally.add(answer, asked.elapsed());
        }
    }
}

/// What the listener said.
struct Answer {
    status: StatusCode,
    text: String,
}

impl Answer {
    /// As the sender judges it.
    fn is_ok(&self) -> bool {
        let body: Option<serde_json::Value> = serde_json::from_str(&self.text).ok();
        self.status == StatusCode::OK && body.is_some_and(|body| body["ActionStatus"] == "OK")
    }
}

async fn send(endpoint: &Endpoint, events: &Events, n: u64) -> Result<Answer, reqwest::Error> {
    let url = request::url(
        &endpoint.url,
        endpoint.app,
        events.command(),
        endpoint.token.as_deref(),
        clock::now(),
    );
    let answer = endpoint.http.post(url).body(events.body(n)).send().await?;
    Ok(Answer {
        status: answer.status(),
        text: answer.text().await?,
    })
}

/// The bodies to send.
enum Events {
    Same {
        command: String,
        body: Vec<u8>,
    },
    Made {
        command: &'static str,
        values: EventArgs,
    },
}

impl Events {
    fn new(args: &EventArgs) -> Result<Self, Failure> {
        let command = command(args.event);
        let Some(file) = &args.file else {
            let values = args.clone();
            return Ok(Self::Made { command, values });
        };
        let body = read(file)?;
        let own = serde_json::from_slice(&body)
            .ok()
            .and_then(|body: serde_json::Value| Some(body["CallbackCommand"].as_str()?.to_owned()));
        Ok(Self::Same {
            command: own.unwrap_or_else(|| command.into()),
            body,
        })
    }

    fn command(&self) -> &str {
        match self {
            Self::Same { command, .. } => command,
            Self::Made { command, .. } => command,
        }
    }

    fn body(&self, n: u64) -> Vec<u8> {
        match self {
            Self::Same { body, .. } => body.clone(),
            Self::Made { command, values } => values.body(command, n),
        }
    }
}

impl EventArgs {
    fn body(&self, command: &str, n: u64) -> Vec<u8> {
        let fill = |value: &Option<String>| {
            let value = value.as_ref()?;
            Some(value.replace("{n}", &n.to_string()))
        };
        let body = Body {
            command: command.into(),
            account: fill(&self.account).unwrap_or_default(),
            operator: fill(&self.operator),
            owner: fill(&self.owner),
            introduction: fill(&self.introduction),
            name: fill(&self.name),
            face_url: fill(&self.face_url),
            organization: fill(&self.organization),
            event_time: self.event_time.unwrap_or_else(clock::now),
        };
        serde_json::to_vec(&body).expect("strings and a number serialise")
    }
}

fn command(event: EventKind) -> &'static str {
    let kind = match event {
        EventKind::Changed => Kind::Changed,
        EventKind::Created => Kind::Created,
        EventKind::Destroyed => Kind::Destroyed,
    };
    let of_kind = COMMANDS.iter().find(|(_, known)| *known == kind);
    of_kind.expect("each kind has a command").0
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).map(Into::into)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| {
        Failure::new(Exit::Failed, format!("{} cannot be read", file.display())).because(error)
    })
}

/// What came of many.
#[derive(Default)]
struct Tally {
    ok: u64,
    bad: u64,
    shown: Vec<String>,
    times: Vec<Duration>,
}

impl Tally {
    fn add(&mut self, answer: Result<Answer, reqwest::Error>, took: Duration) {
        let reason = match answer {
            Ok(answer) if answer.is_ok() => {
                self.ok += 1;
                self.times.push(took);
                return;
            }
            Ok(answer) => {
                self.times.push(took);
                format!("{} {}", answer.status.as_u16(), harmless(&answer.text))
            }
            Err(error) => root(&error).to_string(),
        };
        self.bad += 1;
        self.shown.push(reason);
        self.shown.truncate(SHOWN);
    }

    fn join(&mut self, other: Self) {
        self.ok += other.ok;
        self.bad += other.bad;
        self.times.extend(other.times);
        self.shown.extend(other.shown);
        self.shown.truncate(SHOWN);
    }

    fn summary(&mut self, took: Duration) -> String {
        self.times.sort_unstable();
        let total = self.ok + self.bad;
        let seconds = took.as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let rate = total as f64 / seconds;
        let mut text = format!(
            "{total} sent in {seconds:.1} s ({rate:.0}/s): {} ok, {} refused or unanswered\n",
            self.ok, self.bad,
        );
        if !self.times.is_empty() {
            text += &format!(
                "answered in p50 {:.2} ms, p99 {:.2} ms\n",
                percentile(&self.times, 50).as_secs_f64() * 1e3,
                percentile(&self.times, 99).as_secs_f64() * 1e3,
            );
        }
        for reason in &self.shown {
            text += &format!("  {reason}\n");
        }
        text
    }
}

/// The nearest-rank percentile of sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.saturating_sub(1)]
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse() {
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number of events per second, as 50 or 50/s".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_as_text() {
        let ok = |status: u16, text: &str| {
            Ok(Answer {
                status: status.try_into().unwrap(),
                text: text.into(),
            })
        };
        let mut tally = Tally::default();
        for millis in 1..=99 {
            let took = Duration::from_millis(millis);
            tally.add(ok(200, r#"{"ActionStatus":"OK"}"#), took);
        }
        tally.add(
            ok(403, r#"{"ActionStatus":"FAIL"}"#),
            Duration::from_millis(100),
        );
        let expected = "\
100 sent in 2.0 s (50/s): 99 ok, 1 refused or unanswered
answered in p50 50.00 ms, p99 99.00 ms
  403 {\"ActionStatus\":\"FAIL\"}
";
        assert_eq!(tally.summary(Duration::from_secs(2)), expected);
    }

    #[test]
    fn placeholders_are_numbered() {
        let args = EventArgs {
            account: Some("@TOA#_{n}".into()),
            name: Some("No. {n}".into()),
            event_time: Some(1_670_574_414_123),
            ..EventArgs::default()
        };
        let event = crate::event::parse(
            1,
            Kind::Changed,
            command(EventKind::Changed),
            &args.body(command(EventKind::Changed), 7),
        )
        .unwrap();
        assert_eq!(event.id.account, "@TOA#_7");
        assert_eq!(event.fields[&crate::event::Field::Name], "No. 7");
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("50/s"), Ok(50.0));
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "x", "50/m", "inf", "NaN"] {
            assert!(parse_rate(wrong).is_err(), "{wrong} passes");
        }
    }
}
