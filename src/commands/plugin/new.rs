//! `profilesync plugin new`: a working plugin to begin with. What it writes are the examples of `plugins/exec`, which
//! the tests run, under another name.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use crate::{
    commands::print,
    exit::{Exit, Failure},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  profilesync plugin new crm --lang python
  profilesync plugin test -- python3 crm/crm.py /tmp/try.db";

const PYTHON: &str = include_str!("../../../plugins/exec/examples/mirror.py");
const SHELL: &str = include_str!("../../../plugins/exec/examples/mirror.sh");
const RUST: &str = include_str!("../../../plugins/exec/examples/mirror.rs");

/// Not that of a member: a workspace around the new folder is none of its business.
const MANIFEST: &str = "\
[package]
name = \"mirror\"
version = \"0.1.0\"
edition = \"2024\"

[dependencies]
serde_json = \"1\"

[workspace]
";

/// How it is called.
#[derive(Args, Debug)]
pub(super) struct NewArgs {
    /// Its name: a-z, 0-9, _ and -. A folder of this name is made here
    name: String,
    /// What it is written in
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    lang: Language,
}

/// What a plugin may be written in, to begin with. Comments of the variants would show in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Python,
    Sh,
    Rust,
}

impl Language {
    /// What is written: paths within the folder, and texts. `mirror` stands for the name.
    fn files(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Python => vec![("mirror.py", PYTHON)],
            Self::Sh => vec![("mirror.sh", SHELL)],
            Self::Rust => vec![("Cargo.toml", MANIFEST), ("src/main.rs", RUST)],
        }
    }

    /// The program and its arguments, but the last, and the last one's ending.
    fn command(self, name: &str, folder: &Path) -> (Vec<String>, &'static str) {
        let file = |path: String| folder.join(path).display().to_string();
        match self {
            Self::Python => (vec!["python3".into(), file(format!("{name}.py"))], ".db"),
            Self::Sh => (vec!["sh".into(), file(format!("{name}.sh"))], ""),
            Self::Rust => (vec![file(format!("target/release/{name}"))], ""),
        }
    }

    /// What comes before its first start.
    fn build(self, name: &str) -> Option<String> {
        (self == Self::Rust)
            .then(|| format!("cargo build --release --manifest-path {name}/Cargo.toml"))
    }
}

/// Writes the plugin into a new folder of its name and says what to do next.
///
/// # Errors
/// When the name is none, the folder is there, or it cannot be written.
pub(super) fn run(args: &NewArgs) -> Result<(), Failure> {
    let NewArgs { name, lang } = args;
    print(&begin(Path::new("."), name, *lang)?)
}

fn begin(base: &Path, name: &str, lang: Language) -> Result<String, Failure> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
        let message = format!("{name:?} is no name for a plugin");
        let help = "use a-z, 0-9, _ and -, and begin with a letter";
        return Err(Failure::new(Exit::Usage, message).help(help));
    }
    let folder = base.join(name);
    let target = target(lang, name, &folder)?;
    write(&folder, name, lang, &target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists, and is left as it is", folder.display());
            Failure::new(Exit::Failed, message).help("name it otherwise, or call this elsewhere")
        }
        _ => {
            let message = format!("{} cannot be written", folder.display());
            Failure::new(Exit::Failed, message).because(error)
        }
    })?;
    let files: Vec<_> = lang
        .files()
        .iter()
        .map(|(path, _)| path.replace("mirror", name))
        .collect();
    let (command, ending) = lang.command(name, Path::new(name));
    let build = lang
        .build(name)
        .map(|line| format!("  {line}\n"))
        .unwrap_or_default();
    Ok(format!(
        "{name}/ is written: {} and target.toml. It works as it is, and keeps what it gets. Next:\n\
         {build}  profilesync plugin test -- {} /tmp/{name}{ending}\n  \
         change what it writes to, and test again\n  \
         add {name}/target.toml to the configuration; profilesync reload\n",
        files.join(", "),
        command.join(" ")
    ))
}

/// The plugin's table in the configuration.
fn target(lang: Language, name: &str, folder: &Path) -> Result<String, Failure> {
    let folder = std::path::absolute(folder)
        .map_err(|error| Failure::new(Exit::Failed, "the current folder is gone").because(error))?;
    let (mut command, ending) = lang.command(name, &folder);
    command.push(format!("/var/lib/profilesync/{name}{ending}"));
    // A JSON text of a path is a TOML text too.
    let command: Vec<_> = command.iter().map(|part| format!("{part:?}")).collect();
    Ok(format!(
        "# What to add to the configuration. The service cannot read /home: install the plugin elsewhere for it.\n\
         [targets.{name}]\n\
         type = \"exec\"\n\
         command = [{}]\n\
         # Variables of the plugin; secrets belong here, and not into the command.\n\
         #env = {{ API_TOKEN = {{ credential = \"{name}-token\" }} }}\n",
        command.join(", ")
    ))
}

fn write(folder: &PathBuf, name: &str, lang: Language, target: &str) -> io::Result<()> {
    fs::create_dir(folder)?;
    for (path, text) in lang.files() {
        let path = folder.join(path.replace("mirror", name));
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mode = if path
            .extension()
            .is_some_and(|ending| ending == "py" || ending == "sh")
        {
            0o777
        } else {
            0o666
        };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(text.replace("mirror", name).as_bytes())?;
    }
    fs::write(folder.join("target.toml"), target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        for (lang, name) in [
            (Language::Python, "crm-py"),
            (Language::Sh, "crm-sh"),
            (Language::Rust, "crm-rs"),
        ] {
            let said = begin(folder.path(), name, lang).unwrap();
            assert!(said.contains("plugin test -- "), "{said}");
            let home = folder.path().join(name);
            for (path, _) in lang.files() {
                let text = fs::read_to_string(home.join(path.replace("mirror", name))).unwrap();
                assert!(text.contains(name) && !text.contains("mirror"), "{path}");
            }
            let target = fs::read_to_string(home.join("target.toml")).unwrap();
            let target: toml::Table = target.parse().unwrap();
            assert_eq!(target["targets"][name]["type"].as_str(), Some("exec"));
            let again = begin(folder.path(), name, lang).unwrap_err();
            assert_eq!(again.exit, Exit::Failed);
        }
        for name in ["", "../x", "Crm", "1crm", "a b"] {
            let error = begin(folder.path(), name, Language::Sh).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{name}");
        }
    }
}
