//! `profilesync targets`: their state, and what an operator does to one.

use clap::{Args, Subcommand};

use super::{print, print_json, status};
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
    #[arg(long)]
    json: bool,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum TargetsAction {
    /// Show every target (the default)
    List {
        /// Print the JSON of the admin API
        #[arg(long)]
        json: bool,
    },
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
    /// Only this account, even if it was given up on
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// The account's app, where several are configured
    #[arg(long, value_name = "SDKAPPID", requires = "account")]
    app: Option<u64>,
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
        None => return list(client, args.json).await,
        Some(TargetsAction::List { json }) => return list(client, args.json || *json).await,
        Some(TargetsAction::Retry(which)) => return retry(client, which).await,
        Some(TargetsAction::Pause { name }) => (name, "pause"),
        Some(TargetsAction::Resume { name }) => (name, "resume"),
        Some(TargetsAction::Backfill { name }) => (name, "backfill"),
        Some(TargetsAction::Approve { name }) => (name, "approve"),
    };
    let path = format!("/v1/targets/{}/{verb}", segment(name));
    tell(&client.post(&path, &serde_json::json!({})).await?)
}

async fn retry(client: &Client, which: &RetryArgs) -> Result<(), Failure> {
    let path = format!("/v1/targets/{}/retry", segment(&which.name));
    let request = RetryRequest {
        app: which.app,
        account: which.account.clone(),
        all_parked: which.all_parked,
    };
    tell(&client.post(&path, &request).await?)
}

fn tell(acted: &Acted) -> Result<(), Failure> {
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
