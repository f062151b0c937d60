//! `profilesync history`: the events of one account.

use std::num::NonZeroUsize;

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
    #[arg(long, value_name = "N", default_value = "100")]
    limit: NonZeroUsize,
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

/// When and what, and below it the body.
fn text(event: &Event) -> String {
    let command = event.command.rsplit("Callback").next().unwrap_or_default();
    let mut text = format!(
        "{}  {}  (received {})\n",
        time(event.event_time),
        harmless(command),
        time(event.received),
    );
    for line in event.body.get().lines() {
        text += &format!("  {}\n", harmless(line));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn event_as_text() {
        let event = Event {
            event_time: 1_670_574_414_123,
            received: 1_670_574_414_200,
            seq: 5,
            command: "OfficialAccount.CallbackAfterOfficialAccountInfoChanged".into(),
            digest: String::new(),
            body: RawValue::from_string("{\"Name\":\"New\u{9b}\",\n \"Account\": 1.0}".into())
                .unwrap(),
        };
        let expected = "\
2022-12-09T08:26:54.123Z  AfterOfficialAccountInfoChanged  (received 2022-12-09T08:26:54.200Z)
  {\"Name\":\"New\\u{9b}\",
   \"Account\": 1.0}
";
        assert_eq!(text(&event), expected);
    }
}
