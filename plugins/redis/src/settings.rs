//! The settings of a redis target: the keys as written, and the check that makes a client and a layout of them.

use std::{num::NonZeroU64, path::Path};

use profilesync_target::{OpenContext, Secret, SettingsError, Tls, cleartext, read_secret};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo,
    TlsCertificates,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::Spanned;
use url::Url;

use crate::entry::{Layout, Stream};

const DEFAULT_PORT: u16 = 6379;

const DEFAULT_MAXLEN: NonZeroU64 = NonZeroU64::new(100_000).expect("it is not zero");

/// The ways to write `url`.
const FORMS: &str = "write it as redis://HOST:6379, rediss://HOST:6379 (TLS) or unix:/PATH";

/// Keeps a hash per account in Redis or Valkey.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The server: `redis://HOST:PORT`, `rediss://HOST:PORT` (TLS) or `unix:/PATH`.
    #[schemars(with = "String")]
    url: Spanned<String>,
    /// The user to log in as (`default`).
    #[schemars(with = "Option<String>")]
    username: Option<Spanned<String>>,
    /// The password to log in with.
    #[schemars(with = "Option<Secret>")]
    password: Option<Spanned<Secret>>,
    /// The number of the database.
    #[serde(default)]
    db: u32,
    /// Begins the key of every account, which is followed by SDKAppID, a colon and the account.
    #[serde(default = "default_prefix")]
    prefix: String,
    /// What becomes of the hash of a destroyed account.
    #[serde(default)]
    destroyed: Destroyed,
    /// The key of a stream to which each change is added.
    #[schemars(with = "Option<String>")]
    stream: Option<Spanned<String>>,
    /// About how many of the stream's entries stay (100000).
    #[schemars(with = "Option<NonZeroU64>")]
    stream_maxlen: Option<Spanned<NonZeroU64>>,
    /// A channel to which each change is published.
    #[schemars(with = "Option<String>")]
    channel: Option<Spanned<String>>,
    /// Allows to log in at another machine without TLS, where anyone on the way can read the password.
    #[serde(default)]
    insecure: bool,
    /// TLS.
    #[schemars(with = "Option<Tls>")]
    tls: Option<Spanned<Tls>>,
}

fn default_prefix() -> String {
    "profilesync:".into()
}

/// What becomes of the hash of a destroyed account.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Destroyed {
    /// It keeps the revision and `status` = `destroyed`, so that no older revision can come back.
    #[default]
    Keep,
    /// It goes.
    Delete,
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) client: Client,
    pub(crate) layout: Layout,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    /// Reads the password and the certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let address = address(&self.url)?;
        if let ConnectionAddr::Tcp(host, _) = &address
            && self.password.is_some()
            && !self.insecure
        {
            let way_out = "begin `url` with rediss://";
            cleartext(self.url.span(), host, "password", way_out)?;
        }
        // What decides what the server holds; the length of the stream, the user and TLS do not.
        let identity = json!({
            "server": address.to_string(),
            "db": self.db,
            "prefix": self.prefix,
            "destroyed": self.destroyed,
            "stream": self.stream.as_ref().map(Spanned::get_ref),
            "channel": self.channel.as_ref().map(Spanned::get_ref),
        });
        let mut login = RedisConnectionInfo::default()
            .set_db(self.db.into())
            .set_lib_name("profilesync", context.version);
        match (&self.username, &self.password) {
            (Some(name), None) => {
                return Err(SettingsError::at(
                    name.span(),
                    "`username` needs `password`",
                ));
            }
            (name, Some(password)) => {
                if let Some(name) = name {
                    login = login.set_username(name.get_ref());
                }
                login = login.set_password(read_secret(password, &context.base)?);
            }
            (None, None) => (),
        }
        let certificates = certificates(self.tls, &address, &context.base)?;
        let whole = |error: redis::RedisError| SettingsError::whole(error.to_string());
        let info = address
            .into_connection_info()
            .map_err(whole)?
            .set_redis_settings(login);
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        };
        Ok(Checked {
            client: client.map_err(whole)?,
            layout: Layout {
                stream: stream(self.stream, self.stream_maxlen, &self.prefix)?,
                channel: self
                    .channel
                    .map(|channel| filled("channel", channel))
                    .transpose()?,
                prefix: self.prefix,
                delete: self.destroyed == Destroyed::Delete,
            },
            identity,
        })
    }
}

fn address(text: &Spanned<String>) -> Result<ConnectionAddr, SettingsError> {
    let wrong = |message: &str| SettingsError::at(text.span(), message).help(FORMS);
    if let Some(path) = text.get_ref().strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') {
            return Err(wrong("`url` has no absolute path"));
        }
        return Ok(ConnectionAddr::Unix(path.into()));
    }
    let url =
        Url::parse(text.get_ref()).map_err(|error| wrong(&format!("`url` is no URL: {error}")))?;
    if !matches!(url.scheme(), "redis" | "rediss" | "valkey" | "valkeys") {
        return Err(wrong(&format!(
            "`url` begins with {}:, which is no Redis server",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("`url` holds a user name or password")
            .help("move them to `username` and `password`"));
    }
    if !matches!(url.path(), "" | "/") {
        return Err(wrong("`url` has a path").help("set the database with `db`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(
            "`url` has something behind `?` or `#`, which nothing reads",
        ));
    }
    let host = match url.host() {
        Some(url::Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => return Err(wrong("`url` names no host")),
    };
    let port = url.port().unwrap_or(DEFAULT_PORT);
    Ok(match url.scheme() {
        "rediss" | "valkeys" => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host, port),
    })
}

fn certificates(
    tls: Option<Spanned<Tls>>,
    address: &ConnectionAddr,
    base: &Path,
) -> Result<Option<TlsCertificates>, SettingsError> {
    let Some(tls) = tls else {
        return Ok(None);
    };
    if !matches!(address, ConnectionAddr::TcpTls { .. }) {
        let message = "`tls` is set, and `url` does not use TLS";
        return Err(SettingsError::at(tls.span(), message).help("begin `url` with rediss:"));
    }
    let files = tls.into_inner().read(base)?;
    Ok(Some(TlsCertificates {
        client_tls: files.own.map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.text,
            client_key: key.text,
        }),
        root_cert: files.ca.map(|ca| ca.text),
    }))
}

fn stream(
    key: Option<Spanned<String>>,
    maxlen: Option<Spanned<NonZeroU64>>,
    prefix: &str,
) -> Result<Option<Stream>, SettingsError> {
    let Some(key) = key else {
        return match maxlen {
            Some(maxlen) => Err(SettingsError::at(
                maxlen.span(),
                "`stream_maxlen` is set, and there is no `stream`",
            )),
            None => Ok(None),
        };
    };
    let span = key.span();
    let key = filled("stream", key)?;
    let (app, account) = key
        .strip_prefix(prefix)
        .and_then(|rest| rest.split_once(':'))
        .unwrap_or_default();
    if !account.is_empty() && app.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("`stream` is the key of the account {account:?} of app {app}");
        return Err(SettingsError::at(span, message).help("name it otherwise"));
    }
    Ok(Some(Stream {
        key,
        maxlen: maxlen.map_or(DEFAULT_MAXLEN, Spanned::into_inner).get(),
    }))
}

fn filled(key: &str, text: Spanned<String>) -> Result<String, SettingsError> {
    if text.get_ref().is_empty() {
        let message = format!("`{key}` is empty");
        return Err(SettingsError::at(text.span(), message).help("name it, or remove the key"));
    }
    Ok(text.into_inner())
}
