//! A configured secret: where it comes from, and its value once read.

use std::{fmt, path::PathBuf, process::Command};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A secret as written in the configuration: a string, or one of `{ env = "X" }`, `{ file = "p" }`,
/// `{ credential = "n" }` (systemd's `$CREDENTIALS_DIRECTORY`), `{ command = ["…"] }`.
///
/// Prints and serialises as `***`. [`Secret::read`] gets the value.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secret {
    /// Written out in the configuration.
    Inline(String),
    /// Kept elsewhere.
    Kept(Keeper),
}

/// Where a secret is kept.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// An environment variable.
    Env(String),
    /// A file; one trailing line end is cut.
    File(PathBuf),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A program's standard output; one trailing line end is cut.
    Command(Vec<String>),
}

/// A secret that cannot be read. Never contains the secret.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SecretError {
    message: String,
}

impl Secret {
    /// Reads the value from where it is kept.
    ///
    /// # Errors
    /// When the place does not exist, cannot be read, is empty or is not UTF-8; the message says which place and
    /// the way out.
    pub fn read(&self) -> Result<String, SecretError> {
        let value = match self {
            Self::Inline(value) => value.clone(),
            Self::Kept(keeper) => keeper.read().map_err(|message| SecretError { message })?,
        };
        if value.is_empty() {
            return Err(SecretError {
                message: format!("the secret {} is empty", self.place()),
            });
        }
        Ok(value)
    }

    fn place(&self) -> String {
        match self {
            Self::Inline(_) => "in the configuration".into(),
            Self::Kept(Keeper::Env(name)) => format!("in the environment variable {name}"),
            Self::Kept(Keeper::File(path)) => format!("in the file {}", path.display()),
            Self::Kept(Keeper::Credential(name)) => format!("in the systemd credential {name}"),
            Self::Kept(Keeper::Command(command)) => format!("printed by the command {command:?}"),
        }
    }
}

impl Keeper {
    fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|_| {
                format!("the environment variable {name} is not set, or is not UTF-8")
            }),
            Self::File(path) => read_file(path.clone()),
            Self::Credential(name) => {
                if name.contains('/') {
                    return Err(format!(
                        "{name:?} is no credential name: it contains a slash"
                    ));
                }
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!(
                        "the credential {name} cannot be read: $CREDENTIALS_DIRECTORY is not set; \
                         systemd sets it for a unit with LoadCredential={name}:…"
                    )
                })?;
                read_file(PathBuf::from(folder).join(name))
            }
            Self::Command(command) => run(command),
        }
    }
}

fn read_file(path: PathBuf) -> Result<String, String> {
    let text = std::fs::read_to_string(&path).map_err(|error| {
        format!(
            "the secret's file {} cannot be read: {error}",
            path.display()
        )
    })?;
    Ok(cut_line_end(text))
}

fn run(command: &[String]) -> Result<String, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("the secret's command is empty".into());
    };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("the secret's command {program:?} does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the secret's command {program:?} failed: {}",
            output.status
        ));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| {
        format!("the secret's command {program:?} printed something that is not UTF-8")
    })?;
    Ok(cut_line_end(text))
}

fn cut_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}
