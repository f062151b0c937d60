//! The suite itself: it passes a target that keeps every promise, and catches each way to break one.

#![cfg(feature = "conformance")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Outcome, ReadBack, State, Status, Target,
    conformance::{self, Peer, World},
};

/// How a target is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    TakesOlderRevisions,
    KeepsDestroyed,
    FoldsCase,
    ForgetsTheApp,
    RejectsWhenDead,
    ClaimsDeliveryWhenDead,
    ShowsItsSecret,
    AnswersForOneOnly,
    StopsHalfWay,
    WritesWhenProbed,
    BlamesTheBatch,
    BlamesTheNextAccount,
    ReadsBackStaleState,
    ReadsBackDestroyed,
    StripsAccounts,
    RunsAppAndAccountTogether,
    TakesAccountsForPaths,
    TrimsNames,
    ChangesLineEnds,
    ForgetsTheDestroyed,
}

struct Memory {
    defect: Defect,
    peer: Mutex<Peer>,
    held: Mutex<BTreeMap<(u64, String), Document>>,
    refused: Mutex<Option<(u64, String)>>,
}

impl Memory {
    fn key(&self, sdk_app_id: u64, account: &str) -> (u64, String) {
        match self.defect {
            Defect::FoldsCase => (sdk_app_id, account.to_lowercase()),
            Defect::ForgetsTheApp => (0, account.to_owned()),
            Defect::StripsAccounts => (sdk_app_id, account.trim().to_owned()),
            Defect::RunsAppAndAccountTogether => (0, format!("{sdk_app_id}{account}")),
            Defect::TakesAccountsForPaths => {
                (sdk_app_id, account.rsplit('/').next().unwrap().to_owned())
            }
            _ => (sdk_app_id, account.to_owned()),
        }
    }

    fn take(&self, Delivery { document }: &Delivery) -> Outcome {
        let account = (document.sdk_app_id, document.account.clone());
        if self.refused.lock().unwrap().as_ref() == Some(&account) {
            let reason = "it is on the list".to_owned();
            return Outcome::Rejected { reason };
        }
        self.put(document);
        let answer = "kept".to_owned();
        Outcome::Delivered { answer }
    }

    fn put(&self, document: &Document) {
        let key = self.key(document.sdk_app_id, &document.account);
        let mut held = self.held.lock().unwrap();
        let known = held.get(&key).map_or(0, |known| known.revision);
        if known > document.revision && self.defect != Defect::TakesOlderRevisions {
            return;
        }
        match document.status {
            Status::Destroyed if self.defect == Defect::ForgetsTheDestroyed => held.remove(&key),
            // A destroyed one too, for its revision.
            _ => held.insert(key, self.tidied(document)),
        };
    }

    /// The document as it is kept.
    fn tidied(&self, document: &Document) -> Document {
        let name = document.name.as_ref().map(|name| match self.defect {
            Defect::TrimsNames => name.trim().to_owned(),
            Defect::ChangesLineEnds => name.replace("\r\n", "\n"),
            _ => name.clone(),
        });
        Document {
            name,
            ..document.clone()
        }
    }

    /// What is to be seen of an account.
    fn look(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let held = self.held.lock().unwrap();
        let document = held.get(&self.key(sdk_app_id, account))?;
        let seen = document.status == Status::Active || self.defect == Defect::KeepsDestroyed;
        seen.then(|| document.clone())
    }
}

