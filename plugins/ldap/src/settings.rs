//! The settings of an `ldap` target: what is written, and what is made of it.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use ldap3::dn_escape;
use profilesync_target::{Document, OpenContext, Secret, SettingsError, cleartext, read_secret};
use profilesync_template::{Escape, OneOrMany, Source, Template, samples};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use toml::Spanned;
use url::Url;

use crate::{
    connection::Server,
    entry::{Mapping, Naming},
    rdn,
    source::MEMBERS,
};

/// The settings as written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// `ldaps://host`, or `ldap://host` with `start_tls`.
    #[schemars(with = "String")]
    url: Spanned<String>,
    /// Switch to TLS on an ldap:// connection before anything else.
    #[serde(default)]
    start_tls: bool,
    /// Send password and profiles over ldap:// without TLS. Needs no saying for a server on this machine.
    #[serde(default)]
    insecure: bool,
    /// TLS.
    tls: Option<Tls>,
    /// The DN to bind as.
    #[schemars(with = "String")]
    bind_dn: Spanned<String>,
    /// Its password.
    #[schemars(with = "Secret")]
    password: Spanned<Secret>,
    /// The DN below which the entries are.
    #[schemars(with = "String")]
    base: Spanned<String>,
    /// The rest of an entry's DN, before the base: a template over `account` and `sdk_app_id`.
    #[schemars(with = "Option<String>")]
    dn: Option<Spanned<String>>,
    /// The classes of an entry: `["inetOrgPerson"]`.
    #[schemars(with = "Option<Vec<String>>")]
    object_class: Option<Spanned<Vec<String>>>,
    /// Attributes, and the member of the document that each holds: `cn = "name"`; or several, of which the first that has
    /// a value is taken: `cn = ["name", "account"]`.
    #[schemars(with = "Option<BTreeMap<String, OneOrMany>>")]
    attributes: Option<BTreeMap<Spanned<String>, Spanned<OneOrMany>>>,
    /// The attribute that says whose an entry is: `profilesync:APP/ACCOUNT`.
    #[schemars(with = "Option<String>")]
    owner_attribute: Option<Spanned<String>>,
}

/// TLS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// PEM file of the root certificates to trust, instead of the system's.
    #[schemars(with = "Option<PathBuf>")]
    ca: Option<Spanned<PathBuf>>,
}

const OBJECT_CLASS: &str = "inetOrgPerson";

const OWNER: &str = "labeledURI";

