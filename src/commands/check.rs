//! `profilesync check`: is the configuration right, and on request, do the targets answer?

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::print;
use crate::{
    config::{Config, Target, load::load},
    exit::{Exit, Failure},
    table::harmless,
    targets::{self, KINDS, OpenedTarget},
};

/// How it is called.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// Contact the targets too
    #[arg(long)]
    probe: bool,
}

/// Loads the configuration and opens its targets, says what was found and contacts the targets if asked to.
///
/// # Errors
/// When the configuration is wrong, or a target does not answer as it should.
pub async fn run(config: &Path, args: &CheckArgs) -> Result<(), Failure> {
    let loaded = load(config, KINDS, targets::open).map_err(|mistakes| mistakes.into_failure())?;
    loaded.warnings.print();
    print(&summary(&loaded.config))?;
    if args.probe {
        probe(&loaded.targets).await?;
    }
    Ok(())
}

fn summary(config: &Config) -> String {
    let list = |names: Vec<String>| match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    let files = config.files.iter().map(|file| file.display().to_string());
    let apps = config.apps.values().map(|app| {
        let unsigned = if app.tokens.is_empty() {
            ", unsigned"
        } else {
            ""
        };
        format!("{} ({}{unsigned})", app.name, app.sdk_app_id)
    });
    format!(
        "files:    {}\napps:     {}\nlistener: {} {}\nstore:    {}\ntargets:  {}\nthe configuration is right\n",
        list(files.collect()),
        list(apps.collect()),
        config.listener.address,
        config.listener.path,
        config.store.path.display(),
        list(config.targets.values().map(describe).collect()),
    )
}

fn describe(target: &Target) -> String {
    let disabled = if target.options.enabled {
        ""
    } else {
        ", disabled"
    };
    format!("{} ({}{disabled})", target.name, target.kind.name)
}

/// Contacts all targets at the same time and prints a line for each.
async fn probe(targets: &BTreeMap<String, OpenedTarget>) -> Result<(), Failure> {
    let answers = join_all(targets.values().map(|opened| async move {
        let limit = opened.options.timeout;
        timeout(limit, opened.target.probe())
            .await
            .unwrap_or_else(|_| {
                Err(format!(
                    "does not answer within {}",
                    profilesync_target::Period(limit)
                ))
            })
    }))
    .await;
    let mut text = String::new();
    for (name, answer) in targets.keys().zip(&answers) {
        let answer = answer
            .as_ref()
            .map_or_else(|error| harmless(error), |()| "ok".into());
        writeln!(text, "{name}: {answer}").expect("writing into a string does not fail");
    }
    print(&text)?;
    match answers.iter().filter(|answer| answer.is_err()).count() {
        0 => Ok(()),
        failed => Err(Failure::new(
            Exit::Failed,
            format!("{failed} of {} targets cannot be reached", answers.len()),
        )),
    }
}
