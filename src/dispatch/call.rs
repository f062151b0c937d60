//! One call of a target: time limit, panics, and answers that do not fit the batch.
//!
//! A call that is cut off is over for us, but what was sent may still take effect at the target, after a newer
//! revision even. Nothing here can prevent that; the revision in the document lets a target notice.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use profilesync_target::{Answer, Delivery, Outcome};
use tokio::time::Instant;

use super::settle::Attempt;
use crate::{config::Mode, targets::OpenedTarget};

/// A call under way.
#[derive(Debug)]
pub(super) struct Call {
    /// Calls of a target are numbered as they start.
    pub(super) number: u64,
    /// Different accounts, in the order of the batch.
    pub(super) attempts: Vec<Attempt>,
    /// Whether it probes a target whose breaker is open.
    pub(super) probe: bool,
    /// Whether its accounts failed before.
    pub(super) again: bool,
    pub(super) started: Instant,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Fate {
    /// One outcome per account, in the order of the batch.
    Each(Vec<Outcome>),
    /// The batch was refused as a whole, and says nothing about each of its accounts.
    Refused,
}

/// Makes a call. Ends within the target's time limit, whatever the target does.
pub(super) async fn make(
    target: Arc<OpenedTarget>,
    call: Call,
    batch: Vec<Delivery>,
) -> (Call, Fate) {
    let limit = target.options.timeout;
    let answer = async {
        match target.options.mode {
            Mode::Live => target.target.deliver(&batch).await,
            Mode::Shadow => render(&target, &batch),
        }
    };
    let guarded = AssertUnwindSafe(answer).catch_unwind();
    let answer = match tokio::time::timeout(limit, guarded).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => fault("the target panicked; its message is in the log".into()),
        Err(_) => {
            let limit = humantime::format_duration(limit);
            fault(format!("no answer within {limit}"))
        }
    };
    (call, fate(answer, batch.len()))
}

/// Tells a target that nothing more will be delivered by it. Ends within its time limit.
pub(super) async fn close(target: &OpenedTarget) {
    let closed = AssertUnwindSafe(target.target.close()).catch_unwind();
    if !matches!(
        tokio::time::timeout(target.options.timeout, closed).await,
        Ok(Ok(()))
    ) {
        tracing::warn!(target = target.name, "it did not close well");
    }
}

fn fault(reason: String) -> Answer {
    Answer::Whole(Outcome::Fault {
        reason,
        after: None,
    })
}

fn fate(answer: Answer, count: usize) -> Fate {
    match answer {
        Answer::Each(outcomes) if outcomes.len() == count => Fate::Each(outcomes),
        Answer::Each(outcomes) => {
            let given = outcomes.len();
            let reason = format!("the target gave {given} outcomes for {count} documents");
            Fate::Each(vec![
                Outcome::Fault {
                    reason,
                    after: None
                };
                count
            ])
        }
        Answer::Whole(Outcome::Rejected { .. } | Outcome::Denied { .. }) if count > 1 => {
            Fate::Refused
        }
        Answer::Whole(outcome) => Fate::Each(vec![outcome; count]),
    }
}

/// What `mode = "shadow"` does instead of sending.
fn render(target: &OpenedTarget, batch: &[Delivery]) -> Answer {
    let outcome = |delivery: &Delivery| match target.target.render(&delivery.document) {
        Ok(text) => {
            let answer = format!("shadow: {text}");
            Outcome::Delivered { answer }
        }
        Err(reason) => Outcome::Rejected { reason },
    };
    Answer::Each(batch.iter().map(outcome).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_outcome_per_account() {
        let good = Outcome::Delivered {
            answer: "ok".into(),
        };
        let bad = Outcome::Rejected {
            reason: "no".into(),
        };
        let check = |answer, expected: Option<Vec<Outcome>>| match fate(answer, 2) {
            Fate::Each(outcomes) => assert_eq!(Some(outcomes), expected),
            Fate::Refused => assert_eq!(None, expected),
        };
        let each = vec![good.clone(), bad.clone()];
        check(Answer::Each(each.clone()), Some(each));
        check(
            Answer::Whole(good.clone()),
            Some(vec![good.clone(), good.clone()]),
        );
        check(Answer::Whole(bad), None);
        let reason = "the target gave 1 outcomes for 2 documents".into();
        let fault = Outcome::Fault {
            reason,
            after: None,
        };
        check(Answer::Each(vec![good]), Some(vec![fault.clone(), fault]));
    }
}
