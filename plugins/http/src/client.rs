//! The HTTP client of one target: trust, client certificate, proxy, and where it may go.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use profilesync_target::{Secret, SettingsError, cleartext};
use reqwest::{Certificate, Client, Identity, Proxy, Url, redirect, retry};
use rustls::CertificateError;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::{
    private::{self, PublicResolver},
    secrets::Secrets,
};

/// A connection that takes longer is a fault of the target; the time limit of a delivery may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are closed by us before servers do it: the shortest common keep-alive is 5 s, and a request
/// that meets the server's close is a needless fault.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Most redirects that can be followed.
const MAX_REDIRECTS: u8 = 10;

/// The key `tls`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the root certificates to trust, instead of the system's.
    #[schemars(with = "Option<PathBuf>")]
    ca: Option<Spanned<PathBuf>>,
    /// PEM file of the certificate to show to the server, and those between it and its root.
    #[schemars(with = "Option<PathBuf>")]
    certificate: Option<Spanned<PathBuf>>,
    /// PEM file of the certificate's private key.
    #[schemars(with = "Option<PathBuf>")]
    private_key: Option<Spanned<PathBuf>>,
}

/// How a target is reached: keys that every kind over HTTP has.
#[derive(Default)]
pub struct Connect {
    /// The key `tls`.
    pub tls: Option<Tls>,
    /// The key `proxy`: the URL of an HTTP proxy, perhaps with a user and a password.
    pub proxy: Option<Spanned<Secret>>,
    /// The key `deny_private`: private addresses are refused.
    pub deny_private: bool,
    /// The key `redirects`: most redirects to follow.
    pub redirects: Option<Spanned<u8>>,
    /// The key `insecure`: what is secret may be sent in clear to other machines.
    pub insecure: bool,
}

/// Makes ring the process's TLS provider, unless there is one. May be called any number of times.
pub fn install_crypto() {
    // An error says that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Connect {
    /// A client that tries nothing twice, and goes where it is told alone: no proxy of the environment, no redirect
    /// to another host. `plain` says that all its URLs are plain HTTP.
    pub(crate) fn client(
        &self,
        plain: bool,
        secrets: &mut Secrets,
    ) -> Result<Client, SettingsError> {
        install_crypto();
        let proxy = match &self.proxy {
            Some(proxy) => Some((proxy.span(), self.read_proxy(proxy, secrets)?)),
            None => None,
        };
        let plain = plain && proxy.as_ref().is_none_or(|(_, url)| url.scheme() == "http");
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(redirects(self.redirects.as_ref())?)
            .retry(retry::never())
            .referer(false)
            .no_proxy();
        match self.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            Some(ca) => builder = builder.tls_certs_only(read_ca(ca, secrets.base())?),
            // Plain HTTP must not fail for want of the system's roots.
            None if plain => builder = builder.tls_certs_only([]),
            None => (),
        }
        if let Some(tls) = &self.tls
            && let Some(identity) = tls.identity(secrets.base())?
        {
            builder = builder.identity(identity);
        }
        if let Some((span, url)) = proxy {
            builder = builder.proxy(Proxy::all(url).map_err(|error| {
                let cause = secrets.hide(&cause(&error).to_string());
                SettingsError::at(span, format!("`proxy` cannot be used: {cause}"))
            })?);
        }
        if self.deny_private {
            builder = builder.dns_resolver(Arc::new(PublicResolver));
        }
        builder.build().map_err(|error| self.wrong(cause(&error)))
    }

    /// Why there is no client: its certificate is read only now.
    fn wrong(&self, cause: &(dyn std::error::Error + 'static)) -> SettingsError {
        let message = format!("no HTTP client can be made: {cause}");
        let certificate = self.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        let Some(certificate) = certificate else {
            return SettingsError::whole(message).help(
                "install the system's root certificates (Debian: ca-certificates), or name yours in `tls.ca`",
            );
        };
        let at = |message: &str| SettingsError::at(certificate.span(), message);
        match cause.downcast_ref() {
            Some(rustls::Error::InconsistentKeys(_)) => {
                at(&message).help("`tls.certificate` and `tls.private_key` must belong together")
            }
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string() == "UnsupportedCertVersion" =>
            {
                at("`tls.certificate` is an X.509 certificate of version 1, which cannot be used").help(
                    "have it issued as version 3: whatever extension it gets makes it one (`openssl x509 -req -extfile`)",
                )
            }
            Some(rustls::Error::InvalidCertificate(reason)) => {
                at(&format!("`tls.certificate` cannot be used: {reason}"))
            }
            _ => at(&message),
        }
    }

    /// Refuses a URL whose host is a private address, if that was asked for. `span` is where the URL is written.
    ///
    /// # Errors
    /// When `deny_private` is set and the URL's host is a private address.
    pub fn check(&self, url: &Url, span: Range<usize>) -> Result<(), SettingsError> {
        if self.deny_private {
            private::refuse(url).map_err(|message| SettingsError::at(span, message))?;
        }
        Ok(())
    }

    /// Refuses a URL, the value of `key`, that is secret or gets credentials, where they would cross the network in clear,
    /// unless that was asked for. `span` is where the URL is written.
    ///
    /// # Errors
    /// When the URL is plain HTTP, its host is another machine or behind a proxy, and `insecure` is not set.
    pub fn check_encrypted(
        &self,
        key: &str,
        url: &Url,
        span: Range<usize>,
    ) -> Result<(), SettingsError> {
        if url.scheme() == "https" || self.insecure {
            return Ok(());
        }
        // A proxy gets it all, and takes "localhost" for itself.
        let host = match self.proxy {
            None => url.host_str().unwrap_or_default(),
            Some(_) => "",
        };
        let way_out = match self.proxy {
            None => format!("begin `{key}` with https://"),
            Some(_) => format!("begin `{key}` with https://, for the `proxy` gets it too"),
        };
        cleartext(span, host, "credentials", &way_out)
    }

    fn read_proxy(
        &self,
        proxy: &Spanned<Secret>,
        secrets: &mut Secrets,
    ) -> Result<Url, SettingsError> {
        let wrong = |message: String| SettingsError::at(proxy.span(), message);
        if self.deny_private {
            let message =
                "with a `proxy`, which looks up names itself, `deny_private` cannot be kept";
            return Err(wrong(message.into())
                .help("remove one of them, and let the proxy refuse private addresses"));
        }
        let text = secrets.read(proxy.get_ref()).map_err(wrong)?;
        let url = Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                wrong("`proxy` is no URL of an HTTP proxy".into())
                    .help("write it as http://host:3128")
            })?;
        if !url.username().is_empty() || url.password().is_some() {
            if url.scheme() == "http" && !self.insecure {
                let host = url.host_str().unwrap_or_default();
                cleartext(
                    proxy.span(),
                    host,
                    "credentials of the proxy",
                    "begin `proxy` with https://",
                )?;
            }
            secrets.keep_user(url.username(), url.password().unwrap_or_default());
        }
        Ok(url)
    }
}

