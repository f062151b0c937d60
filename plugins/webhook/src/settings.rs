//! The settings of a webhook: the keys as written, and the check that makes of them what is sent and how.

use std::{collections::BTreeMap, fmt};

use profilesync_http::{Auth, Connect, Http, Secrets, Statuses, Tls, Verdicts};
use profilesync_target::{OpenContext, Secret, SettingsError};
use profilesync_template::{Template, samples};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        Error, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use serde_json::{Map, Value, json};
use toml::Spanned;

use crate::{
    body::{self, Body, Format},
    headers::{given_headers, own_headers},
    place::Place,
    request::{Action, Maker},
    sign::Key,
};

/// Most profiles of one array.
const MAX_ARRAY: u16 = 10_000;

/// Sends every profile to a URL, as one HTTP request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// Where profiles are sent: `https://…` or `http://…`. A template may follow the host. A text is shown where
    /// requests are shown; of another form of secret only the host is.
    #[schemars(with = "Secret")]
    url: Spanned<Secret>,
    /// The request's method.
    #[serde(default)]
    method: Method,
    /// Further headers, which may be templates. A text is shown where requests are shown; another form of secret is
    /// not.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret>")]
    headers: BTreeMap<String, Spanned<Secret>>,
    /// The shape of the body.
    #[serde(default)]
    format: Format,
    /// The body's template, for the format `template`. Its values are escaped as the header `content-type` asks for;
    /// JSON when there is none.
    #[schemars(with = "Option<String>")]
    body: Option<Spanned<String>>,
    /// Sends up to so many profiles in one request, whose body is a JSON array of what would else be its body.
    #[schemars(with = "Option<u16>", range(min = 1, max = 10_000))]
    array: Option<Spanned<u16>>,
    /// The request that follows when the first one is answered 404: creates what could not be updated.
    on_not_found: Option<OnNotFound>,
    /// The request that a destroyed account is told by, in place of an update. Without a body if it is `DELETE`.
    delete: Option<Delete>,
    /// Credentials sent with every request.
    #[schemars(with = "Option<Auth>")]
    auth: Option<Spanned<Auth>>,
    /// Signs by Standard Webhooks; several secrets sign side by side while the receiver changes over.
    #[schemars(with = "Option<OneOrMany>")]
    signing_secret: Option<Spanned<SigningSecrets>>,
    /// Answers that mean success, beside 200 to 299.
    #[serde(default)]
    success: Vec<Statuses>,
    /// Answers after which to try again: `[409, "500-599"]`.
    #[serde(default)]
    retry_on: Vec<Statuses>,
    /// Answers that refuse the account for good.
    #[serde(default)]
    reject_on: Vec<Statuses>,
    /// TLS.
    tls: Option<Tls>,
    /// URL of an HTTP proxy to go through, `http://host:3128`; `https://user:password@host:3129`. Those of the environment are not used.
    #[schemars(with = "Option<Secret>")]
    proxy: Option<Spanned<Secret>>,
    /// Refuses private, loopback, link-local and other addresses that are not public, whatever name leads there.
    #[serde(default)]
    deny_private: bool,
    /// Most redirects by 307 and 308, to the same scheme, host and port, that are followed. Others never are.
    #[schemars(with = "Option<u8>", range(max = 10))]
    redirects: Option<Spanned<u8>>,
    /// Allows `auth`, secret headers, a secret URL and the proxy's password to cross the network over plain HTTP, where anyone
    /// on the way can read them.
    #[serde(default)]
    insecure: bool,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Post,
    Put,
    Patch,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum DeleteMethod {
    #[default]
    Delete,
    Post,
    Put,
    Patch,
}

/// The request that creates.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OnNotFound {
    /// Its method.
    #[serde(default)]
    method: Method,
    /// Where it is sent; may be a template.
    #[schemars(with = "Secret")]
    url: Spanned<Secret>,
}

/// The request that deletes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// Its method.
    #[serde(default)]
    method: DeleteMethod,
    /// Where it is sent, if not to `url`; may be a template.
    #[schemars(with = "Option<Secret>")]
    url: Option<Spanned<Secret>>,
}

