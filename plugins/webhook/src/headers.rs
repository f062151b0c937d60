//! The headers of a webhook: its own, and those of the configuration.

use std::collections::BTreeMap;

use profilesync_http::Secrets;
use profilesync_target::{OpenContext, Secret, SettingsError};
use profilesync_template::{Escape, Template, is_template, literals};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use toml::Spanned;

use crate::request::MadeHeader;

/// The headers of the configuration.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) fixed: HeaderMap,
    pub(crate) made: Vec<MadeHeader>,
    /// Names and values as written, secret values masked.
    pub(crate) shown: BTreeMap<String, String>,
    /// Whether any of them is secret.
    pub(crate) has_credentials: bool,
}

/// Those that every request has.
pub(crate) fn own_headers(context: &OpenContext) -> Result<HeaderMap, SettingsError> {
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

/// Headers that are ours to send: another would contradict the body, the connection or the signature, or hide who is
/// sending.
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
            | "user-agent"
    ) || name.starts_with("profilesync-")
        || name.starts_with("webhook-")
}

/// Checks those of the configuration, and reads the secret ones.
pub(crate) fn given_headers(
    given: &BTreeMap<String, Spanned<Secret>>,
    secrets: &mut Secrets,
) -> Result<Given, SettingsError> {
    let mut headers = Given::default();
    for (key, secret) in given {
        let wrong = |message: String| SettingsError::at(secret.span(), message);
        let name = HeaderName::try_from(key)
            .map_err(|_| wrong(format!("{key:?} is no name of a header")))?;
        if is_ours(&name) {
            return Err(wrong(format!(
                "the header `{name}` is set by profilesync itself"
            )));
        }
        if headers.has(&name) {
            return Err(wrong(format!("the header `{name}` is given twice")));
        }
        let text = secrets.read(secret.get_ref()).map_err(wrong)?;
        let is_inline = matches!(secret.get_ref(), Secret::Inline(_));
        let is_secret = !is_inline || names_a_secret(&name);
        headers.has_credentials |= !is_inline || names_credentials(name.as_str());
        if is_secret {
            secrets.keep(&text);
            literals(&text).for_each(|literal| secrets.keep_header(literal));
        }
        let shown = if is_secret { "***" } else { &text };
        headers.shown.insert(name.to_string(), shown.to_owned());
        if is_inline && is_template(&text) {
            if name == CONTENT_TYPE {
                let message = "the header `content-type` decides how values are escaped and cannot be a template";
                return Err(wrong(message.into()));
            }
            let source = Spanned::new(secret.span(), text);
            let template = Template::compile(&format!("headers.{key}"), &source, Escape::None)?;
            headers.made.push(MadeHeader {
                name,
                template,
                is_secret,
            });
            continue;
        }
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            wrong(format!(
                "the header `{name}` holds a line end or control character"
            ))
        })?;
        if is_secret {
            value.set_sensitive(true);
        }
        headers.fixed.insert(name, value);
    }
    Ok(headers)
}

impl Given {
    /// Whether the configuration has a header of this name.
    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.shown.contains_key(name.as_str())
    }
}

/// Whether a header of this name, in lower case, says who is asking. Fewer than may be secret: these
/// are refused where they would be sent in clear, and `x-author` need not be.
pub(crate) fn names_credentials(name: &str) -> bool {
    let parts = [
        "apikey",
        "authentication",
        "authorization",
        "cookie",
        "passphrase",
        "passw",
        "secret",
        "token",
    ];
    let has_word = name
        .split(['-', '_'])
        .any(|word| matches!(word, "auth" | "key" | "pass"));
    parts.iter().any(|part| name.contains(part)) || has_word && name != "idempotency-key"
}

/// Whether a header of this name holds a secret even when it is written out in the configuration.
fn names_a_secret(name: &HeaderName) -> bool {
    ["auth", "cookie", "key", "pass", "secret", "sign", "token"]
        .iter()
        .any(|word| name.as_str().contains(word))
}