fn redirects(most: Option<&Spanned<u8>>) -> Result<redirect::Policy, SettingsError> {
    let Some(most) = most.filter(|most| *most.get_ref() > 0) else {
        return Ok(redirect::Policy::none());
    };
    if *most.get_ref() > MAX_REDIRECTS {
        let message = format!("`redirects` is more than {MAX_REDIRECTS}");
        return Err(SettingsError::at(most.span(), message));
    }
    let most = usize::from(*most.get_ref());
    Ok(redirect::Policy::custom(move |attempt| {
        // 301 to 303 would make a GET without a body of the request; and another host must not get the credentials.
        let keeps = matches!(attempt.status().as_u16(), 307 | 308);
        let from = &attempt.previous()[0];
        let here = from.origin() == attempt.url().origin();
        match keeps && here && attempt.previous().len() <= most {
            true => attempt.follow(),
            false => attempt.stop(),
        }
    }))
}

impl Tls {
    fn identity(&self, base: &Path) -> Result<Option<Identity>, SettingsError> {
        let (certificate, key) = match (&self.certificate, &self.private_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            (Some(alone), None) => {
                let message = "`tls.certificate` needs `tls.private_key`";
                return Err(SettingsError::at(alone.span(), message));
            }
            (None, Some(alone)) => {
                let message = "`tls.private_key` needs `tls.certificate`";
                return Err(SettingsError::at(alone.span(), message));
            }
        };
        let mut pem = read_file("tls.certificate", certificate, base)?;
        pem.push(b'\n');
        pem.extend(read_file("tls.private_key", key, base)?);
        let identity = Identity::from_pem(&pem).map_err(|_| {
            let message =
                "`tls.certificate` and `tls.private_key` hold no certificate and key in PEM form";
            SettingsError::at(certificate.span(), message)
        })?;
        Ok(Some(identity))
    }
}

fn read_file(key: &str, path: &Spanned<PathBuf>, base: &Path) -> Result<Vec<u8>, SettingsError> {
    let file = base.join(path.get_ref());
    std::fs::read(&file).map_err(|error| {
        let message = format!("`{key}`: {} cannot be read: {error}", file.display());
        SettingsError::at(path.span(), message)
    })
}

fn read_ca(path: &Spanned<PathBuf>, base: &Path) -> Result<Vec<Certificate>, SettingsError> {
    let pem = read_file("tls.ca", path, base)?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(SettingsError::at(
            path.span(),
            format!(
                "`tls.ca`: {} holds no certificate in PEM form",
                base.join(path.get_ref()).display()
            ),
        )),
    }
}

/// The innermost reason.
pub(crate) fn cause<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// Host and port, as messages name the target: the rest of its URL may hold a key.
#[must_use]
pub fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The value of `key` as a URL that can be sent to.
///
/// # Errors
/// When it is none, or holds what a request cannot: a user, a fragment.
pub fn check_url(key: &str, text: &str, span: Range<usize>) -> Result<Url, SettingsError> {
    let wrong = |message: String| SettingsError::at(span.clone(), message);
    let url = Url::parse(text).map_err(|error| {
        wrong(format!("`{key}` is no URL: {error}")).help("write it as https://host/path")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!(
            "`{key}` begins with {}:, and only https: and http: can be sent to",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(format!("`{key}` holds a user name or password"))
            .help(r#"move them to `auth = { type = "basic", username = "…", password = … }`"#));
    }
    if url.fragment().is_some() {
        return Err(wrong(format!(
            "`{key}` has a fragment (#…), which HTTP never sends"
        )));
    }
    Ok(url)
}
