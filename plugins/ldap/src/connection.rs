//! Connections to the server: TLS, bind, and the idle ones that wait for the next delivery.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, StdStream};
use rustls::ClientConfig;
use tokio::{net::TcpStream, task::AbortHandle, time::timeout};
use url::Url;

use crate::code;

/// Connecting, TLS and bind together; the time limit of a delivery may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client never forgets the number of a search, so that a connection is given up after so many documents.
const MAX_USES: usize = 100_000;

/// RFC 4528: an operation is done only if the entry meets a filter.
const ASSERTION: &str = "1.3.6.1.1.12";

/// The server, and how to get in.
pub(crate) struct Server {
    pub(crate) url: Url,
    /// The name or address to connect to.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) start_tls: bool,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) bind_dn: String,
    pub(crate) password: String,
}

/// A connection that is bound. Closed when dropped.
pub(crate) struct Connection {
    pub(crate) ldap: Ldap,
    /// Whether the server knows the assertion control.
    pub(crate) asserts: bool,
    /// Whether it was idle before, so that the server may have closed it.
    pub(crate) reused: bool,
    uses: usize,
    driver: AbortHandle,
}

/// The connections that no delivery uses now.
pub(crate) struct Pool {
    pub(crate) server: Server,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            idle: Mutex::default(),
        }
    }

    /// An idle connection, or a new one. Give it back with [`Pool::put`] when nothing is under way on it; dropped, it
    /// is closed.
    pub(crate) async fn take(&self) -> Result<Connection, String> {
        loop {
            let idle = self.lock().pop();
            let Some(mut connection) = idle else {
                return self.server.connect().await;
            };
            if !connection.ldap.is_closed() {
                connection.reused = true;
                return Ok(connection);
            }
        }
    }

    pub(crate) fn put(&self, mut connection: Connection, uses: usize) {
        connection.uses += uses;
        if connection.uses < MAX_USES {
            self.lock().push(connection);
        }
    }

    /// Says goodbye on every idle connection.
    pub(crate) async fn close(&self) {
        let idle = std::mem::take(&mut *self.lock());
        for mut connection in idle {
            // It is gone either way.
            let _ = connection.ldap.unbind().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// A new connection, bound.
    pub(crate) async fn connect(&self) -> Result<Connection, String> {
        match timeout(CONNECT_TIMEOUT, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(format!(
                "{} does not answer: no connection within {} s",
                self.shown(),
                CONNECT_TIMEOUT.as_secs()
            )),
        }
    }

    async fn open(&self) -> Result<Connection, String> {
        let failed = |what: &str, why: &dyn std::fmt::Display| {
            format!("cannot {what} {}: {why}", self.shown())
        };
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .and_then(|tcp| {
                // Several requests are under way at once, and each must go out at once.
                tcp.set_nodelay(true)?;
                tcp.into_std()
            })
            .map_err(|error| failed("connect to", &error))?;
        let mut settings = LdapConnSettings::new()
            .set_std_stream(StdStream::Tcp(tcp))
            .set_starttls(self.start_tls);
        if let Some(tls) = &self.tls {
            settings = settings.set_config(Arc::clone(tls));
        }
        let (driver, ldap) = LdapConnAsync::from_url_with_settings(settings, &self.url)
            .await
            .map_err(|error| failed("set up TLS with", &self.explain(&error)))?;
        let driver = tokio::spawn(driver.drive()).abort_handle();
        let mut connection = Connection {
            ldap,
            asserts: false,
            reused: false,
            uses: 0,
            driver,
        };
        let bound = connection
            .ldap
            .simple_bind(&self.bind_dn, &self.password)
            .await
            .map_err(|error| failed("bind at", &self.explain(&error)))?;
        if bound.rc != 0 {
            let what = format!("{} refuses `bind_dn`", self.shown());
            return Err(code::reason(&what, &bound, &self.password));
        }
        connection.asserts = asserts(&mut connection.ldap)
            .await
            .map_err(|error| failed("read the capabilities of", &self.explain(&error)))?;
        Ok(connection)
    }

    /// Host and port, as messages name the server.
    pub(crate) fn shown(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// What went wrong on a connection, in words for an operator.
    pub(crate) fn explain(&self, error: &LdapError) -> String {
        match error {
            LdapError::OpSend { .. }
            | LdapError::ResultRecv { .. }
            | LdapError::EndOfStream
            | LdapError::IdScrubSend { .. } => "the connection was lost".into(),
            LdapError::Io { source } => source.to_string(),
            LdapError::LdapResult { result } => code::reason("the answer", result, &self.password),
            other => other.to_string(),
        }
    }
}

/// Whether the server says that it knows the assertion control. One that says nothing is taken not to.
async fn asserts(ldap: &mut Ldap) -> Result<bool, LdapError> {
    let found = ldap
        .search("", Scope::Base, "(objectClass=*)", ["supportedControl"])
        .await?;
    Ok(found.0.into_iter().any(|entry| {
        let entry = SearchEntry::construct(entry);
        let mut controls = entry.attrs.into_values().flatten();
        controls.any(|control| control == ASSERTION)
    }))
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
