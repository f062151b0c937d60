//! The connections to the server: opened when they are needed, kept between deliveries, and let go of after any
//! trouble. The client's own reconnecting is cut short, for what it would send late has been tried again meanwhile.

use std::{
    future::Future,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    Client, ClientError, ConnectOptions, Event, HeaderMap, Message, Request, ServerAddr,
};
use profilesync_target::{Mask, TlsFiles};
use tokio::{select, sync::watch};

use crate::answer::{self, Place, Refusal};

/// Opening a connection that takes longer is a fault of the target; the time limit of a delivery may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Servers, how to log in there, and the connections to them that nothing is using.
pub(crate) struct Link {
    pub(crate) place: Place,
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) login: Login,
    pub(crate) tls: Option<Tls>,
    pub(crate) idle: Mutex<Vec<Connection>>,
}

/// What to log in with.
pub(crate) enum Login {
    None,
    User {
        name: String,
        password: String,
    },
    Token(String),
    /// The text of a credentials file.
    Credentials(String),
}

impl Login {
    /// What would be read by whoever listens to a connection without TLS.
    pub(crate) fn secret(&self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::User { .. } => Some("password"),
            Self::Token(_) => Some("token"),
            Self::Credentials(_) => Some("user's JWT"),
        }
    }

    /// Hides all that is secret of it; of a credentials file each line, and so the JWT and the seed.
    pub(crate) fn mask(&self) -> Mask {
        let mut mask = Mask::default();
        match self {
            Self::None => (),
            Self::User {
                password: secret, ..
            }
            | Self::Token(secret)
            | Self::Credentials(secret) => mask.add(secret),
        }
        mask
    }
}

/// TLS, which a server that does not want it is refused for.
#[derive(Default)]
pub(crate) struct Tls {
    /// PEM file of the roots to trust.
    pub(crate) ca: Option<PathBuf>,
    /// PEM files of certificate and key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

impl From<TlsFiles> for Tls {
    fn from(files: TlsFiles) -> Self {
        Self {
            ca: files.ca.map(|ca| ca.path),
            own: files
                .own
                .map(|(certificate, key)| (certificate.path, key.path)),
        }
    }
}

/// One connection to one server.
pub(crate) struct Connection {
    client: Client,
    /// The first trouble it had.
    trouble: watch::Receiver<Option<Trouble>>,
}

/// Why work came to nothing.
#[derive(Clone)]
pub(crate) enum Trouble {
    /// The user may not publish to one of the subjects.
    Denied(String),
    /// The connection failed, or was refused anything else.
    Broken(String),
}

impl Trouble {
    fn at(self, place: &Place) -> Self {
        match self {
            Self::Denied(reason) => Self::Denied(format!("{place}: {reason}")),
            Self::Broken(reason) => Self::Broken(format!("{place}: {reason}")),
        }
    }

    /// The reason.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Denied(reason) | Self::Broken(reason) => reason,
        }
    }
}

