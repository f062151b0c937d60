//! The settings of a webhook: the keys as written, and the check that turns them into a request template.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use profilesync_target::{OpenContext, Secret, SettingsError};
use reqwest::{
    Certificate, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        Error, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use serde_json::json;
use toml::Spanned;

use crate::{
    answer::{Excerpt, Statuses, Verdicts},
    request::{Format, Template},
    sign::Key,
};

/// Sends every profile to a URL, as one HTTP request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// Where profiles are sent: `https://…` or `http://…`.
    #[schemars(with = "String")]
    url: Spanned<String>,
    /// The request's method.
    #[serde(default)]
    method: Method,
    /// Further headers. A text is shown where requests are shown; another form of secret is not.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret>")]
    headers: BTreeMap<String, Spanned<Secret>>,
    /// The shape of the body.
    #[serde(default)]
    format: Format,
    /// Credentials sent with every request.
    #[schemars(with = "Option<Auth>")]
    auth: Option<Spanned<Auth>>,
    /// Signs by Standard Webhooks; several secrets sign side by side while the receiver changes over.
    #[schemars(with = "Option<OneOrMany>")]
    signing_secret: Option<Spanned<Secrets>>,
    /// Answers that mean success, beside 200 to 299.
    #[serde(default)]
    #[schemars(with = "Vec<OneStatus>")]
    success: Vec<Statuses>,
    /// Answers after which to try again: `[409, "500-599"]`.
    #[serde(default)]
    #[schemars(with = "Vec<OneStatus>")]
    retry_on: Vec<Statuses>,
    /// Answers that refuse the account for good.
    #[serde(default)]
    #[schemars(with = "Vec<OneStatus>")]
    reject_on: Vec<Statuses>,
    /// TLS.
    tls: Option<Tls>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Post,
    Put,
    Patch,
}

/// Credentials.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Auth {
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
}

/// TLS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// PEM file of the root certificates to trust, instead of the system's.
    #[schemars(with = "Option<PathBuf>")]
    ca: Option<Spanned<PathBuf>>,
}

/// One secret, or a list of them.
struct Secrets(Vec<Secret>);

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
enum OneOrMany {
    One(Secret),
    Many(Vec<Secret>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
enum OneStatus {
    Code(u16),
    Range(String),
}

/// Reads secrets, and keeps them to mask them where answers are quoted.
struct Reader<'a> {
    base: &'a Path,
    secrets: Vec<String>,
}

impl Reader<'_> {
    fn read(&self, secret: &Secret) -> Result<String, String> {
        let secret = secret.clone().within(self.base);
        secret.read().map_err(|error| error.to_string())
    }

    fn keep(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) template: Template,
    pub(crate) verdicts: Verdicts,
    pub(crate) excerpt: Excerpt,
    pub(crate) ca: Option<Vec<Certificate>>,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    /// Reads secrets and certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let mut reader = Reader {
            base: &context.base,
            secrets: Vec::new(),
        };
        let url = check_url(&self.url)?;
        let mut headers = own_headers(context)?;
        let given = given_headers(&self.headers, &mut reader)?;
        // What is not secret of the settings that decide what the receiver gets.
        let identity = json!({
            "url": url.as_str(),
            "method": self.method,
            "format": self.format,
            "headers": shown(&given),
        });
        // A header of the same name takes the place of ours: `content-type`, `user-agent`.
        for (name, value) in &given {
            headers.insert(name, value.clone());
        }
        if let Some(auth) = self.auth {
            let span = auth.span();
            if given.contains_key(AUTHORIZATION) {
                let message = "`auth` and the header `authorization` both say who is asking";
                return Err(SettingsError::at(span, message).help("remove one of them"));
            }
            headers.insert(AUTHORIZATION, auth.into_inner().header(span, &mut reader)?);
        }
        let verdicts = Verdicts {
            success: self.success,
            retry_on: self.retry_on,
            reject_on: self.reject_on,
        };
        if let Some(code) = verdicts.conflict() {
            return Err(SettingsError::whole(format!(
                "the status {code} is in more than one of `success`, `retry_on` and `reject_on`"
            )));
        }
        Ok(Checked {
            template: Template {
                method: self.method.into(),
                url,
                headers,
                format: self.format,
                keys: signing_keys(self.signing_secret, &mut reader)?,
            },
            verdicts,
            excerpt: Excerpt {
                secrets: reader.secrets,
            },
            ca: self
                .tls
                .and_then(|tls| tls.ca)
                .map(|path| read_ca(&path, &context.base))
                .transpose()?,
            identity,
        })
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
        }
    }
}

