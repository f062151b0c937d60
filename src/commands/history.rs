//! `profilesync history`: the events of one account.

use clap::Args;

use super::{accounts, print, print_json};
use crate::{
    admin::view::{Event, History},
    client::Client,
    exit::Failure,
    table::{harmless, time},
};

/// How it is called.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// The account: its id, or APP/ID where several apps have it
    id: String,
    /// Show at most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print the JSON of the admin API
    #[arg(long)]
    json: bool,
}

/// Shows an account's events, the newest `EventTime` first.
///
/// # Errors
/// When the daemon does not answer, or there is no such account, or more than one.
pub async fn run(client: &Client, args: &HistoryArgs) -> Result<(), Failure> {
    let id = accounts::find(client, &args.id).await?;
    let path = format!("{}/history?limit={}", accounts::path(&id), args.limit);
    if args.json {
        return print_json(&client.text(&path).await?);
    }
    let history: History = client.get(&path).await?;
    print(&history.events.iter().map(text).collect::<String>())
}

/// Two lines: when and what; the body.
fn text(event: &Event) -> String {
    let command = event.command.rsplit("Callback").next().unwrap_or_default();
    format!(
        "{}  {}  (received {})\n  {}\n",
        time(event.event_time),
        harmless(command),
        time(event.received),
        harmless(&event.body.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_as_text() {
        let event = Event {
            event_time: 1_670_574_414_123,
            received: 1_670_574_414_200,
            seq: 5,
            command: "OfficialAccount.CallbackAfterOfficialAccountInfoChanged".into(),
            digest: String::new(),
            body: serde_json::json!({"Name": "New\u{9b}"}),
        };
        let expected = "\
2022-12-09T08:26:54.123Z  AfterOfficialAccountInfoChanged  (received 2022-12-09T08:26:54.200Z)
  {\"Name\":\"New\\u{9b}\"}
";
        assert_eq!(text(&event), expected);
    }
}