impl Link {
    /// Does work that may be done twice over a connection, and gives up when the connection has trouble. `is_well` says
    /// whether what was done shows that the server is.
    ///
    /// A connection is out of the pool while it is used: what is dropped here takes it along, with the requests that
    /// are still to be answered.
    pub(crate) async fn run<'a, T, F: Future<Output = Result<T, String>> + Send>(
        &self,
        work: impl Fn(Client) -> F + Send + Sync + 'a,
        is_well: fn(&T) -> bool,
    ) -> Result<T, Trouble> {
        if let Some(connection) = self.take() {
            match connection.run(&work).await {
                Ok(done) => return Ok(self.keep(connection, done, is_well)),
                // A new connection is the same user's.
                Err(trouble @ Trouble::Denied(_)) => return Err(trouble.at(&self.place)),
                // The server went away since, and all idle connections with it; it may be back.
                Err(Trouble::Broken(_)) => self.clear(),
            }
        }
        let connection = self.open().await.map_err(Trouble::Broken)?;
        let done = connection.run(&work).await;
        let done = done.map_err(|trouble| trouble.at(&self.place))?;
        Ok(self.keep(connection, done, is_well))
    }

    async fn open(&self) -> Result<Connection, String> {
        let place = self.place.clone();
        let (sender, trouble) = watch::channel(None);
        let options = self.options()?.event_callback(move |event| {
            if let Some(found) = trouble_of(&place, &event) {
                sender.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(found);
                    is_first
                });
            }
            async {}
        });
        match options.connect(&self.servers[..]).await {
            Ok(client) => Ok(Connection { client, trouble }),
            Err(error) => {
                let error = self.place.mask.hide(&error.to_string());
                Err(format!("cannot connect to {}: {error}", self.place))
            }
        }
    }

    fn options(&self) -> Result<ConnectOptions, String> {
        let mut options = ConnectOptions::new()
            .name("profilesync")
            .connection_timeout(CONNECT_TIMEOUT)
            // A delivery has its own time limit.
            .request_timeout(None)
            .ignore_discovered_servers()
            // Zero would be no limit.
            .max_reconnects(self.servers.len());
        options = match &self.login {
            Login::None => options,
            Login::User { name, password } => {
                options.user_and_password(name.clone(), password.clone())
            }
            Login::Token(token) => options.token(token.clone()),
            Login::Credentials(text) => options
                .credentials(text)
                .map_err(|_| "the credentials cannot be read".to_owned())?,
        };
        if let Some(tls) = &self.tls {
            options = options.require_tls(true);
            if let Some(ca) = &tls.ca {
                options = options.add_root_certificates(ca.clone());
            }
            if let Some((certificate, key)) = &tls.own {
                options = options.add_client_certificate(certificate.clone(), key.clone());
            }
        }
        Ok(options)
    }

    fn take(&self) -> Option<Connection> {
        self.lock().pop()
    }

    /// Keeps the connection for the next work, unless the server is unwell: then the next one is to find out anew which
    /// of the servers will do it.
    fn keep<T>(&self, connection: Connection, done: T, is_well: fn(&T) -> bool) -> T {
        if is_well(&done) {
            self.lock().push(connection);
        } else {
            self.clear();
        }
        done
    }

    /// Closes all connections that nothing is using.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    async fn run<T, F: Future<Output = Result<T, String>>>(
        &self,
        work: impl Fn(Client) -> F,
    ) -> Result<T, Trouble> {
        let mut trouble = self.trouble.clone();
        select! {
            biased;
            found = trouble.wait_for(Option::is_some) => Err(match found.as_deref() {
                Ok(Some(trouble)) => trouble.clone(),
                _ => Trouble::Broken("the connection was closed".into()),
            }),
            done = work(self.client.clone()) => done.map_err(Trouble::Broken),
        }
    }
}

/// Sends one request and waits for its answer. An error is the connection's.
pub(crate) async fn request(
    client: &Client,
    subject: String,
    headers: HeaderMap,
    payload: Vec<u8>,
) -> Result<Result<Message, Refusal>, String> {
    let request = Request::new().headers(headers).payload(payload.into());
    match client.send_request(subject, request).await {
        Ok(message) => Ok(Ok(message)),
        Err(error) => answer::of_request(&error).map(Err),
    }
}

pub(crate) fn place(server: &ServerAddr) -> String {
    format!("{}:{}", server.host(), server.port())
}

/// What a connection cannot go on after.
fn trouble_of(place: &Place, event: &Event) -> Option<Trouble> {
    match event {
        Event::Connected | Event::LameDuckMode | Event::Draining | Event::SlowConsumer(_) => None,
        Event::Disconnected | Event::Closed | Event::ClientError(ClientError::MaxReconnects) => {
            Some(Trouble::Broken("the server closed the connection".into()))
        }
        Event::ServerError(error) => {
            let words = error.to_string();
            let reason = answer::refused(place, &words);
            Some(match answer::is_denied(&words) {
                true => Trouble::Denied(reason),
                false => Trouble::Broken(reason),
            })
        }
        Event::ClientError(error) => Some(Trouble::Broken(error.to_string())),
    }
}
