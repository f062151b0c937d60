//! Where a request goes: a URL, or a template of one, which no account can turn elsewhere.
//!
//! Scheme, host and port stand before the first tag and so are the same for all. Values are percent-encoded, so none
//! makes a segment, a query or a fragment. What encoding cannot prevent is refused: a segment of dots, which leads up,
//! and an empty one, which may name the whole collection.

use profilesync_http::{Secrets, check_url, host};
use profilesync_target::{Document, Secret, SettingsError};
use profilesync_template::{Escape, Template, first_tag, literals, samples};
use reqwest::Url;
use toml::Spanned;

use crate::headers::names_credentials;

/// Where requests go.
pub(crate) struct Place {
    /// As far as it is the same for all: scheme, host, port, and the path's first segments.
    pub(crate) base: Url,
    /// Whether the URL is a secret beyond its host.
    is_secret: bool,
    /// Whether a secret or a member of the query says who is asking.
    pub(crate) has_credentials: bool,
    made: Option<Made>,
    identity: String,
}

struct Made {
    template: Template,
    /// Everything up to the path, as written.
    origin: String,
    /// Empty segments that are the template's own.
    empty: usize,
}

impl Place {
    /// Reads and checks the value of `key`.
    pub(crate) fn check(
        key: &str,
        given: &Spanned<Secret>,
        secrets: &mut Secrets,
    ) -> Result<Self, SettingsError> {
        let span = given.span();
        let (text, is_secret) = match given.get_ref() {
            Secret::Inline(text) => (text.clone(), false),
            kept => (
                secrets
                    .read_and_keep(kept)
                    .map_err(|message| SettingsError::at(span.clone(), message))?,
                true,
            ),
        };
        let mut has_credentials = is_secret;
        if is_secret {
            literals(&text).for_each(|literal| secrets.keep_url(literal));
        } else if let Some((_, query)) = text.split_once('?') {
            has_credentials = literals(query).any(|literal| {
                let members = literal
                    .split('&')
                    .filter_map(|member| member.split_once('='));
                members
                    .filter(|(_, value)| !value.is_empty())
                    .any(|(name, _)| names_credentials_in_a_query(name))
            });
            // Masked where requests are shown, and so where answers are.
            literals(query).for_each(|literal| secrets.keep_query(literal));
        }
        match first_tag(&text) {
            None => {
                let url = check_url(key, &text, span)?;
                Ok(Self {
                    identity: url.to_string(),
                    base: url,
                    is_secret,
                    has_credentials,
                    made: None,
                })
            }
            Some(tag) => {
                let (base, made) = Made::check(key, &Spanned::new(span, text.clone()), tag)?;
                Ok(Self {
                    identity: text,
                    base,
                    is_secret,
                    has_credentials,
                    made: Some(made),
                })
            }
        }
    }

    /// The URL for a document.
    pub(crate) fn url(&self, document: &Document) -> Result<Url, String> {
        match &self.made {
            None => Ok(self.base.clone()),
            Some(made) => made.url(document),
        }
    }

    /// Whether all documents go to the same URL.
    pub(crate) fn is_fixed(&self) -> bool {
        self.made.is_none()
    }

    /// What identifies the place, without secrets.
    pub(crate) fn identity(&self) -> String {
        match self.is_secret {
            true => self.base.origin().ascii_serialization(),
            false => self.identity.clone(),
        }
    }

    /// A URL of this place with its secrets masked.
    pub(crate) fn shown(&self, url: &Url) -> String {
        match self.is_secret {
            true => format!("{}://{}/***", url.scheme(), host(url)),
            false => masked(url).to_string(),
        }
    }
}

/// Whether a member of a query of this name says who is asking.
fn names_credentials_in_a_query(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    matches!(name.as_str(), "code" | "pwd" | "sig" | "signature") || names_credentials(&name)
}

impl Made {
    fn check(key: &str, text: &Spanned<String>, tag: usize) -> Result<(Url, Self), SettingsError> {
        let span = text.span();
        let fixed = &text.get_ref()[..tag];
        let origin = origin(fixed).ok_or_else(|| {
            let message = format!("`{key}` does not name its host before the first tag");
            SettingsError::at(span.clone(), message)
                .help("write it as https://host/… with the tags behind the host and a slash")
        })?;
        let folder = path(fixed, origin).rfind('/').map_or(0, |slash| slash + 1);
        let folder = &fixed[..origin.len() + folder];
        let base = check_url(key, folder, span.clone())?;
        let mut made = Self {
            template: Template::compile_name(key, text, Escape::Url)?,
            origin: origin.to_owned(),
            empty: usize::MAX,
        };
        let mut empty = 0;
        for sample in samples() {
            let wrong = |message: String| {
                SettingsError::at(
                    span.clone(),
                    format!("`{key}` for {}: {message}", sample.what),
                )
            };
            let text = made.template.render(&sample.document).map_err(wrong)?;
            check_url(key, &text, span.clone())?;
            if sample.what == samples()[0].what {
                empty = segments(path(&text, origin))
                    .filter(|one| one.is_empty())
                    .count();
                made.empty = empty;
            }
            // What a value that is null leaves out is told when it is delivered.
            made.parse(&text, usize::MAX).map_err(wrong)?;
        }
        made.empty = empty;
        Ok((base, made))
    }

    fn url(&self, document: &Document) -> Result<Url, String> {
        let text = self.template.render(document)?;
        self.parse(&text, self.empty)
    }

