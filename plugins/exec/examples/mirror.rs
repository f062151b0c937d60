//! A profilesync plugin that keeps every profile as a JSON file in a folder.
//!
//! `mirror FOLDER`. To write to something else, change `Outside`; the rest is the protocol (PROTOCOL.md). Try it with
//! `profilesync plugin test -- target/debug/mirror /tmp/try`.

use std::{
    env, fs,
    io::{self, BufRead as _, Write as _},
    path::PathBuf,
};

use serde_json::{Value, json};

/// Why a document is not held.
enum Refusal {
    /// This account's data is refused for good: the account is parked until it changes.
    Rejected(String),
    /// The outside is unwell: everything is tried again later.
    Fault(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Fault(error.to_string())
    }
}

/// What is written to.
struct Outside {
    folder: PathBuf,
    /// The account that `profilesync plugin test` wants refused, to see that no other is taken along.
    reject: Option<String>,
}

impl Outside {
    /// Where an account is kept. Its name is anything at all, and longer than a file name may be: as hexadecimal digits
    /// it cannot mean anything to the file system.
    fn file(&self, account: &Value) -> PathBuf {
        let mut path = self.folder.join(account["sdk_app_id"].to_string());
        let name = account["account"].as_str().unwrap_or_default();
        for part in name.as_bytes().chunks(100) {
            path.push(
                part.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>(),
            );
        }
        path.as_mut_os_string().push(".json");
        path
    }

    fn read(&self, account: &Value) -> Result<Option<Value>, Refusal> {
        match fs::read(self.file(account)) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| Refusal::Fault(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Holds a document, unless a newer one is held. A destroyed account's document is kept too: it says "destroyed", which
    /// counts as nothing held, and its revision keeps an older document from coming back.
    fn put(&self, document: &Value) -> Result<(), Refusal> {
        if self
            .reject
            .as_deref()
            .is_some_and(|name| document["account"] == name)
        {
            return Err(Refusal::Rejected("it is the one to be refused".into()));
        }
        let held = self.read(document)?;
        let held = held.map_or(0, |held| held["revision"].as_u64().unwrap_or(0));
        if document["revision"].as_u64().unwrap_or(0) <= held {
            return Ok(());
        }
        // Written beside it and synced, then renamed: a kill leaves the old one or the new one.
        let file = self.file(document);
        let new = file.with_extension("new");
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut writing = fs::File::create(&new)?;
        writing.write_all(document.to_string().as_bytes())?;
        writing.sync_all()?;
        Ok(fs::rename(new, file)?)
    }
}

fn answer(id: &Value, done: Result<&str, Refusal>) -> Value {
    match done {
        Ok(outcome) => json!({ "id": id, "outcome": outcome }),
        Err(Refusal::Rejected(reason)) => {
            json!({ "id": id, "outcome": "rejected", "reason": reason })
        }
        Err(Refusal::Fault(reason)) => json!({ "id": id, "outcome": "fault", "reason": reason }),
    }
}

/// The answers to one request.
fn serve(outside: &Outside, request: &Value) -> Vec<Value> {
    let list = |name: &str| request[name].as_array().into_iter().flatten();
    let delivered = list("deliver").map(|delivery| {
        let done = outside.put(&delivery["document"]);
        answer(&delivery["id"], done.map(|()| "delivered"))
    });
    let read = list("read").map(|asked| match outside.read(asked) {
        Ok(held) => json!({ "id": asked["id"], "held": held }),
        Err(refusal) => answer(&asked["id"], Err(refusal)),
    });
    // It makes nothing: `check --probe` may be run by another user.
    let probed = request.get("probe").map(|probe| {
        let found = outside.folder.ancestors().find(|folder| folder.exists());
        let found = found.map_or(Ok(true), |folder| {
            fs::metadata(folder).map(|it| it.is_dir())
        });
        let done = match found {
            Ok(true) => Ok("ok"),
            Ok(false) => Err(Refusal::Fault("a file is where the folder is to be".into())),
            Err(error) => Err(error.into()),
        };
        answer(&probe["id"], done)
    });
    delivered.chain(read).chain(probed).collect()
}

/// One line of JSON. Standard output is for these alone; `eprintln!` goes to profilesync's log.
fn say(message: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{message}")?;
    out.flush()
}

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1) else {
        return Err(io::Error::other("usage: mirror FOLDER"));
    };
    let outside = Outside {
        folder: folder.into(),
        reject: env::var("PROFILESYNC_TEST_REJECT").ok(),
    };
    let mut lines = io::stdin().lock().lines();
    // The hello: which protocol, which target.
    lines.next().transpose()?;
    say(&json!({ "protocol": 1, "batch": 100, "revisions": true, "read_back": true }))?;
    // Ends when profilesync closes standard input.
    for line in lines {
        for message in serve(&outside, &serde_json::from_str(&line?)?) {
            say(&message)?;
        }
    }
    Ok(())
}
