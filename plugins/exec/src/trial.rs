//! Tries a program out as a plugin: `profilesync plugin test`.
//!
//! Nobody can look behind any program, so what it holds is what it reads back. It may write to a real system that
//! holds much: every check works on accounts of apps that nobody has, and never on the same twice.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Limits, Mask, OpenContext, Outcome, ReadBack, State, Status,
    Target,
    conformance::{CHECKS, Peer, Verdict, World, deliver_to, holds},
};
use serde_json::{Value, json};

use crate::{
    Exec,
    child::Ending,
    locked,
    settings::{Checked, Program, inherited},
};

/// The account that a plugin is asked to refuse, by this variable.
const REJECT: &str = "PROFILESYNC_TEST_REJECT";
const GUILTY: &str = "guilty";

/// Why most checks are skipped of a plugin that nobody can look behind.
pub const BLIND: &str = "the plugin cannot be read back";

/// A program to be tried out.
pub struct Trial {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    context: OpenContext,
    /// The first number of an app that nobody has.
    base: u64,
}

impl Trial {
    /// Tries this command, started in `context.base`, with these variables beside the usual ones.
    #[must_use]
    pub fn new(command: Vec<String>, env: BTreeMap<String, String>, context: OpenContext) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a number that no run before had; no test moves it"
        )]
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        // App 11 has a digit more. Below 2^53, which is what JavaScript and JSON libraries keep exactly.
        let base = u64::try_from(millis).unwrap_or_default() * 256;
        Self {
            command,
            env,
            context,
            base,
        }
    }

    /// Makes every check and hands what it found to `report`, with the check's name.
    pub async fn run(&self, mut report: impl FnMut(&str, Result<Verdict, String>)) {
        let world = self.world(0);
        let hello = world.target.exec.probe().await;
        let told = world.target.exec.known();
        let sure = hello.is_ok() || told.is_some();
        report(
            "it is started, says hello and answers a probe",
            hello.map(|()| Verdict::Passed),
        );
        world.target.exec.end().await;
        if !sure {
            return;
        }
        for (index, check) in (1..).zip(CHECKS) {
            let world = self.world(index);
            // To learn its capabilities; what is wrong with it shows in the check.
            let _ = world.target.exec.probe().await;
            let found = check.run(&world).await;
            report(check.name, world.explained(found));
            world.target.exec.end().await;
        }
        let world = self.world(14);
        report(
            "what was delivered survives a kill",
            world.explained(survives(&world).await),
        );
        let world = self.world(15);
        report("it ends when its input ends", ends(&world).await);
    }

    fn world(&self, index: u64) -> Outside {
        let mut env = inherited();
        env.insert("PROFILESYNC_TARGET".into(), self.context.name.clone());
        env.insert(REJECT.into(), GUILTY.into());
        env.extend(self.env.clone());
        let folder = &self.context.base;
        let checked = Checked {
            program: Program {
                command: self.command.clone(),
                env,
                folder: std::path::absolute(folder).unwrap_or_else(|_| folder.clone()),
            },
            workers: 1,
            mask: Mask::default(),
            identity: Value::Null,
        };
        Outside {
            target: Moved {
                exec: Exec::new(&self.context, checked),
                base: self.base + index * 16,
            },
            unread: Mutex::default(),
        }
    }
}

/// The program as target, its documents moved to apps that nobody has.
struct Moved {
    exec: Exec,
    base: u64,
}

impl Moved {
    fn app(&self, sdk_app_id: u64) -> u64 {
        match sdk_app_id {
            // As 11 is to 1: the suite has accounts that are the same when run together with these.
            11 => self.app(1) * 10 + 1,
            _ => self.base + sdk_app_id.min(15),
        }
    }

    fn moved(&self, document: &Document) -> Document {
        Document {
            sdk_app_id: self.app(document.sdk_app_id),
            ..document.clone()
        }
    }
}

#[async_trait]
impl Target for Moved {
    fn limits(&self) -> Limits {
        self.exec.limits()
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let batch: Vec<_> = batch
            .iter()
            .map(|delivery| Delivery::from(self.moved(&delivery.document)))
            .collect();
        self.exec.deliver(&batch).await
    }

    async fn probe(&self) -> Result<(), String> {
        self.exec.probe().await
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        self.exec.render(&self.moved(document))
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        self.exec.read_back().map(|_| self as &dyn ReadBack)
    }
}

#[async_trait]
impl ReadBack for Moved {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let documents: Vec<_> = documents
            .iter()
            .map(|document| self.moved(document))
            .collect();
        self.exec.held(&documents).await
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        self.exec.wanted(document)
    }
}

/// What the program writes to, as far as it tells.
struct Outside {
    target: Moved,
    /// Why it could not be read, or not all of it, when it could not.
    unread: Mutex<Option<String>>,
}

