//! The settings of a nats target: the keys as written, and the check that makes a connection's options and a shape of
//! them.

use std::{fmt, path::Path, sync::Mutex};

use async_nats::{ConnectOptions, ServerAddr};
use profilesync_target::{OpenContext, Secret, SettingsError, Tls, cleartext, read_secret};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::json;
use toml::Spanned;

use crate::{
    Shape,
    answer::Place,
    bucket::Bucket,
    link::{self, Link, Login},
    messages::Messages,
    name::Template,
};

const DEFAULT_SUBJECT: &str = "profilesync.{{ sdk_app_id }}.{{ account }}";

/// Publishes profiles to NATS JetStream, or puts them into a key-value bucket there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The server: `nats://HOST:PORT`, or `tls://…`; or the servers of a cluster, of which one is taken.
    #[schemars(with = "OneOrMany")]
    url: Spanned<Urls>,
    /// Where a profile is published; by default `profilesync.{{ sdk_app_id }}.{{ account }}`.
    #[schemars(with = "Option<String>")]
    subject: Option<Spanned<String>>,
    /// The only stream that may take the messages.
    #[schemars(with = "Option<String>")]
    stream: Option<Spanned<String>>,
    /// A key-value bucket to put profiles into, instead of publishing them.
    #[schemars(with = "Option<String>")]
    bucket: Option<Spanned<String>>,
    /// The user to log in as.
    #[schemars(with = "Option<String>")]
    username: Option<Spanned<String>>,
    /// The user's password.
    #[schemars(with = "Option<Secret>")]
    password: Option<Spanned<Secret>>,
    /// The token to log in with.
    #[schemars(with = "Option<Secret>")]
    token: Option<Spanned<Secret>>,
    /// The content of a credentials file (JWT and seed) to log in with: `{ file = "user.creds" }`.
    #[schemars(with = "Option<Secret>")]
    credentials: Option<Spanned<Secret>>,
    /// Allows to log in at another machine without TLS, where anyone on the way can read the password.
    #[serde(default)]
    insecure: bool,
    /// TLS.
    tls: Option<Tls>,
}

/// One URL, or a list of them.
struct Urls(Vec<String>);

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) link: Link,
    pub(crate) shape: Shape,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    /// Reads secrets and certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let servers = servers(&self.url)?;
        let mut places: Vec<_> = servers.iter().map(link::place).collect();
        let name = places.join(", ");
        places.sort_unstable();
        let subject = self
            .subject
            .as_ref()
            .map_or(DEFAULT_SUBJECT, |subject| subject.get_ref());
        // What decides what the server holds. The user does not, nor does the stream that was meant all along.
        let identity = match &self.bucket {
            Some(bucket) => json!({ "servers": places, "bucket": bucket.get_ref() }),
            None => json!({ "servers": places, "subject": subject }),
        };
        let login = login(
            [self.token, self.credentials],
            self.username,
            self.password,
            &context.base,
        )?;
        let tls = match self.tls {
            Some(tls) => Some(link::Tls::from(tls.read(&context.base)?)),
            // One server's `tls:` is meant for all: any of them may be taken.
            None if servers.iter().any(ServerAddr::tls_required) => Some(link::Tls::default()),
            None => None,
        };
        if let Some(secret) = login.secret()
            && tls.is_none()
            && !self.insecure
        {
            for server in &servers {
                let way_out = "begin `url` with tls://";
                cleartext(self.url.span(), server.host(), secret, way_out)?;
            }
        }
        Ok(Checked {
            link: Link {
                place: Place {
                    name,
                    mask: login.mask(),
                },
                servers,
                login,
                tls,
                idle: Mutex::default(),
            },
            shape: shape(self.subject, self.stream, self.bucket)?,
            identity,
        })
    }
}

