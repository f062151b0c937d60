//! `webhook` in the whole daemon: a receiver that keeps the newest revision of each account, as ours are told to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{
    door::Door,
    outside::{self, Held, survives_a_restart},
};

/// Revision, name, and whether the account exists.
type Newest = BTreeMap<(u64, String), (u64, Option<String>, bool)>;

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Newest>>);

struct Outside {
    door: Door,
    receiver: Receiver,
}

impl Receiver {
    async fn serve(self, stream: TcpStream) {
        let service = service_fn(|request| self.answer(request));
        // A client that goes away is its own business.
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
            .ok();
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let body = request.into_body().collect().await?.to_bytes();
        self.take(&serde_json::from_slice(&body).unwrap());
        Ok(Response::new(Full::default()))
    }

    /// What is newer than what is held; a destroyed account too, so that nothing older brings it back.
    fn take(&self, body: &Value) {
        let document = &body["data"];
        let id = (
            document["sdk_app_id"].as_u64().unwrap(),
            document["account"].as_str().unwrap().to_owned(),
        );
        let revision = document["revision"].as_u64().unwrap();
        let name = document["name"].as_str().map(str::to_owned);
        let state = (revision, name, body["type"] == "profile.updated");
        let mut newest = self.0.lock().unwrap();
        let held = newest.entry(id).or_insert_with(|| state.clone());
        if held.0 < revision {
            *held = state;
        }
    }

    fn handler(
        &self,
    ) -> impl Fn(TcpStream) -> futures_util::future::BoxFuture<'static, ()> + use<> {
        let receiver = self.clone();
        move |stream| Box::pin(receiver.clone().serve(stream))
    }
}

impl outside::Outside for Outside {
    fn target(&self) -> String {
        let address = self.door.address();
        format!("type = \"webhook\"\nurl = \"http://{address}/profiles\"\n")
    }

    async fn stop(&mut self) {
        self.door.close().await;
    }

    async fn start(&mut self) {
        self.door.reopen(self.receiver.handler()).await;
    }

    async fn held(&mut self) -> Held {
        let newest = self.receiver.0.lock().unwrap();
        newest
            .iter()
            .filter(|(_, (_, _, active))| *active)
            .map(|(id, (revision, name, _))| (id.clone(), (*revision, name.clone())))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_backfill_loses_nothing() {
    let receiver = Receiver::default();
    let door = Door::open(receiver.handler()).await;
    survives_a_restart(Outside { door, receiver }).await;
}
