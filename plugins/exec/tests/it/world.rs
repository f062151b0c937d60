//! The conformance suite over the shell example, whose files are read without it, and which can be made dead, slow
//! and talkative.

use std::{fs, path::PathBuf, time::Duration};

use async_trait::async_trait;
use profilesync_target::{
    Document, Status, Target,
    conformance::{self, Peer, World},
};

use crate::{LIMIT, try_open};

/// Before the example runs, it does what the file `mood` says.
const WRAPPER: &str = "mood=$(cat mood 2>/dev/null)\n\
    case $mood in dead) echo \"no door opens to $API_TOKEN\" >&2; exit 1 ;; slow) exec sleep 1000 ;; esac\n\
    exec sh \"$EXAMPLE\" held";

struct Folder {
    target: Box<dyn Target>,
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("plugin.sh"), WRAPPER).unwrap();
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mirror.sh");
        let settings = format!(
            "command = ['sh', './plugin.sh']\n\
             env = {{ EXAMPLE = '{example}', API_TOKEN = 'hunter2', PROFILESYNC_TEST_REJECT = 'guilty' }}"
        );
        let target = try_open(&settings, folder.path(), LIMIT).unwrap().target;
        Self { target, folder }
    }

    fn file(&self, sdk_app_id: u64, account: &str) -> PathBuf {
        let mut path = self.folder.path().join("held").join(sdk_app_id.to_string());
        let written = account.replace('\\', "\\\\");
        let hex: String = written.bytes().map(|byte| format!("{byte:02x}")).collect();
        for chunk in hex.as_bytes().chunks(200) {
            path.push(str::from_utf8(chunk).unwrap());
        }
        path.as_mut_os_string().push(".json");
        path
    }
}

#[async_trait]
impl World for Folder {
    fn target(&self) -> &dyn Target {
        &*self.target
    }

    async fn held(&self, sdk_app_id: u64, account: &str) -> Option<Document> {
        let text = fs::read_to_string(self.file(sdk_app_id, account)).ok()?;
        let (_, document) = text.split_once('\n')?;
        let document: Document = serde_json::from_str(document).unwrap();
        (document.status == Status::Active).then_some(document)
    }

    fn compares_revisions(&self) -> bool {
        true
    }

    async fn refuse(&self, _sdk_app_id: u64, account: &str) -> bool {
        account == "guilty"
    }

    fn secrets(&self) -> Vec<String> {
        vec!["hunter2".into()]
    }

    async fn turn(&self, peer: Peer) -> bool {
        let mood = match peer {
            Peer::Well => "well",
            Peer::Dead => "dead",
            Peer::Slow => "slow",
        };
        fs::write(self.folder.path().join("mood"), mood).unwrap();
        // A child that runs has the old mood.
        self.target.close().await;
        while peer == Peer::Well && self.target.probe().await.is_err() {
            // A program that failed is left alone for a while.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

#[tokio::test]
async fn exec_keeps_its_promises() {
    conformance::check(async || Folder::new()).await;
}