/// One secret, or a list of them.
struct SigningSecrets(Vec<Secret>);

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
enum OneOrMany {
    One(Secret),
    Many(Vec<Secret>),
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) http: Http,
    pub(crate) maker: Maker,
    pub(crate) identity: Value,
}

impl Raw {
    /// Reads secrets and certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let mut secrets = Secrets::new(context);
        let given = given_headers(&self.headers, &mut secrets)?;
        if let Some(auth) = &self.auth
            && given.has(&AUTHORIZATION)
        {
            let message = "`auth` and the header `authorization` both say who is asking";
            return Err(SettingsError::at(auth.span(), message).help("remove one of them"));
        }
        let mut headers = own_headers(context)?;
        let content_type = Body::content_type(self.format, self.array.is_some());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        // One header of the same name takes the place of ours: `content-type`.
        for (name, value) in &given.fixed {
            headers.insert(name, value.clone());
        }
        let connect = Connect {
            tls: self.tls,
            proxy: self.proxy,
            deny_private: self.deny_private,
            redirects: self.redirects,
            insecure: self.insecure,
        };
        let has_credentials = self.auth.is_some() || given.has_credentials;
        let mut action = |key: &str, method: reqwest::Method, url: &Spanned<Secret>| {
            let place = Place::check(key, url, &mut secrets)?;
            connect.check(&place.base, url.span())?;
            if has_credentials || place.has_credentials {
                connect.check_encrypted(key, &place.base, url.span())?;
            }
            Ok(Action { method, place })
        };
        let update = action("url", self.method.into(), &self.url)?;
        let create = self
            .on_not_found
            .map(|create| action("on_not_found.url", create.method.into(), &create.url))
            .transpose()?;
        let delete = self
            .delete
            .map(|delete| match &delete.url {
                Some(url) => action("delete.url", delete.method.into(), url),
                None => action("url", delete.method.into(), &self.url),
            })
            .transpose()?;
        let maker = Maker {
            body: made_body(self.format, self.body.as_ref(), &headers)?,
            array: self.array.as_ref().map(|most| usize::from(*most.get_ref())),
            keys: signing_keys(self.signing_secret, &mut secrets)?,
            update,
            create,
            delete,
            headers,
            made_headers: given.made,
        };
        if let Some(most) = &self.array {
            check_array(most, &maker)?;
        }
        check_samples(&maker, self.body.as_ref())?;
        let verdicts = Verdicts::new(self.success, self.retry_on, self.reject_on)?;
        let urls = maker.urls();
        Ok(Checked {
            http: Http::open(context, &urls, &connect, self.auth, verdicts, secrets)?,
            identity: identity(&maker, self.format, given.shown, self.body.as_ref()),
            maker,
        })
    }
}

/// What is not secret of the settings that decide what the receiver gets.
fn identity(
    maker: &Maker,
    format: Format,
    headers: BTreeMap<String, String>,
    body: Option<&Spanned<String>>,
) -> Value {
    let action = |action: &Action| json!({ "method": action.method.as_str(), "url": action.place.identity() });
    let mut identity = Map::from_iter([
        ("url".to_owned(), json!(maker.update.place.identity())),
        ("method".to_owned(), json!(maker.update.method.as_str())),
        ("format".to_owned(), json!(format)),
        ("headers".to_owned(), json!(headers)),
    ]);
    // Only what is set: a key that comes with a new version must not deliver everything again.
    let set = [
        ("body", body.map(|body| json!(body.get_ref()))),
        ("on_not_found", maker.create.as_ref().map(action)),
        ("delete", maker.delete.as_ref().map(action)),
        ("array", maker.array.map(|_| json!(true))),
    ];
    identity.extend(
        set.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?))),
    );
    Value::Object(identity)
}

