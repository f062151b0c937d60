//! The settings of an object store: the keys as written, and the check that leaves nothing wrong in them.

use std::{
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::atomic::AtomicBool,
};

use object_store::path::Path;
use profilesync_target::{Case, OpenContext, Secret, SettingsError};
use reqwest::Certificate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::Spanned;
use url::Url;

use crate::{
    backend::{self, Opened},
    bucket::{Bucket, Guard},
    client::Connector,
    fault::Faults,
};

/// Names of objects have at most 1024 bytes everywhere; the rest is for app and account.
const MAX_PREFIX: usize = 700;

/// Keeps one JSON object per account in a bucket.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The bucket and what all names begin with: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,
    /// `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX`, `az://CONTAINER/PREFIX` or `file:///FOLDER`.
    #[schemars(with = "String")]
    pub(crate) url: Spanned<String>,
    /// The service's address, if it is not that of Amazon, Google or Microsoft: `https://minio.example.com`.
    #[schemars(with = "Option<String>")]
    pub(crate) endpoint: Option<Spanned<String>>,
    /// Lets `endpoint` be `http://` on other machines than this one.
    #[schemars(with = "Option<bool>")]
    pub(crate) allow_http: Option<Spanned<bool>>,
    /// TLS.
    #[schemars(with = "Option<Tls>")]
    pub(crate) tls: Option<Spanned<Tls>>,
    /// S3: the bucket's region (`us-east-1`).
    #[schemars(with = "Option<String>")]
    pub(crate) region: Option<Spanned<String>>,
    /// S3: whether the bucket is part of the host's name (false).
    #[schemars(with = "Option<bool>")]
    pub(crate) virtual_hosted: Option<Spanned<bool>>,
    /// S3: the access key.
    #[schemars(with = "Option<Secret>")]
    pub(crate) access_key_id: Option<Spanned<Secret>>,
    /// S3: its secret.
    #[schemars(with = "Option<Secret>")]
    pub(crate) secret_access_key: Option<Spanned<Secret>>,
    /// S3: the token of a temporary key.
    #[schemars(with = "Option<Secret>")]
    pub(crate) session_token: Option<Spanned<Secret>>,
    /// Google: the JSON key of a service account.
    #[schemars(with = "Option<Secret>")]
    pub(crate) service_account_key: Option<Spanned<Secret>>,
    /// Azure: the storage account, if `url` does not name it.
    #[schemars(with = "Option<String>")]
    pub(crate) account: Option<Spanned<String>>,
    /// Azure: the storage account's key.
    #[schemars(with = "Option<Secret>")]
    pub(crate) access_key: Option<Spanned<Secret>>,
    /// Azure: a shared access signature.
    #[schemars(with = "Option<Secret>")]
    pub(crate) sas_token: Option<Spanned<Secret>>,
    /// Azure: the tenant of `client_id`.
    #[schemars(with = "Option<String>")]
    pub(crate) tenant_id: Option<Spanned<String>>,
    /// Azure: the application that is given access.
    #[schemars(with = "Option<String>")]
    pub(crate) client_id: Option<Spanned<String>>,
    /// Azure: its secret.
    #[schemars(with = "Option<Secret>")]
    pub(crate) client_secret: Option<Spanned<Secret>>,
    /// Whether the store compares before it writes, so that no older revision replaces a newer one (true). `false`
    /// is for stores that cannot: one request per account, and the last one wins.
    #[schemars(with = "Option<bool>")]
    pub(crate) conditional: Option<Spanned<bool>>,
    /// What becomes of a destroyed account's object.
    #[serde(default)]
    pub(crate) destroyed: Destroyed,
}

/// TLS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// PEM file of the root certificates to trust, instead of the system's.
    #[schemars(with = "PathBuf")]
    ca: Spanned<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Destroyed {
    /// It is removed.
    #[default]
    Delete,
    /// It stays, with the status `destroyed`.
    Keep,
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) bucket: Bucket,
    /// Of a local one.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) identity: serde_json::Value,
}

/// The stores that keys can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Google,
    Azure,
    Folder,
}

const CLOUDS: &[Service] = &[Service::S3, Service::Google, Service::Azure];

