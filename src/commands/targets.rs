//! `profilesync targets`: their state, and what an operator does to one.

use clap::{Args, Subcommand};

use super::{accounts, print, print_json, status};
use crate::{
    admin::view::{Acted, RetryRequest, Targets},
    client::{Client, segment},
    clock,
    exit::Failure,
    table::{coloured, harmless},
};

/// How it is called.
#[derive(Args, Debug)]
pub struct TargetsArgs {
    #[command(subcommand)]
    action: Option<TargetsAction>,
    /// Print the JSON of the admin API
    #[arg(long, global = true)]
    json: bool,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum TargetsAction {
    /// Show every target (the default)
    List,
    /// Deliver nothing to a target until it is resumed
    Pause {
        /// The target
        name: String,
    },
    /// Go on delivering to a paused target
    Resume {
        /// The target
        name: String,
    },
    /// Try again now what waits for a retry, or was given up on
    Retry(RetryArgs),
    /// Deliver every account to a target anew
    Backfill {
        /// The target
        name: String,
    },
    /// Let a target go on that its guard holds
    Approve {
        /// The target
        name: String,
    },
}

/// Which accounts to try again.
#[derive(Args, Debug)]
struct RetryArgs {
    /// The target
    name: String,
    /// Only this account, even if it was given up on: its id, or APP/ID where several apps have it
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// The account's app, by name or SDKAppID
    #[arg(long, value_name = "APP", requires = "account")]
    app: Option<String>,
    /// Only accounts that were given up on, and all of those
    #[arg(long, conflicts_with = "account")]
    all_parked: bool,
}

/// Shows the targets, or acts on one.
///
/// # Errors
/// When the daemon does not answer or refuses.
pub async fn run(client: &Client, args: &TargetsArgs) -> Result<(), Failure> {
    let (name, verb) = match &args.action {
        None | Some(TargetsAction::List) => return list(client, args.json).await,
        Some(TargetsAction::Retry(which)) => return retry(client, which, args.json).await,
        Some(TargetsAction::Pause { name }) => (name, "pause"),
        Some(TargetsAction::Resume { name }) => (name, "resume"),
        Some(TargetsAction::Backfill { name }) => (name, "backfill"),
        Some(TargetsAction::Approve { name }) => (name, "approve"),
    };
    let path = format!("/v1/targets/{}/{verb}", segment(name));
    tell(
        &client.post(&path, &serde_json::json!({})).await?,
        args.json,
    )
}

async fn retry(client: &Client, which: &RetryArgs, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/targets/{}/retry", segment(&which.name));
    let given = which.account.as_ref().map(|id| match &which.app {
        Some(app) => format!("{app}/{id}"),
        None => id.clone(),
    });
    let id = match given {
        Some(given) => Some(accounts::find(client, &given).await?),
        None => None,
    };
    let request = RetryRequest {
        app: id.as_ref().map(|id| id.app),
        account: id.map(|id| id.account),
        all_parked: which.all_parked,
    };
    tell(&client.post(&path, &request).await?, json)
}

fn tell(acted: &Acted, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&serde_json::json!(acted).to_string());
    }
    print(&format!("{}\n", harmless(&acted.done)))
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&client.text("/v1/targets").await?);
    }
    let Targets { targets } = client.get("/v1/targets").await?;
    if targets.is_empty() {
        return print("no targets are configured\n");
    }
    let table = status::targets(&targets, clock::now()).render(coloured());
    print(&(table + &status::advice(&targets)))
}
