//! `profilesync accounts`: the profiles, as a list or one by one.

use std::num::NonZeroUsize;

use clap::Args;
use profilesync_target::Status as Life;
use reqwest::StatusCode;

use super::{print, print_json};
use crate::{
    admin::view::{AccountDetail, Accounts, Delivery, Status},
    client::{Client, ClientError, segment},
    clock,
    event::AccountId,
    exit::{Exit, Failure},
    table::{Cell, Colour, Table, coloured, count, harmless, time},
};

/// How it is called.
#[derive(Args, Debug)]
pub struct AccountsArgs {
    /// Show this one: its id, or APP/ID where several apps have it
    id: Option<String>,
    /// List only accounts whose id contains this
    #[arg(long, short, value_name = "TEXT", conflicts_with = "id")]
    query: Option<String>,
    /// List at most so many
    #[arg(long, value_name = "N", default_value = "100", conflicts_with = "id")]
    limit: NonZeroUsize,
    /// List from after this one: APP/ID, as the end of the page before says
    #[arg(long, value_name = "APP/ID", conflicts_with = "id")]
    after: Option<String>,
    /// Print the JSON of the admin API
    #[arg(long)]
    json: bool,
}

/// Lists accounts, or shows one.
///
/// # Errors
/// When the daemon does not answer, or there is no such account, or more than one.
pub async fn run(client: &Client, args: &AccountsArgs) -> Result<(), Failure> {
    match &args.id {
        Some(id) => show(client, id, args.json).await,
        None => list(client, args).await,
    }
}

async fn list(client: &Client, args: &AccountsArgs) -> Result<(), Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    if let Some(text) = &args.query {
        query.append_pair("q", text);
    }
    if let Some(after) = &args.after {
        query.append_pair("after", &cursor(client, after).await?);
    }
    let path = format!("/v1/accounts?{}", query.finish());
    if args.json {
        let text = client.text(&path).await?;
        print_json(&text)?;
        if let Ok(Accounts {
            next: Some(next), ..
        }) = serde_json::from_str(&text)
        {
            eprint!("{}", more(&next));
        }
        return Ok(());
    }
    print(&page(&client.get(&path).await?, coloured()))
}

/// What the API takes: it knows apps by their ids alone.
async fn cursor(client: &Client, after: &str) -> Result<String, Failure> {
    let status: Status = client.get("/v1/status").await?;
    Ok(match of_app(after, &apps(&status)) {
        Some(id) => format!("{}/{}", id.app, id.account),
        None => after.to_owned(),
    })
}

fn page(page: &Accounts, coloured: bool) -> String {
    if page.accounts.is_empty() {
        return "no accounts\n".into();
    }
    let mut table = Table::new(&["APP", "ACCOUNT", "REVISION", "STATUS", "NAME", "CHANGED"]);
    for account in &page.accounts {
        let document = &account.document;
        let (status, colour) = life(document.status);
        table.row(vec![
            Cell::text(document.sdk_app_id.to_string()),
            Cell::text(&document.account),
            Cell::number(document.revision),
            Cell::text(status).colour(colour),
            Cell::text(document.name.as_deref().unwrap_or_default()),
            Cell::text(time(account.changed_at)),
        ]);
    }
    let mut text = table.render(coloured);
    if let Some(next) = &page.next {
        text += &more(next);
    }
    text
}

/// That this is not all, and how to get the rest.
fn more(next: &str) -> String {
    let next = harmless(next).replace('\'', r"'\''");
    format!("more: --after '{next}'\n")
}

async fn show(client: &Client, given: &str, json: bool) -> Result<(), Failure> {
    let path = path(&find(client, given).await?);
    if json {
        return print_json(&client.text(&path).await?);
    }
    print(&detail(&client.get(&path).await?, coloured()))
}

