//! The settings of an exec target: what is run, with which environment, and how often at the same time.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use profilesync_target::{Mask, OpenContext, Secret, SettingsError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use toml::Spanned;

/// Most children of one target.
const MAX_WORKERS: usize = 64;

/// Characters from which on any value of `env` is hidden: nobody knows which one is a secret, and what is shorter is a
/// number, a word or a switch.
const HIDDEN: usize = 8;

/// Variables that a child gets as the daemon has them.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Hands every profile to a program of yours, which stays running.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The program and its arguments, run without a shell: `["python3", "crm.py"]`. Every user of the machine sees them;
    /// secrets go into `env`.
    #[schemars(with = "Vec<String>")]
    command: Spanned<Vec<String>>,
    /// Further environment variables of the program. A value may be any form of secret.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret>")]
    env: BTreeMap<String, Spanned<Secret>>,
    /// So many children run at the same time, each asked for one batch at a time.
    #[serde(default = "one")]
    #[schemars(with = "usize", range(min = 1, max = 64))]
    workers: Spanned<NonZeroUsize>,
}

fn one() -> Spanned<NonZeroUsize> {
    Spanned::new(0..0, NonZeroUsize::MIN)
}

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) folder: PathBuf,
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) program: Program,
    pub(crate) workers: usize,
    pub(crate) mask: Mask,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    /// Reads secrets and checks every value. Whether the program exists is found out when it is started: it may be
    /// installed after the daemon was.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        check_command(&self.command)?;
        let workers = self.workers.get_ref().get();
        if workers > MAX_WORKERS {
            let message = format!("`workers` is {workers}, more than {MAX_WORKERS}");
            return Err(SettingsError::at(self.workers.span(), message));
        }
        let mut env = inherited();
        env.insert("PROFILESYNC_TARGET".into(), context.name.clone());
        let mut mask = Mask::default();
        let mut shown = BTreeMap::new();
        for (name, secret) in &self.env {
            let wrong = |message: String| SettingsError::at(secret.span(), message);
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(wrong(format!("{name:?} is no name of a variable")));
            }
            let value = match secret.get_ref() {
                // An empty value is one, an empty secret is a mistake.
                Secret::Inline(value) => value.clone(),
                kept => {
                    let kept = kept.clone().within(&context.base);
                    kept.read().map_err(|error| wrong(error.to_string()))?
                }
            };
            if value.contains('\0') {
                return Err(wrong(format!("the variable {name} holds a NUL")));
            }
            let is_secret = !matches!(secret.get_ref(), Secret::Inline(_)) || names_a_secret(name);
            if is_secret || HIDDEN <= value.chars().count() {
                mask.add(&value);
            }
            // Whether it is shown here decides on backfills: that must not hang on how long it is.
            shown.insert(
                name,
                if is_secret {
                    "***".to_owned()
                } else {
                    value.clone()
                },
            );
            env.insert(name.clone(), value);
        }
        let command = self.command.into_inner();
        Ok(Checked {
            identity: json!({ "command": command, "env": shown }),
            program: Program {
                command,
                env,
                folder: std::path::absolute(&context.base).unwrap_or_else(|_| context.base.clone()),
            },
            workers,
            mask,
        })
    }
}

fn check_command(command: &Spanned<Vec<String>>) -> Result<(), SettingsError> {
    let wrong = |message: &str| SettingsError::at(command.span(), message);
    match command.get_ref().first() {
        None => Err(wrong("`command` is empty").help(r#"write it as ["python3", "crm.py"]"#)),
        Some(program) if program.is_empty() => Err(wrong("`command` names no program")),
        Some(program) if program.contains(' ') && command.get_ref().len() == 1 => Err(wrong(
            "`command` is one text with spaces, and no shell takes it apart",
        )
        .help(r#"write the arguments apart: ["python3", "crm.py"]"#)),
        Some(_) if command.get_ref().iter().any(|part| part.contains('\0')) => {
            Err(wrong("`command` holds a NUL"))
        }
        Some(_) => Ok(()),
    }
}

/// What a child is given of the daemon's own environment: not its credentials, nor what systemd told it.
pub(crate) fn inherited() -> BTreeMap<String, String> {
    let defaults = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
    ];
    let mut env = BTreeMap::from(defaults.map(|(name, value)| (name.into(), value.into())));
    env.extend(INHERITED.iter().filter_map(|name| {
        let value = std::env::var(name).ok()?;
        Some(((*name).to_owned(), value))
    }));
    env
}

/// Whether a variable of this name holds a secret even when it is written out in the configuration.
fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    [
        "AUTH",
        "COOKIE",
        "CREDENTIAL",
        "KEY",
        "PASS",
        "SECRET",
        "TOKEN",
    ]
    .iter()
    .any(|word| name.contains(word))
}