fn servers(urls: &Spanned<Urls>) -> Result<Vec<ServerAddr>, SettingsError> {
    let wrong = |message: String| {
        SettingsError::at(urls.span(), message)
            .help("write it as nats://HOST:4222 or tls://HOST:4222")
    };
    let Urls(list) = urls.get_ref();
    if list.is_empty() {
        return Err(wrong("`url` is an empty list".into()));
    }
    let mut servers = Vec::with_capacity(list.len());
    for text in list {
        let server: ServerAddr = text
            .parse()
            .map_err(|error| wrong(format!("`url`: {error}")))?;
        if !matches!(server.scheme(), "nats" | "tls") {
            return Err(wrong(format!(
                "`url` begins with {}:, which is not supported",
                server.scheme()
            )));
        }
        if server.has_user_pass() || server.password().is_some() {
            return Err(wrong("`url` holds a user name or password".into())
                .help("move them to `username` and `password`"));
        }
        if server.host().is_empty() {
            return Err(wrong("`url` names no host".into()));
        }
        servers.push(server);
    }
    Ok(servers)
}

/// `others` are the token and the credentials file.
fn login(
    others: [Option<Spanned<Secret>>; 2],
    username: Option<Spanned<String>>,
    password: Option<Spanned<Secret>>,
    base: &Path,
) -> Result<Login, SettingsError> {
    let read = |secret| read_secret(secret, base);
    let [token, credentials] = others;
    match (username, password, token, credentials) {
        (None, None, None, None) => Ok(Login::None),
        (Some(name), Some(password), None, None) => Ok(Login::User {
            name: name.into_inner(),
            password: read(&password)?,
        }),
        (None, None, Some(token), None) => Ok(Login::Token(read(&token)?)),
        (None, None, None, Some(credentials)) => {
            let text = read(&credentials)?;
            if ConnectOptions::with_credentials(&text).is_err() {
                let message = "`credentials` holds no JWT and seed";
                return Err(SettingsError::at(credentials.span(), message)
                    .help("name a credentials file, as `nsc generate creds` writes it: { file = \"user.creds\" }"));
            }
            Ok(Login::Credentials(text))
        }
        (Some(name), None, None, None) => Err(SettingsError::at(
            name.span(),
            "`username` needs `password`",
        )),
        (None, Some(password), None, None) => Err(SettingsError::at(
            password.span(),
            "`password` needs `username`",
        )),
        _ => Err(SettingsError::whole(
            "`username` and `password`, `token`, and `credentials` exclude each other",
        )),
    }
}

fn shape(
    subject: Option<Spanned<String>>,
    stream: Option<Spanned<String>>,
    bucket: Option<Spanned<String>>,
) -> Result<Shape, SettingsError> {
    if let Some(bucket) = bucket {
        if let Some(other) = subject.or(stream) {
            let message = "with `bucket` nothing is published to a `subject` or `stream`";
            return Err(SettingsError::at(other.span(), message)
                .help("remove one of them; for both, set up two targets"));
        }
        return Ok(Shape::Bucket(Bucket {
            name: named("bucket", bucket)?,
        }));
    }
    let template = match subject {
        None => Template::parse(DEFAULT_SUBJECT).expect("the default is valid"),
        Some(text) => Template::parse(text.get_ref())
            .map_err(|problem| SettingsError::at(text.span(), format!("`subject` {problem}")))?,
    };
    Ok(Shape::Messages(Messages {
        subject: template,
        stream: stream.map(|name| named("stream", name)).transpose()?,
    }))
}

/// The name of a stream or bucket, which becomes a token of subjects.
fn named(key: &str, name: Spanned<String>) -> Result<String, SettingsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.get_ref().is_empty() || !name.get_ref().chars().all(allowed) {
        let message = format!("`{key}` is made of letters, digits, - and _");
        return Err(SettingsError::at(name.span(), message));
    }
    Ok(name.into_inner())
}

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlsVisitor)
    }
}

struct UrlsVisitor;

impl<'de> Visitor<'de> for UrlsVisitor {
    type Value = Urls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL or a list of URLs")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Urls, E> {
        Ok(Urls(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Urls, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Urls)
    }
}
