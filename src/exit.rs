//! How a command ends: its exit code, and the error that is printed once, on stderr, by `main`.

use std::{error::Error, fmt::Write as _, process::ExitCode};

/// The exit codes, as `sysexits.h` knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It did not.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The daemon (or, for `send`, the listener) does not answer.
    Unreachable = 69,
    /// Not now: another process holds the state directory.
    TryAgain = 75,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: what it ends with, what is wrong, why, and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    message: String,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
    help: Option<String>,
}

impl Failure {
    /// A failure without a cause of its own.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            cause: None,
            help: None,
        }
    }

    /// The same failure, caused by `cause`.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same failure with a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The whole text for stderr: the error, its causes, the way out.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = format!("error: {}\n", chain(self));
        if let Some(help) = &self.help {
            writeln!(report, "help: {help}").expect("writing into a string does not fail");
        }
        report
    }
}

/// An error and its causes in one line. A cause that its error repeats already is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !text.ends_with(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        cause = error.source();
    }
    text
}

/// The cause behind all others.
#[must_use]
pub fn root<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn report_says_what_why_and_the_way_out() {
        let failure = Failure::new(Exit::Unreachable, "cannot reach the daemon")
            .because(io::Error::other("connection refused"))
            .help("is it running?");
        assert_eq!(
            failure.report(),
            "error: cannot reach the daemon: connection refused\nhelp: is it running?\n"
        );
    }
}
