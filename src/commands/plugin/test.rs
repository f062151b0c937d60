//! `profilesync plugin test`: the conformance suite over any program.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use profilesync_exec::trial::Trial;
use profilesync_target::{OpenContext, Period, conformance::Verdict};

use crate::{
    commands::print,
    exit::{Exit, Failure},
    table::harmless,
};

pub(super) const EXAMPLES: &str = "\
It delivers accounts of apps that nobody has (numbers over 10^12), and leaves them at what the plugin \
writes to: have it write to a system for tests. plugins/exec/PROTOCOL.md says what the plugin must do.

Examples:
  profilesync plugin test -- python3 crm.py /tmp/try.db
  profilesync plugin test --env CRM_URL=http://127.0.0.1:8080 --env CRM_TOKEN -- ./crm

Exit codes: 0 every check passed or was skipped, 1 one failed";

/// How it is called.
#[derive(Args, Debug)]
pub(super) struct TestArgs {
    /// A variable of the program; without a value, as it is here. The program gets no others but PATH and the like
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// The `timeout` of the target it is to be
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: Period,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Makes every check and prints a line for each.
///
/// # Errors
/// When a check fails.
pub(super) async fn run(args: &TestArgs) -> Result<(), Failure> {
    let context = OpenContext {
        name: "test".into(),
        version: env!("CARGO_PKG_VERSION"),
        timeout: args.timeout.0,
        base: PathBuf::from("."),
    };
    let trial = Trial::new(args.command.clone(), variables(&args.env)?, context);
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut printed = Ok(());
    trial
        .run(|name, found| {
            let line = match found {
                Ok(Verdict::Passed) => {
                    passed += 1;
                    format!("ok       {name}\n")
                }
                Ok(Verdict::Skipped(reason)) => {
                    skipped += 1;
                    format!("skipped  {name}: {}\n", harmless(&reason))
                }
                Err(broken) => {
                    failed += 1;
                    let lines = broken
                        .lines()
                        .map(|line| format!("           {}\n", harmless(line)));
                    format!("FAILED   {name}\n{}", lines.collect::<String>())
                }
            };
            let line = print(&line);
            if printed.is_ok() {
                printed = line;
            }
        })
        .await;
    printed?;
    print(&format!(
        "{passed} passed, {failed} failed, {skipped} skipped\n"
    ))?;
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "a check failed")),
        _ => Err(Failure::new(
            Exit::Failed,
            format!("{failed} checks failed"),
        )),
    }
}

fn variables(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.clone(), value)),
            Err(error) => {
                let message = format!("the variable {text:?} cannot be handed on");
                Err(Failure::new(Exit::Usage, message).because(error))
            }
        },
    };
    given.iter().map(variable).collect()
}
