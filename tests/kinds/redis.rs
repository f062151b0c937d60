//! `redis` in the whole daemon.

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/redis/tests/it/server.rs"]
mod server;

use server::{PASSWORD, Server, is_installed};

struct Outside(Server);

impl outside::Outside for Outside {
    fn target(&self) -> String {
        let url = self.0.url();
        format!("type = \"redis\"\nurl = {url:?}\npassword = {PASSWORD:?}\nstream = \"changes\"\n")
    }

    async fn stop(&mut self) {
        self.0.process.kill();
    }

    async fn start(&mut self) {
        self.0.resume().await;
    }

    async fn held(&mut self) -> Held {
        let keys: Vec<String> = self.0.ask(&["KEYS", "profilesync:*"]).await;
        let mut connection = self.0.connect().await.unwrap();
        let mut held = Held::new();
        for keys in keys.chunks(500) {
            let mut pipeline = redis::pipe();
            for key in keys {
                let fields = ["sdk_app_id", "account", "revision", "name", "status"];
                pipeline.cmd("HMGET").arg(key).arg(&fields);
            }
            type Fields = (u64, String, u64, Option<String>, String);
            let hashes: Vec<Fields> = pipeline.query_async(&mut connection).await.unwrap();
            for (app, account, revision, name, status) in hashes {
                if status == "active" {
                    held.insert((app, account), (revision, name));
                }
            }
        }
        held
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_backfill_loses_nothing() {
    if !is_installed() {
        eprintln!("skipped: there is no redis-server");
        return;
    }
    survives_a_restart(Outside(Server::start(&[]).await)).await;
}
