//! The stores themselves: what settings and environment make of them.
//!
//! Credentials come from the settings alone or, when these hold none, from where each cloud's own tools find them:
//! the environment, then the machine's or pod's role.

use std::path::Path as FilePath;

use object_store::{
    ClientConfigKey, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
};
use profilesync_target::{Mask, Secret, SettingsError, read_secret};
use toml::Spanned;
use url::{Host, Url};

use crate::{
    client::{Connector, root_cause},
    settings::{Raw, Service},
};

/// A store, and what is to be known of it.
pub(crate) struct Opened {
    pub(crate) store: Box<dyn ObjectStore>,
    /// Where it is, if that was told.
    pub(crate) endpoint: Option<String>,
    /// Azure's storage account.
    pub(crate) account: Option<String>,
    /// What no text may hold.
    pub(crate) mask: Mask,
}

/// The file system as a whole: the folder is part of the names.
pub(crate) fn folder() -> Opened {
    Opened {
        store: Box::new(LocalFileSystem::new().with_fsync(true)),
        endpoint: None,
        account: None,
        mask: Mask::default(),
    }
}

/// The store of a cloud.
pub(crate) fn cloud(
    service: Service,
    raw: &Raw,
    base: &FilePath,
    connector: Connector,
) -> Result<Opened, SettingsError> {
    let mut making = Making {
        raw,
        base,
        mask: Mask::default(),
    };
    match service {
        Service::S3 => making.s3(connector),
        Service::Google => making.google(connector),
        Service::Azure => making.azure(connector),
        Service::Folder => Ok(folder()),
    }
}

struct Making<'a> {
    raw: &'a Raw,
    base: &'a FilePath,
    mask: Mask,
}

