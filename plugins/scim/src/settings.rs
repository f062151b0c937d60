//! The settings of a `scim` target: what is written, and what is made of it.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use profilesync_http::{Auth, Connect, Http, Secrets, Tls, Verdicts, check_url};
use profilesync_target::{OpenContext, Secret, SettingsError};
use profilesync_template::{Escape, OneOrMany, Source, Template, samples};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::Spanned;

use crate::{
    path::Path,
    resource::{Mapping, Update},
    source::MEMBERS,
};

/// The settings as written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// Where the service is: `https://example.com/scim/v2`.
    #[schemars(with = "String")]
    url: Spanned<String>,
    /// What accounts become.
    #[serde(default)]
    resource: Resource,
    /// A template for the externalId, by which resources are found again.
    #[schemars(with = "Option<String>")]
    external_id: Option<Spanned<String>>,
    /// Attributes, and what each holds: `displayName = ["name", "account"]`.
    #[schemars(with = "Option<BTreeMap<String, OneOrMany>>")]
    attributes: Option<BTreeMap<Spanned<String>, Spanned<OneOrMany>>>,
    /// How a resource is changed.
    #[serde(default)]
    update: Change,
    /// Credentials.
    #[schemars(with = "Option<Auth>")]
    auth: Option<Spanned<Auth>>,
    /// TLS.
    tls: Option<Tls>,
    /// The URL of an HTTP proxy.
    #[schemars(with = "Option<Secret>")]
    proxy: Option<Spanned<Secret>>,
    /// Refuse private addresses.
    #[serde(default)]
    deny_private: bool,
    /// Allows `auth` and the proxy's password to cross the network over plain HTTP, where anyone on the way can read them.
    #[serde(default)]
    insecure: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
enum Resource {
    #[default]
    Users,
    Groups,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Change {
    /// Only what differs.
    #[default]
    Patch,
    /// The whole resource, for services without PATCH.
    Put,
}

const EXTERNAL_ID: &str = "{{ sdk_app_id }}:{{ account }}";

const USER: &[(&str, &[&str])] = &[
    ("active", &["active"]),
    ("displayName", &["name", "account"]),
    ("photos", &["face_url"]),
    ("userName", &["safe_id"]),
];

const GROUP: &[(&str, &[&str])] = &[("displayName", &["name", "account"])];

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) http: Http,
    /// Of the resources: `https://example.com/scim/v2/Users`.
    pub(crate) url: Url,
    pub(crate) mapping: Mapping,
    pub(crate) identity: serde_json::Value,
}

type Attributes = Vec<(Path, Vec<Source>)>;

impl Raw {
    /// Reads secrets and certificates, and checks every value.
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let base = check_url("url", self.url.get_ref(), self.url.span())?;
        if base.query().is_some() {
            return Err(SettingsError::at(self.url.span(), "`url` has a query (?…)")
                .help("write it as https://host/scim/v2"));
        }
        let connect = Connect {
            tls: self.tls,
            proxy: self.proxy,
            deny_private: self.deny_private,
            redirects: None,
            insecure: self.insecure,
        };
        connect.check(&base, self.url.span())?;
        if self.auth.is_some() {
            connect.check_encrypted("url", &base, self.url.span())?;
        }
        let (schema, defaults) = match self.resource {
            Resource::Users => ("urn:ietf:params:scim:schemas:core:2.0:User", USER),
            Resource::Groups => ("urn:ietf:params:scim:schemas:core:2.0:Group", GROUP),
        };
        let external_id = self
            .external_id
            .unwrap_or_else(|| Spanned::new(0..0, EXTERNAL_ID.to_owned()));
        let (attributes, written) = attributes(self.attributes.as_ref(), defaults)?;
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| SettingsError::at(self.url.span(), "`url` can have no path"))?
            .pop_if_empty()
            .push(match self.resource {
                Resource::Users => "Users",
                Resource::Groups => "Groups",
            });
        let revision = attributes
            .iter()
            .position(|(_, sources)| is_revision(sources));
        Ok(Checked {
            identity: json!({
                "url": url.as_str(),
                "external_id": external_id.get_ref(),
                "attributes": written,
            }),
            mapping: Mapping {
                schema,
                external_id: self::external_id(&external_id)?,
                left_out: left_out(self.resource, self.update, &attributes),
                attributes,
                revision,
                update: match self.update {
                    Change::Patch => Update::Patch,
                    Change::Put => Update::Put,
                },
            },
            http: Http::open(
                context,
                &[&url],
                &connect,
                self.auth,
                Verdicts::default(),
                Secrets::new(context),
            )?,
            url,
        })
    }
}

