//! Everything at once, from a seed: outages, crashes, lost writes, restarts, orders, clocks that are set, and events all
//! the while.
//!
//! `PROFILESYNC_SEEDS=10000` runs more seeds, `PROFILESYNC_SEED=17` one of them.

use std::{
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

use profilesync_target::{Answer, Document, Limits, Outcome, Status};

use super::{World, options, receiver::Reaction};
use crate::{clock, dispatch::Action, event::Kind, store::records::Next};

const SEEDS: u64 = 150;
const STEPS: u32 = 60;
const TIMEOUT: Duration = Duration::from_secs(2);
const ACCOUNTS: u32 = 12;

/// How the target feels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Everything happens.
    Wild,
    /// Everything fails.
    Down,
    /// Everything is denied.
    Denying,
}

fn one_in(n: u32) -> bool {
    fastrand::u32(0..n) == 0
}

fn delay(longest_ms: u64) -> Duration {
    Duration::from_millis(fastrand::u64(0..=longest_ms))
}

/// Some accounts are refused at some revisions, whatever the mood.
fn poisonous(document: &Document) -> bool {
    document.account.len() == 1 && document.revision.is_multiple_of(3)
}

fn outcome(document: &Document, mood: Mood) -> Outcome {
    let reason = "chaos".to_owned();
    let after = one_in(4).then(|| delay(100_000));
    match mood {
        Mood::Down => Outcome::Fault { reason, after },
        Mood::Denying => Outcome::Denied { reason },
        _ if poisonous(document) => Outcome::Rejected { reason },
        Mood::Wild => match fastrand::u32(0..10) {
            0 => Outcome::Retry { reason, after },
            1 => Outcome::Rejected { reason },
            2 => Outcome::Denied { reason },
            3 | 4 => Outcome::Fault { reason, after },
            _ => Outcome::Delivered { answer: reason },
        },
        Mood::Well => Outcome::Delivered { answer: reason },
    }
}

fn react(documents: &[Document], mood: Mood) -> Reaction {
    if mood != Mood::Well && one_in(10) {
        return Reaction::hang();
    }
    if mood != Mood::Well && one_in(200) {
        return Reaction::panic();
    }
    let mut outcomes: Vec<_> = documents
        .iter()
        .map(|document| outcome(document, mood))
        .collect();
    let mut reaction = Reaction::ok();
    reaction.delay = delay(50);
    reaction.back = delay(20);
    let poison = documents.iter().any(poisonous);
    reaction.answer = Some(match mood {
        // The batch as a whole, at times.
        Mood::Well if poison && one_in(2) => Answer::Whole(Outcome::Rejected {
            reason: "a bad one".into(),
        }),
        Mood::Wild | Mood::Down if one_in(2) => Answer::Whole(outcomes.swap_remove(0)),
        Mood::Wild if one_in(20) => Answer::Each(Vec::new()),
        _ => Answer::Each(outcomes),
    });
    reaction
}

struct Chaos {
    world: World,
    mood: Arc<Mutex<Mood>>,
}

impl Chaos {
    fn new() -> Self {
        let mut options = options();
        options.concurrency = fastrand::usize(1..5).try_into().unwrap();
        options.breaker.failures = fastrand::u32(1..8).try_into().unwrap();
        options.timeout = TIMEOUT;
        let mut world = World::new(options);
        world.ledger.set_latency(delay(30));
        world.receiver.set_limits(Limits {
            batch: fastrand::choice([1, 1, 3, 8]).unwrap(),
            interval: fastrand::choice([0, 0, 20])
                .map(Duration::from_millis)
                .unwrap(),
            concurrency: None,
        });
        let mood = Arc::new(Mutex::new(Mood::Well));
        let moods = Arc::clone(&mood);
        world.receiver.behave(move |documents| {
            let mood = *moods.lock().unwrap();
            react(documents, mood)
        });
        Self { world, mood }
    }

    fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn event(&mut self) {
        let account = fastrand::u32(0..ACCOUNTS);
        let kind = match fastrand::u32(0..10) {
            0 => Kind::Destroyed,
            1 => Kind::Created,
            _ => Kind::Changed,
        };
        for _ in 0..if one_in(10) { 20 } else { 1 } {
            self.world.event(account, kind);
        }
    }

