//! The key `auth`: credentials, and the header they make.

use std::{collections::BTreeMap, ops::Range};

use data_encoding::BASE64;
use profilesync_target::{Secret, SettingsError};
use reqwest::header::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::{client::check_url, oauth2::OAuth2, secrets::Secrets};

/// Credentials.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
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
        #[serde(default)]
        params: BTreeMap<String, String>,
        /// How the client shows who it is.
        #[serde(default)]
        client_auth: ClientAuth,
    },
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
