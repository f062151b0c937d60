//! The command line: what can be called, and how. What the commands do is in `commands`.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable,
};
use clap_complete::Shell;

#[cfg(feature = "exec")]
use crate::commands::plugin::{self, PluginArgs};
use crate::{
    client::Client,
    commands::{
        accounts::{self, AccountsArgs},
        check::{self, CheckArgs},
        history::{self, HistoryArgs},
        init::{self, InitArgs},
        print, reload, schema,
        send::{self, SendArgs},
        status::{self, StatusArgs},
        store::{self, StoreArgs},
        targets::{self, TargetsArgs},
    },
    config::peek,
    daemon,
    exit::{Exit, Failure},
    logging::{self, LogFormat},
    systemd,
};

/// The variable that names the configuration.
const CONFIG_VARIABLE: &str = "PROFILESYNC_CONFIG";

/// The heading of the options that every command has.
const COMMON: &str = "Common options";

/// How long the end waits for threads that are still at something.
const HANGING: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  profilesync init .                                   write a starter configuration here
  profilesync check -c profilesync.toml                is it right?
  profilesync run -c profilesync.toml                  start
  profilesync send --account '@TOA#_test' --name Test  play the sender
  profilesync status --watch                           see what happens

Exit codes: 0 done, 1 failed, 2 wrong usage, 69 the daemon does not answer, 75 try again later,
78 the configuration is wrong";

// clap takes `{n}` for a line break; a style code inside hides it from clap and from readers.
const SEND_EXAMPLES: &str = "\
Examples:
  profilesync send --account '@TOA#_test' --name 'New name'
  profilesync send --account '@TOA#_test' --event destroyed
  profilesync send --app production --file event.json
  profilesync send --account '@TOA#_{\x1b[0mn}' --name 'No. {\x1b[0mn}' --count 1000 --rate 50/s
  profilesync send --url https://hooks.example.com/ --app 1400000000 --token-file token \\
    --account '@TOA#_test'";

const TARGETS_EXAMPLES: &str = "\
Examples:
  profilesync targets
  profilesync targets pause crm
  profilesync targets retry crm --account '@TOA#_test'
  profilesync targets retry crm --all-parked";

const STORE_EXAMPLES: &str = "\
Examples:
  profilesync store backup /var/backups/profilesync.snapshot
  systemctl stop profilesync && sudo -u profilesync profilesync store check
  profilesync store dump | jq .";

const ACCOUNTS_EXAMPLES: &str = "\
Examples:
  profilesync accounts --query test
  profilesync accounts '@TOA#_test'
  profilesync accounts 'production/@TOA#_test' --json";

/// Keeps external systems in sync with Tencent Cloud Chat Official Account profiles
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    /// The configuration [default: /etc/profilesync/profilesync.toml]
    #[arg(long, short, global = true, value_name = "FILE", env = CONFIG_VARIABLE, help_heading = COMMON)]
    config: Option<PathBuf>,
    /// How the log on standard error looks
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t, help_heading = COMMON)]
    log: LogFormat,
    /// A level, or directives as module=level [default: info for run, warn for others]
    #[arg(long, global = true, value_name = "FILTER", env = "PROFILESYNC_LOG", help_heading = COMMON)]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the daemon
    Run,
    /// Check the configuration, and with --probe the targets
    Check(CheckArgs),
    /// Write a commented starter configuration
    Init(InitArgs),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Show apps, events and targets at a glance
    Status {
        #[command(flatten)]
        daemon: DaemonArgs,
        #[command(flatten)]
        args: StatusArgs,
    },
    /// List the accounts, or show one
    #[command(after_help = ACCOUNTS_EXAMPLES)]
    Accounts {
        #[command(flatten)]
        daemon: DaemonArgs,
        #[command(flatten)]
        args: AccountsArgs,
    },
    /// Show the events of an account
    History {
        #[command(flatten)]
        daemon: DaemonArgs,
        #[command(flatten)]
        args: HistoryArgs,
    },
    /// Show the targets, or pause, resume, retry, backfill or approve one
    #[command(after_help = TARGETS_EXAMPLES)]
    Targets {
        #[command(flatten)]
        daemon: DaemonArgs,
        #[command(flatten)]
        args: TargetsArgs,
    },
    /// Make the daemon read its configuration again
    Reload {
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Check, dump, back up, restore or rebuild the state directory
    #[command(after_help = STORE_EXAMPLES)]
    Store {
        #[command(flatten)]
        daemon: DaemonArgs,
        #[command(flatten)]
        args: StoreArgs,
    },
    /// Play the sender: build, sign and post events
    #[command(after_help = SEND_EXAMPLES)]
    Send(Box<SendArgs>),
    /// Begin a plugin, a target of your own in any language, or try one out
    #[cfg(feature = "exec")]
    Plugin(PluginArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands into a folder
    Man {
        /// The folder
        folder: Option<PathBuf>,
    },
}

/// How the daemon is found.
#[derive(Args, Debug)]
struct DaemonArgs {
    /// The daemon's admin socket [default: admin.socket of the configuration, else /run/profilesync/admin.sock]
    #[arg(long, global = true, value_name = "PATH", help_heading = COMMON)]
    socket: Option<PathBuf>,
}

impl DaemonArgs {
    fn client(self, config: &peek::File) -> Result<Client, Failure> {
        let socket = match self.socket {
            Some(socket) => socket,
            None => config
                .socket()
                .map_err(|mistakes| mistakes.into_failure())?,
        };
        Client::new(socket)
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also the way of --help and --version; a closed pipe is no reason to panic.
            let _ = error.print();
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            return exit.into();
        }
    };
    match start(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            eprint!("{}", failure.report());
            failure.exit.into()
        }
    }
}

fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    // Set to nothing is not set.
    if std::env::var_os(CONFIG_VARIABLE).is_some_and(|value| value.is_empty()) {
        command = command.mut_arg("config", |config| config.env(Resettable::Reset));
    }
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn start(cli: Cli) -> Result<(), Failure> {
    let level = match cli.command {
        Command::Run => "info",
        // What a plugin under test says on standard error is for its author.
        #[cfg(feature = "exec")]
        Command::Plugin(_) => "warn,profilesync_exec=info",
        _ => "warn",
    };
    // A variable that is set to nothing says nothing.
    let asked = cli.log_level.as_deref().filter(|filter| !filter.is_empty());
    logging::init(cli.log, asked.unwrap_or(level))?;
    // Every TLS connection of this process, in or out. It fails when there is a provider: then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // By their numbers, so before anything else opens a file.
    let handed = match cli.command {
        Command::Run => systemd::sockets()?,
        _ => systemd::Sockets::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "no threads can be started").because(error))?;
    let config = peek::File::new(cli.config);
    let ended = runtime.block_on(run(cli.command, &config, handed));
    // What hangs outside of this process, as the command of a secret, is not to keep it from ending.
    runtime.shutdown_timeout(HANGING);
    ended
}

async fn run(
    command: Command,
    config: &peek::File,
    handed: systemd::Sockets,
) -> Result<(), Failure> {
    match command {
        Command::Run => daemon::run(config.path(), handed).await,
        Command::Check(args) => check::run(config.path(), &args).await,
        Command::Init(args) => init::run(&args),
        Command::Schema => schema::run(),
        Command::Status { daemon, args } => status::run(&daemon.client(config)?, &args).await,
        Command::Accounts { daemon, args } => accounts::run(&daemon.client(config)?, &args).await,
        Command::History { daemon, args } => history::run(&daemon.client(config)?, &args).await,
        Command::Targets { daemon, args } => targets::run(&daemon.client(config)?, &args).await,
        Command::Reload { daemon } => reload::run(&daemon.client(config)?).await,
        Command::Store { daemon, args } => {
            store::run(|| daemon.client(config), config, &args).await
        }
        Command::Send(args) => send::run(config.path(), &args).await,
        #[cfg(feature = "exec")]
        Command::Plugin(args) => plugin::run(&args).await,
        Command::Completions { shell } => completions(shell),
        Command::Man { folder } => man(folder.as_deref()),
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "profilesync", &mut script);
    print(&String::from_utf8_lossy(&script))
}

fn man(folder: Option<&Path>) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Failed, "the manual cannot be written").because(error)
    };
    if let Some(folder) = folder {
        return clap_mangen::generate_to(Cli::command(), folder).map_err(failed);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(failed)?;
    print(&String::from_utf8_lossy(&page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for line in [
            "profilesync -c x.toml status --socket s",
            "profilesync status --socket s -c x.toml",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.config.as_deref(), Some(Path::new("x.toml")));
        }
    }

    #[test]
    fn usage_errors_are_told() {
        for line in [
            "profilesync",
            "profilesync send",
            "profilesync send --account a --file b",
            "profilesync targets retry crm --account a --all-parked",
            "profilesync completions tcsh",
            "profilesync plugin new crm",
            "profilesync plugin test",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
