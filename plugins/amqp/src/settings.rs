//! The settings: the keys as written, and the check that turns them into a server and a form of messages.

use std::path::Path;

use lapin::{
    tcp::{RustlsConnector, RustlsConnectorConfig},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism},
};
use profilesync_target::{
    Document, Mask, OpenContext, Secret, SettingsError, Status, Tls, cleartext, read_secret,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use toml::Spanned;
use url::Url;

use crate::{
    key::{Key, MAX_KEY},
    link::Server,
    message::{Form, Format},
};

/// Seconds between signs of life, unless the server wants them more often.
const HEARTBEAT: u16 = 30;

/// Publishes every profile to an exchange of an AMQP 0-9-1 server, such as RabbitMQ.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The server: `amqp://host:5672` or `amqps://host:5671`.
    #[schemars(with = "String")]
    url: Spanned<String>,
    /// The virtual host.
    #[serde(default = "default_vhost")]
    vhost: String,
    /// The user; `guest` unless given. Without it, a client certificate says who asks (SASL EXTERNAL).
    #[schemars(with = "Option<String>")]
    username: Option<Spanned<String>>,
    /// The user's password.
    #[schemars(with = "Option<Secret>")]
    password: Option<Spanned<Secret>>,
    /// The exchange, which must exist. An empty text is the default exchange: there, the routing key names a queue.
    #[schemars(with = "String")]
    exchange: Spanned<String>,
    /// A template of the routing key. Each value in it becomes one word: `.`, `*`, `#`, `%`, spaces and control
    /// characters are percent-encoded, and what is longer than 120 bytes ends in a digest.
    #[serde(default = "default_key")]
    #[schemars(with = "String", default = "default_key_text")]
    routing_key: Spanned<String>,
    /// Whether a message that no queue takes is a fault of the target, rather than lost.
    #[serde(default = "default_mandatory")]
    mandatory: bool,
    /// The shape of the body.
    #[serde(default)]
    format: Format,
    /// Allows to log in at another machine without TLS, where anyone on the way can read the password.
    #[serde(default)]
    insecure: bool,
    /// TLS, for `amqps://`.
    #[schemars(with = "Option<Tls>")]
    tls: Option<Spanned<Tls>>,
}

fn default_vhost() -> String {
    "/".into()
}

fn default_key_text() -> String {
    "{{ sdk_app_id }}.{{ account }}".into()
}

fn default_key() -> Spanned<String> {
    Spanned::new(0..0, default_key_text())
}

fn default_mandatory() -> bool {
    true
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) server: Server,
    pub(crate) form: Form,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    /// Reads secrets and certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let (scheme, host, port) = check_url(&self.url)?;
        if self.exchange.get_ref().len() > MAX_KEY {
            return Err(SettingsError::at(
                self.exchange.span(),
                "`exchange` is longer than the 255 bytes that AMQP allows",
            ));
        }
        let encrypted = scheme == AMQPScheme::AMQPS;
        if !encrypted && !self.insecure {
            let way_out = "begin `url` with amqps://";
            cleartext(self.url.span(), &host, "password", way_out)?;
        }
        let certificate = self
            .tls
            .as_ref()
            .is_some_and(|tls| tls.get_ref().certificate.is_some());
        let tls = match (encrypted, self.tls) {
            (true, tls) => Some(connector(tls, &context.base)?),
            (false, None) => None,
            (false, Some(tls)) => {
                return Err(SettingsError::at(
                    tls.span(),
                    "`tls` is of no use: `url` is not encrypted",
                )
                .help("begin `url` with amqps://, or remove `tls`"));
            }
        };
        let (mechanism, userinfo, mask) =
            credentials(self.username, self.password, certificate, &context.base)?;
        let key = check_key(&self.routing_key)?;
        let name = format!("{}:{port}", bracketed(&host));
        let identity = json!({
            "url": format!("{scheme}://{name}"),
            "vhost": self.vhost,
            "exchange": self.exchange.get_ref(),
            "routing_key": key.text(),
            "format": self.format,
        });
        let uri = AMQPUri {
            scheme,
            authority: AMQPAuthority {
                userinfo,
                host,
                port,
            },
            vhost: self.vhost,
            query: AMQPQueryString {
                heartbeat: Some(HEARTBEAT),
                auth_mechanism: Some(mechanism),
                ..AMQPQueryString::default()
            },
        };
        Ok(Checked {
            server: Server {
                name,
                uri,
                mask,
                tls,
                title: format!("profilesync/{} {}", context.version, context.name),
            },
            form: Form {
                exchange: self.exchange.into_inner(),
                key,
                mandatory: self.mandatory,
                format: self.format,
            },
            identity,
        })
    }
}

