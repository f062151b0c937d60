//! `profilesync plugin`: begin one, and try one out.

mod new;
mod test;

use clap::{Args, Subcommand};

use crate::exit::Failure;

/// How it is called.
#[derive(Args, Debug)]
pub struct PluginArgs {
    #[command(subcommand)]
    action: PluginAction,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum PluginAction {
    /// Write a plugin that works, to begin with
    #[command(after_help = new::EXAMPLES)]
    New(new::NewArgs),
    /// Run the conformance suite over a program, and say what it does wrong
    #[command(after_help = test::EXAMPLES)]
    Test(test::TestArgs),
}

/// Begins a plugin, or tries one out.
///
/// # Errors
/// When it cannot be written, or a check fails.
pub async fn run(args: &PluginArgs) -> Result<(), Failure> {
    match &args.action {
        PluginAction::New(args) => new::run(args),
        PluginAction::Test(args) => test::run(args).await,
    }
}
