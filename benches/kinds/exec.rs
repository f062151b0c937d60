//! `exec`: batches of lines to the Python example, and its answers, over pipes.

use std::process::{Command, Stdio};

use profilesync_target::Document;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, sqlite::SqliteConnection};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{ChildStdin, ChildStdout},
};

use crate::{
    Settings,
    compare::{Side, compare, skip},
    report::Report,
};

/// What the example says in its hello. There is one child.
const BATCH: usize = 100;

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/plugins/exec/examples/mirror.py"
);

/// The example, which keeps a SQLite file that is synced for every batch.
struct Mirror(TempDir);

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("exec", report);
    }
    compare("exec", Mirror(TempDir::new().unwrap()), settings, report);
}

impl Mirror {
    fn database(&self) -> String {
        self.0.path().join("accounts.db").display().to_string()
    }
}

/// A running child.
struct Child {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    async fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.input.write_all(line.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = self.output.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Side for Mirror {
    fn target(&self) -> String {
        let command = ["python3", EXAMPLE, &self.database()];
        format!("type = \"exec\"\ncommand = {command:?}\n")
    }

    async fn clear(&mut self) {
        let url = format!("sqlite:{}", self.database());
        let mut client = SqliteConnection::connect(&url).await.unwrap();
        client.execute("DELETE FROM accounts").await.unwrap();
        client.close().await.unwrap();
    }

    async fn write(&self, documents: Vec<Document>) {
        let mut process = tokio::process::Command::new("python3")
            .args([EXAMPLE, &self.database()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Child {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()).lines(),
        };
        let hello = json!({ "protocol": 1, "version": "0", "target": "out", "timeout_ms": 10_000 });
        child.say(&json!({ "hello": hello })).await;
        assert_eq!(child.hear().await["protocol"], 1);
        let numbered: Vec<_> = (1_u64..).zip(&documents).collect();
        for chunk in numbered.chunks(BATCH) {
            let deliveries: Vec<_> = chunk
                .iter()
                .map(|(id, document)| json!({ "id": id, "document": document }))
                .collect();
            child.say(&json!({ "deliver": deliveries })).await;
            for _ in chunk {
                let answer = child.hear().await;
                assert_eq!(answer["outcome"], "delivered", "{answer}");
            }
        }
        drop(child);
        process.wait().await.unwrap();
    }
}
