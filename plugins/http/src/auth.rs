//! The key `auth`: credentials, and the header they make.

use std::{collections::BTreeMap, ops::Range};

use data_encoding::BASE64;
use profilesync_target::{Secret, SettingsError};
use reqwest::header::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use crate::{client::check_url, oauth2::OAuth2, secrets::Secrets};

/// Credentials.
#[derive(JsonSchema)]
#[schemars(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Auth {
    /// `Authorization: Bearer …`
    Bearer {
        /// The token.
        token: Secret,
    },
    /// `Authorization: Basic …`
    Basic {
        /// The user, without a colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token by OAuth 2.0 client credentials: fetched when needed, kept until it expires or is refused.
    OAuth2 {
        /// Where tokens are issued: `https://…`.
        token_url: String,
        /// The client's id.
        client_id: String,
        /// The client's secret.
        client_secret: Secret,
        /// What the token is to be good for, separated by spaces.
        scope: Option<String>,
        /// Whom the token is to be good for, where the issuer asks for it.
        audience: Option<String>,
        /// Further fields of the token request, such as `resource`.
        #[schemars(default)]
        params: BTreeMap<String, String>,
        /// How the client shows who it is.
        #[schemars(default)]
        client_auth: ClientAuth,
    },
}

/// The keys of every type. Serde's own way with a `type` would forget where each of them stands.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = r#"a table such as { type = "bearer", token = … }"#
)]
struct Keys {
    r#type: Type,
    token: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    token_url: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scope: Option<String>,
    audience: Option<String>,
    params: Option<BTreeMap<String, String>>,
    client_auth: Option<ClientAuth>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Bearer,
    Basic,
    OAuth2,
}

impl Type {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Bearer => &["type", "token"],
            Self::Basic => &["type", "username", "password"],
            Self::OAuth2 => &[
                "type",
                "token_url",
                "client_id",
                "client_secret",
                "scope",
                "audience",
                "params",
                "client_auth",
            ],
        }
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Keys::deserialize(deserializer)?;
        if let Some(other) = keys.other() {
            return Err(D::Error::unknown_field(other, keys.r#type.keys()));
        }
        let missing = |key| move || D::Error::missing_field(key);
        Ok(match keys.r#type {
            Type::Bearer => Self::Bearer {
                token: keys.token.ok_or_else(missing("token"))?,
            },
            Type::Basic => Self::Basic {
                username: keys.username.ok_or_else(missing("username"))?,
                password: keys.password.ok_or_else(missing("password"))?,
            },
            Type::OAuth2 => Self::OAuth2 {
                token_url: keys.token_url.ok_or_else(missing("token_url"))?,
                client_id: keys.client_id.ok_or_else(missing("client_id"))?,
                client_secret: keys.client_secret.ok_or_else(missing("client_secret"))?,
                scope: keys.scope,
                audience: keys.audience,
                params: keys.params.unwrap_or_default(),
                client_auth: keys.client_auth.unwrap_or_default(),
            },
        })
    }
}

impl Keys {
    /// A key that is set and means nothing to the type.
    fn other(&self) -> Option<&'static str> {
        let set = [
            ("token", self.token.is_some()),
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("token_url", self.token_url.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("scope", self.scope.is_some()),
            ("audience", self.audience.is_some()),
            ("params", self.params.is_some()),
            ("client_auth", self.client_auth.is_some()),
        ];
        let mut names = set
            .iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(key, _)| *key);
        names.find(|key| !self.r#type.keys().contains(key))
    }
}

/// How the client of a token request shows who it is.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// In the header `Authorization` (`client_secret_basic`).
    #[default]
    Basic,
    /// In the form (`client_secret_post`).
    Post,
}

/// Fields of a token request that have keys of their own, or none to choose, and what to do instead of a second one.
const OWN_FIELDS: [(&str, &str); 4] = [
    (
        "grant_type",
        "remove it: the grant is always client_credentials",
    ),
    (
        "client_id",
        "set `auth.client_id`; `auth.client_auth = \"post\"` sends it in the form",
    ),
    (
        "client_secret",
        "set `auth.client_secret`; `auth.client_auth = \"post\"` sends it in the form",
    ),
    ("scope", "set `auth.scope`"),
];

/// Credentials that are ready to be sent.
pub(crate) enum Credentials {
    /// Always this.
    Fixed(HeaderValue),
    /// Whatever token is good now.
    OAuth2(OAuth2),
}

impl Auth {
    pub(crate) fn check(
        auth: Spanned<Self>,
        secrets: &mut Secrets,
    ) -> Result<Credentials, SettingsError> {
        let span = auth.span();
        match auth.into_inner() {
            Self::Bearer { token } => bearer(&token, &span, secrets),
            Self::Basic { username, password } => basic(&username, &password, &span, secrets),
            Self::OAuth2 {
                token_url,
                client_id,
                client_secret,
                scope,
                audience,
                mut params,
                client_auth,
            } => {
                let url = check_url("auth.token_url", &token_url, span.clone())?;
                let ours = OWN_FIELDS.iter().find(|(key, _)| params.contains_key(*key));
                if let Some((key, way_out)) = ours {
                    let message = format!("`auth.params` cannot set `{key}`");
                    return Err(SettingsError::at(span, message).help(*way_out));
                }
                // Masked where answers quote them.
                secrets.keep_query(url.query().unwrap_or_default());
                for value in params.values() {
                    secrets.keep_long(value);
                }
                let secret = secrets
                    .read_and_keep(&client_secret)
                    .map_err(|message| SettingsError::at(span, message))?;
                params.extend(scope.map(|scope| ("scope".to_owned(), scope)));
                params.extend(audience.map(|audience| ("audience".to_owned(), audience)));
                let client = OAuth2::new(url, (&client_id, &secret), client_auth, params, secrets);
                Ok(Credentials::OAuth2(client))
            }
        }
    }
}

fn bearer(
    token: &Secret,
    span: &Range<usize>,
    secrets: &mut Secrets,
) -> Result<Credentials, SettingsError> {
    let token = secrets
        .read_and_keep(token)
        .map_err(|message| SettingsError::at(span.clone(), message))?;
    fixed(&format!("Bearer {token}"), span)
}

fn basic(
    username: &str,
    password: &Secret,
    span: &Range<usize>,
    secrets: &mut Secrets,
) -> Result<Credentials, SettingsError> {
    let wrong = |message: String| SettingsError::at(span.clone(), message);
    if username.contains(':') {
        return Err(wrong("a user name of `auth` cannot hold a colon".into()));
    }
    let password = secrets.read_and_keep(password).map_err(wrong)?;
    let pair = BASE64.encode(format!("{username}:{password}").as_bytes());
    secrets.keep(&pair);
    fixed(&format!("Basic {pair}"), span)
}

fn fixed(text: &str, span: &Range<usize>) -> Result<Credentials, SettingsError> {
    sensitive(text).map(Credentials::Fixed).ok_or_else(|| {
        let message = "the secret of `auth` holds a line end or control character";
        SettingsError::at(span.clone(), message)
    })
}

/// A header that is not shown; `None` for a text that is no header.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
