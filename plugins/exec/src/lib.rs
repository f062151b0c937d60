//! The `exec` output: one long-lived child process per worker, in any language. `PROTOCOL.md` is the contract.
//!
//! `settings.rs` checks the configuration, `child.rs` runs one child, `wire.rs` has the messages, `words.rs` hands on
//! what a child says on standard error, `health.rs` says when a failing program may be started again, and `trial.rs`
//! tries a program out.

mod child;
mod health;
mod settings;
mod text;
pub mod trial;
mod wire;
mod words;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, Limits, Mask, OpenContext, Opened, Outcome, ReadBack,
    Settings, SettingsError, State, Target,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{
    child::{Child, Ending},
    health::Health,
    settings::{Checked, Program},
    wire::{Ask, Format, Hello, Reply, Word},
};

/// `type = "exec"`
pub const KIND: Kind = Kind {
    name: "exec",
    open,
    schema: profilesync_target::schema_of::<settings::Raw>,
};

/// A program, and its children that nobody is asking.
pub(crate) struct Exec {
    name: String,
    program: Program,
    mask: Mask,
    greeting: String,
    /// How long a start that is put off is waited for.
    pause: Duration,
    /// A child that said no hello by then is given up. Shorter than a delivery, so that it is told apart from a
    /// delivery that takes long.
    patience: Duration,
    workers: usize,
    /// One permit per worker. Whoever has one has taken a child out of `idle`, or may start one.
    permits: Semaphore,
    idle: Mutex<Vec<Child>>,
    /// The first id that was not used yet.
    next: AtomicU64,
    health: Mutex<Health>,
    /// What the newest child said about itself.
    hello: Mutex<Option<Hello>>,
}

/// A child on loan. Dropped, it is killed.
struct Loan<'a> {
    child: Child,
    _permit: SemaphorePermit<'a>,
}

/// Why nothing can be asked.
struct Trouble {
    reason: String,
    after: Option<Duration>,
}