    async fn step(&mut self) {
        let moods = [
            Mood::Well,
            Mood::Wild,
            Mood::Wild,
            Mood::Down,
            Mood::Denying,
        ];
        match fastrand::u32(0..100) {
            0..45 => self.event(),
            45..65 => tokio::time::sleep(delay(100)).await,
            65..75 => tokio::time::sleep(delay(30_000)).await,
            75..77 => tokio::time::sleep(delay(1_000_000)).await,
            77..85 => self.feel(fastrand::choice(moods).unwrap()),
            85..88 => {
                self.world.stop().await;
                self.world.start();
            }
            88..92 => self.crash().await,
            92..94 => self.lose_store().await,
            94 if one_in(2) => {
                self.world.receiver.forget_told(TIMEOUT);
                self.world.ledger.lose(0);
            }
            94..97 => self.reload(),
            // The clock is set, by up to a day.
            97 if one_in(2) => clock::set(fastrand::i64(-86_400_000..86_400_000)),
            _ => self.order().await,
        }
    }

    async fn crash(&mut self) {
        self.world
            .dispatchers
            .take()
            .expect("it was started")
            .crash()
            .await;
        self.world.ledger.lose(fastrand::usize(0..6));
        // The calls that died with it are noticed.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.world.receiver.forget_told(Duration::ZERO);
        self.world.start();
    }

    async fn lose_store(&mut self) {
        self.world.ledger.close();
        self.world.ledger.lose(fastrand::usize(0..6));
        tokio::time::sleep(delay(3_000)).await;
        self.world.ledger.open();
        self.world.receiver.forget_told(TIMEOUT);
    }

    fn reload(&mut self) {
        if one_in(2) {
            self.world.identity = fastrand::u32(..).to_string();
            self.world.receiver.forget_told(TIMEOUT);
        }
        self.world.dispatchers().reload(self.world.targets());
    }

    async fn order(&mut self) {
        let account = one_in(2).then(|| fastrand::u32(0..ACCOUNTS).to_string());
        let actions = [
            Action::Pause,
            Action::Resume,
            Action::Resume,
            Action::Backfill,
            Action::Retry {
                app: None,
                account,
                all_parked: one_in(2),
            },
        ];
        let action = fastrand::choice(actions).unwrap();
        if action == Action::Backfill {
            self.world.receiver.forget_told(TIMEOUT);
        }
        // Refused orders are part of it.
        let _ = self.world.dispatchers().act("crm", action).await;
    }

    /// The target is well from now on: it must get to know everything.
    async fn converge(&mut self) {
        self.feel(Mood::Well);
        while self
            .world
            .dispatchers()
            .act("crm", Action::Resume)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for round in 0.. {
            // An account whose success tells denied ones from a target that denies everything.
            self.world.change("beacon");
            tokio::time::sleep(Duration::from_mins(2)).await;
            let status = self.world.status();
            if status.due == 0 && status.inflight == 0 {
                break;
            }
            assert!(round < 60, "does not converge: {status:?}");
        }
    }

    fn check(&self) {
        self.world.receiver.check();
        let accounts = self.world.ledger.store().accounts(None, "", 1000).unwrap();
        let epoch = self.world.ledger.store().targets().unwrap()["crm"].epoch;
        let mut parked = 0;
        for (account, known) in accounts {
            let held = self
                .world
                .receiver
                .inner()
                .held
                .get(&account.account)
                .copied();
            let newest = (known.revision, known.profile.status());
            let delivery = self.world.delivery(&account);
            let gone = held.is_none() && newest.1 == Status::Destroyed;
            if let Some(trouble) = &delivery.trouble {
                assert_eq!(trouble.next, Next::Parked, "{account:?}");
                assert_eq!(trouble.revision, newest.0, "{account:?}");
                let refused = (account.account.clone(), newest.0);
                assert!(
                    self.world.receiver.inner().refused.contains(&refused),
                    "{refused:?}"
                );
                parked += 1;
            } else {
                if newest.1 == Status::Active {
                    let state = (delivery.epoch, delivery.delivered);
                    assert_eq!(state, (epoch, newest.0), "{account:?}");
                }
                assert!(
                    gone || held == Some(newest),
                    "{account:?} {held:?} {newest:?} {delivery:?}"
                );
            }
        }
        assert_eq!(self.world.status().parked, parked);
    }
}

async fn run() {
    let mut chaos = Chaos::new();
    for _ in 0..fastrand::u32(0..10) {
        chaos.event();
    }
    chaos.world.start();
    for _ in 0..STEPS {
        chaos.step().await;
    }
    chaos.converge().await;
    chaos.check();
    chaos.world.stop().await;
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn every_promise_holds_whatever_happens() {
    let seeds = match number("PROFILESYNC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PROFILESYNC_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        println!("seed {seed}");
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run());
    }
}