fn detail(detail: &AccountDetail, coloured: bool) -> String {
    let document = &detail.account.document;
    let (status, _) = life(document.status);
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        text += &format!("{:<14}{}\n", format!("{label}:"), harmless(value));
    };
    let field = |value: &Option<String>| match value {
        Some(value) => format!("{value:?}"),
        None => "-".into(),
    };
    line("app", &document.sdk_app_id.to_string());
    line("account", &document.account);
    line("status", status);
    line("revision", &document.revision.to_string());
    line("name", &field(&document.name));
    line("introduction", &field(&document.introduction));
    line("face url", &field(&document.face_url));
    line("organization", &field(&document.organization));
    line("owner", &field(&document.owner));
    line("operator", &field(&document.operator));
    for (name, value) in &document.extra {
        line(name, &value.to_string());
    }
    line("event time", &time(document.event_time));
    line("changed", &time(detail.account.changed_at));
    line("history", &count(u64::from(detail.history), "event"));
    if !detail.targets.is_empty() {
        let table = deliveries(&detail.targets, document.revision);
        text += &format!("\n{}", table.render(coloured));
    }
    text
}

fn deliveries(deliveries: &[Delivery], revision: u64) -> Table {
    let mut table = Table::new(&["TARGET", "HOLDS", "SINCE", "ANSWER", "TROUBLE"]);
    for delivery in deliveries {
        let colour = if delivery.delivered == revision {
            Colour::Green
        } else {
            Colour::Yellow
        };
        table.row(vec![
            Cell::text(&delivery.target),
            Cell::number(delivery.delivered).colour(colour),
            Cell::text(delivery.delivered_at.map_or_else(String::new, time)),
            Cell::text(delivery.answer.as_deref().unwrap_or_default()),
            trouble(delivery, revision),
        ]);
    }
    table
}

fn trouble(delivery: &Delivery, revision: u64) -> Cell {
    let Some(trouble) = &delivery.trouble else {
        return Cell::text(match delivery.delivered < revision {
            true => "not sent: the target waits, or its filters leave this change out",
            false => "",
        });
    };
    let next = match trouble.next {
        Some(next) if next <= clock::now() => "next try when the target works".into(),
        Some(next) => format!("next try {}", time(next)),
        None => "parked".into(),
    };
    let (revision, attempts, reason) = (trouble.revision, trouble.attempts, &trouble.reason);
    let text = format!("revision {revision}, attempt {attempts}, {next}: {reason}");
    Cell::text(text).colour(Colour::Red)
}

fn life(status: Life) -> (&'static str, Colour) {
    match status {
        Life::Active => ("active", Colour::Green),
        Life::Destroyed => ("destroyed", Colour::Yellow),
    }
}

/// The API's path of an account.
pub(super) fn path(id: &AccountId) -> String {
    format!("/v1/accounts/{}/{}", id.app, segment(&id.account))
}

/// The account that an argument means: an id, or app and id. It exists.
pub(super) async fn find(client: &Client, given: &str) -> Result<AccountId, Failure> {
    let status: Status = client.get("/v1/status").await?;
    let mut found = Vec::new();
    for id in meanings(given, &apps(&status)) {
        match client.text(&path(&id)).await {
            Ok(_) => found.push(id),
            Err(ClientError::Refused(problem)) if problem.status == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error.into()),
        }
    }
    let unclear = |message: String| Failure::new(Exit::Failed, message);
    match found.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(unclear(format!("there is no account {given:?}")).help(
            "see `profilesync accounts`, or search with `profilesync accounts --query TEXT`",
        )),
        several => {
            let ids = several
                .iter()
                .map(|id| format!("{}/{}", id.app, id.account));
            Err(unclear(format!("{given:?} is an account of several apps"))
                .help(format!("say which: {}", ids.collect::<Vec<_>>().join(", "))))
        }
    }
}

/// The names and ids of the apps.
fn apps(status: &Status) -> Vec<(&str, u64)> {
    let apps = status.apps.iter();
    apps.map(|app| (app.name.as_str(), app.sdk_app_id))
        .collect()
}

