//! `scim` in the whole daemon: a scim2-server behind a port that is closed. It keeps everything in memory, so it is not
//! ended itself.

use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::{io::copy_bidirectional, net::TcpStream};

use crate::{
    door::Door,
    outside::{self, Held, survives_a_restart},
    sender,
};

#[path = "../../plugins/scim/tests/it/server.rs"]
mod server;

#[path = "../../plugins/scim/tests/it/gate.rs"]
mod gate;

use gate::Gate;
use server::{EXTENSION, Server, TOKEN};

/// Users of one page.
const PAGE: usize = 1000;

/// Requests that a token is good for.
const LASTS: u64 = 150;

struct Outside {
    server: Server,
    door: Door,
    /// Behind the door, if tokens are asked for that an issuer gives.
    gate: Option<Gate>,
}

/// What is sent to the service and back, as it is.
fn forward(to: SocketAddr) -> impl Fn(TcpStream) -> BoxFuture<'static, ()> {
    move |mut stream| {
        Box::pin(async move {
            let mut service = TcpStream::connect(to).await.unwrap();
            // Either may hang up.
            let _ = copy_bidirectional(&mut stream, &mut service).await;
        })
    }
}

/// What stands between the door and the service.
fn behind(
    gate: Option<&Gate>,
    server: &Server,
) -> Box<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send> {
    match gate.cloned() {
        Some(gate) => Box::new(move |stream| Box::pin(gate.clone().serve(stream))),
        None => Box::new(forward(server.address)),
    }
}

impl outside::Outside for Outside {
    fn target(&self) -> String {
        let address = self.door.address();
        let service = match self.gate {
            Some(_) => Gate::settings(address),
            None => format!(
                "url = \"http://{address}/v2\"\nauth = {{ type = \"bearer\", token = {TOKEN:?} }}\n"
            ),
        };
        let mapped = [
            ("account", "account"),
            ("appId", "sdk_app_id"),
            ("revision", "revision"),
            ("name", "name"),
        ];
        let mapped = mapped.map(|(name, member)| format!("\"{EXTENSION}:{name}\" = {member:?}"));
        format!(
            "type = \"scim\"\n{service}\
             attributes = {{ userName = \"safe_id\", {} }}\n",
            mapped.join(", ")
        )
    }

    /// The server takes about a hundred a second.
    fn most_accounts(&self) -> usize {
        match self.gate {
            Some(_) => 1_000,
            None => 4_000,
        }
    }

    async fn stop(&mut self) {
        self.door.close().await;
    }

    async fn start(&mut self) {
        let behind = behind(self.gate.as_ref(), &self.server);
        self.door.reopen(behind).await;
    }

    /// Page by page.
    async fn held(&mut self) -> Held {
        let client = sender::client().build().unwrap();
        let mut held = Held::new();
        let mut pages = 0;
        loop {
            let (url, start) = (self.server.url(), pages * PAGE + 1);
            let page = client
                .get(format!("{url}/Users?startIndex={start}&count={PAGE}"))
                .bearer_auth(TOKEN)
                .send()
                .await
                .unwrap();
            let page: Value = serde_json::from_slice(&page.bytes().await.unwrap()).unwrap();
            let users = page["Resources"].as_array().map_or(&[][..], Vec::as_slice);
            for user in users {
                let profile = &user[EXTENSION];
                let id = profile["account"].as_str().unwrap().to_owned();
                let name = profile["name"].as_str().map(str::to_owned);
                let app = profile["appId"].as_u64().unwrap();
                let state = (profile["revision"].as_u64().unwrap(), name);
                let before = held.insert((app, id), state);
                assert_eq!(before, None, "it has two users: {user}");
            }
            pages += 1;
            if users.len() < PAGE {
                let total = page["totalResults"].as_u64().unwrap();
                assert_eq!(held.len() as u64, total, "after {pages} pages");
                return held;
            }
        }
    }
}

async fn loses_nothing(server: Server, gate: Option<Gate>) {
    let door = Door::open(behind(gate.as_ref(), &server)).await;
    survives_a_restart(Outside { server, door, gate }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_the_middle_of_a_backfill_loses_nothing() {
    if !server::is_there() {
        return;
    }
    loses_nothing(Server::start().await, None).await;
}

/// Tokens are refused in the middle of deliveries, again and again. The scenario says that no account is parked.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_soon_refused_are_renewed_once() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let gate = Gate::new(server.address, LASTS);
    loses_nothing(server, Some(gate.clone())).await;
    let tokens = gate.tokens();
    eprintln!(
        "{} tokens were issued, {} revoked; {} requests were refused",
        tokens.issued, tokens.revoked, tokens.refused
    );
    assert!(tokens.revoked > 0, "no token was refused");
    // One may be lost on its way when the door is closed.
    assert!(tokens.issued <= tokens.revoked + 2, "{}", tokens.issued);
}
