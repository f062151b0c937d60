//! The server's certificate: loading it, and loading it again when its files change.

use std::{
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::config::ListenerTls;

/// The certificate in use. Whoever stores another one changes it for every connection accepted from then on.
pub type Tls = Arc<ArcSwap<ServerConfig>>;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file cannot be read, or is not PEM, or holds none.
    #[error("{file} is no PEM file with a certificate")]
    Certificate {
        /// Its path.
        file: String,
        /// Why not.
        source: pem::Error,
    },
    /// The same of the key.
    #[error("{file} is no PEM file with a private key")]
    PrivateKey {
        /// Its path.
        file: String,
        /// Why not.
        source: pem::Error,
    },
    /// The two do not go together, or rustls does not take them.
    #[error("{certificate} and {private_key} do not make a server certificate")]
    Pair {
        /// The certificate's path.
        certificate: String,
        /// The key's path.
        private_key: String,
        /// Why not.
        source: rustls::Error,
    },
}

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Reads a certificate and its key.
///
/// # Errors
/// When the files cannot be read, or do not belong together.
pub fn load(files: &ListenerTls) -> Result<ServerConfig, TlsError> {
    let shown = |file: &Path| file.display().to_string();
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(|chain| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        })
        .map_err(|source| TlsError::Certificate {
            file: shown(&files.certificate),
            source,
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.private_key).map_err(|source| {
        TlsError::PrivateKey {
            file: shown(&files.private_key),
            source,
        }
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|config| config.with_no_client_auth())
        .and_then(|config| config.with_single_cert(chain, key))
        .map_err(|source| TlsError::Pair {
            certificate: shown(&files.certificate),
            private_key: shown(&files.private_key),
            source,
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Stores the certificate anew whenever its files have changed, until `stop`. `files` is asked every time, as a
/// reload may name others. Files that do not load leave the certificate in use as it is, and so does naming none.
pub async fn follow(files: impl Fn() -> Option<ListenerTls>, tls: Tls, stop: CancellationToken) {
    let look = || files().map(|files| (stamps(&files), files));
    let mut seen = look();
    loop {
        select! {
            () = stop.cancelled() => return,
            () = sleep(CHECK_INTERVAL) => {}
        }
        let now = look();
        if now == seen {
            continue;
        }
        seen = now;
        let Some((_, files)) = &seen else {
            continue;
        };
        match load(files) {
            Ok(config) => {
                tls.store(Arc::new(config));
                tracing::info!(certificate = %files.certificate.display(), "certificate loaded");
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the listener's certificate has changed and does not load, the old one stays in use"
            ),
        }
    }
}

/// When the two files were changed; `None` for one that cannot be looked at.
fn stamps(files: &ListenerTls) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.private_key].map(|file| modified(file).ok())
}

fn modified(file: &Path) -> io::Result<SystemTime> {
    fs::metadata(file)?.modified()
}