fn check_url(text: &Spanned<String>) -> Result<Url, SettingsError> {
    let wrong = |message: String| SettingsError::at(text.span(), message);
    let url = Url::parse(text.get_ref()).map_err(|error| {
        wrong(format!("`url` is no URL: {error}")).help("write it as https://host/path")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!(
            "`url` begins with {}:, and only https: and http: can be sent to",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("`url` holds a user name or password".into())
            .help(r#"move them to `auth = { type = "basic", username = "…", password = … }`"#));
    }
    if url.fragment().is_some() {
        return Err(wrong(
            "`url` has a fragment (#…), which HTTP never sends".into(),
        ));
    }
    Ok(url)
}

fn own_headers(context: &OpenContext) -> Result<HeaderMap, SettingsError> {
    let value = |text: String| {
        HeaderValue::from_str(&text).map_err(|_| {
            SettingsError::whole(format!(
                "the target's name {:?} cannot be sent as a header",
                context.name
            ))
            .help("name it with letters, digits and dashes")
        })
    };
    Ok(HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (
            USER_AGENT,
            value(format!("profilesync/{}", context.version))?,
        ),
        (
            HeaderName::from_static("profilesync-target"),
            value(context.name.clone())?,
        ),
    ]))
}

/// Headers that are ours to send: a second one would contradict the body, the connection or the signature.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "connection"
            | "content-length"
            | "host"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) || name.starts_with("profilesync-")
        || name.starts_with("webhook-")
}

fn given_headers(
    given: &BTreeMap<String, Spanned<Secret>>,
    reader: &mut Reader<'_>,
) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    for (key, secret) in given {
        let wrong = |message: String| SettingsError::at(secret.span(), message);
        let name = HeaderName::try_from(key)
            .map_err(|_| wrong(format!("{key:?} is no name of a header")))?;
        if is_ours(&name) {
            return Err(wrong(format!(
                "the header `{name}` is set by profilesync itself"
            )));
        }
        let text = reader.read(secret.get_ref()).map_err(&wrong)?;
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            wrong(format!(
                "the header `{name}` holds a line end or control character"
            ))
        })?;
        if !matches!(secret.get_ref(), Secret::Inline(_)) || names_a_secret(&name) {
            value.set_sensitive(true);
            reader.keep(&text);
        }
        if headers.insert(&name, value).is_some() {
            return Err(wrong(format!("the header `{name}` is given twice")));
        }
    }
    Ok(headers)
}

/// Whether a header of this name holds a secret even when it is written out in the configuration.
fn names_a_secret(name: &HeaderName) -> bool {
    ["auth", "cookie", "key", "pass", "secret", "sign", "token"]
        .iter()
        .any(|word| name.as_str().contains(word))
}

/// Names and values, secret values masked.
fn shown(headers: &HeaderMap) -> BTreeMap<&str, &str> {
    headers
        .iter()
        .map(|(name, value)| {
            let text = value.to_str().ok().filter(|_| !value.is_sensitive());
            (name.as_str(), text.unwrap_or("***"))
        })
        .collect()
}

impl Auth {
    fn header(
        self,
        span: Range<usize>,
        reader: &mut Reader<'_>,
    ) -> Result<HeaderValue, SettingsError> {
        let wrong = |message: String| SettingsError::at(span.clone(), message);
        let mut read = |secret: &Secret| {
            let text = reader.read(secret).map_err(&wrong)?;
            reader.keep(&text);
            Ok(text)
        };
        let text = match self {
            Self::Bearer { token } => format!("Bearer {}", read(&token)?),
            Self::Basic { username, password } => {
                if username.contains(':') {
                    return Err(wrong("a user name of `auth` cannot hold a colon".into()));
                }
                let pair = BASE64.encode(format!("{username}:{}", read(&password)?).as_bytes());
                reader.keep(&pair);
                format!("Basic {pair}")
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            wrong("the secret of `auth` holds a line end or control character".into())
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn signing_keys(
    given: Option<Spanned<Secrets>>,
    reader: &mut Reader<'_>,
) -> Result<Vec<Key>, SettingsError> {
    let Some(given) = given else {
        return Ok(Vec::new());
    };
    let wrong = |message: String| SettingsError::at(given.span(), message);
    let Secrets(list) = given.get_ref();
    if list.is_empty() {
        return Err(
            wrong("`signing_secret` is an empty list".into()).help("remove it, or name a secret")
        );
    }
    let mut keys = Vec::with_capacity(list.len());
    for secret in list {
        let text = reader.read(secret).map_err(wrong)?;
        keys.push(Key::parse(&text).map_err(wrong)?);
        reader.keep(&text);
    }
    Ok(keys)
}

fn read_ca(path: &Spanned<PathBuf>, base: &Path) -> Result<Vec<Certificate>, SettingsError> {
    let wrong = |message: String| SettingsError::at(path.span(), message);
    let file = base.join(path.get_ref());
    let shown = file.display();
    let pem = std::fs::read(&file)
        .map_err(|error| wrong(format!("`tls.ca`: {shown} cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong(format!(
            "`tls.ca`: {shown} holds no certificate in PEM form"
        ))),
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretsVisitor)
    }
}

struct SecretsVisitor;

impl<'de> Visitor<'de> for SecretsVisitor {
    type Value = Secrets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret or a list of secrets")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secrets, E> {
        Ok(Secrets(vec![Secret::Inline(text.to_owned())]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secrets, A::Error> {
        let secret = Secret::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Secrets(vec![secret]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Secrets, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Secrets)
    }
}
