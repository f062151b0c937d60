//! The settings of one target: what is left of its table once the daemon took its own keys out.

use std::{fmt, net::IpAddr, ops::Range};

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use toml::{Spanned, de::DeTable};

/// The keys of `[targets.NAME]` that are the kind's own, with their positions. Borrows from the configuration's
/// text; prints as its keys alone, for values can be secret.
#[derive(Clone)]
pub struct Settings<'a>(Spanned<DeTable<'a>>);

impl fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.get_ref().keys().map(Spanned::get_ref))
            .finish()
    }
}

/// What is wrong with a target's settings, and where.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    /// What is wrong, in a sentence that names the key.
    pub message: String,
    /// Byte range in the configuration text, as given by [`Spanned`]; `None` points at the whole table.
    pub span: Option<Range<usize>>,
    /// The way out.
    pub help: Option<String>,
}

impl<'a> Settings<'a> {
    /// Wraps a table; done by the daemon, and by tests.
    #[must_use]
    pub fn new(table: Spanned<DeTable<'a>>) -> Self {
        Self(table)
    }

    /// The settings that a TOML text holds, for tests.
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn from_toml(text: &'a str) -> Result<Self, SettingsError> {
        DeTable::parse(text)
            .map(Self)
            .map_err(|error| SettingsError {
                message: error.message().to_owned(),
                span: error.span(),
                help: None,
            })
    }

    /// Reads the settings into a struct, which should `deny_unknown_fields`. Wrap a value in [`Spanned`] where a
    /// later check must point at it.
    ///
    /// # Errors
    /// On an unknown key, a missing one or a value of the wrong type, with its position.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, SettingsError> {
        let whole = self.0.span();
        T::deserialize(toml::de::Deserializer::from(self.0)).map_err(|error: toml::de::Error| {
            SettingsError {
                message: error.message().to_owned(),
                span: error.span().or(Some(whole)),
                help: None,
            }
        })
    }
}

/// JSON Schema (draft 7, as editors of TOML understand it) of a settings struct, for [`Kind::schema`](crate::Kind).
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft07()
        .for_deserialize()
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Refuses to send a secret without TLS, unless it stays on this machine. For kinds whose `insecure` is not set:
/// `secret` is what would be sent ("password"), `way_out` how to encrypt it ("begin `url` with amqps://").
///
/// # Errors
/// When `host` (an IPv6 address with or without brackets) is another machine; points at `url`.
pub fn cleartext(
    url: Range<usize>,
    host: &str,
    secret: &str,
    way_out: &str,
) -> Result<(), SettingsError> {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    if host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback()) {
        return Ok(());
    }
    let message = format!("the {secret} would cross the network in clear");
    Err(SettingsError::at(url, message).help(format!(
        "{way_out}, or set `insecure = true` where nobody can listen"
    )))
}

impl SettingsError {
    /// An error about the value at `span`.
    #[must_use]
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: Some(span),
            help: None,
        }
    }

    /// An error about the table as a whole.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: None,
            help: None,
        }
    }

    /// The same error with a way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::cleartext;

    #[test]
    fn secrets_leave_this_machine_encrypted() {
        let check = |host: &str| cleartext(6..9, host, "token", "begin `url` with tls://");
        for near in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "[::1]",
        ] {
            check(near).unwrap();
        }
        for far in [
            "",
            "a.example",
            "localhost.example",
            "127.0.0.1.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "fe80::1",
        ] {
            let error = check(far).unwrap_err();
            let message = "the token would cross the network in clear";
            assert_eq!((error.message.as_str(), error.span), (message, Some(6..9)));
            let help = "begin `url` with tls://, or set `insecure = true` where nobody can listen";
            assert_eq!(error.help.as_deref(), Some(help), "{far}");
        }
    }
}