/// Every account an argument can mean.
fn meanings(given: &str, apps: &[(&str, u64)]) -> Vec<AccountId> {
    let of_any = apps.iter().map(|&(_, app)| AccountId {
        app,
        account: given.to_owned(),
    });
    of_app(given, apps).into_iter().chain(of_any).collect()
}

/// What an argument means as APP/ID.
fn of_app(given: &str, apps: &[(&str, u64)]) -> Option<AccountId> {
    let (app, id) = given.split_once('/')?;
    let named = apps.iter().find(|(name, _)| *name == app);
    Some(AccountId {
        app: named.map(|&(_, id)| id).or_else(|| app.parse().ok())?,
        account: id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use profilesync_target::Document;

    use super::*;
    use crate::admin::view::{Account, Trouble};

    fn account() -> Account {
        Account {
            document: Document {
                sdk_app_id: 1_400_000_000,
                account: "@TOA#_a".into(),
                revision: 7,
                status: Life::Active,
                name: Some("公众\u{1b}".into()),
                introduction: None,
                face_url: None,
                organization: Some(String::new()),
                owner: None,
                operator: Some("leckie".into()),
                event_time: 1_670_574_414_123,
                extra: serde_json::Map::from_iter([("Type".into(), 1.into())]),
            },
            changed_at: 1_670_574_414_200,
        }
    }

    #[test]
    fn list_as_text() {
        let accounts = Accounts {
            accounts: vec![account()],
            next: Some("1400000000/@TOA#_a".into()),
        };
        let expected = "\
APP         ACCOUNT  REVISION  STATUS  NAME        CHANGED
1400000000  @TOA#_a         7  active  公众\\u{1b}  2022-12-09T08:26:54.200Z
more: --after '1400000000/@TOA#_a'
";
        assert_eq!(page(&accounts, false), expected);
    }

    #[test]
    fn one_as_text() {
        let account = AccountDetail {
            account: account(),
            history: 9,
            targets: vec![
                Delivery {
                    target: "crm".into(),
                    delivered: 6,
                    delivered_at: Some(1_670_574_000_000),
                    answer: Some("200 OK".into()),
                    trouble: Some(Trouble {
                        revision: 7,
                        since: 1,
                        attempts: 2,
                        at: 2,
                        reason: "422 name too long".into(),
                        next: None,
                    }),
                },
                Delivery {
                    target: "export".into(),
                    delivered: 6,
                    delivered_at: None,
                    answer: None,
                    trouble: None,
                },
            ],
        };
        let expected = "\
app:          1400000000
account:      @TOA#_a
status:       active
revision:     7
name:         \"公众\\u{1b}\"
introduction: -
face url:     -
organization: \"\"
owner:        -
operator:     \"leckie\"
Type:         1
event time:   2022-12-09T08:26:54.123Z
changed:      2022-12-09T08:26:54.200Z
history:      9 events

TARGET  HOLDS  SINCE                     ANSWER  TROUBLE
crm         6  2022-12-09T08:20:00.000Z  200 OK  revision 7, attempt 2, parked: 422 name too long
export      6  -                         -       not sent: the target waits, or its filters leave this change out
";
        assert_eq!(detail(&account, false), expected);
    }

    #[test]
    fn an_argument_may_name_the_app() {
        let apps = [("production", 1), ("test", 2)];
        let texts = |given| {
            let ids = meanings(given, &apps).into_iter();
            ids.map(|id| format!("{} {}", id.app, id.account))
                .collect::<Vec<_>>()
        };
        assert_eq!(texts("x"), ["1 x", "2 x"]);
        assert_eq!(texts("test/x"), ["2 x", "1 test/x", "2 test/x"]);
        assert_eq!(texts("3/x"), ["3 x", "1 3/x", "2 3/x"]);
    }
}
