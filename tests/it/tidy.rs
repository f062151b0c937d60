//! The house rules that neither rustc nor clippy can check, over the files git knows.

use std::{fs, path::Path, process::Command};

use toml::{Table, Value};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MAX_LINES: usize = 500;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap()
}

fn table(file: &str) -> Table {
    read(file)
        .parse()
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Tracked files, and new ones that are not ignored; nothing outside a git checkout.
fn files() -> Vec<String> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = match Command::new("git").args(list).current_dir(ROOT).output() {
        Ok(output) if output.status.success() => output,
        _ => {
            eprintln!("skipped: not a git checkout");
            return Vec::new();
        }
    };
    let names = String::from_utf8(output.stdout).unwrap();
    let present = names
        .lines()
        .filter(|name| Path::new(ROOT).join(name).is_file());
    present.map(str::to_owned).collect()
}

fn sources() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|name| name.ends_with(".rs"));
    rust.map(|name| (read(&name), name))
        .map(|(text, name)| (name, text))
        .collect()
}

/// Fails with all of these, one to a line.
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{name}: {lines} lines, more than {MAX_LINES}"));
        }
        if !text.starts_with("//! ") {
            faults.push(format!("{name}: does not begin with //! and what it is"));
        }
    }
    none(faults);
}

#[test]
fn nothing_is_left_to_do_or_let_pass() {
    // Put together, so that this file has none of them itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut faults = Vec::new();
    for (name, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            if words.iter().any(|word| line.contains(word)) {
                faults.push(format!(
                    "{name}:{number}: open an issue instead: {}",
                    line.trim()
                ));
            }
            if line.contains(concat!("#[al", "low(")) {
                faults.push(format!(
                    "{name}:{number}: state by #[expect(…, reason)] what is to be let pass"
                ));
            }
        }
    }
    none(faults);
}

#[test]
fn sled_is_named_in_its_adapter_alone() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        let outside = name.starts_with("src/") && name != "src/store/sled.rs";
        // The adapter's own module has the crate's name.
        let names = |line: &str| code(line).replace("sled::SledIndex", "").contains("sled::");
        if outside && text.lines().any(names) {
            faults.push(format!("{name}: names sled"));
        }
    }
    none(faults);
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// What outputs may share; each may build on those before it.
const SUPPORT: [&str; 3] = [
    "profilesync-target",
    "profilesync-template",
    "profilesync-http",
];

/// The members of the workspace that this one may depend on.
fn allowed(manifest: &str) -> &'static [&'static str] {
    let name = table(manifest)["package"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let own = SUPPORT.iter().position(|support| *support == name);
    &SUPPORT[..own.unwrap_or(SUPPORT.len())]
}

/// Members under `plugins/` that are outputs, or what outputs share.
fn plugins() -> Vec<String> {
    let manifests = files()
        .into_iter()
        .filter(|name| name.starts_with("plugins/") && name.ends_with("/Cargo.toml"));
    manifests
        .filter(|name| name != "plugins/api/Cargo.toml")
        .collect()
}

#[test]
fn plugins_depend_on_what_outputs_share_alone() {
    let mut faults = Vec::new();
    for manifest in plugins() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = table(&manifest);
            let Some(Value::Table(dependencies)) = table.get(section) else {
                continue;
            };
            let own = dependencies
                .keys()
                .filter(|name| name.starts_with("profilesync"))
                .filter(|name| !allowed(&manifest).contains(&name.as_str()));
            faults.extend(own.map(|name| format!("{manifest}: {section} name {name}")));
        }
    }
    none(faults);
}

#[test]
fn versions_are_stated_in_the_root_manifest_alone() {
    let mut faults = Vec::new();
    for manifest in files()
        .into_iter()
        .filter(|name| name.ends_with("Cargo.toml"))
    {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = table(&manifest);
            let Some(Value::Table(dependencies)) = table.get(section) else {
                continue;
            };
            let stated = dependencies
                .iter()
                .filter(|(_, value)| value.get("workspace").is_none());
            faults.extend(
                stated.map(|(name, _)| format!("{manifest}: {name} is not of the workspace")),
            );
        }
    }
    none(faults);
}

#[test]
fn banned_crates_are_not_in_the_lock_file() {
    let deny = table("deny.toml");
    let banned: Vec<_> = deny["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ban| &ban["crate"])
        .collect();
    let lock = table("Cargo.lock");
    let locked = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| &package["name"]);
    let faults = locked
        .filter(|name| banned.contains(name))
        .map(|name| format!("{name} is banned by deny.toml"));
    none(faults.collect());
}

#[test]
fn the_list_of_kinds_is_sorted() {
    let text = read("src/targets.rs");
    let list = text
        .split_once("\nkinds! {")
        .and_then(|(_, rest)| rest.split_once('}'))
        .expect("a list of kinds")
        .0;
    let kinds: Vec<_> = list
        .lines()
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(kinds.is_sorted(), "{kinds:?}");
    let full = table("Cargo.toml")["features"]["full"].clone();
    assert_eq!(full, Value::from(kinds), "the feature `full` is all kinds");
}

#[test]
fn the_tests_that_readme_names_are_there() {
    let readme = read("README.md");
    let promise = readme
        .split("\n## ")
        .find(|section| section.starts_with("The promise"));
    let named = promise
        .unwrap()
        .split('`')
        .filter(|text| text.contains("::"));
    let sources = sources();
    let is_there = |path: &str| {
        let path: Vec<_> = path.split("::").filter(|part| *part != "tests").collect();
        let (test, modules) = path.split_last().unwrap();
        let file = modules.join("/");
        sources.iter().any(|(name, text)| {
            let name = name.replace("/tests/", "/").replace("/tests.rs", ".rs");
            let holds =
                name.ends_with(&format!("/{file}.rs")) && text.contains(&format!("fn {test}("));
            holds || name.ends_with(&format!("/{file}/{test}.rs"))
        })
    };
    let gone = named.filter(|path| !is_there(path));
    none(
        gone.map(|path| format!("README.md: no test {path}"))
            .collect(),
    );
}
