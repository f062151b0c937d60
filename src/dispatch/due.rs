//! Whether a target is to be told of an account now. Pure: the answer follows from what the store holds.

use profilesync_target::Status;

use super::{backoff, settle::millis};
use crate::{
    clock::Millis,
    config::{OnDestroy, Retry, TargetOptions},
    event::AccountId,
    store::records::{Account, DeliveryState, Next, Trouble, settings_of},
};

/// Why a dispatcher looks at an account. Where there are several reasons the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// It changed.
    Change,
    /// The time of its retry has come.
    Retry,
    /// A backfill came by.
    Backfill,
    /// An operator asked, or the target recovered: neither backoff nor parking counts.
    Forced,
}

/// What to do about an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Deliver its newest revision.
    Deliver,
    /// Nothing now: the target has it, is not to have it, or it waits for its time.
    Leave,
    /// Nothing any more: its trouble is over.
    Clear,
}

/// Decides about one account, given what it is (`account`) and what the target was told of it (`state`).
pub(super) fn decide(
    options: &TargetOptions,
    epoch: u32,
    cause: Cause,
    (id, account, state): (&AccountId, &Account, &DeliveryState),
    now: Millis,
) -> Decision {
    if !wanted(options, epoch, cause, (id, account, state)) {
        return match state.trouble {
            Some(_) => Decision::Clear,
            None => Decision::Leave,
        };
    }
    let parked_yet = |trouble: &Trouble| trouble.revision == account.revision;
    match &state.trouble {
        _ if cause == Cause::Forced => Decision::Deliver,
        Some(trouble) => match trouble.next {
            Next::Retry { at, .. } if now < at && !astray(&options.retry, at, now) => {
                Decision::Leave
            }
            Next::Parked if cause != Cause::Backfill && parked_yet(trouble) => Decision::Leave,
            _ => Decision::Deliver,
        },
        None => Decision::Deliver,
    }
}

/// Whether a retry is later than any can be: it was put off when the clock was ahead, or by other settings. Nobody is
/// to wait for that.
pub(super) fn astray(retry: &Retry, at: Millis, now: Millis) -> bool {
    now.saturating_add(millis(backoff::longest(retry))) < at
}

/// Whether the target lacks something of the account that it is to have.
fn wanted(
    options: &TargetOptions,
    epoch: u32,
    cause: Cause,
    (id, account, state): (&AccountId, &Account, &DeliveryState),
) -> bool {
    if !selected(options, id) {
        return false;
    }
    if account.profile.status() == Status::Destroyed {
        if options.on_destroy == OnDestroy::Skip {
            return false;
        }
        // A backfill tells of live accounts, and of a destroyed one only if the target may still hold it.
        let told = account.status_revision <= state.delivered
            && settings_of(state.epoch) == settings_of(epoch);
        let may_hold = state.delivered > 0 && !told;
        if cause == Cause::Backfill && state.trouble.is_none() && !may_hold {
            return false;
        }
    }
    let known = state.epoch == epoch && state.delivered > 0;
    !known || differs(options, account, state.delivered)
}

/// Whether the options let this account through.
fn selected(options: &TargetOptions, id: &AccountId) -> bool {
    let app = options
        .apps
        .as_ref()
        .is_none_or(|apps| apps.contains(&id.app));
    let globs = options.accounts.as_ref();
    app && globs.is_none_or(|globs| globs.is_match(&id.account))
}

/// Whether something changed since revision `delivered` that the target is to be told of.
fn differs(options: &TargetOptions, account: &Account, delivered: u64) -> bool {
    let Some(fields) = &options.fields else {
        return account.revision > delivered;
    };
    let changed = |field| {
        account
            .field_revisions
            .get(field)
            .is_some_and(|&at| at > delivered)
    };
    account.status_revision > delivered || fields.iter().any(changed)
}

#[cfg(test)]
mod tests {
    use globset::{Glob, GlobSetBuilder};

    use super::*;
    use crate::{dispatch::sim::options, event::Field, store::records::after_new_settings};

    const NOW: Millis = 1_000_000;
    /// The longest delay by default.
    const LONGEST: Millis = 3_600_000;

    fn account(revision: u64) -> Account {
        let mut account = Account {
            revision,
            status_revision: 1,
            ..Account::default()
        };
        account.profile.alive_at = 1;
        account.field_revisions.insert(Field::Name, revision);
        account
    }

    fn destroyed(revision: u64) -> Account {
        let mut account = account(revision);
        account.profile.destroyed_at = 2;
        account.status_revision = revision;
        account
    }

    fn delivered(epoch: u32, delivered: u64) -> DeliveryState {
        DeliveryState {
            epoch,
            delivered,
            ..DeliveryState::default()
        }
    }

    fn troubled(revision: u64, next: Next) -> DeliveryState {
        let trouble = Trouble {
            since: 1,
            attempts: 1,
            revision,
            at: 1,
            reason: "no".into(),
            next,
        };
        DeliveryState {
            trouble: Some(trouble),
            ..delivered(1, 1)
        }
    }

    fn check(
        options: &TargetOptions,
        cause: Cause,
        account: &Account,
        state: &DeliveryState,
        expected: Decision,
    ) {
        let id = AccountId {
            app: 7,
            account: "shop-1".into(),
        };
        let decision = decide(options, 1, cause, (&id, account, state), NOW);
        assert_eq!(decision, expected, "{cause:?} {account:?} {state:?}");
    }

