//! The sockets to serve: those systemd handed over, or else our own.

use std::{io, path::Path};

use tokio::net::{TcpListener, UnixListener};

use super::failed;
use crate::{
    accept::Socket,
    admin,
    config::{Address, Config},
    exit::Failure,
    systemd::{self, Handed},
};

/// Every socket, bound.
pub(super) struct Sockets {
    /// For webhooks.
    pub(super) webhook: Vec<Socket>,
    /// Where those are, in words.
    pub(super) places: String,
    /// For the admin API.
    pub(super) admin: Vec<Socket>,
}

impl Sockets {
    pub(super) async fn get(config: &Config, handed: systemd::Sockets) -> Result<Self, Failure> {
        let address = &config.listener.address;
        let (webhook, places) = match (handed.webhook, address) {
            (some, _) if !some.is_empty() => {
                let sockets = take_all(some)?;
                let places: Vec<_> = sockets.iter().map(place).collect();
                (sockets, places.join(" "))
            }
            // The kernel knows it by the name it had before it took its own.
            (_, Address::Unix(_)) => (vec![bind(address).await?], address.to_string()),
            _ => {
                let socket = bind(address).await?;
                let place = place(&socket);
                (vec![socket], place)
            }
        };
        let mut admin = take_all(handed.admin)?;
        admin::bind_rest(&config.admin, &mut admin)
            .await
            .map_err(|error| failed("the admin API cannot be served", error))?;
        tracing::info!(address = %places, "listening");
        Ok(Self {
            webhook,
            places,
            admin,
        })
    }
}

fn take_all(handed: Vec<Handed>) -> Result<Vec<Socket>, Failure> {
    handed
        .into_iter()
        .map(take)
        .collect::<Result<_, _>>()
        .map_err(|error| failed("the sockets from systemd cannot be used", error))
}

async fn bind(address: &Address) -> Result<Socket, Failure> {
    match address {
        Address::Tcp(address) => {
            TcpListener::bind(address)
                .await
                .map(Socket::Tcp)
                .map_err(|error| {
                    let help = match error.kind() {
                        io::ErrorKind::AddrNotAvailable => {
                            "no interface of this machine has this address; set listener.address to one that has, \
                             or to 0.0.0.0 for all"
                        }
                        _ => "another process may have the port; set listener.address to a free one",
                    };
                    failed(format!("cannot listen on {address}"), error).help(help)
                })
        }
        Address::Unix(path) => admin::bind_unix(path)
            .map(Socket::Unix)
            .map_err(|error| failed(format!("cannot listen on {}", path.display()), error)),
    }
}

fn take(handed: Handed) -> io::Result<Socket> {
    Ok(match handed {
        Handed::Tcp(listener) => Socket::Tcp(TcpListener::from_std(listener)?),
        Handed::Unix(listener) => Socket::Unix(UnixListener::from_std(listener)?),
    })
}

fn place(socket: &Socket) -> String {
    match socket {
        Socket::Tcp(listener) => listener
            .local_addr()
            .map_or_else(|_| "?".into(), |at| at.to_string()),
        Socket::Unix(listener) => {
            let path = listener
                .local_addr()
                .ok()
                .and_then(|at| at.as_pathname().map(Path::to_owned));
            path.map_or_else(
                || "unix:?".into(),
                |path| format!("unix:{}", path.display()),
            )
        }
    }
}