fn check_url(text: &Spanned<String>) -> Result<(AMQPScheme, String, u16), SettingsError> {
    let wrong = |message: String| SettingsError::at(text.span(), message);
    let form = "write it as amqp://host:5672 or amqps://host:5671";
    let url = Url::parse(text.get_ref())
        .map_err(|error| wrong(format!("`url` is no URL: {error}")).help(form))?;
    let (scheme, port) = match url.scheme() {
        "amqp" => (AMQPScheme::AMQP, 5672),
        "amqps" => (AMQPScheme::AMQPS, 5671),
        other => {
            let message =
                format!("`url` begins with {other}:, and this output speaks amqp: and amqps:");
            return Err(wrong(message).help(form));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("`url` holds a user name or password".into())
            .help("move them to `username` and `password`"));
    }
    if !matches!(url.path(), "" | "/") {
        return Err(wrong("`url` has a path".into()).help("set `vhost` to the virtual host"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("`url` has a query or a fragment".into()).help(form));
    }
    let host = match url.host_str() {
        Some(host) if !host.is_empty() => host.trim_matches(['[', ']']).to_owned(),
        _ => return Err(wrong("`url` names no host".into()).help(form)),
    };
    Ok((scheme, host, url.port().unwrap_or(port)))
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

fn credentials(
    username: Option<Spanned<String>>,
    password: Option<Spanned<Secret>>,
    certificate: bool,
    base: &Path,
) -> Result<(SASLMechanism, AMQPUserInfo, Mask), SettingsError> {
    let info = |username: &str, password: &str| AMQPUserInfo {
        username: username.into(),
        password: password.into(),
    };
    let mut mask = Mask::default();
    match (username, password) {
        (Some(username), Some(password)) => {
            let password = read_secret(&password, base)?;
            mask.add(&password);
            let info = info(username.get_ref(), &password);
            Ok((SASLMechanism::Plain, info, mask))
        }
        (None, None) if certificate => Ok((SASLMechanism::External, info("", ""), mask)),
        // No secret; hidden, it would take the user's name along.
        (None, None) => Ok((SASLMechanism::Plain, info("guest", "guest"), mask)),
        (Some(username), None) => Err(SettingsError::at(
            username.span(),
            "`username` has no `password`",
        )),
        (None, Some(password)) => Err(SettingsError::at(
            password.span(),
            "`password` has no `username`",
        )),
    }
}

/// Fills the template with the longest values that there can be.
fn check_key(text: &Spanned<String>) -> Result<Key, SettingsError> {
    let long = Some("x".repeat(1000));
    let widest = Document {
        sdk_app_id: u64::MAX,
        account: "x".repeat(255),
        revision: u64::MAX,
        status: Status::Destroyed,
        name: long.clone(),
        introduction: long.clone(),
        face_url: long.clone(),
        organization: long.clone(),
        owner: long.clone(),
        operator: long,
        event_time: u64::MAX,
        extra: serde_json::Map::new(),
    };
    let key = Key::compile(text)?;
    match key.fill(&widest) {
        Ok(_) => Ok(key),
        Err(reason) => Err(SettingsError::at(text.span(), reason)
            .help("write it as \"profile.{{ account }}\", with few values")),
    }
}

fn connector(tls: Option<Spanned<Tls>>, base: &Path) -> Result<RustlsConnector, SettingsError> {
    let span = tls.as_ref().map(Spanned::span);
    let files = tls
        .map(Spanned::into_inner)
        .unwrap_or_default()
        .read(base)?;
    let wrong = |error: std::io::Error| SettingsError {
        message: format!("no TLS client can be made: {error}"),
        span: span.clone(),
        help: None,
    };
    let config = match files.ca {
        Some(ca) => RustlsConnectorConfig::default().with_parsable_certificates(ca.parsed),
        None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
            wrong(error).help("install the system's root certificates (Debian: ca-certificates), or name yours in `tls.ca`")
        })?,
    };
    match files.own {
        None => config.connector_with_no_client_auth(),
        Some((certificates, key)) => {
            config.connector_with_single_cert(certificates.parsed, key.parsed)
        }
    }
    .map_err(wrong)
}
