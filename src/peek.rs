//! Single values of the configuration, for commands that run as people who may not read all of it.
//!
//! The configuration as a whole is checked by `config/load.rs`, which needs every secret it names. A command that
//! wants to know where a socket is must not.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use profilesync_target::Secret;
use toml::{Table, Value};

/// The tables of the main file and of the drop-ins that can be read.
pub struct Peek(Vec<Table>);

/// An app, as far as `send` needs it.
pub struct PeekApp {
    /// NAME of `[apps.NAME]`.
    pub name: String,
    /// `sdk_app_id`
    pub sdk_app_id: u64,
    /// Its first token, not read yet.
    pub token: Option<Secret>,
}

impl Peek {
    /// Reads the main file, and the drop-ins beside it as far as possible.
    ///
    /// # Errors
    /// When the main file cannot be read or is not TOML.
    pub fn read(config: &Path) -> io::Result<Self> {
        let mut tables = vec![table(config)?];
        let drop_ins = drop_ins(config);
        tables.extend(drop_ins.iter().filter_map(|file| table(file).ok()));
        Ok(Self(tables))
    }

    /// A string in a top-level table.
    #[must_use]
    pub fn text(&self, table: &str, key: &str) -> Option<&str> {
        self.value(table, key)?.as_str()
    }

    /// Whether a top-level table has a key.
    #[must_use]
    pub fn has(&self, table: &str, key: &str) -> bool {
        self.value(table, key).is_some()
    }

    /// The apps that are written well enough to be sent to.
    #[must_use]
    pub fn apps(&self) -> Vec<PeekApp> {
        let tables = self.0.iter().filter_map(|all| all.get("apps")?.as_table());
        tables
            .flatten()
            .filter_map(|(name, app)| {
                let sdk_app_id = app.get("sdk_app_id")?.as_integer()?.try_into().ok()?;
                let token = app.get("token").or_else(|| app.get("tokens")?.get(0));
                Some(PeekApp {
                    name: name.clone(),
                    sdk_app_id,
                    token: token.and_then(|token| token.clone().try_into().ok()),
                })
            })
            .collect()
    }

    fn value(&self, table: &str, key: &str) -> Option<&Value> {
        self.0.iter().find_map(|all| all.get(table)?.get(key))
    }
}

fn table(file: &Path) -> io::Result<Table> {
    fs::read_to_string(file)?
        .parse()
        .map_err(|error: toml::de::Error| io::Error::other(error.message().to_owned()))
}

fn drop_ins(config: &Path) -> Vec<PathBuf> {
    let folder = config.with_file_name("conf.d");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_file_are_found_and_no_secret_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("profilesync.toml");
        let drop_ins = folder.path().join("conf.d");
        fs::create_dir(&drop_ins).unwrap();
        fs::write(
            &main,
            "[apps.a]\nsdk_app_id = 1\ntokens = [{ file = \"/nowhere\" }, \"old\"]\n[apps.b]\nsdk_app_id = 2\n",
        )
        .unwrap();
        fs::write(
            drop_ins.join("admin.toml"),
            "[admin]\nsocket = \"/tmp/a\"\n",
        )
        .unwrap();
        fs::write(drop_ins.join("broken.toml"), "[").unwrap();
        let peek = Peek::read(&main).unwrap();
        assert_eq!(peek.text("admin", "socket"), Some("/tmp/a"));
        assert!(!peek.has("listener", "tls"));
        let apps = peek.apps();
        assert_eq!((apps[0].name.as_str(), apps[0].sdk_app_id), ("a", 1));
        assert!(apps[0].token.as_ref().unwrap().read().is_err());
        assert!(apps[1].token.is_none());
    }
}