impl Raw {
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let (service, url) = self.service()?;
        let prefix = self.prefix(service, &url)?;
        self.check_keys(service)?;
        let Opened {
            store,
            endpoint,
            account,
            mask,
        } = match service {
            Service::Folder => backend::folder(),
            _ => {
                let connector = Connector::new(context.version, self.ca(&context.base)?)?;
                backend::cloud(service, &self, &context.base, connector)?
            }
        };
        let place = url.as_str().trim_end_matches('/').to_owned();
        let conditional = self.conditional.is_none_or(Spanned::into_inner);
        Ok(Checked {
            identity: json!({
                "url": place,
                "endpoint": endpoint,
                "account": account,
                "destroyed": self.destroyed,
            }),
            folder: (service == Service::Folder).then(|| PathBuf::from(format!("/{prefix}"))),
            bucket: Bucket {
                store,
                prefix,
                guard: match (service, conditional) {
                    (Service::Folder, _) => Guard::Alone,
                    (_, true) => Guard::Conditional,
                    (_, false) => Guard::Blind,
                },
                case: match service {
                    Service::Folder => Case::Folded,
                    _ => Case::Kept,
                },
                destroyed: self.destroyed,
                faults: Faults {
                    place: place.clone(),
                    mask,
                },
                url: place,
                absent: AtomicBool::new(false),
            },
        })
    }

    fn service(&self) -> Result<(Service, Url), SettingsError> {
        let wrong = |message: String| {
            SettingsError::at(self.url.span(), message)
                .help("write it as s3://BUCKET/PREFIX, gs://…, az://…, abfss://… or file:///FOLDER")
        };
        let url = Url::parse(self.url.get_ref())
            .map_err(|error| wrong(format!("`url` is no URL: {error}")))?;
        let service = match url.scheme() {
            "s3" | "s3a" => Service::S3,
            "gs" => Service::Google,
            "az" | "azure" | "adl" | "abfs" | "abfss" => Service::Azure,
            "file" => Service::Folder,
            other => {
                let message = format!("`url` begins with {other}:, which is no object store");
                return Err(wrong(message));
            }
        };
        let container = service == Service::Azure && url.password().is_none();
        if url.password().is_some() || (!url.username().is_empty() && !container) {
            return Err(wrong("`url` holds a user name or password".into()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("`url` holds a query or a fragment".into()));
        }
        if url.port().is_some() {
            return Err(wrong("`url` holds a port; `endpoint` takes it".into()));
        }
        match (service, url.host_str()) {
            (Service::Folder, None) => (),
            (Service::Folder, Some(_)) => {
                return Err(wrong("`url` names a host, and folders are local".into()));
            }
            (_, None | Some("")) => return Err(wrong("`url` names no bucket".into())),
            _ => (),
        }
        Ok((service, url))
    }

    /// What all names begin with; of a folder, the folder.
    fn prefix(&self, service: Service, url: &Url) -> Result<Path, SettingsError> {
        let wrong = |message: String| SettingsError::at(self.url.span(), message);
        let prefix = Path::from_url_path(url.path())
            .map_err(|error| wrong(format!("the path of `url` is no good prefix: {error}")))?;
        if prefix.as_ref().len() > MAX_PREFIX {
            let message = format!("the path of `url` is longer than {MAX_PREFIX} bytes");
            return Err(wrong(message));
        }
        if service == Service::Folder && prefix.as_ref().is_empty() {
            return Err(wrong("`url` is the root of the file system".into()));
        }
        Ok(prefix)
    }

    /// Refuses keys that the service has no use for, and credentials that are not whole.
    fn check_keys(&self, service: Service) -> Result<(), SettingsError> {
        let s3 = &[Service::S3][..];
        let azure = &[Service::Azure][..];
        for (key, span, services) in [
            ("endpoint", span(&self.endpoint), CLOUDS),
            ("allow_http", span(&self.allow_http), CLOUDS),
            ("tls", span(&self.tls), CLOUDS),
            ("conditional", span(&self.conditional), CLOUDS),
            ("region", span(&self.region), s3),
            ("virtual_hosted", span(&self.virtual_hosted), s3),
            ("access_key_id", span(&self.access_key_id), s3),
            ("secret_access_key", span(&self.secret_access_key), s3),
            ("session_token", span(&self.session_token), s3),
            (
                "service_account_key",
                span(&self.service_account_key),
                &[Service::Google],
            ),
            ("account", span(&self.account), azure),
            ("access_key", span(&self.access_key), azure),
            ("sas_token", span(&self.sas_token), azure),
            ("tenant_id", span(&self.tenant_id), azure),
            ("client_id", span(&self.client_id), azure),
            ("client_secret", span(&self.client_secret), azure),
        ] {
            if let Some(span) = span
                && !services.contains(&service)
            {
                let message = format!("`{key}` means nothing to the store of this `url`");
                return Err(SettingsError::at(span, message).help("remove it"));
            }
        }
        whole([
            ("access_key_id", span(&self.access_key_id)),
            ("secret_access_key", span(&self.secret_access_key)),
        ])?;
        whole([
            ("client_id", span(&self.client_id)),
            ("client_secret", span(&self.client_secret)),
        ])?;
        whole([
            ("client_id", span(&self.client_id)),
            ("tenant_id", span(&self.tenant_id)),
        ])
    }

    fn ca(&self, base: &FilePath) -> Result<Option<Vec<Certificate>>, SettingsError> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let path = &tls.get_ref().ca;
        let shown = base.join(path.get_ref());
        let wrong = |message: String| Err(SettingsError::at(path.span(), message));
        let shown_as = shown.display();
        match std::fs::read(&shown).map(|pem| Certificate::from_pem_bundle(&pem)) {
            Err(error) => wrong(format!("`tls.ca`: {shown_as} cannot be read: {error}")),
            Ok(Ok(certificates)) if !certificates.is_empty() => Ok(Some(certificates)),
            Ok(_) => wrong(format!(
                "`tls.ca`: {shown_as} holds no certificate in PEM form"
            )),
        }
    }
}

fn span<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

/// Two keys go together.
fn whole(keys: [(&str, Option<Range<usize>>); 2]) -> Result<(), SettingsError> {
    match keys {
        [(one, Some(span)), (other, None)] | [(other, None), (one, Some(span))] => {
            let message = format!("`{one}` without `{other}` is half of the credentials");
            Err(SettingsError::at(span, message))
        }
        _ => Ok(()),
    }
}
