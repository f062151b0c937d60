//! `ldap` in the whole daemon: slapd is killed in the middle of a backfill.

use ldap3::{Scope, SearchEntry};

use crate::outside::{self, Held, survives_a_restart};

#[path = "../../plugins/ldap/tests/it/server.rs"]
mod server;

struct Outside(server::Server);

impl outside::Outside for Outside {
    fn target(&self) -> String {
        format!(
            "type = \"ldap\"\nurl = \"ldap://{}\"\nbind_dn = {:?}\npassword = {:?}\nbase = {:?}\n\
             object_class = [\"profilesyncAccountProfile\"]\n\
             attributes = {{ profilesyncAccount = \"account\", profilesyncAppId = \"sdk_app_id\", \
             profilesyncRevision = \"revision\", profilesyncName = \"name\" }}\n",
            self.0.address,
            server::BIND_DN,
            server::PASSWORD,
            server::BASE
        )
    }

    async fn stop(&mut self) {
        self.0.process.kill();
    }

    async fn start(&mut self) {
        self.0.restart().await;
    }

    async fn held(&mut self) -> Held {
        let mut ldap = self.0.admin().await;
        let filter = "(objectClass=profilesyncAccountProfile)";
        let found = ldap
            .search(server::BASE, Scope::OneLevel, filter, ["*"])
            .await;
        let (entries, _) = found.unwrap().success().unwrap();
        entries
            .into_iter()
            .map(|entry| {
                let attributes = SearchEntry::construct(entry).attrs;
                let text = |name: &str| attributes.get(name).map(|values| values[0].clone());
                let number = |name| text(name).unwrap().parse().unwrap();
                (
                    (
                        number("profilesyncAppId"),
                        text("profilesyncAccount").unwrap(),
                    ),
                    (number("profilesyncRevision"), text("profilesyncName")),
                )
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_directory_in_the_middle_of_a_backfill_loses_nothing() {
    if !server::is_there() {
        return;
    }
    survives_a_restart(Outside(server::Server::start().await)).await;
}