impl Making<'_> {
    fn s3(&mut self, connector: Connector) -> Result<Opened, SettingsError> {
        let raw = self.raw;
        let mut builder = AmazonS3Builder::from_env();
        if raw.access_key_id.is_some() {
            // Nothing of the environment: its session token would be taken for one of this key.
            builder = AmazonS3Builder::new();
        }
        for (key, secret) in [
            (AmazonS3ConfigKey::AccessKeyId, &raw.access_key_id),
            (AmazonS3ConfigKey::SecretAccessKey, &raw.secret_access_key),
            (AmazonS3ConfigKey::Token, &raw.session_token),
        ] {
            if let Some(secret) = self.read(secret)? {
                builder = builder.with_config(key, secret);
            } else {
                self.keep(builder.get_config_value(&key));
            }
        }
        for (key, text) in [
            (AmazonS3ConfigKey::Region, &raw.region),
            (AmazonS3ConfigKey::S3Endpoint, &raw.endpoint),
        ] {
            if let Some(text) = text {
                builder = builder.with_config(key, text.get_ref());
            }
        }
        if let Some(virtual_hosted) = &raw.virtual_hosted {
            builder = builder.with_virtual_hosted_style_request(*virtual_hosted.get_ref());
        }
        let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
            .iter()
            .find_map(|key| builder.get_config_value(key));
        let allowed =
            builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        self.check_endpoint(endpoint.as_deref(), allowed.as_deref())?;
        let store = builder
            .with_url(raw.url.get_ref())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_client_options(options())
            .with_retry(no_retry())
            .with_http_connector(connector)
            .build();
        self.opened(store, endpoint, None)
    }

    fn google(&mut self, connector: Connector) -> Result<Opened, SettingsError> {
        let raw = self.raw;
        let mut builder = match self.read(&raw.service_account_key)? {
            Some(key) => GoogleCloudStorageBuilder::new().with_service_account_key(key),
            None => GoogleCloudStorageBuilder::from_env(),
        };
        if let Some(endpoint) = &raw.endpoint {
            builder = builder.with_base_url(endpoint.get_ref());
        }
        let keys = [
            GoogleConfigKey::ServiceAccountKey,
            GoogleConfigKey::BearerToken,
        ];
        for key in &keys {
            self.keep(builder.get_config_value(key));
        }
        let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
        self.check_endpoint(endpoint.as_deref(), None)?;
        if endpoint.is_none() {
            self.check_endpoint_of_key(&builder)?;
        }
        let store = builder
            .with_url(raw.url.get_ref())
            .with_client_options(options())
            .with_retry(no_retry())
            .with_http_connector(connector)
            .build();
        self.opened(store, endpoint, None)
    }

    /// A key of Google's can name an endpoint too. One that cannot be read is refused where it is used.
    fn check_endpoint_of_key(
        &self,
        builder: &GoogleCloudStorageBuilder,
    ) -> Result<(), SettingsError> {
        let path = builder.get_config_value(&GoogleConfigKey::ServiceAccount);
        let key = builder
            .get_config_value(&GoogleConfigKey::ServiceAccountKey)
            .or_else(|| std::fs::read_to_string(path?).ok());
        let key = key.and_then(|key| serde_json::from_str::<serde_json::Value>(&key).ok());
        let Some(endpoint) = key.as_ref().and_then(|key| key["gcs_base_url"].as_str()) else {
            return Ok(());
        };
        self.check_url(endpoint, None)
            .map_err(|error| SettingsError {
                message: format!(
                    "{} (it is `gcs_base_url` of the service account's key)",
                    error.message
                ),
                span: self.raw.service_account_key.as_ref().map(Spanned::span),
                ..error
            })
    }

    fn azure(&mut self, connector: Connector) -> Result<Opened, SettingsError> {
        let raw = self.raw;
        let own = [&raw.access_key, &raw.sas_token, &raw.client_secret];
        let mut builder = match own.iter().any(|secret| secret.is_some()) {
            true => MicrosoftAzureBuilder::new(),
            false => MicrosoftAzureBuilder::from_env(),
        };
        for (key, secret) in [
            (AzureConfigKey::AccessKey, &raw.access_key),
            (AzureConfigKey::SasKey, &raw.sas_token),
            (AzureConfigKey::ClientSecret, &raw.client_secret),
        ] {
            if let Some(secret) = self.read(secret)? {
                builder = builder.with_config(key, secret);
            } else {
                self.keep(builder.get_config_value(&key));
            }
        }
        for (key, text) in [
            (AzureConfigKey::AccountName, &raw.account),
            (AzureConfigKey::AuthorityId, &raw.tenant_id),
            (AzureConfigKey::ClientId, &raw.client_id),
            (AzureConfigKey::Endpoint, &raw.endpoint),
        ] {
            if let Some(text) = text {
                builder = builder.with_config(key, text.get_ref());
            }
        }
        let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
        let account = builder.get_config_value(&AzureConfigKey::AccountName);
        self.check_endpoint(endpoint.as_deref(), None)?;
        let store = builder
            .with_url(raw.url.get_ref())
            .with_client_options(options())
            .with_retry(no_retry())
            .with_http_connector(connector)
            .build();
        self.opened(store, endpoint, account)
    }

    /// Reads a secret, and keeps it to mask it.
    fn read(&mut self, secret: &Option<Spanned<Secret>>) -> Result<Option<String>, SettingsError> {
        let Some(secret) = secret else {
            return Ok(None);
        };
        let value = read_secret(secret, self.base)?;
        self.mask.add(&value);
        Ok(Some(value))
    }

    /// Keeps what the environment may have given.
    fn keep(&mut self, secret: Option<String>) {
        self.mask.add(&secret.unwrap_or_default());
    }

    /// An endpoint is plain HTTP only on this machine, or if so told.
    fn check_endpoint(
        &self,
        endpoint: Option<&str>,
        allowed: Option<&str>,
    ) -> Result<(), SettingsError> {
        let Some(endpoint) = endpoint else {
            return Ok(());
        };
        self.check_url(endpoint, allowed)
            .map_err(|error| match &self.raw.endpoint {
                Some(endpoint) => SettingsError {
                    span: Some(endpoint.span()),
                    ..error
                },
                None => SettingsError {
                    message: format!("{} (it is the environment's)", error.message),
                    ..error
                },
            })
    }

    fn check_url(&self, endpoint: &str, allowed: Option<&str>) -> Result<(), SettingsError> {
        let wrong = |message: String| SettingsError::whole(message);
        let url = Url::parse(endpoint)
            .map_err(|error| wrong(format!("`endpoint` is no URL: {error}")))?;
        let bare = url.username().is_empty() && url.password().is_none();
        if !bare || url.query().is_some() || url.fragment().is_some() {
            let message = "`endpoint` holds a user name, password, query or fragment";
            return Err(wrong(message.into()));
        }
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let said = self.raw.allow_http.as_ref().is_some_and(|it| *it.get_ref())
            || allowed.is_some_and(|text| text == "true");
        match url.scheme() {
            "https" => Ok(()),
            "http" if local || said => Ok(()),
            "http" => Err(
                wrong("`endpoint` is http:, so that all can read what is sent".into())
                    .help("use https:, or set allow_http = true"),
            ),
            other => Err(wrong(format!(
                "`endpoint` begins with {other}:, and only https: and http: can be"
            ))),
        }
    }

    fn opened<S: ObjectStore>(
        &mut self,
        store: object_store::Result<S>,
        endpoint: Option<String>,
        account: Option<String>,
    ) -> Result<Opened, SettingsError> {
        let mask = std::mem::take(&mut self.mask);
        match store {
            Ok(store) => Ok(Opened {
                store: Box::new(store),
                endpoint,
                account,
                mask,
            }),
            Err(error) => {
                let cause = mask.hide(&root_cause(&error));
                Err(SettingsError::whole(format!(
                    "the object store cannot be used as it is set: {cause}"
                )))
            }
        }
    }
}

fn options() -> ClientOptions {
    ClientOptions::new().with_content_type_for_suffix("json", "application/json")
}

/// When to try again is the daemon's decision.
fn no_retry() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}