    fn parse(&self, text: &str, most_empty: usize) -> Result<Url, String> {
        if !text.starts_with(&self.origin) {
            return Err("the URL would lead to another host".into());
        }
        // The parser leaves some of them out, so that `.`, tab, `.` becomes a segment of dots.
        if text.contains(|c: char| c.is_control() || c == ' ') {
            return Err("the URL would have a space or a control character: encode it".into());
        }
        let mut empty = 0;
        for segment in segments(path(text, &self.origin)) {
            if is_dots(segment) {
                return Err("the URL would have a segment of dots, which leads elsewhere".into());
            }
            empty += usize::from(segment.is_empty());
        }
        if empty > most_empty {
            return Err("the URL would have an empty segment, which leads elsewhere".into());
        }
        let url = Url::parse(text).map_err(|error| format!("the URL would be none: {error}"))?;
        if url.fragment().is_some() {
            return Err("the URL would have a fragment, which HTTP never sends".into());
        }
        let base = Url::parse(&self.origin).map_err(|error| error.to_string())?;
        if url.origin() != base.origin() || !url.username().is_empty() || url.password().is_some() {
            return Err("the URL would lead to another host".into());
        }
        Ok(url)
    }
}

/// Scheme, host and port of a text that holds them whole.
fn origin(fixed: &str) -> Option<&str> {
    let authority = fixed.find("://")? + "://".len();
    let end = authority + fixed[authority..].find(['/', '?', '#', '\\'])?;
    (end > authority).then(|| &fixed[..end])
}

/// The path of a URL that begins with its origin.
fn path<'a>(text: &'a str, origin: &str) -> &'a str {
    let rest = text.get(origin.len()..).unwrap_or_default();
    rest.split(['?', '#']).next().unwrap_or_default()
}

/// As URLs have them; a backslash parts them too.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split(['/', '\\']).skip(1)
}

/// Whether a URL leaves the segment out, and perhaps the one before.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// The URL with the values of its query masked.
fn masked(url: &Url) -> Url {
    let mut url = url.clone();
    if let Some(query) = url.query() {
        let masked: Vec<_> = query
            .split('&')
            .map(|pair| {
                pair.split_once('=')
                    .map_or("***".into(), |(name, _)| format!("{name}=***"))
            })
            .collect();
        url.set_query(Some(&masked.join("&")));
    }
    url
}

#[cfg(test)]
mod tests {
    use profilesync_http::Secrets;
    use profilesync_target::{Document, Secret};
    use profilesync_template::samples;
    use toml::Spanned;

    use super::{Place, masked};

    fn check(text: &str) -> Result<Place, String> {
        let given = Spanned::new(0..text.len(), Secret::Inline(text.to_owned()));
        Place::check("url", &given, &mut Secrets::default()).map_err(|error| error.message)
    }

    fn document(account: &str) -> Document {
        Document {
            account: account.into(),
            name: Some(account.into()),
            ..samples()[0].document.clone()
        }
    }

    #[test]
    fn no_account_leads_elsewhere() {
        let place =
            check("https://crm.example:8443/v1/{{ account }}/profile?by={{ owner }}").unwrap();
        assert_eq!(place.base.as_str(), "https://crm.example:8443/v1/");
        for (account, segment) in [
            ("a/../b", "a%2F..%2Fb"),
            ("../../etc/x", "..%2F..%2Fetc%2Fx"),
            ("a\\b", "a%5Cb"),
            ("?x=y#z", "%3Fx%3Dy%23z"),
            ("@evil.example", "%40evil.example"),
            ("...", "..."),
            ("%2e%2e", "%252e%252e"),
            ("é", "%C3%A9"),
        ] {
            let url = place.url(&document(account)).unwrap();
            let expected = format!("https://crm.example:8443/v1/{segment}/profile?by=owner");
            assert_eq!(url.as_str(), expected);
        }
        for account in [".", "..", ""] {
            assert!(place.url(&document(account)).is_err(), "{account:?}");
        }
        let raw = check("https://crm.example/v1/{{ (name or '') | safe }}").unwrap();
        for account in ["%2e%2E", ".%2e", "a/..", "..\\x", "/x", "a#b"] {
            assert!(raw.url(&document(account)).is_err(), "{account:?}");
        }
        assert_eq!(raw.url(&document("a/b")).unwrap().path(), "/v1/a/b");
    }

    #[test]
    fn the_host_is_fixed() {
        for moving in [
            "https://{{ account }}/",
            "https://crm.example{{ account }}/",
            "https://crm.example:{{ revision }}/",
            "{{ face_url }}",
            "https:{{ account }}",
        ] {
            let error = check(moving).err().unwrap();
            assert!(
                error.contains("does not name its host"),
                "{moving}: {error}"
            );
        }
        assert!(check("https://a@crm.example/{{ account }}").is_err());
        assert!(check("https://crm.example/#{{ account }}").is_err());
        assert!(check("https://crm.example/../{{ account }}/..").is_err());
        check("https://crm.example?{{ account }}").unwrap();
    }

    #[test]
    fn a_templates_own_empty_segments_stay() {
        let place = check("https://crm.example//x/{{ account }}/").unwrap();
        assert_eq!(place.url(&document("a")).unwrap().path(), "//x/a/");
        assert!(place.url(&document("")).is_err());
    }

    #[test]
    fn the_values_of_a_query_are_masked() {
        let url = "https://crm.example/hook?key=hunter2&plain&x="
            .parse()
            .unwrap();
        assert_eq!(
            masked(&url).as_str(),
            "https://crm.example/hook?key=***&***&x=***"
        );
    }
}
