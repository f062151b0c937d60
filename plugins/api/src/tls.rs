//! The table `tls` of outputs that can show a certificate of their own. Its files are read when a target is opened, so
//! that what is wrong with them is told at once.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::SettingsError;

/// TLS.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the root certificates to trust, instead of the system's.
    #[schemars(with = "Option<PathBuf>")]
    pub ca: Option<Spanned<PathBuf>>,
    /// PEM file of the client certificate, and of those between it and its root.
    #[schemars(with = "Option<PathBuf>")]
    pub certificate: Option<Spanned<PathBuf>>,
    /// PEM file of the certificate's private key.
    #[schemars(with = "Option<PathBuf>")]
    pub private_key: Option<Spanned<PathBuf>>,
}

/// What the files of a [`Tls`] hold.
pub struct TlsFiles {
    /// The roots to trust; the system's if `None`.
    pub ca: Option<Pem<Vec<CertificateDer<'static>>>>,
    /// The client certificate with those between, and its key.
    pub own: Option<(
        Pem<Vec<CertificateDer<'static>>>,
        Pem<PrivateKeyDer<'static>>,
    )>,
}

/// A PEM file, in each of the forms that some client wants.
pub struct Pem<T> {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: Vec<u8>,
    /// What that means.
    pub parsed: T,
}

impl Tls {
    /// Reads the files; relative paths start at `base`.
    ///
    /// # Errors
    /// When one cannot be read or holds nothing of its kind, or when of certificate and key only one is given.
    pub fn read(self, base: &Path) -> Result<TlsFiles, SettingsError> {
        let own = match (&self.certificate, &self.private_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((
                certificates("tls.certificate", certificate, base)?,
                pem("tls.private_key", "private key", key, base, |text| {
                    PrivateKeyDer::from_pem_slice(text).ok()
                })?,
            )),
            (Some(given), None) | (None, Some(given)) => {
                let message = "`tls.certificate` and `tls.private_key` need each other";
                return Err(SettingsError::at(given.span(), message));
            }
        };
        let ca = self.ca.as_ref().map(|ca| certificates("tls.ca", ca, base));
        Ok(TlsFiles {
            ca: ca.transpose()?,
            own,
        })
    }
}

fn certificates(
    key: &str,
    path: &Spanned<PathBuf>,
    base: &Path,
) -> Result<Pem<Vec<CertificateDer<'static>>>, SettingsError> {
    pem(key, "certificate", path, base, |text| {
        let list: Vec<_> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .ok()?;
        (!list.is_empty()).then_some(list)
    })
}

/// `what` is what the file should hold, and `parse` finds it there.
fn pem<T>(
    key: &str,
    what: &str,
    path: &Spanned<PathBuf>,
    base: &Path,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Pem<T>, SettingsError> {
    let file = base.join(path.get_ref());
    let wrong = |why: String| {
        let message = format!("`{key}`: {} {why}", file.display());
        SettingsError::at(path.span(), message)
    };
    let text = std::fs::read(&file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match parse(&text) {
        None => Err(wrong(format!("holds no {what} in PEM form"))),
        Some(parsed) => Ok(Pem {
            parsed,
            text,
            path: file,
        }),
    }
}
