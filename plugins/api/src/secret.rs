//! A configured secret: where it comes from, and its value once read.

use std::{
    fmt::{self, Display},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
};
use toml::Spanned;

use crate::{Period, SettingsError};

/// How long a secret's command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks at a command that has closed its output.
const MOMENT: Duration = Duration::from_millis(5);

/// Bytes read of a command's output.
const MAX_OUTPUT: u64 = 1 << 20;

/// A secret as written in the configuration: a string, or one of `{ env = "X" }`, `{ file = "p" }`,
/// `{ credential = "n" }` (systemd's `$CREDENTIALS_DIRECTORY`), `{ command = ["…"] }`.
///
/// Prints and serialises as `***`. [`Secret::read`] gets the value.
#[derive(Clone, JsonSchema)]
#[schemars(untagged)]
pub enum Secret {
    /// Written out in the configuration.
    Inline(String),
    /// Kept elsewhere.
    Kept(Keeper),
}

/// Where a secret is kept.
#[derive(Clone, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Keeper {
    /// An environment variable.
    Env(String),
    /// A file; one trailing line end is cut.
    File(PathBuf),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A program's standard output; one trailing line end is cut. It has ten seconds.
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

    /// The same secret, its file taken from `folder` when it has a relative path; see
    /// [`OpenContext::base`](crate::OpenContext::base).
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::Kept(Keeper::File(path)) => Self::Kept(Keeper::File(folder.join(path))),
            other => other,
        }
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

/// Reads a secret of a target's settings; a relative path starts at `base`.
///
/// # Errors
/// What [`Secret::read`] says, pointing at the secret.
pub fn read_secret(secret: &Spanned<Secret>, base: &Path) -> Result<String, SettingsError> {
    let value = secret.get_ref().clone().within(base).read();
    value.map_err(|error| SettingsError::at(secret.span(), error.to_string()))
}

impl Keeper {
    fn is_nameless(&self) -> bool {
        match self {
            Self::Env(name) | Self::Credential(name) => name.is_empty(),
            Self::File(path) => path.as_os_str().is_empty(),
            Self::Command(command) => command.is_empty(),
        }
    }

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
                         systemd sets it for a unit with LoadCredential={name}:…; for a command, set it to the folder of \
                         the file"
                    )
                })?;
                read_file(PathBuf::from(folder).join(name))
            }
            Self::Command(command) => run(command, COMMAND_LIMIT),
        }
    }
}

fn read_file(path: PathBuf) -> Result<String, String> {
    let unreadable = |why: &dyn Display| {
        let path = path.display();
        format!("the secret's file {path} cannot be read: {why}")
    };
    // To open a pipe can take for ever.
    match fs::metadata(&path) {
        Ok(found) if !found.is_file() => return Err(unreadable(&"it is no regular file")),
        _ => {}
    }
    let text = fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
    Ok(cut_line_end(text))
}

fn run(command: &[String], limit: Duration) -> Result<String, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("the secret's command is empty".into());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the secret's command {program:?} does not start: {error}"))?;
    let ended = output_within(&mut child, limit);
    let Some((status, output)) = ended else {
        // It may have ended meanwhile; what it started itself is its own.
        let _ = child.kill();
        let _ = child.wait();
        let limit = Period(limit);
        return Err(format!(
            "the secret's command {program:?} did not end within {limit}"
        ));
    };
    if !status.success() {
        return Err(format!("the secret's command {program:?} failed: {status}"));
    }
    let text = String::from_utf8(output).map_err(|_| {
        format!("the secret's command {program:?} printed something that is not UTF-8")
    })?;
    Ok(cut_line_end(text))
}

/// How a command ended and what it printed; `None` if it has not ended by then.
fn output_within(child: &mut Child, limit: Duration) -> Option<(ExitStatus, Vec<u8>)> {
    let end = Instant::now() + limit;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(MAX_OUTPUT).read_to_end(&mut output);
        // Nobody waits for it any more if it took too long.
        let _ = sender.send(read.map(|_| output));
    });
    let output = receiver.recv_timeout(limit).ok()?.ok()?;
    loop {
        if let Some(status) = child.try_wait().ok()? {
            return Some((status, output));
        }
        if end < Instant::now() {
            return None;
        }
        thread::sleep(MOMENT);
    }
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

