//! The HTTP client of one target.

use std::time::Duration;

use profilesync_target::SettingsError;
use reqwest::{Certificate, Client, Url, redirect, retry};

/// A connection that takes longer is a fault of the target; the time limit of a delivery may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are closed by us before servers do it: the shortest common keep-alive is 5 s, and a request
/// that meets the server's close is a needless fault.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Makes ring the process's TLS provider, unless there is one. May be called any number of times.
pub fn install_crypto() {
    // An error says that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client that follows no redirect, uses no proxy and tries nothing twice. With `ca`, it trusts these roots alone.
pub(crate) fn build(url: &Url, ca: Option<Vec<Certificate>>) -> Result<Client, SettingsError> {
    install_crypto();
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy();
    match ca {
        Some(ca) => builder = builder.tls_certs_only(ca),
        // Plain HTTP must not fail for want of the system's roots.
        None if url.scheme() == "http" => builder = builder.tls_certs_only([]),
        None => (),
    }
    builder.build().map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        SettingsError::whole(format!("no HTTP client can be made: {cause}")).help(
            "install the system's root certificates (Debian: ca-certificates), or name yours in `tls.ca`",
        )
    })
}

/// Host and port, as messages name the target.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