    #[test]
    fn a_revision_is_delivered_once_per_epoch() {
        let options = options();
        check(
            &options,
            Cause::Change,
            &account(1),
            &delivered(0, 0),
            Decision::Deliver,
        );
        check(
            &options,
            Cause::Change,
            &account(2),
            &delivered(1, 1),
            Decision::Deliver,
        );
        check(
            &options,
            Cause::Change,
            &account(2),
            &delivered(1, 2),
            Decision::Leave,
        );
        check(
            &options,
            Cause::Backfill,
            &account(2),
            &delivered(0, 2),
            Decision::Deliver,
        );
        check(
            &options,
            Cause::Forced,
            &account(2),
            &delivered(1, 2),
            Decision::Leave,
        );
    }

    #[test]
    fn backoff_and_parking_hold_until_something_lifts_them() {
        let options = options();
        let later = Next::Retry {
            at: NOW + LONGEST,
            fault: false,
        };
        let due = Next::Retry {
            at: NOW,
            fault: false,
        };
        for (cause, state, expected) in [
            (Cause::Change, troubled(2, later), Decision::Leave),
            (Cause::Backfill, troubled(2, later), Decision::Leave),
            (Cause::Forced, troubled(2, later), Decision::Deliver),
            (Cause::Retry, troubled(2, due), Decision::Deliver),
            (Cause::Change, troubled(2, Next::Parked), Decision::Deliver),
            (Cause::Change, troubled(3, Next::Parked), Decision::Leave),
            (Cause::Retry, troubled(3, Next::Parked), Decision::Leave),
            (
                Cause::Backfill,
                troubled(3, Next::Parked),
                Decision::Deliver,
            ),
            (Cause::Forced, troubled(3, Next::Parked), Decision::Deliver),
        ] {
            check(&options, cause, &account(3), &state, expected);
        }
        // The clock was ahead when that was written.
        let never = Next::Retry {
            at: NOW + LONGEST + 1,
            fault: true,
        };
        check(
            &options,
            Cause::Change,
            &account(3),
            &troubled(2, never),
            Decision::Deliver,
        );
        check(
            &options,
            Cause::Retry,
            &account(1),
            &troubled(1, due),
            Decision::Clear,
        );
    }

    #[test]
    fn filters_leave_out_and_clear_what_they_left_out() {
        let mut options = options();
        options.apps = Some(vec![8]);
        check(
            &options,
            Cause::Change,
            &account(1),
            &delivered(0, 0),
            Decision::Leave,
        );
        check(
            &options,
            Cause::Retry,
            &account(2),
            &troubled(2, Next::Parked),
            Decision::Clear,
        );
        options.apps = Some(vec![7]);
        let globs = |glob| {
            GlobSetBuilder::new()
                .add(Glob::new(glob).unwrap())
                .build()
                .unwrap()
        };
        options.accounts = Some(globs("shop-*"));
        check(
            &options,
            Cause::Change,
            &account(1),
            &delivered(0, 0),
            Decision::Deliver,
        );
        options.accounts = Some(globs("news-*"));
        check(
            &options,
            Cause::Change,
            &account(1),
            &delivered(0, 0),
            Decision::Leave,
        );
    }

    #[test]
    fn only_the_named_fields_and_the_status_count() {
        let mut options = options();
        options.fields = Some(vec![Field::FaceUrl]);
        check(
            &options,
            Cause::Change,
            &account(5),
            &delivered(1, 4),
            Decision::Leave,
        );
        check(
            &options,
            Cause::Change,
            &account(5),
            &delivered(0, 0),
            Decision::Deliver,
        );
        check(
            &options,
            Cause::Backfill,
            &account(5),
            &delivered(0, 4),
            Decision::Deliver,
        );
        let mut changed = account(5);
        changed.field_revisions.insert(Field::FaceUrl, 5);
        check(
            &options,
            Cause::Change,
            &changed,
            &delivered(1, 4),
            Decision::Deliver,
        );
        check(
            &options,
            Cause::Change,
            &destroyed(5),
            &delivered(1, 4),
            Decision::Deliver,
        );
    }

    #[test]
    fn a_destroy_reaches_whoever_may_hold_the_account() {
        let mut options = options();
        check(
            &options,
            Cause::Change,
            &destroyed(2),
            &delivered(0, 0),
            Decision::Deliver,
        );
        check(
            &options,
            Cause::Backfill,
            &destroyed(2),
            &delivered(0, 0),
            Decision::Leave,
        );
        check(
            &options,
            Cause::Backfill,
            &destroyed(2),
            &delivered(0, 2),
            Decision::Leave,
        );
        check(
            &options,
            Cause::Backfill,
            &destroyed(2),
            &delivered(0, 1),
            Decision::Deliver,
        );
        // Under other settings it was told, and another target perhaps.
        let elsewhere = delivered(after_new_settings(1), 2);
        check(
            &options,
            Cause::Backfill,
            &destroyed(2),
            &elsewhere,
            Decision::Deliver,
        );
        let parked = troubled(2, Next::Parked);
        check(
            &options,
            Cause::Backfill,
            &destroyed(2),
            &parked,
            Decision::Deliver,
        );
        options.on_destroy = OnDestroy::Skip;
        check(
            &options,
            Cause::Change,
            &destroyed(2),
            &delivered(1, 1),
            Decision::Leave,
        );
        check(
            &options,
            Cause::Retry,
            &destroyed(2),
            &parked,
            Decision::Clear,
        );
    }
}