#[async_trait]
impl Target for Memory {
    fn limits(&self) -> profilesync_target::Limits {
        profilesync_target::Limits {
            batch: 3,
            ..Default::default()
        }
    }

    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        let peer = *self.peer.lock().unwrap();
        let reason = "the peer is dead".to_owned();
        match (peer, self.defect) {
            (Peer::Well, _) | (Peer::Dead, Defect::ClaimsDeliveryWhenDead) => (),
            (Peer::Dead, Defect::RejectsWhenDead) => {
                return Answer::Whole(Outcome::Rejected { reason });
            }
            (Peer::Dead, _) => {
                return Answer::Whole(Outcome::Fault {
                    reason,
                    after: None,
                });
            }
            (Peer::Slow, _) => std::future::pending().await,
        }
        if self.defect == Defect::StopsHalfWay {
            self.held.lock().unwrap().clear();
        }
        tokio::task::yield_now().await;
        let mut outcomes: Vec<_> = batch.iter().map(|delivery| self.take(delivery)).collect();
        let refused = outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Rejected { .. }));
        match self.defect {
            Defect::AnswersForOneOnly => outcomes.truncate(1),
            Defect::BlamesTheNextAccount => outcomes.rotate_right(1),
            Defect::BlamesTheBatch if refused => {
                outcomes.fill(Outcome::Rejected {
                    reason: "one of these".into(),
                });
            }
            _ => (),
        }
        Answer::Each(outcomes)
    }

    async fn probe(&self) -> Result<(), String> {
        if self.defect == Defect::WritesWhenProbed {
            self.held.lock().unwrap().clear();
        }
        match *self.peer.lock().unwrap() {
            Peer::Well => Ok(()),
            peer => Err(format!("the peer is {peer:?}")),
        }
    }

    fn read_back(&self) -> Option<&dyn ReadBack> {
        Some(self)
    }

    fn render(&self, document: &Document) -> Result<String, String> {
        let secret = if self.defect == Defect::ShowsItsSecret {
            "hunter2"
        } else {
            "***"
        };
        Ok(format!("{secret} {document:?}"))
    }
}

#[async_trait]
impl ReadBack for Memory {
    async fn held(&self, documents: &[Document]) -> Result<Vec<Option<State>>, String> {
        self.probe().await?;
        let state = |document: &Document| {
            let held = self.look(document.sdk_app_id, &document.account);
            held.map(|held| match self.defect {
                Defect::ReadsBackStaleState => State::new(),
                _ => state_of(&held),
            })
        };
        Ok(documents.iter().map(state).collect())
    }

    fn wanted(&self, document: &Document) -> Option<State> {
        match (document.status, self.defect) {
            (Status::Destroyed, Defect::ReadsBackDestroyed) => Some(state_of(document)),
            (Status::Destroyed, _) => None,
            (_, Defect::ReadsBackStaleState) => Some(State::new()),
            _ => Some(state_of(document)),
        }
    }
}

fn state_of(document: &Document) -> State {
    match serde_json::to_value(document).unwrap() {
        serde_json::Value::Object(members) => members,
        other => panic!("a document is an object, not {other}"),
    }
}

#[async_trait]
impl World for Memory {
    fn target(&self) -> &dyn Target {
        self
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        self.look(sdk_app_id, account)
    }

    fn compares_revisions(&self) -> bool {
        true
    }

    fn remembers_destroyed(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        vec!["hunter2".into()]
    }

    async fn refuse(&self, sdk_app_id: u64, account: &str) -> bool {
        *self.refused.lock().unwrap() = Some((sdk_app_id, account.to_owned()));
        true
    }

    async fn turn(&self, peer: Peer) -> bool {
        *self.peer.lock().unwrap() = peer;
        true
    }
}

/// Whether a target with this defect passes.
async fn passes(defect: Defect) -> bool {
    let check = conformance::check(async move || Memory {
        defect,
        peer: Mutex::new(Peer::Well),
        held: Mutex::default(),
        refused: Mutex::default(),
    });
    tokio::task::LocalSet::new()
        .run_until(async { tokio::task::spawn_local(check).await.is_ok() })
        .await
}

#[tokio::test]
async fn a_good_target_passes() {
    assert!(passes(Defect::None).await);
}

#[tokio::test]
async fn every_defect_is_caught() {
    for defect in [
        Defect::TakesOlderRevisions,
        Defect::KeepsDestroyed,
        Defect::FoldsCase,
        Defect::ForgetsTheApp,
        Defect::RejectsWhenDead,
        Defect::ClaimsDeliveryWhenDead,
        Defect::ShowsItsSecret,
        Defect::AnswersForOneOnly,
        Defect::StopsHalfWay,
        Defect::WritesWhenProbed,
        Defect::BlamesTheBatch,
        Defect::BlamesTheNextAccount,
        Defect::ReadsBackStaleState,
        Defect::ReadsBackDestroyed,
        Defect::StripsAccounts,
        Defect::RunsAppAndAccountTogether,
        Defect::TakesAccountsForPaths,
        Defect::TrimsNames,
        Defect::ChangesLineEnds,
        Defect::ForgetsTheDestroyed,
    ] {
        assert!(!passes(defect).await, "{defect:?} passes");
    }
}