fn made_body(
    format: Format,
    text: Option<&Spanned<String>>,
    headers: &HeaderMap,
) -> Result<Body, SettingsError> {
    match (format, text) {
        (Format::Template, Some(text)) => {
            let content_type = headers[CONTENT_TYPE].to_str().unwrap_or_default();
            let (escape, is_json) = body::escape(content_type);
            let template = Box::new(Template::compile("body", text, escape)?);
            Ok(Body::Template { template, is_json })
        }
        (Format::Template, None) => {
            Err(SettingsError::whole("the format `template` needs a `body`")
                .help(r#"for example body = '{ "id": {{ account }}, "name": {{ name }} }'"#))
        }
        (_, Some(text)) => Err(SettingsError::at(
            text.span(),
            "`body` is for the format `template` alone",
        )
        .help(r#"add format = "template""#)),
        (Format::Standard, None) => Ok(Body::Standard),
        (Format::Profile, None) => Ok(Body::Profile),
        (Format::CloudEvents, None) => Ok(Body::CloudEvents),
    }
}

fn check_array(most: &Spanned<u16>, maker: &Maker) -> Result<(), SettingsError> {
    let wrong = |message: &str| Err(SettingsError::at(most.span(), message));
    if !(1..=MAX_ARRAY).contains(most.get_ref()) {
        return wrong("`array` must be from 1 to 10000");
    }
    if !maker.update.place.is_fixed() || !maker.made_headers.is_empty() {
        return wrong(
            "`array` puts many accounts into one request, so `url` and `headers` cannot be templates",
        );
    }
    if maker.create.is_some() || maker.delete.is_some() {
        return wrong(
            "`array` puts many accounts into one request, so `on_not_found` and `delete` cannot be used",
        );
    }
    if let Body::Template { is_json: false, .. } = maker.body {
        return wrong("`array` needs a `body` that is JSON");
    }
    Ok(())
}

/// What compiles can still be no JSON or no header.
fn check_samples(maker: &Maker, body: Option<&Spanned<String>>) -> Result<(), SettingsError> {
    for sample in samples() {
        let what = sample.what;
        maker.body.make(&sample.document).map_err(|reason| {
            let span = body.map(Spanned::span);
            SettingsError {
                span,
                ..SettingsError::whole(format!("`body` for {what}: {reason}"))
            }
        })?;
        for header in &maker.made_headers {
            header.make(&sample.document).map_err(|reason| {
                SettingsError::whole(format!("`headers` for {what}: {reason}"))
            })?;
        }
    }
    Ok(())
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

impl From<DeleteMethod> for reqwest::Method {
    fn from(method: DeleteMethod) -> Self {
        match method {
            DeleteMethod::Delete => Self::DELETE,
            DeleteMethod::Post => Self::POST,
            DeleteMethod::Put => Self::PUT,
            DeleteMethod::Patch => Self::PATCH,
        }
    }
}

fn signing_keys(
    given: Option<Spanned<SigningSecrets>>,
    secrets: &mut Secrets,
) -> Result<Vec<Key>, SettingsError> {
    let Some(given) = given else {
        return Ok(Vec::new());
    };
    let wrong = |message: String| SettingsError::at(given.span(), message);
    let SigningSecrets(list) = given.get_ref();
    if list.is_empty() {
        return Err(
            wrong("`signing_secret` is an empty list".into()).help("remove it, or name a secret")
        );
    }
    let mut keys = Vec::with_capacity(list.len());
    for secret in list {
        let text = secrets.read(secret).map_err(wrong)?;
        keys.push(Key::parse(&text).map_err(wrong)?);
        secrets.keep(&text);
    }
    Ok(keys)
}

impl<'de> Deserialize<'de> for SigningSecrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SigningSecretsVisitor)
    }
}

struct SigningSecretsVisitor;

impl<'de> Visitor<'de> for SigningSecretsVisitor {
    type Value = SigningSecrets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret or a list of secrets")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SigningSecrets, E> {
        Ok(SigningSecrets(vec![Secret::Inline(text.to_owned())]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SigningSecrets, A::Error> {
        let secret = Secret::deserialize(MapAccessDeserializer::new(map))?;
        Ok(SigningSecrets(vec![secret]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<SigningSecrets, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(SigningSecrets)
    }
}
