//! Where the database is, and how a connection to it is secured: from the URL to a driver's options.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::percent_decode_str;
use profilesync_target::Mask;
use sqlx::{
    ConnectOptions as _,
    mysql::{MySqlConnectOptions, MySqlSslMode},
    postgres::{PgConnectOptions, PgSslMode},
    sqlite::SqliteConnectOptions,
};
use url::{Host, Url};

use crate::dialect::Dialect;

/// A database that can be connected to. Has no `Debug`: it holds the password.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) options: Options,
    /// The database in messages, and in the identity: without user and password.
    pub(crate) shown: String,
    /// What no text may show.
    pub(crate) mask: Mask,
}

/// A driver's options.
#[derive(Clone)]
pub(crate) enum Options {
    Postgres(Box<PgConnectOptions>),
    Mysql(Box<MySqlConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

/// How a connection is secured.
pub(crate) enum Security {
    Off,
    /// Encrypted to whoever answers.
    Unverified(Identity),
    /// The server's certificate must be valid for its host name.
    Verified {
        ca: Option<Vec<u8>>,
        identity: Identity,
    },
}

/// The client's certificate and key, in PEM.
pub(crate) type Identity = Option<(Vec<u8>, Vec<u8>)>;

/// The URL, taken apart.
pub(crate) enum Place {
    Network {
        dialect: Dialect,
        host: String,
        port: u16,
        user: String,
        password: Option<String>,
        database: String,
    },
    File(PathBuf),
}

impl Place {
    /// Takes a URL apart. `base` is where relative paths start.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it, for it may hold a password.
    pub(crate) fn parse(text: &str, base: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains(['?', '\0']) || path.starts_with(':') {
                return Err("`url` names no file: write sqlite:PATH, without parameters".into());
            }
            return Ok(Self::File(base.join(path)));
        }
        let url = Url::parse(text).map_err(|error| format!("`url` is no URL: {error}"))?;
        let (dialect, port) = match url.scheme() {
            "postgres" | "postgresql" => (Dialect::Postgres, 5432),
            "mysql" | "mariadb" => (Dialect::Mysql, 3306),
            scheme => {
                return Err(format!(
                    "`url` begins with {scheme}:, which is no known database"
                ));
            }
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err("`url` has parameters, which are not read: TLS is set by `tls`".into());
        }
        let decoded = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            let decoded = decoded.map_err(|_| "`url` is not UTF-8 when decoded".to_owned())?;
            Ok::<_, String>(decoded.into_owned())
        };
        let host = match url.host() {
            Some(Host::Domain(host)) if !host.is_empty() => decoded(host)?,
            // Brackets are of the URL, not of the address.
            Some(Host::Ipv6(host)) => host.to_string(),
            Some(host) if !host.to_string().is_empty() => host.to_string(),
            _ => return Err("`url` has no host".into()),
        };
        let database = decoded(url.path().trim_start_matches('/'))?;
        let user = decoded(url.username())?;
        for (part, name) in [(&database, "database"), (&user, "user")] {
            if part.is_empty() {
                return Err(format!("`url` names no {name}"));
            }
        }
        Ok(Self::Network {
            dialect,
            host,
            port: url.port().unwrap_or(port),
            user,
            password: url.password().map(decoded).transpose()?,
            database,
        })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Network { dialect, .. } => *dialect,
            Self::File(_) => Dialect::Sqlite,
        }
    }

    /// Whether what is sent leaves this machine.
    pub(crate) fn is_remote(&self) -> bool {
        match self {
            Self::Network { host, .. } => {
                let loopback = |host: &str| {
                    let ip = host.parse::<std::net::IpAddr>();
                    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
                };
                !loopback(host)
            }
            Self::File(_) => false,
        }
    }

    /// The place as messages name it.
    fn shown(&self) -> String {
        match self {
            Self::Network {
                dialect,
                host,
                port,
                database,
                ..
            } => {
                let scheme = match dialect {
                    Dialect::Postgres => "postgres",
                    Dialect::Mysql | Dialect::Sqlite => "mysql",
                };
                let host = if host.contains(':') {
                    format!("[{host}]")
                } else {
                    host.clone()
                };
                format!("{scheme}://{host}:{port}/{database}")
            }
            Self::File(path) => format!("sqlite:{}", path.display()),
        }
    }
}

impl Address {
    /// The driver's options. `socket` is a Unix socket that takes the place of host and port, `create` lets SQLite
    /// create its file, and `timeout` is the time limit of a delivery.
    pub(crate) fn new(
        place: Place,
        password: Option<String>,
        socket: Option<&Path>,
        security: Security,
        create: bool,
        timeout: Duration,
    ) -> Self {
        let mut shown = place.shown();
        if let Some(socket) = socket {
            shown = format!("{shown} on {}", socket.display());
        }
        let mut mask = Mask::default();
        mask.add(password.as_deref().unwrap_or_default());
        let options = match place {
            Place::File(path) => Options::Sqlite(Box::new(
                SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(create)
                    .busy_timeout(timeout / 2)
                    .disable_statement_logging(),
            )),
            Place::Network {
                dialect: Dialect::Postgres,
                host,
                port,
                user,
                database,
                ..
            } => {
                let mut options = PgConnectOptions::new_without_pgpass()
                    .host(&host)
                    .port(port)
                    .username(&user)
                    .database(&database)
                    .application_name("profilesync")
                    .disable_statement_logging();
                if let Some(password) = &password {
                    options = options.password(password);
                }
                if let Some(socket) = socket {
                    options = options.socket(socket);
                }
                Options::Postgres(Box::new(secured_postgres(options, security)))
            }
            Place::Network {
                host,
                port,
                user,
                database,
                ..
            } => {
                let mut options = MySqlConnectOptions::new()
                    .host(&host)
                    .port(port)
                    .username(&user)
                    .database(&database)
                    .disable_statement_logging();
                if let Some(password) = &password {
                    options = options.password(password);
                }
                if let Some(socket) = socket {
                    options = options.socket(socket);
                }
                Options::Mysql(Box::new(secured_mysql(options, security)))
            }
        };
        Self {
            options,
            shown,
            mask,
        }
    }
}

fn secured_postgres(options: PgConnectOptions, security: Security) -> PgConnectOptions {
    let (options, identity) = match security {
        Security::Off => return options.ssl_mode(PgSslMode::Disable),
        Security::Unverified(identity) => (options.ssl_mode(PgSslMode::Require), identity),
        Security::Verified { ca, identity } => {
            let options = options.ssl_mode(PgSslMode::VerifyFull);
            match ca {
                Some(ca) => (options.ssl_root_cert_from_pem(ca), identity),
                None => (options, identity),
            }
        }
    };
    match identity {
        Some((certificate, key)) => options
            .ssl_client_cert_from_pem(certificate)
            .ssl_client_key_from_pem(key),
        None => options,
    }
}

fn secured_mysql(options: MySqlConnectOptions, security: Security) -> MySqlConnectOptions {
    let (options, identity) = match security {
        Security::Off => return options.ssl_mode(MySqlSslMode::Disabled),
        Security::Unverified(identity) => (options.ssl_mode(MySqlSslMode::Required), identity),
        Security::Verified { ca, identity } => {
            let options = options.ssl_mode(MySqlSslMode::VerifyIdentity);
            match ca {
                Some(ca) => (options.ssl_ca_from_pem(ca), identity),
                None => (options, identity),
            }
        }
    };
    match identity {
        Some((certificate, key)) => options
            .ssl_client_cert_from_pem(certificate)
            .ssl_client_key_from_pem(key),
        None => options,
    }
}
