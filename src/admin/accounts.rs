//! Accounts and their events, read from the store. Reads may scan, so they run on threads that may block.

use serde::Deserialize;
use warp::http::StatusCode;

use super::{
    problem::Problem,
    view::{Account, AccountDetail, Accounts, Delivery, History},
};
use crate::{
    event::AccountId,
    store::{Store, StoreError},
};

/// Most accounts or events in one answer.
const LIMIT_MAX: usize = 1000;
/// As many as nobody asked for otherwise.
const LIMIT: usize = 100;

/// The query of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ListQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// How many; capped.
    limit: Option<usize>,
    /// Part of an account's id.
    q: Option<String>,
}

/// The query of a history, which has no pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// How many; capped.
    limit: Option<usize>,
}

fn capped(limit: Option<usize>) -> usize {
    limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX)
}

/// One page of accounts.
pub(super) async fn list(store: Store, query: ListQuery) -> Result<Accounts, Problem> {
    let after = query.after.as_deref().map(parse_cursor).transpose()?;
    let limit = capped(query.limit);
    let search = query.q.unwrap_or_default();
    let mut found = read(move || store.accounts(after.as_ref(), &search, limit + 1)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(id, _)| cursor(id));
    let accounts = found.iter().map(|(id, account)| Account::of(id, account));
    Ok(Accounts {
        accounts: accounts.collect(),
        next,
    })
}

/// One account, and what the targets hold of it.
pub(super) async fn show(store: Store, id: AccountId) -> Result<AccountDetail, Problem> {
    read(move || {
        let Some(account) = store.account(&id)? else {
            return Ok(Err(unknown(&id)));
        };
        let mut targets = Vec::new();
        for (name, target) in store.targets()? {
            if let Some(state) = store.delivery(target.id, &id)? {
                targets.push(Delivery::of(name, state));
            }
        }
        Ok(Ok(AccountDetail {
            account: Account::of(&id, &account),
            history: account.history,
            targets,
        }))
    })
    .await?
}

/// The events of an account.
pub(super) async fn history(
    store: Store,
    id: AccountId,
    query: HistoryQuery,
) -> Result<History, Problem> {
    let limit = capped(query.limit);
    read(move || {
        if store.account(&id)?.is_none() {
            return Ok(Err(unknown(&id)));
        }
        let events = store.history(&id, limit)?;
        Ok(Ok(History {
            events: events.into_iter().map(Into::into).collect(),
        }))
    })
    .await?
}

async fn read<T, F>(read: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => Ok(result?),
        Err(panic) => {
            tracing::error!(error = %panic, "a read for the admin API panicked");
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the store's answer could not be read; see the daemon's log",
            ))
        }
    }
}

fn unknown(id: &AccountId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("app {} has no account {:?}", id.app, id.account),
    )
}

fn cursor(id: &AccountId) -> String {
    format!("{}/{}", id.app, id.account)
}

fn parse_cursor(cursor: &str) -> Result<AccountId, Problem> {
    cursor
        .split_once('/')
        .and_then(|(app, account)| {
            Some(AccountId {
                app: app.parse().ok()?,
                account: account.to_owned(),
            })
        })
        .ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "after must be `next` of the page before, or sdk_app_id/account",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let id = AccountId {
            app: 1_400_000_000,
            account: "@TOA#_a/b".into(),
        };
        assert_eq!(parse_cursor(&cursor(&id)), Ok(id));
        for wrong in ["", "1400000000", "x/y", "-1/y"] {
            assert_eq!(
                parse_cursor(wrong).unwrap_err().status,
                400,
                "{wrong:?} passes"
            );
        }
    }

    #[test]
    fn limits_are_capped() {
        assert_eq!(capped(None), 100);
        assert_eq!(capped(Some(0)), 1);
        assert_eq!(capped(Some(7)), 7);
        assert_eq!(capped(Some(1_000_000)), 1000);
    }
}
