//! `profilesync plugin test`: the conformance suite over any program.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    path::PathBuf,
};

use clap::Args;
use profilesync_exec::trial::{BLIND, Trial};
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

const PROVES_LITTLE: &str = "\
warning: this proves little. The plugin cannot be read back, so nobody saw what it holds: it may lose, mix up or overwrite
accounts and pass. Let it answer `read` with what it holds of an account, and say \"read_back\": true in its hello:
\"Read\" in plugins/exec/PROTOCOL.md. It may do so in tests alone.
";

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
    let (mut passed, mut failed, mut skipped, mut unseen) = (0, 0, 0, 0);
    let mut told = HashMap::new();
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
                    unseen += usize::from(reason == BLIND);
                    format!("skipped  {name}: {}\n", harmless(&reason))
                }
                Err(broken) => {
                    failed += 1;
                    format!("FAILED   {name}\n{}", failure(name, &broken, &mut told))
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
    if 0 < unseen {
        print(&format!("\n{PROVES_LITTLE}"))?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "a check failed")),
        _ => Err(Failure::new(
            Exit::Failed,
            format!("{failed} checks failed"),
        )),
    }
}

/// The lines that say how a check failed. One mistake fails most checks: where one saw the same as one before it, or other
/// values of the same members, that is not told again.
fn failure(name: &str, broken: &str, told: &mut HashMap<String, String>) -> String {
    let (first, seen) = broken.split_once('\n').unwrap_or((broken, ""));
    let is_value = |line: &&str| line.starts_with("    ");
    let what = seen.lines().filter(|line| !is_value(line)).collect();
    let seen = match told.entry(what) {
        Entry::Occupied(before) if !seen.is_empty() => format!("  as in: {}", before.get()),
        entry => {
            entry.or_insert_with(|| name.to_owned());
            seen.to_owned()
        }
    };
    let lines = std::iter::once(first).chain(seen.lines());
    lines
        .map(|line| format!("           {}\n", harmless(line)))
        .collect()
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
