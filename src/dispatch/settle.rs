//! What an outcome makes of a delivery's state. Pure: time and chance are parameters.

use std::time::Duration;

use profilesync_target::Outcome;

use super::backoff;
use crate::{
    clock::Millis,
    config::Retry,
    event::AccountId,
    store::records::{DeliveryState, Next, Trouble},
};

/// Characters of a reason that are kept.
pub(super) const REASON: usize = 300;
/// Characters of an answer that are kept. In a shadow it is all that would have been sent.
const ANSWER: usize = 2000;

/// One account in a call, and what was known of it before.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: AccountId,
    /// What is being sent.
    pub(super) revision: u64,
    /// The target's epoch then.
    pub(super) epoch: u32,
    pub(super) before: DeliveryState,
    /// Whether the trouble before is history: something lifted it, so that counting begins anew.
    pub(super) afresh: bool,
}

/// The state after an outcome. A denial counts as the target's fault here; the caller has made a rejection of it
/// where there is evidence. `draw` is uniform in `[0, 1)`.
pub(super) fn settle(
    retry: &Retry,
    attempt: &Attempt,
    outcome: &Outcome,
    now: Millis,
    draw: f64,
) -> DeliveryState {
    let mut state = attempt.before.clone();
    let failure = |fault: bool, after: Option<Duration>| {
        let (since, attempts) = history(attempt, fault, now);
        let given_up = !fault && now.saturating_sub(since) >= millis(retry.give_up_after);
        let next = if given_up {
            Next::Parked
        } else {
            let delay = millis(backoff::delay(retry, attempts, after, draw));
            let at = now.saturating_add(delay);
            Next::Retry { at, fault }
        };
        (since, attempts, next)
    };
    let (since, attempts, next) = match outcome {
        Outcome::Delivered { answer } => {
            state.epoch = attempt.epoch;
            state.delivered = attempt.revision;
            state.delivered_at = now;
            state.answer = excerpt(answer, ANSWER);
            state.trouble = None;
            return state;
        }
        Outcome::Rejected { .. } => {
            let (since, attempts) = history(attempt, false, now);
            (since, attempts, Next::Parked)
        }
        Outcome::Retry { after, .. } => failure(false, *after),
        Outcome::Fault { after, .. } => failure(true, *after),
        Outcome::Denied { .. } => failure(true, None),
    };
    state.trouble = Some(Trouble {
        since,
        attempts,
        revision: attempt.revision,
        at: now,
        reason: excerpt(outcome.text(), REASON),
        next,
    });
    state
}

/// Since when the account has been failing, and how often by now. The time the target was to blame for is not
/// held against the account, nor that in which it was due and not tried: an open breaker, a pause, a daemon that was off.
fn history(attempt: &Attempt, fault: bool, now: Millis) -> (Millis, u32) {
    match &attempt.before.trouble {
        Some(Trouble {
            next: Next::Retry { fault: true, .. },
            ..
        }) if !fault => (now, 1),
        Some(trouble) if !attempt.afresh => {
            let idle = match trouble.next {
                Next::Retry { at, .. } if !fault => now.saturating_sub(at),
                _ => 0,
            };
            let since = trouble.since.saturating_add(idle);
            (since, trouble.attempts.saturating_add(1))
        }
        _ => (now, 1),
    }
}

/// The state in which a parked or waiting delivery is due at once, as if it had never failed.
pub(super) fn lifted(before: &DeliveryState, now: Millis) -> DeliveryState {
    let mut state = before.clone();
    if let Some(trouble) = &mut state.trouble {
        trouble.since = now;
        trouble.attempts = 0;
        let fault = false;
        trouble.next = Next::Retry { at: now, fault };
    }
    state
}

