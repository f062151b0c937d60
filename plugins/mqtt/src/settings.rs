//! The settings: the keys as written, and the check that turns them into a server and a form of messages.

use std::{path::Path, sync::Arc, time::Duration};

use profilesync_target::{Mask, OpenContext, Secret, SettingsError, Tls, cleartext, read_secret};
use rumqttc::{Broker, MqttOptions, TlsConfiguration, Transport};
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use toml::Spanned;
use url::Url;

use crate::{
    link::Server,
    message::{Form, Format},
    topic::Topic,
};

/// Longest that connecting may take; the time limit of a delivery may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes every profile to a server of MQTT 5, as the retained message of a topic.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The server: `mqtt://host:1883` or `mqtts://host:8883`.
    #[schemars(with = "String")]
    url: Spanned<String>,
    /// The client id, which no other client may have; `profilesync-NAME` unless given, NAME being the target's.
    client_id: Option<String>,
    /// The user.
    #[schemars(with = "Option<String>")]
    username: Option<Spanned<String>>,
    /// The user's password.
    #[schemars(with = "Option<Secret>")]
    password: Option<Spanned<Secret>>,
    /// A template of the topic, over `sdk_app_id` and `account` alone. Each value becomes one level: `/`, `+`, `#`, `$`,
    /// `%`, control characters and noncharacters are percent-encoded.
    #[serde(default = "default_topic")]
    #[schemars(with = "String", default = "default_topic_text")]
    topic: Spanned<String>,
    /// The shape of the payload.
    #[serde(default)]
    format: Format,
    /// Allows to log in at another machine without TLS, where anyone on the way can read the password.
    #[serde(default)]
    insecure: bool,
    /// TLS, for `mqtts://`.
    #[schemars(with = "Option<Tls>")]
    tls: Option<Spanned<Tls>>,
}

fn default_topic_text() -> String {
    "profiles/{{ sdk_app_id }}/{{ account }}".into()
}

fn default_topic() -> Spanned<String> {
    Spanned::new(0..0, default_topic_text())
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
        let (encrypted, host, port) = check_url(&self.url)?;
        let logs_in = self.username.is_some();
        if logs_in && !encrypted && !self.insecure {
            let way_out = "begin `url` with mqtts://";
            cleartext(self.url.span(), &host, "password", way_out)?;
        }
        let client_id = self
            .client_id
            .unwrap_or_else(|| format!("profilesync-{}", context.name));
        let mut options = MqttOptions::new(client_id, Broker::tcp(host.as_str(), port));
        options.set_connect_timeout(CONNECT_TIMEOUT.min(context.timeout));
        match (encrypted, self.tls) {
            (true, tls) => {
                options.set_transport(Transport::tls_with_config(tls_client(tls, &context.base)?));
            }
            (false, None) => (),
            (false, Some(tls)) => {
                let message = "`tls` is of no use: `url` is not encrypted";
                return Err(SettingsError::at(tls.span(), message)
                    .help("begin `url` with mqtts://, or remove `tls`"));
            }
        }
        let mask = log_in(&mut options, self.username, self.password, &context.base)?;
        let topic = Topic::compile(&self.topic)?;
        let name = format!("{}:{port}", bracketed(&host));
        Ok(Checked {
            identity: json!({
                "url": format!("{}://{name}", if encrypted { "mqtts" } else { "mqtt" }),
                "topic": topic.text(),
                "format": self.format,
            }),
            server: Server {
                name,
                options,
                mask,
            },
            form: Form {
                topic,
                format: self.format,
            },
        })
    }
}

/// Sets who asks, and tells what of that is secret.
fn log_in(
    options: &mut MqttOptions,
    username: Option<Spanned<String>>,
    password: Option<Spanned<Secret>>,
    base: &Path,
) -> Result<Mask, SettingsError> {
    let mut mask = Mask::default();
    match (username, password) {
        (Some(username), Some(password)) => {
            let password = read_secret(&password, base)?;
            mask.add(&password);
            options.set_credentials(username.into_inner(), password);
        }
        (Some(username), None) => {
            options.set_username(username.into_inner());
        }
        (None, Some(password)) => {
            let message = "`password` has no `username`";
            return Err(SettingsError::at(password.span(), message));
        }
        (None, None) => (),
    }
    Ok(mask)
}

fn check_url(text: &Spanned<String>) -> Result<(bool, String, u16), SettingsError> {
    let wrong = |message: String| SettingsError::at(text.span(), message);
    let form = "write it as mqtt://host:1883 or mqtts://host:8883";
    let url = Url::parse(text.get_ref())
        .map_err(|error| wrong(format!("`url` is no URL: {error}")).help(form))?;
    let (encrypted, port) = match url.scheme() {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        other => {
            let message =
                format!("`url` begins with {other}:, and this output speaks mqtt: and mqtts:");
            return Err(wrong(message).help(form));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("`url` holds a user name or password".into())
            .help("move them to `username` and `password`"));
    }
    if !matches!(url.path(), "" | "/") {
        return Err(wrong("`url` has a path".into()).help(form));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("`url` has a query or a fragment".into()).help(form));
    }
    let host = match url.host_str() {
        Some(host) if !host.is_empty() => host.trim_matches(['[', ']']).to_owned(),
        _ => return Err(wrong("`url` names no host".into()).help(form)),
    };
    Ok((encrypted, host, url.port().unwrap_or(port)))
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

fn tls_client(tls: Option<Spanned<Tls>>, base: &Path) -> Result<TlsConfiguration, SettingsError> {
    let span = tls.as_ref().map(Spanned::span);
    let files = tls
        .map(Spanned::into_inner)
        .unwrap_or_default()
        .read(base)?;
    let wrong = |error: String| SettingsError {
        message: format!("no TLS client can be made: {error}"),
        span: span.clone(),
        help: None,
    };
    let Some(ca) = files.ca else {
        if files.own.is_some() {
            return Err(wrong("a client certificate needs `tls.ca`".into())
                .help("Debian keeps the system's roots in /etc/ssl/certs/ca-certificates.crt"));
        }
        return TlsConfiguration::try_default_rustls().map_err(|error| {
            wrong(error.to_string()).help(
                "install the system's root certificates (Debian: ca-certificates), or name yours in `tls.ca`",
            )
        });
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ca.parsed);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots);
    let config = match files.own {
        Some((certificates, key)) => builder
            .with_client_auth_cert(certificates.parsed, key.parsed)
            .map_err(|error| wrong(error.to_string()))?,
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}
