//! A target that does as it is told, remembers what it got, and notices when it is not treated as promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use profilesync_target::{Answer, Delivery, Document, Limits, Outcome, Status, Target};
use tokio::time::Instant;

/// What to do with a call. Called with the documents of the batch.
type Behaviour = Arc<dyn Fn(&[Document]) -> Reaction + Send + Sync>;

/// What a target does with a call.
#[derive(Clone, Debug)]
pub(super) struct Reaction {
    /// How long it thinks.
    pub(super) delay: Duration,
    /// How long the answer is on its way, once the target holds what it takes.
    pub(super) back: Duration,
    pub(super) answer: Option<Answer>,
}

impl From<Outcome> for Reaction {
    fn from(outcome: Outcome) -> Self {
        Self {
            delay: Duration::ZERO,
            back: Duration::ZERO,
            answer: Some(Answer::Whole(outcome)),
        }
    }
}

impl Reaction {
    pub(super) fn ok() -> Self {
        Outcome::Delivered {
            answer: "ok".into(),
        }
        .into()
    }

    pub(super) fn retry() -> Self {
        Outcome::Retry {
            reason: "not now".into(),
            after: None,
        }
        .into()
    }

    pub(super) fn rejected() -> Self {
        Outcome::Rejected {
            reason: "bad".into(),
        }
        .into()
    }

    pub(super) fn denied() -> Self {
        Outcome::Denied {
            reason: "404".into(),
        }
        .into()
    }

    pub(super) fn fault() -> Self {
        Outcome::Fault {
            reason: "500".into(),
            after: None,
        }
        .into()
    }

    pub(super) fn panic() -> Self {
        Self {
            answer: None,
            ..Self::ok()
        }
    }

    pub(super) fn hang() -> Self {
        Self::ok().after(Duration::from_hours(1))
    }

    pub(super) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// One document in one call.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) account: String,
    pub(super) at: Instant,
}

#[derive(Clone)]
pub(super) struct Receiver {
    limits: Limits,
    behaviour: Arc<Mutex<Behaviour>>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
pub(super) struct Inner {
    /// Every document of every call.
    pub(super) seen: Vec<Seen>,
    /// Sizes of the calls.
    pub(super) calls: Vec<usize>,
    /// What the target holds.
    pub(super) held: BTreeMap<String, (u64, Status)>,
    /// What it refused: rejected or denied.
    pub(super) refused: BTreeSet<(String, u64)>,
    /// What the dispatcher must not repeat: it has been told that it was delivered.
    pub(super) told: BTreeMap<String, u64>,
    /// Until then, nothing is told.
    lenient: Option<Instant>,
    newest: BTreeMap<String, u64>,
    active: BTreeSet<String>,
    /// Promises broken. A panic would be taken for one of the target's own.
    broken: Vec<String>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            behaviour: Arc::new(Mutex::new(Arc::new(|_| Reaction::ok()))),
            inner: Arc::default(),
        }
    }
}

impl Receiver {
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn behave(
        &self,
        behaviour: impl Fn(&[Document]) -> Reaction + Send + Sync + 'static,
    ) {
        *self.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Fails if a promise was broken.
    pub(super) fn check(&self) {
        let inner = self.inner();
        assert!(inner.broken.is_empty(), "{:#?}", inner.broken);
    }

    /// What was delivered may come again: it was lost, or asked for. So may what is under way.
    pub(super) fn forget_told(&self, under_way: Duration) {
        let mut inner = self.inner();
        inner.told.clear();
        inner.lenient = Some(Instant::now() + under_way);
    }

    /// How many times an account came.
    pub(super) fn count(&self, account: &str) -> usize {
        self.inner()
            .seen
            .iter()
            .filter(|seen| seen.account == account)
            .count()
    }

    /// How many documents came.
    pub(super) fn total(&self) -> usize {
        self.inner().seen.len()
    }

    pub(super) fn holds(&self, account: &str) -> Option<u64> {
        self.inner()
            .held
            .get(account)
            .map(|&(revision, _)| revision)
    }
}

/// The accounts of a call under way; also when the call is dropped they are not any more.
struct Active<'a>(&'a Receiver, &'a [Delivery]);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        for delivery in self.1 {
            inner.active.remove(&delivery.document.account);
        }
    }
}

impl Inner {
    fn arrive(&mut self, document: &Document) {
        let Document {
            account, revision, ..
        } = document;
        let (account, revision, at) = (account.clone(), *revision, Instant::now());
        let newest = self.newest.entry(account.clone()).or_default();
        if revision < *newest {
            self.broken
                .push(format!("{account} went back from {newest} to {revision}"));
        }
        *newest = revision;
        if self
            .told
            .get(&account)
            .is_some_and(|&told| revision <= told)
        {
            self.broken
                .push(format!("{account} {revision} was delivered again"));
        }
        if !self.active.insert(account.clone()) {
            self.broken
                .push(format!("two calls for {account} at a time"));
        }
        self.seen.push(Seen { account, at });
    }

    /// Takes what the outcome says was taken.
    fn take(&mut self, document: &Document, outcome: &Outcome) {
        let Document {
            account,
            revision,
            status,
            ..
        } = document;
        match outcome {
            Outcome::Delivered { .. } => {
                self.held.insert(account.clone(), (*revision, *status));
            }
            Outcome::Rejected { .. } | Outcome::Denied { .. } => {
                self.refused.insert((account.clone(), *revision));
            }
            Outcome::Retry { .. } | Outcome::Fault { .. } => {}
        }
    }
}

impl Inner {
    fn tell(&mut self, documents: &[Document], outcomes: &[Outcome]) {
        if self.lenient.is_some_and(|until| Instant::now() < until) {
            return;
        }
        for (document, outcome) in documents.iter().zip(outcomes) {
            if matches!(outcome, Outcome::Delivered { .. }) {
                self.told
                    .insert(document.account.clone(), document.revision);
            }
        }
    }
}

#[async_trait]
impl Target for Receiver {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let documents: Vec<_> = batch
            .iter()
            .map(|delivery| delivery.document.clone())
            .collect();
        {
            let mut inner = self.inner();
            inner.calls.push(batch.len());
            documents.iter().for_each(|document| inner.arrive(document));
        }
        let _active = Active(self, batch);
        let behaviour = Arc::clone(&*self.behaviour.lock().unwrap());
        let reaction = behaviour(&documents);
        tokio::time::sleep(reaction.delay).await;
        let answer = reaction
            .answer
            .expect("a panic of the target, as asked for by the test");
        let outcomes = match &answer {
            Answer::Each(outcomes) => outcomes.clone(),
            Answer::Whole(outcome) => vec![outcome.clone(); documents.len()],
        };
        for (document, outcome) in documents.iter().zip(&outcomes) {
            self.inner().take(document, outcome);
        }
        tokio::time::sleep(reaction.back).await;
        self.inner().tell(&documents, &outcomes);
        answer
    }

    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        match document.account.as_str() {
            "unrenderable" => Err("no template for it".into()),
            account => Ok(format!("PUT {account}\nbody")),
        }
    }
}