impl From<Trouble> for Outcome {
    fn from(Trouble { reason, after }: Trouble) -> Self {
        Self::Fault { reason, after }
    }
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let checked = settings.parse::<settings::Raw>()?.check(context)?;
    Ok(Opened {
        identity: checked.identity.clone(),
        target: Box::new(Exec::new(context, checked)),
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exec {
    fn new(context: &OpenContext, checked: Checked) -> Self {
        let timeout = context.timeout;
        Self {
            name: context.name.clone(),
            program: checked.program,
            mask: checked.mask,
            greeting: wire::greeting(context.version, &context.name, timeout.as_millis()),
            pause: timeout / 2,
            patience: timeout * 3 / 4,
            workers: checked.workers,
            permits: Semaphore::new(checked.workers),
            idle: Mutex::default(),
            next: AtomicU64::new(1),
            health: Mutex::default(),
            hello: Mutex::default(),
        }
    }

    fn known(&self) -> Option<Hello> {
        locked(&self.hello).clone()
    }

    /// A child that waits, or a new one.
    ///
    /// A program that failed just now is left alone for a while. That is waited for, as long as there is time: a fault for
    /// each that asks meanwhile would be as many faults for one failure.
    async fn borrow(&self) -> Result<Loan<'_>, Trouble> {
        let asked = Instant::now();
        let permit = self.permits.acquire().await;
        let _permit = permit.expect("it is never closed");
        loop {
            let idle = locked(&self.idle).pop();
            let Some(child) = idle else { break };
            if !child.has_ended().await {
                return Ok(Loan { child, _permit });
            }
        }
        while let Err((after, reason)) = self.may_start() {
            let now = Instant::now();
            let end = asked + self.pause;
            if now < end {
                tokio::time::sleep_until(end.min(now + after)).await;
                continue;
            }
            let reason = format!("{reason} (started again in {} s)", after.as_secs() + 1);
            return Err(Trouble {
                reason,
                after: Some(after),
            });
        }
        let child = Child::start(&self.program, &self.name, &self.mask);
        let mut child = child.map_err(|reason| self.failed(&reason))?;
        let left = (asked + self.patience).saturating_duration_since(Instant::now());
        match child.greet(&self.greeting, left).await {
            Ok(hello) => {
                *locked(&self.hello) = Some(hello);
                Ok(Loan { child, _permit })
            }
            Err(broken) => Err(self.failed(&child.bury(&broken).await)),
        }
    }

    fn may_start(&self) -> Result<(), (Duration, String)> {
        locked(&self.health).check(Instant::now())
    }

    /// Asks, and gives the child back or buries it.
    async fn ask(
        &self,
        mut loan: Loan<'_>,
        asks: &[Ask<'_>],
        mut take: impl FnMut(usize, Reply) -> Result<(), String> + Send,
    ) -> Result<(), Trouble> {
        let mut base = 0;
        for ask in asks {
            let first = self.next.fetch_add(ask.count() as u64, Ordering::Relaxed);
            let asked = loan
                .child
                .ask(*ask, first, |place, reply| take(base + place, reply));
            if let Err(broken) = asked.await {
                let served = loan.child.served;
                let reason = loan.child.bury(&broken).await;
                if !served {
                    return Err(self.failed(&reason));
                }
                // It worked for a while: the next is started at once.
                return Err(Trouble {
                    reason: self.quote(&reason),
                    after: None,
                });
            }
            base += ask.count();
        }
        locked(&self.health).served();
        locked(&self.idle).push(loan.child);
        Ok(())
    }

    fn failed(&self, reason: &str) -> Trouble {
        let reason = self.quote(reason);
        let after = locked(&self.health).failed(&reason, Instant::now());
        Trouble {
            reason,
            after: Some(after),
        }
    }

    fn quote(&self, reason: &str) -> String {
        self.text(&format!("the plugin failed: {reason}"))
    }

    /// What a child said, for outcomes.
    fn text(&self, said: &str) -> String {
        text::text(&self.mask, said)
    }

    fn outcome(&self, reply: Reply) -> Result<Outcome, String> {
        let reason = reply.reason.as_deref().unwrap_or("it gave no reason");
        let reason = self.text(reason);
        let after = reply.after_ms.map(Duration::from_millis);
        match reply.outcome {
            Some(Word::Delivered) => Ok(Outcome::Delivered {
                answer: self.text(reply.answer.as_deref().unwrap_or("delivered")),
            }),
            Some(Word::Retry) => Ok(Outcome::Retry { reason, after }),
            Some(Word::Rejected) => Ok(Outcome::Rejected { reason }),
            Some(Word::Denied) => Ok(Outcome::Denied { reason }),
            Some(Word::Fault) => Ok(Outcome::Fault { reason, after }),
            Some(Word::Ok) | None => {
                Err("it answered a delivery without one of the outcomes".into())
            }
        }
    }

    /// Ends the idle children, as gently as may be.
    async fn end(&self) -> Vec<Ending> {
        let mut ends = tokio::task::JoinSet::new();
        for child in locked(&self.idle).drain(..) {
            ends.spawn(child.end());
        }
        ends.join_all().await
    }
}

fn parts<'a>(documents: &'a [&'a Document], hello: &Hello) -> Vec<&'a [&'a Document]> {
    documents.chunks(hello.batch).collect()
}

#[async_trait]
impl Target for Exec {
    /// One document until a child has said how many it takes.
    fn limits(&self) -> Limits {
        Limits {
            batch: self.known().map_or(1, |hello| hello.batch),
            concurrency: Some(self.workers),
            ..Limits::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let loan = match self.borrow().await {
            Ok(loan) => loan,
            Err(trouble) => return Answer::Whole(trouble.into()),
        };
        let documents: Vec<_> = batch.iter().map(|delivery| &delivery.document).collect();
        let asks: Vec<_> = parts(&documents, loan.child.hello())
            .into_iter()
            .map(Ask::Deliver)
            .collect();
        let mut outcomes = vec![None; batch.len()];
        let asked = self.ask(loan, &asks, |place, reply| {
            outcomes[place] = Some(self.outcome(reply)?);
            Ok(())
        });
        let missing = match asked.await {
            Ok(()) => None,
            Err(trouble) => Some(Outcome::from(trouble)),
        };
        let outcome = |answered: Option<Outcome>| {
            let outcome = answered.or_else(|| missing.clone());
            outcome.expect("all are answered, or there was trouble")
        };
        Answer::Each(outcomes.into_iter().map(outcome).collect())
    }

    async fn probe(&self) -> Result<(), String> {
        let loan = self.borrow().await.map_err(|trouble| trouble.reason)?;
        let mut found = Ok(());
        let asked = self.ask(loan, &[Ask::Probe], |_, reply| {
            found = match reply.outcome {
                Some(Word::Ok | Word::Delivered) => Ok(()),
                Some(_) => Err(self.text(reply.reason.as_deref().unwrap_or("it is unwell"))),
                None => return Err("it answered a probe without an outcome".into()),
            };
            Ok(())
        });
        asked.await.map_err(|trouble| trouble.reason)?;
        found
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        let format = self.known().map_or(Format::Json, |hello| hello.format);
        Ok(Ask::Deliver(&[document])
            .write(format, 1)
            .trim_end()
            .to_owned())
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        match self.known() {
            Some(hello) if !hello.read_back => None,
            _ => Some(self),
        }
    }

    async fn close(&self) {
        self.end().await;
    }
}

#[async_trait]
impl ReadBack for Exec {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        let loan = self.borrow().await.map_err(|trouble| trouble.reason)?;
        let hello = loan.child.hello().clone();
        if !hello.read_back {
            locked(&self.idle).push(loan.child);
            return Err("the plugin cannot be read back".into());
        }
        let documents: Vec<_> = documents.iter().collect();
        let asks: Vec<_> = parts(&documents, &hello)
            .into_iter()
            .map(Ask::Read)
            .collect();
        let mut held = vec![None; documents.len()];
        let mut refused = None;
        let asked = self.ask(loan, &asks, |place, reply| {
            match (reply.held, reply.outcome) {
                (Some(state), None) => {
                    held[place] = state.and_then(|state| hello.shown(state));
                    Ok(())
                }
                (None, Some(_)) => {
                    let reason = reply.reason.as_deref().unwrap_or("it gave no reason");
                    refused.get_or_insert(self.text(reason));
                    Ok(())
                }
                _ => Err("it answered a read with neither what is held nor an outcome".into()),
            }
        });
        asked.await.map_err(|trouble| trouble.reason)?;
        match refused {
            None => Ok(held),
            Some(reason) => Err(format!("the plugin cannot read: {reason}")),
        }
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        let hello = self.known();
        hello.unwrap_or_default().wanted(document)
    }
}