/// What an inetOrgPerson can hold of a document; `cn` and `sn` it must.
const ATTRIBUTES: [(&str, &[&str]); 5] = [
    ("cn", &["name", "account"]),
    ("description", &["introduction"]),
    ("displayName", &["name"]),
    ("o", &["organization"]),
    ("sn", &["name", "account"]),
];

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) server: Server,
    pub(crate) mapping: Mapping,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    /// Reads the password and certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let address = self.address()?;
        let password = read_secret(&self.password, &context.base)?;
        if self.bind_dn.get_ref().trim().is_empty() {
            return Err(SettingsError::at(self.bind_dn.span(), "`bind_dn` is empty"));
        }
        let tls = match address.secure {
            true => Some(self.tls_config(&context.base)?),
            false => None,
        };
        let (mapping, attributes) = self.mapping()?;
        let dn = self.dn.as_ref().map(Spanned::get_ref);
        Ok(Checked {
            identity: json!({
                "url": address.url.as_str(),
                "base": mapping.base,
                "dn": dn,
                "object_class": mapping.object_class,
                "attributes": attributes,
                "owner_attribute": mapping.owner,
            }),
            server: Server {
                url: address.url,
                host: address.host,
                port: address.port,
                start_tls: self.start_tls,
                tls,
                bind_dn: self.bind_dn.into_inner(),
                password,
            },
            mapping,
        })
    }

    fn address(&self) -> Result<Address, SettingsError> {
        let wrong = |message: String| SettingsError::at(self.url.span(), message);
        let url = Url::parse(self.url.get_ref()).map_err(|error| {
            wrong(format!("`url` is no URL: {error}")).help("write it as ldaps://host")
        })?;
        let encrypted = match url.scheme() {
            "ldaps" if self.start_tls => {
                return Err(wrong(
                    "`start_tls` is for ldap://, and `url` begins with ldaps:".into(),
                )
                .help("remove `start_tls`: ldaps: is encrypted from the start"));
            }
            "ldaps" => true,
            "ldap" => false,
            scheme => {
                return Err(wrong(format!(
                    "`url` begins with {scheme}:, and only ldaps: and ldap: are known"
                )));
            }
        };
        let bare = matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !bare {
            return Err(
                wrong("`url` says more than the server's name and port".into())
                    .help("the DN goes to `base`, the user to `bind_dn` and `password`"),
            );
        }
        let host = url.host_str().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(wrong("`url` names no host".into()).help("write it as ldaps://host"));
        }
        let secure = encrypted || self.start_tls;
        if !secure && !self.insecure {
            let way_out = "begin `url` with ldaps://, or set `start_tls = true`";
            cleartext(self.url.span(), &host, "password", way_out)?;
        }
        // The client hands the URL's host to TLS with its brackets.
        if secure && (host.contains(':') || ServerName::try_from(host.as_str()).is_err()) {
            return Err(
                wrong(format!("{host:?} cannot be the name in a certificate"))
                    .help("with TLS, name the server as its certificate does"),
            );
        }
        Ok(Address {
            port: url.port().unwrap_or(if encrypted { 636 } else { 389 }),
            url,
            host,
            secure,
        })
    }

    fn tls_config(&self, base: &Path) -> Result<Arc<ClientConfig>, SettingsError> {
        let roots = match self.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            Some(path) => read_ca(path, base)?,
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// The mapping, and its attributes as written.
    fn mapping(&self) -> Result<(Mapping, BTreeMap<String, Vec<String>>), SettingsError> {
        let base = self.base.get_ref().trim();
        rdn::parse(base).map_err(|error| {
            SettingsError::at(self.base.span(), format!("`base` is no DN: {error}"))
                .help("write it as ou=accounts,dc=example,dc=com")
        })?;
        let object_class = self.classes()?;
        let (attributes, written) = self.attributes()?;
        let owner = match &self.owner_attribute {
            None => OWNER.to_owned(),
            Some(name) if rdn::is_attribute(name.get_ref()) => name.get_ref().clone(),
            Some(name) => {
                let message = format!("{:?} is no name of an attribute", name.get_ref());
                return Err(SettingsError::at(name.span(), message));
            }
        };
        let revision = attributes
            .iter()
            .find(|(_, sources)| matches!(sources.as_slice(), [Source::Member("revision")]));
        let mapping = Mapping {
            base: base.to_owned(),
            naming: self.naming(base)?,
            object_class,
            owner,
            revision: revision.map(|(name, _)| name.clone()),
            attributes,
        };
        self.check_taken(&mapping)?;
        Ok((mapping, written))
    }

    fn naming(&self, base: &str) -> Result<Naming, SettingsError> {
        let Some(dn) = &self.dn else {
            return Ok(Naming::Apart);
        };
        let wrong = |message: String| SettingsError::at(dn.span(), message);
        let escape = Escape::With(|value| dn_escape(value).into_owned());
        let naming = Naming::Template(Box::new(Template::compile_name("dn", dn, escape)?));
        let [first, others @ ..] = samples().map(|sample| sample.document);
        let name = |document: &Document| naming.name(document).map_err(wrong);
        let named = name(&first)?;
        for document in &others {
            if name(document)? != named {
                return Err(
                    wrong("`dn` changes with the profile, and entries never move".into())
                        .help("use `account` and `sdk_app_id` alone"),
                );
            }
        }
        let mut other = first;
        other.account.push('2');
        if name(&other)? == named {
            return Err(wrong("`dn` is the same for every account".into())
                .help("write it as cn={{ account }}"));
        }
        rdn::parse(&named).map_err(|error| wrong(format!("`dn` is no DN: {error}")))?;
        let ends_in_base = named.len() > base.len()
            && named
                .to_lowercase()
                .ends_with(&format!(",{}", base.to_lowercase()));
        if ends_in_base {
            return Err(
                wrong("`dn` ends in the `base`, which follows it anyway".into())
                    .help("write the part before it"),
            );
        }
        Ok(naming)
    }

    fn classes(&self) -> Result<Vec<String>, SettingsError> {
        let Some(given) = &self.object_class else {
            return Ok(vec![OBJECT_CLASS.to_owned()]);
        };
        let wrong = |message: String| SettingsError::at(given.span(), message);
        if given.get_ref().is_empty() {
            return Err(wrong("`object_class` is an empty list".into()));
        }
        if self.attributes.is_none() {
            return Err(
                wrong("`object_class` is given, and `attributes` is not".into()).help(format!(
                    "the default attributes are those of {OBJECT_CLASS}"
                )),
            );
        }
        match given.get_ref().iter().find(|name| !rdn::is_attribute(name)) {
            Some(name) => Err(wrong(format!("{name:?} is no name of a class"))),
            None => Ok(given.get_ref().clone()),
        }
    }

    #[expect(clippy::type_complexity, reason = "said once, and taken apart at once")]
    fn attributes(
        &self,
    ) -> Result<(Vec<(String, Vec<Source>)>, BTreeMap<String, Vec<String>>), SettingsError> {
        let mut attributes = Vec::new();
        let mut written = BTreeMap::new();
        let Some(given) = &self.attributes else {
            for (name, sources) in ATTRIBUTES {
                let sources = sources.iter().copied();
                let parsed = sources
                    .clone()
                    .filter_map(|text| Source::member(text, &MEMBERS));
                attributes.push((name.to_owned(), parsed.collect()));
                written.insert(name.to_owned(), sources.map(str::to_owned).collect());
            }
            return Ok((attributes, written));
        };
        let mut names = HashSet::new();
        for (name, sources) in given {
            let (text, span) = (name.get_ref(), name.span());
            if !rdn::is_attribute(text) {
                let message = format!("{text:?} is no name of an attribute");
                return Err(SettingsError::at(span, message));
            }
            if text.eq_ignore_ascii_case("objectClass") {
                let message = "the classes of an entry are given by `object_class`";
                return Err(SettingsError::at(span, message));
            }
            if !names.insert(text.to_ascii_lowercase()) {
                let message = format!("the attribute {text:?} is given twice");
                return Err(SettingsError::at(span, message));
            }
            let list = sources.get_ref().list(sources.span());
            if list.is_empty() {
                let message = format!("the attribute {text:?} has no source");
                return Err(SettingsError::at(sources.span(), message));
            }
            let key = format!("attributes.{text}");
            let parsed = list.iter().map(|one| Source::parse(&key, one, &MEMBERS));
            attributes.push((text.clone(), parsed.collect::<Result<_, _>>()?));
            let list = list.iter().map(|one| one.get_ref().clone());
            written.insert(text.clone(), list.collect());
        }
        Ok((attributes, written))
    }

    /// No attribute can hold two things: the name of the entry, its mark, a member.
    fn check_taken(&self, mapping: &Mapping) -> Result<(), SettingsError> {
        let [sample, ..] = samples();
        let name = mapping.naming.name(&sample.document);
        let naming: Vec<_> = name
            .and_then(|name| rdn::parse(&name))
            .map_err(SettingsError::whole)?
            .into_iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        let owner = mapping.owner.to_ascii_lowercase();
        for (name, _) in &mapping.attributes {
            let span = self
                .attributes
                .iter()
                .flat_map(BTreeMap::keys)
                .find(|given| given.get_ref() == name)
                .map(Spanned::span);
            let wrong = |message: String| SettingsError {
                message,
                span,
                help: None,
            };
            let name = name.to_ascii_lowercase();
            if naming.contains(&name) {
                let help =
                    "name the entry by another in `dn`, or list `attributes` without this one";
                return Err(SettingsError {
                    help: Some(help.into()),
                    ..wrong(format!(
                        "the attribute {name:?} names the entry, and can hold nothing else"
                    ))
                });
            }
            if name == owner {
                return Err(wrong(format!(
                    "the attribute {name:?} says whose the entry is, and can hold nothing else"
                ))
                .help("choose another `owner_attribute`"));
            }
        }
        if naming.contains(&owner) {
            let span = self.owner_attribute.as_ref().map(Spanned::span);
            return Err(SettingsError {
                message: format!("`owner_attribute` is {owner:?}, which names the entry"),
                span,
                help: None,
            });
        }
        Ok(())
    }
}

/// Where the server is.
struct Address {
    url: Url,
    host: String,
    port: u16,
    /// Whether TLS is used.
    secure: bool,
}

fn read_ca(path: &Spanned<PathBuf>, base: &Path) -> Result<RootCertStore, SettingsError> {
    let wrong = |message: String| SettingsError::at(path.span(), message);
    let file = base.join(path.get_ref());
    let shown = file.display();
    let pem = std::fs::read(&file)
        .map_err(|error| wrong(format!("`tls.ca`: {shown} cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate
            .map_err(|error| wrong(format!("`tls.ca`: {shown} is no PEM file: {error}")))?;
        roots.add(certificate).map_err(|error| {
            wrong(format!(
                "`tls.ca`: {shown} holds a wrong certificate: {error}"
            ))
        })?;
    }
    match roots.is_empty() {
        true => Err(wrong(format!(
            "`tls.ca`: {shown} holds no certificate in PEM form"
        ))),
        false => Ok(roots),
    }
}

fn system_roots() -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err(SettingsError::whole("the system has no root certificates")
            .help("install them (Debian: ca-certificates), or name yours in `tls.ca`")),
        false => Ok(roots),
    }
}