/// Where a secret can be kept.
const PLACES: &[&str] = &["env", "file", "credential", "command"];

/// The forms a secret may have, for errors.
const FORMS: &str = r#"a secret is a text, { env = "NAME" }, { file = "PATH" }, { credential = "NAME" } or { command = ["PROGRAM", …] }"#;

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a secret: {FORMS}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::Inline(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let Some(place) = map.next_key::<String>()? else {
            return Err(A::Error::custom(format!("an empty table; {FORMS}")));
        };
        let keeper = match place.as_str() {
            "env" => Keeper::Env(map.next_value()?),
            "file" => Keeper::File(map.next_value()?),
            "credential" => Keeper::Credential(map.next_value()?),
            "command" => Keeper::Command(map.next_value()?),
            _ => return Err(A::Error::unknown_field(&place, PLACES)),
        };
        if keeper.is_nameless() {
            return Err(A::Error::custom(format!("`{place}` is empty; {FORMS}")));
        }
        match map.next_key::<String>()? {
            None => Ok(Secret::Kept(keeper)),
            Some(second) => Err(A::Error::custom(format!(
                "`{place}` and `{second}` both say where the secret is; {FORMS}"
            ))),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Secret, run};
    use crate::Settings;

    #[derive(serde::Deserialize)]
    struct Table {
        token: Secret,
    }

    fn parse(text: &str) -> Result<Secret, String> {
        Settings::from_toml(text)
            .and_then(Settings::parse::<Table>)
            .map(|table| table.token)
            .map_err(|error| error.message)
    }

    #[test]
    fn every_form_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "in a file\r\n").unwrap();
        for (text, value) in [
            ("token = 'plain'".to_owned(), "plain"),
            (format!("token = {{ file = {file:?} }}"), "in a file"),
            ("token = { command = ['echo', 'said'] }".to_owned(), "said"),
        ] {
            assert_eq!(parse(&text).unwrap().read().unwrap(), value);
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, place) in [
            (
                "token = { env = 'PROFILESYNC_NO_SUCH' }",
                "PROFILESYNC_NO_SUCH",
            ),
            ("token = { file = '/no/such/file' }", "/no/such/file"),
            ("token = { command = ['false'] }", "false"),
            ("token = { credential = 'a/b' }", "slash"),
            ("token = ''", "empty"),
        ] {
            let error = parse(text).unwrap().read().unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn a_command_that_does_not_end_is_named() {
        for script in ["sleep 60", "exec >&-; sleep 60", "sleep 60 & echo said"] {
            let command = ["sh", "-c", script].map(str::to_owned);
            let error = run(&command, Duration::from_millis(300)).unwrap_err();
            assert!(error.contains("\"sh\" did not end within"), "{error}");
        }
    }

    #[test]
    fn a_wrong_form_is_told_the_right_ones() {
        for text in [
            "token = 5",
            "token = {}",
            "token = { env = '' }",
            "token = { command = [] }",
            "token = { env = 'A', file = 'B' }",
            "token = ['a']",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("{ credential = "), "{error}");
        }
        let error = parse("token = { vault = 'x' }").unwrap_err();
        assert!(error.contains("`vault`, expected one of `env`"), "{error}");
        let error = parse("token = { env = 5 }").unwrap_err();
        assert!(error.contains("expected a string"), "{error}");
    }

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = parse("token = 'hunter2'").unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }

    #[test]
    fn the_schema_knows_every_form() {
        let schema = serde_json::to_string(&schemars::schema_for!(Secret)).unwrap();
        for form in [
            "\"string\"",
            "\"env\"",
            "\"file\"",
            "\"credential\"",
            "\"command\"",
        ] {
            assert!(schema.contains(form), "{form}: {schema}");
        }
        assert!(schema.contains("anyOf") || schema.contains("oneOf"));
    }
}