/// The first characters of a text a target gave us, on one line.
pub(super) fn excerpt(text: &str, most: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut excerpt: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

pub(super) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3_600_000;
    const RETRY: Retry = Retry {
        initial: Duration::from_secs(1),
        max: Duration::from_mins(5),
        max_delay: Duration::from_hours(1),
        give_up_after: Duration::from_hours(24),
    };

    fn attempt(revision: u64, before: DeliveryState) -> Attempt {
        Attempt {
            id: AccountId {
                app: 1,
                account: "a".into(),
            },
            revision,
            epoch: 2,
            before,
            afresh: false,
        }
    }

    fn retry(after: Option<Duration>) -> Outcome {
        Outcome::Retry {
            reason: "busy".into(),
            after,
        }
    }

    fn fault() -> Outcome {
        Outcome::Fault {
            reason: "down".into(),
            after: None,
        }
    }

    fn after(attempt: &Attempt, outcome: &Outcome, now: Millis) -> DeliveryState {
        settle(&RETRY, attempt, outcome, now, 0.5)
    }

    #[test]
    fn a_success_clears_the_trouble() {
        let failed = after(&attempt(3, DeliveryState::default()), &retry(None), HOUR);
        let trouble = failed.trouble.clone().unwrap();
        assert_eq!(
            (trouble.since, trouble.attempts, trouble.revision),
            (HOUR, 1, 3)
        );
        assert_eq!(
            trouble.next,
            Next::Retry {
                at: HOUR + 500,
                fault: false
            }
        );
        let delivered = Outcome::Delivered {
            answer: "200 OK\n".into(),
        };
        let state = after(&attempt(4, failed), &delivered, 2 * HOUR);
        let expected = DeliveryState {
            epoch: 2,
            delivered: 4,
            delivered_at: 2 * HOUR,
            answer: "200 OK ".into(),
            trouble: None,
        };
        assert_eq!(state, expected);
    }

    #[test]
    fn an_account_is_given_up_on_after_a_day_but_never_for_the_targets_faults() {
        let mut state = DeliveryState::default();
        for hour in 0..48 {
            state = after(&attempt(1, state), &fault(), hour * HOUR);
            let next = state.trouble.as_ref().unwrap().next;
            assert!(matches!(next, Next::Retry { fault: true, .. }));
        }
        let later = retry(Some(Duration::from_hours(1)));
        for hour in 48..72 {
            state = after(&attempt(1, state), &later, hour * HOUR);
            let next = state.trouble.as_ref().unwrap().next;
            assert!(matches!(next, Next::Retry { fault: false, .. }), "{hour}");
        }
        state = after(&attempt(1, state), &later, 72 * HOUR);
        assert_eq!(state.trouble.as_ref().unwrap().next, Next::Parked);
        let again = Attempt {
            afresh: true,
            ..attempt(2, state)
        };
        let trouble = after(&again, &retry(None), 73 * HOUR).trouble.unwrap();
        assert_eq!((trouble.since, trouble.attempts), (73 * HOUR, 1));
        assert!(matches!(trouble.next, Next::Retry { .. }));
    }

    #[test]
    fn the_time_in_which_an_account_was_due_and_not_tried_does_not_count() {
        let later = retry(Some(Duration::from_hours(1)));
        let mut state = DeliveryState::default();
        for hour in 0..23 {
            state = after(&attempt(1, state), &later, hour * HOUR);
        }
        // The weekend.
        state = after(&attempt(1, state), &later, 83 * HOUR);
        let trouble = state.trouble.as_ref().unwrap();
        assert_eq!(trouble.since, 60 * HOUR);
        assert!(matches!(trouble.next, Next::Retry { .. }));
        // A retry that was asked for comes before its time.
        state = after(&attempt(1, state), &later, 84 * HOUR - 1);
        assert!(matches!(
            state.trouble.as_ref().unwrap().next,
            Next::Retry { .. }
        ));
        state = after(&attempt(1, state), &later, 85 * HOUR - 1);
        assert_eq!(state.trouble.unwrap().next, Next::Parked);
    }

    #[test]
    fn a_delay_the_target_asks_for_is_kept_up_to_the_limit() {
        for (asked, waits) in [(60, 60_000), (86_400, HOUR)] {
            let outcome = retry(Some(Duration::from_secs(asked)));
            let state = after(&attempt(1, DeliveryState::default()), &outcome, HOUR);
            let expected = Next::Retry {
                at: HOUR + waits,
                fault: false,
            };
            assert_eq!(state.trouble.unwrap().next, expected);
        }
    }

    #[test]
    fn a_rejection_parks_and_lifting_makes_due() {
        let outcome = Outcome::Rejected {
            reason: "x".repeat(1000),
        };
        let parked = after(&attempt(5, DeliveryState::default()), &outcome, HOUR);
        let trouble = parked.trouble.clone().unwrap();
        assert_eq!((trouble.next, trouble.revision), (Next::Parked, 5));
        assert_eq!(trouble.reason.chars().count(), REASON + 1);
        let trouble = lifted(&parked, 9 * HOUR).trouble.unwrap();
        let next = Next::Retry {
            at: 9 * HOUR,
            fault: false,
        };
        assert_eq!(
            (trouble.since, trouble.attempts, trouble.next),
            (9 * HOUR, 0, next)
        );
    }
}