/// Whether an attribute holds the revision, as a number or as a text.
fn is_revision(sources: &[Source]) -> bool {
    match sources {
        [Source::Member("revision")] => true,
        [Source::Template(template)] => samples().iter().all(|sample| {
            let revision = sample.document.revision.to_string();
            template.render(&sample.document) == Ok(revision)
        }),
        _ => false,
    }
}

/// A group may have more members than fit into an answer that is read. A PUT has to send them back, though, and mapped
/// ones are compared.
fn left_out(
    resource: Resource,
    update: Change,
    attributes: &[(Path, Vec<Source>)],
) -> Option<&'static str> {
    let is_mapped = attributes.iter().any(|(path, _)| path.is_of("members"));
    match (resource, update) {
        (Resource::Groups, Change::Patch) if !is_mapped => Some("members"),
        _ => None,
    }
}

/// The template, if it depends on nothing but the account and its app.
fn external_id(text: &Spanned<String>) -> Result<Template, SettingsError> {
    let wrong = |message: &str| {
        SettingsError::at(text.span(), message).help(format!(
            "write it as \"{EXTERNAL_ID}\", and with these alone"
        ))
    };
    let template = Template::compile_name("external_id", text, Escape::None)?;
    let render = |document: &_| {
        template
            .render(document)
            .map_err(|error| wrong(&format!("`external_id` fails: {error}")))
    };
    let [first, others @ ..] = samples().map(|sample| sample.document);
    let named = render(&first)?;
    for document in &others {
        if render(document)? != named {
            return Err(wrong(
                "`external_id` changes with the profile, and resources are found by it",
            ));
        }
    }
    let mut other = first.clone();
    other.account.push('2');
    let mut elsewhere = first;
    elsewhere.sdk_app_id += 1;
    if render(&other)? == named || render(&elsewhere)? == named {
        return Err(wrong("`external_id` is the same for several accounts"));
    }
    Ok(template)
}

/// The attributes, and the same as written.
fn attributes(
    given: Option<&BTreeMap<Spanned<String>, Spanned<OneOrMany>>>,
    defaults: &[(&str, &[&str])],
) -> Result<(Attributes, BTreeMap<String, Vec<String>>), SettingsError> {
    let mut attributes = Vec::new();
    let mut written = BTreeMap::new();
    let Some(given) = given else {
        for (name, sources) in defaults {
            let path = Path::parse(name).expect("the defaults are names");
            let parsed = sources
                .iter()
                .filter_map(|text| Source::member(text, &MEMBERS));
            attributes.push((path, parsed.collect()));
            let sources = sources.iter().map(|&text| text.to_owned());
            written.insert((*name).to_owned(), sources.collect());
        }
        return Ok((attributes, written));
    };
    let mut names = HashSet::new();
    for (name, sources) in given {
        let path = path(name.get_ref(), name.span())?;
        if !names.insert(name.get_ref().to_ascii_lowercase()) {
            let message = format!("the attribute {:?} is given twice", name.get_ref());
            return Err(SettingsError::at(name.span(), message));
        }
        let list = sources.get_ref().list(sources.span());
        if list.is_empty() {
            let message = format!("the attribute {:?} has no source", name.get_ref());
            return Err(SettingsError::at(sources.span(), message));
        }
        let key = format!("attributes.{}", name.get_ref());
        let parsed = list.iter().map(|one| Source::parse(&key, one, &MEMBERS));
        attributes.push((path, parsed.collect::<Result<_, _>>()?));
        let list = list.iter().map(|one| one.get_ref().clone());
        written.insert(name.get_ref().clone(), list.collect());
    }
    Ok((attributes, written))
}

fn path(text: &str, span: Range<usize>) -> Result<Path, SettingsError> {
    let taken = ["id", "meta", "schemas", "externalid"];
    if taken.contains(&text.to_ascii_lowercase().as_str()) {
        let message = format!("the attribute {text:?} cannot be set");
        return Err(SettingsError::at(span, message)
            .help("`externalId` is set by `external_id`, the others by the service"));
    }
    Path::parse(text).map_err(|error| {
        SettingsError::at(span, format!("the attribute {text:?} {error}"))
            .help("write it as displayName, name.formatted or urn:…:User:department")
    })
}
