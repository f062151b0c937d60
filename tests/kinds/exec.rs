//! `exec` in the whole daemon: the Python example, whose children are killed and cannot be started for a while.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::outside::{self, Held, survives_a_restart};

/// Runs the example unless the file `stopped` is there.
const WRAPPER: &str = "[ ! -e \"$1/stopped\" ] || { echo 'it is stopped' >&2; exit 1; }\n\
    echo $$ >>\"$1/pids\"\nexec python3 \"$2\" \"$1/accounts.db\"";

struct Outside(TempDir);

impl Outside {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl outside::Outside for Outside {
    fn target(&self) -> String {
        let example = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/plugins/exec/examples/mirror.py"
        );
        format!(
            "type = \"exec\"\ncommand = [\"sh\", \"-c\", {WRAPPER:?}, \"sh\", {:?}, {example:?}]\n",
            self.0.path()
        )
    }

    async fn stop(&mut self) {
        fs::write(self.path("stopped"), "").unwrap();
        for pid in fs::read_to_string(self.path("pids")).unwrap().lines() {
            let killed = Command::new("kill").args(["-9", pid]).output().unwrap();
            assert!(killed.status.success(), "{killed:?}");
        }
    }

    async fn start(&mut self) {
        fs::remove_file(self.path("stopped")).unwrap();
    }

    async fn held(&mut self) -> Held {
        let print = "import json, sqlite3, sys\n\
            rows = sqlite3.connect(sys.argv[1]).execute('SELECT document FROM accounts WHERE document NOT NULL')\n\
            print(json.dumps([json.loads(row[0]) for row in rows]))";
        let output = Command::new("python3")
            .args(["-c", print])
            .arg(self.path("accounts.db"))
            .output()
            .unwrap();
        let documents: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let entry = |document: &serde_json::Value| {
            let text = |name: &str| document[name].as_str().map(str::to_owned);
            let number = |name: &str| document[name].as_u64().unwrap();
            let account = (number("sdk_app_id"), text("account").unwrap());
            (account, (number("revision"), text("name")))
        };
        documents.iter().map(entry).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_backfill_loses_nothing() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    survives_a_restart(Outside(tempfile::tempdir().unwrap())).await;
}