impl Outside {
    /// Adds to what was found that the plugin could not be read.
    fn explained(&self, found: Result<Verdict, String>) -> Result<Verdict, String> {
        match (found, locked(&self.unread).take()) {
            (Err(broken), Some(error)) => {
                Err(format!("{broken}\n  reading it back failed: {error}"))
            }
            (found, _) => found,
        }
    }
}

/// A document of this account with nothing in it but what the state says, and what of that no document can hold.
fn document_of(sdk_app_id: u64, account: &str, state: State) -> (Document, Option<String>) {
    let mut document = Document {
        sdk_app_id,
        account: account.to_owned(),
        revision: 0,
        status: Status::Active,
        name: None,
        introduction: None,
        face_url: None,
        organization: None,
        owner: None,
        operator: None,
        event_time: 0,
        extra: State::new(),
    };
    let mut odd = None;
    for (name, value) in state {
        let mut members = json!(document);
        members[&name] = value.clone();
        match serde_json::from_value(members) {
            Ok(with) => document = with,
            Err(error) => odd = Some(format!("`{name}`: {error}")),
        }
    }
    (document, odd)
}

#[async_trait]
impl World for Outside {
    fn target(&self) -> &dyn Target {
        &self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let (blank, _) = document_of(sdk_app_id, account, State::new());
        let (held, unread) = match self.target.held(&[blank]).await {
            Ok(mut held) => {
                let (document, odd) = document_of(sdk_app_id, account, held.pop()??);
                (Some(document), odd)
            }
            Err(error) => (None, Some(error)),
        };
        if let Some(unread) = unread {
            locked(&self.unread).get_or_insert(unread);
        }
        held
    }

    fn app(&self, sdk_app_id: u64) -> u64 {
        self.target.app(sdk_app_id)
    }

    fn compares_revisions(&self) -> bool {
        self.target
            .exec
            .known()
            .is_some_and(|hello| hello.revisions)
    }

    fn remembers_destroyed(&self) -> bool {
        self.compares_revisions()
    }

    fn shown(&self, document: &Document) -> Document {
        let state = self.target.wanted(document).unwrap_or_default();
        document_of(document.sdk_app_id, &document.account, state).0
    }

    async fn refuse(&self, sdk_app_id: u64, account: &str) -> bool {
        let document = Document {
            revision: 1,
            ..document_of(sdk_app_id, account, State::new()).0
        };
        let refused = match self.target.deliver(&[document.into()]).await {
            Answer::Each(mut outcomes) => outcomes.pop(),
            Answer::Whole(outcome) => Some(outcome),
        };
        account == GUILTY && matches!(refused, Some(Outcome::Rejected { .. }))
    }

    /// A child that is stopped is slow. It is no use to kill it, for the next is started at once.
    async fn turn(&self, peer: Peer) -> bool {
        match peer {
            Peer::Well => true,
            Peer::Dead => false,
            Peer::Slow => {
                let idle = locked(&self.target.exec.idle);
                idle.iter().for_each(crate::child::Child::suspend);
                !idle.is_empty()
            }
        }
    }

    fn unreadable(&self) -> Option<String> {
        let readable = self.target.exec.known().is_none_or(|hello| hello.read_back);
        (!readable).then(|| BLIND.to_owned())
    }
}

/// Delivers, kills the child, and asks the next one.
async fn survives(world: &Outside) -> Result<Verdict, String> {
    let document = Document {
        revision: 5,
        name: Some("kept".into()),
        ..document_of(1, "survivor", State::new()).0
    };
    let older = Document {
        revision: 4,
        name: Some("older".into()),
        ..document.clone()
    };
    deliver_to(world, &[&document]).await?;
    // What is dropped is killed.
    locked(&world.target.exec.idle).clear();
    if world.compares_revisions() {
        deliver_to(world, &[&older]).await?;
    } else {
        world.target.probe().await?;
    }
    let when = "after it was killed and started again";
    holds(world, &document, when).await?;
    Ok(world.unreadable().map_or(Verdict::Passed, Verdict::Skipped))
}

async fn ends(world: &Outside) -> Result<Verdict, String> {
    world.target.probe().await?;
    let ended = tokio::time::timeout(Duration::from_secs(10), world.target.exec.end()).await;
    match ended.as_deref() {
        Ok([Ending::Itself(status)]) if status.success() => Ok(Verdict::Passed),
        Ok([Ending::Itself(status)]) => Err(format!("it ended with {status}")),
        Ok([Ending::Terminated]) => Err("it did not end within 2 s, but by SIGTERM".into()),
        Ok([Ending::Killed]) => {
            Err("it did not end within 2 s, nor by SIGTERM: it was killed".into())
        }
        _ => Err("it was not there any more".into()),
    }
}
